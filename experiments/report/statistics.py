"""Means over draws with their 95 % intervals, and the summaries of a meta-test."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import t as student_t

from snn_anml.meta import Outcome

CONFIDENCE = 0.95


class Mean(NamedTuple):
    """A mean of n values; half_width: half of its 95 % interval, None where one value says nothing of the spread."""

    mean: float
    half_width: float | None
    n: int


class Summary(NamedTuple):
    """Accuracies (fractions) of one head after `classes` classes under one protocol, over draws.

    train: drawings learned from; test: held out; first: held out, of the first ten classes learned.
    """

    protocol: str
    head: str
    classes: int
    train: Mean
    test: Mean
    first: Mean


def mean_interval(values: Sequence[float]) -> Mean:
    """The mean, and mean -+ t_{n-1, 0.975} s / sqrt(n) with the sample standard deviation s.

    Raises:
        ValueError: no values.
    """
    n = len(values)
    if n == 0:
        raise ValueError("There is no mean of no values.")
    mean = math.fsum(values) / n
    if n == 1:
        return Mean(mean, None, 1)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    quantile = float(student_t.ppf(0.5 + CONFIDENCE / 2, n - 1))
    return Mean(mean, quantile * deviation / math.sqrt(n), n)


def summarise(outcomes: Iterable[Outcome]) -> list[Summary]:
    """One summary for every protocol, head and number of classes, in the order in which they first appear,
    numbers of classes increasing."""
    groups: dict[tuple[str, str], dict[int, list[Outcome]]] = {}
    for outcome in outcomes:
        group = groups.setdefault((outcome.protocol, outcome.head), {})
        group.setdefault(outcome.classes, []).append(outcome)
    return [
        Summary(
            protocol,
            head,
            classes,
            mean_interval([o.train_accuracy for o in group[classes]]),
            mean_interval([o.test_accuracy for o in group[classes]]),
            mean_interval([o.first_test_accuracy for o in group[classes]]),
        )
        for (protocol, head), group in groups.items()
        for classes in sorted(group)
    ]


def correlations(vectors: np.ndarray, labels: np.ndarray) -> tuple[float | None, float | None]:
    """Mean Pearson correlation over pairs of vectors (B, n) of the same label (B,), and of different labels.

    A pair with a constant vector has no correlation and is left out; None where no pair remains.
    """
    x = np.asarray(vectors, dtype=np.float64)
    x = x - x.mean(1, keepdims=True)
    norm = np.linalg.norm(x, axis=1)
    defined = norm > 0
    x = x[defined] / norm[defined, None]
    kept = np.asarray(labels)[defined]
    product = x @ x.T
    pairs = np.triu(np.ones_like(product, dtype=bool), 1)
    same = kept[:, None] == kept[None, :]
    within, between = product[pairs & same], product[pairs & ~same]
    return (
        float(within.mean()) if within.size else None,
        float(between.mean()) if between.size else None,
    )
