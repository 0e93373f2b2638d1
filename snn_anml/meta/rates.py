"""The learning rate of a head at each milestone, picked by held-out accuracy on the classes given for that."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from snn_anml.meta.side_by_side import RunAll
from snn_anml.meta.trial import Trial

CANDIDATES: dict[str, tuple[float, ...]] = {
    "adam": (2e-4, 3e-4, 4.5e-4, 7e-4, 1.1e-3, 1.7e-3, 2.6e-3, 4e-3, 6e-3),
    "sgd": (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 6e-1, 1.0),
    "unit-sgd": (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0),
    "class-mean": (0.0,),
    "cosine": (0.3, 0.6, 1.0, 1.5, 2.0),
    "gaussian": (0.3, 1.0, 3.0, 10.0, 30.0),
}
"""Learning rates to choose from, increasing; of `gaussian`, variances of the prior. Those of sgd are divided by the
mean of |f|^2, those of gaussian multiplied by the mean variance within a class (see `candidates`)."""

_OF_SGD = (1e-1, 3e-1, 1.0, 2.0, 4.0, 8.0, 16.0)
SHUFFLED = CANDIDATES | {"sgd": _OF_SGD, "unit-sgd": _OF_SGD}
"""The same where the drawings of all classes come shuffled: steps that would undo the classes before pay there."""

EARLY_CLASSES = 100
KEPT_AROUND = 1
"""The best learning rate moves slowly as classes come. After a first round up to `EARLY_CLASSES`, only the best and
this many to either side of it run to the late milestones, which cost most."""


def candidates(head: str, features: Tensor, shuffled: bool = False) -> tuple[float, ...]:
    """Learning rates to choose from, for features (classes, shots, F) that are learned from, in turn or shuffled.

    One SGD step on features f moves the logits of the same drawing by lr |f|^2, so sgd's are relative to that; and the
    prior variance of gaussian to that of the features.
    """
    scale = 1.0
    if head == "sgd":
        scale = 1 / features.pow(2).sum(2).mean().item()
    elif head == "gaussian":
        scale = (features - features.mean(1, keepdim=True)).pow(2).mean().item()
    return tuple(rate * scale for rate in (SHUFFLED if shuffled else CANDIDATES)[head])


def pick_rates(
    name: str, rates: Sequence[float], trials: Sequence[Trial], milestones: tuple[int, ...], run_all: RunAll
) -> dict[int, float]:
    """The rate of the best mean held-out accuracy at every milestone; of several that are equal, the middle one.

    Beyond `EARLY_CLASSES`, where a trial asks for hundreds of drawings, the first trial alone decides.

    Args:
        name: of the features that the trials learn.
        rates: candidates, increasing.
        trials: repetitions on the classes to pick on.
        milestones: increasing numbers of classes; one beyond the classes at hand gets the pick of the last within.
        run_all: runs independent trials.
    """
    if len(rates) == 1:
        return dict.fromkeys(milestones, rates[0])
    most = min(len(trial.order) for trial in trials)
    within = tuple(m for m in milestones if m <= most) or (most,)
    early = tuple(m for m in within if m <= EARLY_CLASSES) or within[:1]
    alive, picked = list(range(len(rates))), {}
    for stage, of in ((early, trials), (within[len(early) :], trials[:1])):
        if not stage:
            continue
        scores = run_all((name, trial, rates[i], stage, False) for i in alive for trial in of)
        accuracy = np.array([[score.test for score in run] for run in scores])
        accuracy = accuracy.reshape(len(alive), len(of), len(stage)).mean(1)
        best = [alive[_middle(np.flatnonzero(column == column.max()))] for column in accuracy.T]
        picked |= {milestone: rates[i] for milestone, i in zip(stage, best, strict=True)}
        alive = [i for i in alive if abs(i - best[-1]) <= KEPT_AROUND]
    return {milestone: picked.get(milestone, picked[within[-1]]) for milestone in milestones}


def _middle(indices: np.ndarray) -> int:
    return int(indices[len(indices) // 2])
