"""What a head does to learn one more class, counted exactly: operations, memory traffic and memory.

The head is that of `snn_anml.meta.heads`, which learns from one drawing at a time, with C outputs, and F features of
which a are not zero in a drawing:

    forward     sgd, adam: W x + b of all C outputs, C a multiply-accumulates;  unit-sgd: f / |f| before, and no b;
                cosine: f / |f| and w . x
    softmax     exponentials of C logits less their maximum, their sum, and C shares
    gradient    softmax less one-hot: a single subtraction, for the gradient e x^T is never written down
    state       adam: both moments of all C (F + 1) weights, at every drawing;
                class-mean: a sum over drawings;  gaussian: sums of values and of squares
    update      sgd: C (a + 1) weights, the columns of active features and the bias, if any;  adam: all C (F + 1);
                class-mean, cosine, gaussian: the own row

There is no replay: no head keeps a drawing, so nothing is learned from twice. The row that stands for all outputs
to come in `snn_anml.meta.heads` saves time in the simulation only; here every output pays. Statistics are kept as
running sums, which gives what the means over all drawings give, up to rounding.

Memory is what lasts from one drawing to the next: weights, biases, moments, sums. A pass reads and writes each value
once; the features and errors of the drawing at hand stay in registers. A row is worked on where a drawing of its class
was active; the rest of it is zero. Constants that are the same for all classes (1 / shots, lr / k) are ready.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from converters.energy.counts import FLOAT32_BYTES
from snn_anml.errors import UserError
from snn_anml.meta.heads import HEADS, STREAMING


@dataclass(frozen=True)
class Operations:
    """What is computed, and how many values of memory are read and written; integers.

    An addition of a product is one of `macs`; `multiplies` and `adds` are those that are not part of one.
    """

    macs: int = 0
    multiplies: int = 0
    adds: int = 0
    divisions: int = 0
    roots: int = 0
    exponentials: int = 0
    reads: int = 0
    writes: int = 0


@dataclass(frozen=True)
class LearningCounts:
    """Operations to learn one class, summed over several classes that were each the new one.

    Attributes:
        head: of `snn_anml.meta.heads.HEADS`.
        known: classes known before.
        outputs: C, outputs of the head; they matter to a softmax alone (`sgd`, `unit-sgd`, `adam`).
        shots: drawings learned from.
        features: F.
        classes: how many classes the sums are over.
        active: mean number of features that are not zero in a drawing.
        effective: operations by item, in the order of the module, of a device that skips zeros.
        dense: the same where none is skipped.
        resident_bytes: bytes of all that the head keeps, float32, once the class is known.
    """

    head: str
    known: int
    outputs: int
    shots: int
    features: int
    classes: int
    active: Fraction
    effective: dict[str, Operations]
    dense: dict[str, Operations]
    resident_bytes: int

    def mean(self, item: str, name: str, *, dense: bool = False) -> Fraction:
        """Exact mean over the classes of one count of one item."""
        return Fraction(getattr((self.dense if dense else self.effective)[item], name), self.classes)


class _Seen(NamedTuple):
    """Of n drawings: how many features are active in each, and in each or one before it, (classes, shots); F."""

    active: np.ndarray
    support: np.ndarray
    width: int

    @property
    def drawings(self) -> int:
        return self.active.size

    @property
    def events(self) -> int:
        return int(self.active.sum())


def count(head: str, features: np.ndarray, *, known: int, outputs: int | None = None) -> LearningCounts:
    """Counts what a head does to learn one class, exactly.

    Args:
        head: of `snn_anml.meta.heads.HEADS`.
        features: (classes, shots, F) drawings of classes, each of them taken for the new one; counts are means over
            them.
        known: classes known before.
        outputs: C, outputs of the head; as many as classes, `known` + 1, where it is None. The meta-test has one for
            every class that will come.

    Raises:
        UserError: an unknown head, features of another shape, or fewer outputs than classes.
    """
    if head not in HEADS:
        raise UserError(f"Unknown head {head!r}; known are {', '.join(HEADS)}.")
    if features.ndim != 3 or 0 in features.shape:
        raise UserError(f"Features of shape {features.shape}; give (classes, shots, features), at least one of each.")
    outputs = known + 1 if outputs is None else outputs
    if not 0 <= known < outputs:
        raise UserError(f"{known} classes are known and the head has {outputs} outputs; one must be left for the new.")
    classes, shots, width = features.shape
    fires = features != 0
    seen = _Seen(fires.sum(2), np.logical_or.accumulate(fires, 1).sum(2), width)
    everything = np.full((classes, shots), width)
    row = {
        "sgd": width + 1,
        "unit-sgd": width,
        "adam": 3 * (width + 1),
        "class-mean": width + 1,
        "cosine": width,
        "gaussian": 2 * width,
    }[head]
    return LearningCounts(
        head,
        known,
        outputs,
        shots,
        width,
        classes,
        Fraction(seen.events, seen.drawings),
        _OF_HEAD[head](seen, outputs),
        _OF_HEAD[head](_Seen(everything, everything, width), outputs),
        FLOAT32_BYTES * row * (known + 1 if head in STREAMING else outputs),
    )


def _softmax(seen: _Seen, outputs: int) -> dict[str, Operations]:
    n, pairs, logits = seen.drawings, outputs * seen.events, outputs * seen.drawings
    return {
        "forward": Operations(macs=pairs, reads=pairs + logits),  # a sum starts at its bias
        "softmax": Operations(adds=2 * logits, exponentials=logits, divisions=n, multiplies=logits),
        "gradient": Operations(adds=n),
    }


def _sgd(seen: _Seen, outputs: int) -> dict[str, Operations]:
    pairs, biases = outputs * seen.events, outputs * seen.drawings
    traffic = pairs + biases
    return _softmax(seen, outputs) | {
        "update": Operations(macs=pairs, multiplies=biases, adds=biases, reads=traffic, writes=traffic)
    }


def _unit_sgd(seen: _Seen, outputs: int) -> dict[str, Operations]:
    n, events, pairs = seen.drawings, seen.events, outputs * seen.events
    return _softmax(seen, outputs) | {
        "forward": Operations(macs=events + pairs, multiplies=events, divisions=n, roots=n, reads=pairs),
        "update": Operations(macs=pairs, multiplies=outputs * n, reads=pairs, writes=pairs),
    }


def _adam(seen: _Seen, outputs: int) -> dict[str, Operations]:
    n, pairs, biases = seen.drawings, outputs * seen.events, outputs * seen.drawings
    weights = biases * (seen.width + 1)
    # Both moments decay everywhere and grow where the feature is active; e (1 - b1), e^2 (1 - b2) and x^2 come first.
    state = Operations(
        macs=2 * (pairs + biases),
        multiplies=2 * biases * seen.width + 3 * biases + seen.events,
        reads=2 * weights,
        writes=2 * weights,
    )
    # The corrections of both moments' bias are a few operations a drawing, not a weight.
    update = Operations(
        macs=weights,
        multiplies=4 * n,
        adds=weights + 2 * n,
        divisions=weights + n,
        roots=weights + n,
        reads=weights,
        writes=weights,
    )
    return _softmax(seen, outputs) | {"state": state, "update": update}


def _class_mean(seen: _Seen, outputs: int) -> dict[str, Operations]:
    classes, row = len(seen.support), int(seen.support[:, -1].sum())
    return {
        "state": Operations(adds=seen.events, reads=seen.events, writes=seen.events),
        "update": Operations(macs=row, multiplies=row + classes, reads=row, writes=row + classes),
    }


def _cosine(seen: _Seen, outputs: int) -> dict[str, Operations]:
    n, turns = seen.drawings, seen.drawings - len(seen.active)
    first, rows = int(seen.active[:, 0].sum()), int(seen.support[:, 1:].sum())
    later = seen.events - first
    return {
        "forward": Operations(macs=seen.events + later, multiplies=seen.events, divisions=n, roots=n, reads=later),
        "update": Operations(
            macs=3 * rows, multiplies=rows, divisions=turns, roots=turns, reads=rows, writes=rows + first
        ),
    }


def _gaussian(seen: _Seen, outputs: int) -> dict[str, Operations]:
    classes, row, events = len(seen.support), int(seen.support[:, -1].sum()), seen.events
    return {
        "state": Operations(macs=events, adds=events, reads=2 * events, writes=2 * events),
        # Where no drawing was active the mean is zero already, and the precision that of the prior.
        "update": Operations(
            macs=2 * row, multiplies=row, divisions=row, reads=2 * row, writes=classes * seen.width + row
        ),
    }


_OF_HEAD: dict[str, Callable[[_Seen, int], dict[str, Operations]]] = {
    "sgd": _sgd,
    "unit-sgd": _unit_sgd,
    "adam": _adam,
    "class-mean": _class_mean,
    "cosine": _cosine,
    "gaussian": _gaussian,
}
