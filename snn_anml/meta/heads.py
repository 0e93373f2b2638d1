"""Output layers that learn classes one after another, or all shuffled, from features that are computed once.

    sgd, adam                       softmax cross-entropy, one step of batch 1 for every drawing, over all outputs
    unit-sgd                        sgd of features of unit length, f / |f|, without a bias
    class-mean, cosine, gaussian    of the drawings of each class alone, see `snn_anml.meta.streaming`

All but `gaussian` are linear, y = W f + b, so that what was learned can be exported with the network: the largest of
W f / |f| is the largest of W f.

A zero-initialised softmax layer has an exact symmetry that halves the work: all outputs whose class has not come
yet receive the same gradient and stay equal, so one row stands for all of them until its class begins.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from snn_anml.errors import UserError
from snn_anml.meta.softmax_layer import SoftmaxLayer
from snn_anml.meta.streaming import SMALLEST, normal_scores, precisions, turned

HEADS = ("adam", "sgd", "unit-sgd", "class-mean", "cosine", "gaussian")
STREAMING = ("class-mean", "cosine", "gaussian")
LINEAR = tuple(head for head in HEADS if head != "gaussian")
PRIOR_STRENGTH = 8.0
"""Of the head `gaussian`: its prior weighs as twice so many drawings. Its variance is picked like a learning rate."""


class LinearHead(NamedTuple):
    """weight (classes, F) and bias (classes,) of what was learned so far; row i is the i-th class learned.

    rival: (F + 1,), weight and bias that all outputs of classes still to come share, or None.
    """

    weight: Tensor
    bias: Tensor
    rival: Tensor | None

    def predict(self, features: Tensor) -> Tensor:
        """Index of the largest of all outputs for features (B, F); -1 where a class still to come wins."""
        logits = features @ self.weight.T + self.bias
        best, index = logits.max(1)
        if self.rival is None:
            return index
        return torch.where(best > features @ self.rival[:-1] + self.rival[-1], index, -1)


class GaussianHead(NamedTuple):
    """means and precisions (classes, F) of what was learned so far; row i is the i-th class learned."""

    means: Tensor
    precisions: Tensor

    def predict(self, features: Tensor) -> Tensor:
        """Index of the most probable class for features (B, F)."""
        return normal_scores(self.means, self.precisions, features).argmax(1)


Head = LinearHead | GaussianHead


def class_means(features: Tensor) -> LinearHead:
    """Nearest-class-mean read-out of features (classes, shots, F)."""
    means = features.mean(1)
    return LinearHead(2 * means, -(means**2).sum(1), None)


def of_statistics(head: str, features: Tensor, learning_rate: float) -> Head:
    """What a head of `STREAMING` learns of features (classes, shots, F); the order of the classes does not matter.

    The learning rate is that of `cosine`, and for `gaussian` the variance of its prior.
    """
    if head == "cosine":
        rows = turned(features, learning_rate)
        return LinearHead(rows, rows.new_zeros(len(rows)), None)
    if head == "gaussian":
        return GaussianHead(features.mean(1), precisions(features, PRIOR_STRENGTH, learning_rate))
    return class_means(features)


def learn_in_sequence(
    head: str,
    features: Tensor,
    learning_rate: float,
    milestones: tuple[int, ...],
    initial: Tensor | None = None,
) -> Iterator[tuple[int, Head]]:
    """Learns classes one after another and yields the head after every milestone.

    Args:
        head: of `HEADS`.
        features: (classes, shots, F) in the order in which they come; float32, on the CPU.
        learning_rate: dimensionless; see `of_statistics` for what it is in `STREAMING`.
        milestones: increasing numbers of classes, at most as many as there are.
        initial: (classes, F + 1) initial weight and bias of every output, of `unit-sgd` a bias of 0; zeros where it is
            None.

    Yields:
        the milestone, and the head learned by then; its tensors are copies.

    Raises:
        UserError: an unknown head, or a milestone beyond the number of classes.
    """
    _check_known(head)
    if milestones and milestones[-1] > len(features):
        raise UserError(f"A milestone at {milestones[-1]} classes, but there are only {len(features)}; lower it.")
    if head in STREAMING:
        for milestone in milestones:
            yield milestone, of_statistics(head, features[:milestone], learning_rate)
        return
    classes = len(features)
    inputs, active = _inputs(head, features, milestones[-1])
    shared = initial is None
    weights = inputs.new_zeros(classes + 1, inputs.shape[2]) if initial is None else initial[:, active].clone()
    layer = SoftmaxLayer(weights, learning_rate, head == "adam")
    for c in range(milestones[-1]):
        # With a shared row, row 0 is that row, which stands for `waiting` outputs; class c is row c + 1.
        waiting = classes - c - 1 if shared else 0
        if shared:
            layer.copy_row(0, c + 1)
        rows = slice(0 if waiting or not shared else 1, c + 2 if shared else classes)
        own = (c + 1 if shared else c) - rows.start
        layer.learn(rows, inputs[c], torch.full((len(inputs[c]),), own), waiting)
        if c + 1 in milestones:
            yield c + 1, _extract(weights, active, initial, c + 1, waiting)


def learn_shuffled(head: str, features: Tensor, learning_rate: float, order: Tensor) -> Head:
    """Learns all classes at once, from zeros: every drawing once, in the order given.

    Classes begin almost together here, so one row for those still to come would save a share of 1 / (shots + 1) only.

    Args:
        head: of `HEADS`.
        features: (classes, shots, F), float32, on the CPU.
        learning_rate: as of `learn_in_sequence`.
        order: (classes * shots,) drawings, number i being drawing i % shots of class i // shots; no matter to
            `STREAMING`.

    Raises:
        UserError: an unknown head.
    """
    _check_known(head)
    if head in STREAMING:
        return of_statistics(head, features, learning_rate)
    classes, shots, width = features.shape
    inputs, active = _inputs(head, features, classes)
    weights = inputs.new_zeros(classes, inputs.shape[2])
    SoftmaxLayer(weights, learning_rate, head == "adam").learn(slice(None), inputs.flatten(0, 1)[order], order // shots)
    return _extract(weights, active, weights.new_zeros(classes, width + 1), classes, 0)


def _check_known(head: str) -> None:
    if head not in HEADS:
        raise UserError(f"Unknown head {head!r}; known are {', '.join(HEADS)}.")


def _inputs(head: str, features: Tensor, learned: int) -> tuple[Tensor, Tensor]:
    """Features with the bias as a last one of 1, or of 0 where there is none, and which are kept: the others are 0 in
    every drawing of the classes learned, where they never change a weight."""
    active = torch.cat([features[:learned].flatten(0, 1).any(0), torch.tensor([True])])
    unit = head == "unit-sgd"
    if unit:
        features = F.normalize(features, dim=-1, eps=SMALLEST)
    bias = features.new_full((*features.shape[:2], 1), 0.0 if unit else 1.0)
    return torch.cat([features, bias], 2)[:, :, active].contiguous(), active


def _extract(weights: Tensor, active: Tensor, initial: Tensor | None, learned: int, waiting: int) -> LinearHead:
    """The learned rows as a head over all features; an output still to come competes with them."""
    if initial is None:
        full = weights.new_zeros(len(weights), len(active))
        full[:, active] = weights
        rows = full[1 : learned + 1]
        return LinearHead(rows[:, :-1].clone(), rows[:, -1].clone(), full[0].clone() if waiting else None)
    # Outputs that were drawn at random all differ: they stay in the head as classes that are never right.
    full = initial.clone()
    full[:, active] = weights
    return LinearHead(full[:, :-1].clone(), full[:, -1].clone(), None)
