"""The meta-step whose inner loop learns the whole prediction network, of the published layers."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from snn_anml.meta.output_rows import redrawn
from snn_anml.meta.plain import plain_meta_step
from snn_anml.meta.published import Drawings, MetaStep, meta_step
from snn_anml.meta.stage import Learner, Loss, Stage
from snn_anml.networks.published import Weights


def trajectory_step(stage: Stage, weights: Weights, drawings: Drawings) -> MetaStep:
    """One trajectory's meta-step: by the fast functions where these do, else by automatic differentiation."""
    meta, low = stage.meta, stage.train.precision == "bfloat16"
    if meta.inner_batch == meta.inner_passes == 1 and not low:
        return meta_step(weights, drawings, meta.inner_lr, meta.order, "pln")
    with torch.autocast(drawings.pictures.device.type, torch.bfloat16, enabled=low):
        return plain_meta_step(weights, drawings, meta.inner_lr, meta.order, "pln", meta.inner_batch, meta.inner_passes)


def _like(parameter: Tensor, gradient: Tensor) -> Tensor:
    """The gradient of a parameter from that of its first rows, in its layout, which a fused optimiser relies on."""
    whole = torch.zeros_like(parameter)
    whole[: len(gradient)] = gradient
    return whole


def whole_network_step(learner: Learner, stage: Stage, step: int) -> Loss:
    """Adds the mean meta-gradient of the step's trajectories to `.grad` of the network's parameters.

    The loss is over trajectory, queries and remember set; with `head = "slots"` over the queries alone. With `order =
    "none"` the parameters themselves are what the inner loop left.
    """
    batch, generators, generator = stage.trajectories(step, learner.model)
    meta, model = stage.meta, learner.model
    S = meta.classes * meta.shots
    labels = torch.from_numpy(batch.labels).to(stage.images.device)
    weights = {name: parameter.detach() for name, parameter in model.named_parameters()}
    head = weights["pln.out.weight"], weights["pln.out.bias"]
    slots, redraws = meta.head == "slots", meta.head == "meta" and meta.redraw == "fast"
    if slots:
        head = head[0][: meta.classes], head[1][: meta.classes]
    layers = redrawn(head, labels[:, :S], generators) if redraws else [head] * len(labels)
    steps: list[MetaStep] = []
    for m, (weight, bias) in enumerate(layers):
        x = stage.pictures(batch.classes[m], batch.drawings[m], generator)
        fast = weights | {"pln.out.weight": weight, "pln.out.bias": bias}
        drawings = Drawings(x, labels[m], S, query_from=S if slots else 0)
        done = stage.graphed(partial(trajectory_step, stage), fast, drawings)
        if redraws:
            rows = labels[m, :S].unique()
            done.gradient["pln.out.weight"][rows] = 0
            done.gradient["pln.out.bias"][rows] = 0
        steps.append(done)
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, value in (steps[0].adapted or {}).items():
            parameters[name].copy_(value)
        for name, parameter in parameters.items():
            if parameter.requires_grad:
                gradient = _like(parameter, torch.stack([done.gradient[name] for done in steps]).mean(0))
                parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
    loss, accuracy = (torch.stack(values).mean() for values in zip(*(done[:2] for done in steps), strict=True))
    return Loss(loss, accuracy, torch.zeros_like(loss))
