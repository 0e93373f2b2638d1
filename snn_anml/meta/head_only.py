"""The meta-step whose inner loop learns the output layer alone, in the dual (`snn_anml.meta.inner`).

All drawings of M trajectories pass the network in one batch; the loss is

    L = mean cross-entropy of the drawings after the inner loop + lambda * mean spikes per neuron (or synapse).

Beside SGD, or instead of it, read-outs of statistics may learn (`snn_anml.meta.streaming`): the features serve all.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from snn_anml.config import MetaConfig
from snn_anml.meta.heads import STREAMING
from snn_anml.meta.inner import dual_sgd, sgd_
from snn_anml.meta.output_rows import drawn_rows, redrawn
from snn_anml.meta.stage import Learner, Loss, Stage
from snn_anml.meta.streaming import SMALLEST, Readouts


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

    For SGD, with queries or a remember set, these are those and, for `head = "meta"`, the trajectory as well (as
    published); without any, the trajectory alone. With `order = "none"` the inner loop has changed the output layer
    itself. For the others they are the queries, or all drawings (`meta.leave_one_out`). The loss and the accuracy are
    means over the learners.
    """
    batch, generators, generator = stage.trajectories(step, learner.model)
    M, N = batch.labels.shape
    meta, S = stage.meta, stage.meta.classes * stage.meta.shots
    activity = stage.activity(learner.model, batch, generator)
    features = activity.features.view(M, N, -1)
    labels = torch.from_numpy(batch.labels).to(features.device)
    losses, right = [], []
    for kind in meta.learners:
        if kind in STREAMING:
            logits, asked = _logits_of_statistics(learner.readouts, kind, features, labels, meta)
        else:
            first = S if meta.head != "meta" and N > S else 0
            logits = _logits_of_sgd(learner, kind, features, labels, meta, generators)[:, first:]
            asked = labels[:, first:]
        logits, asked = logits.flatten(0, 1), asked.flatten()
        losses.append(F.cross_entropy(logits, asked))
        right.append((logits.argmax(-1) == asked).float().mean())
    loss, spikes = stage.regularised(torch.stack(losses).mean(), activity, learner.model, step)
    return Loss(loss, torch.stack(right).mean().detach(), spikes)


def _logits_of_sgd(
    learner: Learner,
    kind: str,
    features: Tensor,
    labels: Tensor,
    meta: MetaConfig,
    generators: Sequence[torch.Generator],
) -> Tensor:
    """Logits (M, N, C) of all drawings after the inner loop."""
    S = meta.classes * meta.shots
    if meta.order == "none":
        head = learner.model.head
        sgd_(head.weight, head.bias, features[0, :S], labels[0, :S], meta.inner_lr)
        return head(features)
    if unit := kind == "unit-sgd":
        features = F.normalize(features, dim=-1, eps=SMALLEST)
    initial = initial_logits(learner, features, labels[:, :S], meta, generators)
    return dual_sgd(features, labels[:, :S], initial, learner.inner_lr, meta.order, bias=not unit)


def _logits_of_statistics(
    readouts: Readouts, kind: str, features: Tensor, labels: Tensor, meta: MetaConfig
) -> tuple[Tensor, Tensor]:
    """Logits (M, A, C) of the drawings that are asked about, and their labels (M, A)."""
    S = meta.classes * meta.shots
    support = features[:, :S].unflatten(1, (meta.classes, meta.shots))
    if not meta.leave_one_out:
        return readouts.logits(kind, support, features[:, S:]), labels[:, S:]
    queries = features[:, S:].unflatten(1, (meta.classes, meta.queries))
    drawings = torch.cat([support, queries], 2)
    asked = torch.arange(meta.classes, device=labels.device).repeat_interleave(drawings.shape[2])
    return readouts.left_out_logits(kind, drawings), asked.expand(len(labels), -1)
