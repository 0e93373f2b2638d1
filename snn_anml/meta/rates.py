"""The learning rate of a head at each milestone, picked by held-out accuracy on the classes given for that."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from snn_anml.meta.side_by_side import RunAll
from snn_anml.meta.trial import Trial

CANDIDATES: dict[str, tuple[float, ...]] = {
    "adam": (2e-4, 3e-4, 4.5e-4, 7e-4, 1.1e-3, 1.7e-3, 2.6e-3),
    "sgd": (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1),
    "class-mean": (0.0,),
}
"""Learning rates to choose from, increasing. Those of sgd are divided by the mean of |f|^2 (see `candidates`)."""

EARLY_CLASSES = 100
KEPT_AROUND = 1
"""The best learning rate moves slowly as classes come. After a first round up to `EARLY_CLASSES`, only the best and
this many to either side of it run to the late milestones, which cost most."""


def candidates(head: str, features: Tensor) -> tuple[float, ...]:
    """Learning rates to choose from, for features (classes, shots, F) that are learned from.

    One SGD step on features f moves the logits of the same drawing by lr |f|^2, so sgd's are relative to that.
    """
    scale = 1 / features.pow(2).sum(2).mean().item() if head == "sgd" else 1.0
    return tuple(rate * scale for rate in CANDIDATES[head])


def pick_rates(
    name: str, rates: Sequence[float], trials: Sequence[Trial], milestones: tuple[int, ...], run_all: RunAll
) -> dict[int, float]:
    """The rate of the best mean held-out accuracy at every milestone.

    Args:
        name: of the features that the trials learn.
        rates: candidates, increasing.
        trials: repetitions on the classes to pick on.
        milestones: increasing numbers of classes; one beyond the classes at hand gets the pick of the last within.
        run_all: runs independent trials.
    """
    most = min(len(trial.order) for trial in trials)
    within = tuple(m for m in milestones if m <= most) or (most,)
    alive, picked = list(range(len(rates))), {}
    early = tuple(m for m in within if m <= EARLY_CLASSES) or within[:1]
    for stage in (early, within[len(early) :]):
        if not stage:
            continue
        scores = run_all((name, trial, rates[i], stage, False) for i in alive for trial in trials)
        accuracy = np.array([[score.test for score in run] for run in scores])
        accuracy = accuracy.reshape(len(alive), len(trials), len(stage)).mean(1)
        for j, milestone in enumerate(stage):
            picked[milestone] = rates[alive[int(accuracy[:, j].argmax())]]
        best = alive[int(accuracy[:, -1].argmax())]
        alive = [i for i in alive if abs(i - best) <= KEPT_AROUND]
    return {milestone: picked.get(milestone, picked[within[-1]]) for milestone in milestones}
