"""The meta-step whose inner loop learns the whole prediction network, of the published layers."""

from __future__ import annotations

import torch

from snn_anml.data.tasks import pictures
from snn_anml.meta.output_rows import redrawn
from snn_anml.meta.published import Drawings, MetaStep, meta_step
from snn_anml.meta.stage import Learner, Loss, Stage


def whole_network_step(learner: Learner, stage: Stage, step: int) -> Loss:
    """Adds the mean meta-gradient of the step's trajectories to `.grad` of the network's parameters.

    The loss is over trajectory, queries and remember set. With `order = "none"` the parameters themselves are what the
    inner loop left.
    """
    batch, generators, _ = stage.trajectories(step, learner.model)
    meta, model = stage.meta, learner.model
    S = meta.classes * meta.shots
    labels = torch.from_numpy(batch.labels).to(stage.images.device)
    weights = {name: parameter.detach() for name, parameter in model.named_parameters()}
    head = weights["pln.out.weight"], weights["pln.out.bias"]
    layers = redrawn(head, labels[:, :S], generators) if meta.redraw == "fast" else [head] * len(labels)
    steps: list[MetaStep] = []
    for m, (weight, bias) in enumerate(layers):
        x = pictures(stage.images, batch.classes[m], batch.drawings[m])
        fast = weights | {"pln.out.weight": weight, "pln.out.bias": bias}
        done = meta_step(fast, Drawings(x, labels[m], S), meta.inner_lr, meta.order, "pln")
        if meta.redraw == "fast":
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
                gradient = (
                    torch.stack([done.gradient[name] for done in steps]).mean(0)
                    if len(steps) > 1
                    else steps[0].gradient[name]
                )
                parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
    loss, accuracy = (torch.stack(values).mean() for values in zip(*(done[:2] for done in steps), strict=True))
    return Loss(loss, accuracy, torch.zeros_like(loss))
