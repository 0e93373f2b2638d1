"""One sequence of classes learned by one head, scored at its milestones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from snn_anml.meta.heads import LinearHead, learn_in_sequence

FIRST_CLASSES = 10
"""Forgetting is followed on the classes learned first; that many of them."""


class Scores(NamedTuple):
    """Accuracy over the classes learned so far, against all outputs of the head.

    train: on the drawings learned from; test: held out; first: held out, of the first ten classes; head: as learned.
    """

    train: float
    test: float
    first: float
    head: LinearHead


@dataclass(frozen=True, eq=False)
class Trial:
    """What is learned, by what.

    head: `adam`, `sgd` or `class-mean`; features: (classes, drawings, F) in the order of the classes; shots: drawings
    of each class that are learned from, the others are held out; initial: (classes, F + 1) initial output layer, zero
    where None.
    """

    head: str
    features: Tensor
    shots: int
    initial: Tensor | None = None

    def run(self, learning_rate: float, milestones: tuple[int, ...]) -> Iterator[Scores]:
        """Learns class after class and scores at every milestone; between two of them it can be left off."""
        learned_from, held_out = self.features[:, : self.shots], self.features[:, self.shots :]
        for classes, head in learn_in_sequence(self.head, learned_from, learning_rate, milestones, self.initial):
            test = accuracy_by_class(head, held_out[:classes])
            train = accuracy_by_class(head, learned_from[:classes])
            yield Scores(train.mean().item(), test.mean().item(), test[:FIRST_CLASSES].mean().item(), head)


RunAll = Callable[[Iterable[Callable[[], Any]]], list[Any]]
"""Calls independent jobs, side by side or one after another, and returns their results in order."""


def accuracy_by_class(head: LinearHead, features: Tensor) -> np.ndarray:
    """Share of right answers for each class, (classes,), on features (classes, drawings, F)."""
    predicted = head.predict(features.flatten(0, 1)).view(len(features), -1).numpy()
    return (predicted == np.arange(len(features))[:, None]).mean(1)
