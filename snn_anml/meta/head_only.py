"""The meta-step whose inner loop learns the output layer alone, in the dual (`snn_anml.meta.inner`).

All drawings of M trajectories pass the network in one batch; the loss is

    L = mean cross-entropy of the drawings after the inner loop + spike_weight * mean spikes per neuron.

Beside SGD, or instead of it, read-outs of statistics may learn (`snn_anml.meta.streaming`): the features serve all.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from snn_anml.config import MetaConfig
from snn_anml.data.tasks import pictures
from snn_anml.meta.inner import dual_sgd, sgd_
from snn_anml.meta.output_rows import drawn_rows, redrawn
from snn_anml.meta.stage import Learner, Loss, Stage, regularised


def initial_logits(
    learner: Learner, features: Tensor, trajectory: Tensor, meta: MetaConfig, generators: Sequence[torch.Generator]
) -> Tensor:
    """Logits (M, N, C) before the inner loop, from features (M, N, F), the support labels (M, S) and M generators.

    `zero`: an output layer of zeros. `drawn`: one drawn anew for each trajectory. `meta`: the learned output layer,
    the rows of the trajectory's classes re-drawn in a copy of each trajectory, if they are not re-drawn already.
    """
    head = learner.model.head
    if meta.head == "zero":
        return features.new_zeros(*features.shape[:2], meta.classes)
    if meta.head == "drawn":
        rows = [drawn_rows(meta.classes, head.weight, generator) for generator in generators]
        return features @ torch.stack(rows).mT
    if meta.redraw == "meta":
        return head(features)
    layers = redrawn((head.weight, head.bias), trajectory, generators)
    return torch.stack([F.linear(f, *layer) for f, layer in zip(features, layers, strict=True)])


def head_only_loss(learner: Learner, stage: Stage, step: int) -> Loss:
    """One meta-step's loss: what the learners make of the inner loop's drawings, on all drawings it is taken on.

    For `sgd`, with queries or a remember set, these are those and, for `head = "meta"`, the trajectory as well (as
    published); without any, the trajectory alone. With `order = "none"` the inner loop has changed the output layer
    itself. For the others they are the queries. The loss and the accuracy are means over the learners.
    """
    batch, generators, generator = stage.trajectories(step, learner.model)
    M, N = batch.labels.shape
    meta, S = stage.meta, stage.meta.classes * stage.meta.shots
    activity = stage.activity(learner.model, pictures(stage.images, batch.classes, batch.drawings), generator)
    features = activity.features.view(M, N, -1)
    labels = torch.from_numpy(batch.labels).to(features.device)
    first = S if meta.head != "meta" and N > S else 0
    logits: list[Tensor] = []
    for kind in meta.learners:
        if kind != "sgd":
            support = features[:, :S].unflatten(1, (meta.classes, meta.shots))
            logits.append(learner.readouts.logits(kind, support, features[:, S:]))
        elif meta.order == "none":
            head = learner.model.head
            sgd_(head.weight, head.bias, features[0, :S], labels[0, :S], meta.inner_lr)
            logits.append(head(features)[:, first:])
        else:
            initial = initial_logits(learner, features, labels[:, :S], meta, generators)
            logits.append(dual_sgd(features, labels[:, :S], initial, learner.inner_lr, meta.order)[:, first:])
    labels = labels[:, first:].flatten()
    losses = torch.stack([F.cross_entropy(of.flatten(0, 1), labels) for of in logits])
    right = torch.stack([(of.flatten(0, 1).argmax(-1) == labels).float().mean() for of in logits])
    loss, spikes = regularised(losses.mean(), activity, learner.model, stage.train.spike_weight)
    return Loss(loss, right.mean().detach(), spikes)
