"""One order of classes learned by one head, scored at its milestones."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from snn_anml.meta.heads import Head, learn_in_sequence, learn_shuffled

Deployed = Callable[[Head], Head]
FIRST_CLASSES = 10
"""Forgetting is followed on the classes learned first; that many of them."""


class Scores(NamedTuple):
    """Accuracy over the classes learned so far, against all outputs of the head.

    train: on the drawings learned from; test: held out; first: held out, of the first ten classes; head: the one that
    answered, None where it is not wanted.
    """

    train: float
    test: float
    first: float
    head: Head | None


@dataclass(frozen=True, eq=False)
class Trial:
    """What is learned, by what; small, so that it can be sent to a worker, which holds the features.

    head: of `snn_anml.meta.heads.HEADS`; order: (n,) the classes, in the order in which they come; shots: drawings of
    each class that are learned from, the others are held out; drawn: seed of a freshly drawn output layer, zero where
    None; shuffled: seed of the order of drawings where all classes up to a milestone are learned at once, anew for
    every milestone, one class after another where None; deployed: makes of a learned head the one that answers, such as
    one of few bits, while learning goes on with the other.
    """

    head: str
    order: np.ndarray
    shots: int
    drawn: tuple[int, ...] | None = None
    shuffled: tuple[int, ...] | None = None
    deployed: Deployed | None = None

    def run(self, features: Tensor, learning_rate: float, milestones: tuple[int, ...]) -> list[Scores]:
        """Learns features (classes, drawings, F) up to the last milestone, and scores at every one."""
        features = features[torch.from_numpy(self.order)]
        learned_from, held_out = features[:, : self.shots], features[:, self.shots :]
        scores = []
        for classes, learned in self._learn(learned_from, learning_rate, milestones):
            head = learned if self.deployed is None else self.deployed(learned)
            test = accuracy_by_class(head, held_out[:classes])
            train = accuracy_by_class(head, learned_from[:classes])
            scores.append(Scores(train.mean().item(), test.mean().item(), test[:FIRST_CLASSES].mean().item(), head))
        return scores

    def _learn(self, features: Tensor, learning_rate: float, milestones: tuple[int, ...]) -> Iterator[tuple[int, Head]]:
        """Every milestone, and the head learned by then from features (classes, shots, F)."""
        if self.shuffled is None:
            initial = None if self.drawn is None else drawn_layer(len(features), features.shape[2], self.drawn)
            yield from learn_in_sequence(self.head, features, learning_rate, milestones, initial)
            return
        for classes in milestones:
            order = np.random.default_rng([*self.shuffled, classes]).permutation(classes * self.shots)
            yield classes, learn_shuffled(self.head, features[:classes], learning_rate, torch.from_numpy(order))


def drawn_layer(classes: int, features: int, seed: Sequence[int]) -> Tensor:
    """A freshly drawn output layer, weights normal(0, 2 / fan_in) and bias 0: (classes, features + 1)."""
    weight = np.random.default_rng(seed).standard_normal((classes, features), np.float32) * math.sqrt(2 / features)
    return torch.cat([torch.from_numpy(weight), torch.zeros(classes, 1)], 1)


def accuracy_by_class(head: Head, features: Tensor) -> np.ndarray:
    """Share of right answers for each class, (classes,), on features (classes, drawings, F)."""
    predicted = head.predict(features.flatten(0, 1)).view(len(features), -1).numpy()
    return (predicted == np.arange(len(features))[:, None]).mean(1)
