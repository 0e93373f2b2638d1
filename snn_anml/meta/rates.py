"""The learning rate of a head at each milestone, picked by held-out accuracy on the classes given for that."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from torch import Tensor

from snn_anml.meta.trial import RunAll, Trial

CANDIDATES: dict[str, tuple[float, ...]] = {
    "adam": (2e-4, 3e-4, 4.5e-4, 7e-4, 1.1e-3, 1.7e-3, 2.6e-3),
    "sgd": (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1),
    "class-mean": (0.0,),
}
"""Learning rates to choose from, increasing. Those of sgd are divided by the mean of |f|^2 (see `candidates`)."""

EARLY_CLASSES = 100
KEPT_AROUND = 1
"""The best learning rate moves slowly as classes come. From `EARLY_CLASSES` on, only the best and this many to either
side of it go on after a milestone, since late milestones cost most."""


def candidates(head: str, features: Tensor) -> tuple[float, ...]:
    """Learning rates to choose from, for features (classes, shots, F) that are learned from.

    One SGD step on features f moves the logits of the same drawing by lr |f|^2, so sgd's are relative to that.
    """
    scale = 1 / features.pow(2).sum(2).mean().item() if head == "sgd" else 1.0
    return tuple(rate * scale for rate in CANDIDATES[head])


def pick_rates(
    rates: Sequence[float], trials: Sequence[Trial], milestones: tuple[int, ...], run_all: RunAll
) -> dict[int, float]:
    """The rate of the best mean held-out accuracy at every milestone.

    Args:
        rates: candidates, increasing.
        trials: repetitions on the classes to pick on.
        milestones: increasing numbers of classes; one beyond the classes at hand gets the pick of the last within.
        run_all: calls independent jobs.
    """
    most = min(len(trial.features) for trial in trials)
    within = tuple(m for m in milestones if m <= most) or (most,)
    alive = {i: [trial.run(rate, within) for trial in trials] for i, rate in enumerate(rates)}
    picked: dict[int, float] = {}
    for milestone in within:
        scores = iter(run_all([partial(next, run) for runs in alive.values() for run in runs]))
        accuracy = {i: np.mean([next(scores).test for _ in runs]) for i, runs in alive.items()}
        best = max(accuracy, key=accuracy.__getitem__)
        picked[milestone] = rates[best]
        if milestone >= EARLY_CLASSES:
            alive = {i: runs for i, runs in alive.items() if abs(i - best) <= KEPT_AROUND}
    return {milestone: picked.get(milestone, picked[within[-1]]) for milestone in milestones}
