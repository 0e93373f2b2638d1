"""Accuracies that others have published for the same game on Omniglot, with their sources.

The game: unseen classes one after another, 15 drawings of each learned in one pass, 5 held out. All were measured
as protocol `paper` or close to it (learning rates picked on the classes that are reported).
"""

from __future__ import annotations

from typing import NamedTuple

DATASET = "omniglot"
CLASSES = (10, 50, 100, 200, 600)


class Published(NamedTuple):
    """Held-out accuracy, %, by number of classes. head: that of ours which learned as theirs did, if any."""

    source: str
    family: str
    accuracy: dict[int, float]
    head: str = ""


def _curve(source: str, family: str, *values: float) -> Published:
    return Published(source, family, dict(zip(CLASSES, values, strict=True)))


CURVES = (
    _curve("ANML code (Beaulieu et al. 2020), 20,000 steps, rerun by Numenta", "ANML", 84, 84, 81, 77, 64),
    _curve("ANML, Numenta's own code, second order", "ANML", 88, 88, 85, 80, 66),
    _curve("ANML, higherANML, second order, 30,000 steps", "ANML", 90, 89, 85, 80, 65),
    _curve("OML code (Javed and White 2019), rerun by Numenta", "OML", 91, 82, 76, 69, 55),
    _curve("OML, Numenta's own code", "OML", 87, 87, 81, 73, 59),
)
"""Curves that are drawn behind our own."""

ORACLE = Published("ANML, paper, i.i.d. oracle", "ANML", {600: 71.0})
"""Drawn behind our own oracle."""

POINTS = (
    Published("ANML, paper (Beaulieu et al. 2020)", "ANML", {600: 63.8}, "adam"),
    ORACLE,
    Published("ANML, paper, PLN not frozen", "ANML", {600: 31.5}),
    Published("OML, in the ANML paper", "OML", {600: 18.2}),
    Published("OML-OLFT, in the ANML paper", "OML", {600: 44.2}),
    Published("Chameleon, 40 nm chip (arXiv 2505.24852), 10 drawings a class", "other", {250: 82.2}),
    Published("MTLR, linear head, SGD (Banayeeanzade et al. 2021), 84x84", "other", {600: 63.9}, "sgd"),
    Published("PGLR, prototypes learned by gradients (same), 84x84", "other", {600: 75.3}, "cosine"),
    Published("Class-mean episodes, class-mean head (same), 84x84", "other", {600: 83.7}, "class-mean"),
    Published("PGLR backbone, Gaussian MAP head (same), 84x84", "other", {600: 87.8}, "gaussian"),
    Published("Gaussian episodes, predictive head, GeMCL (same), 84x84", "other", {600: 86.8}, "gaussian"),
)
"""Single numbers, for the table."""


def envelope(family: str) -> tuple[list[int], list[float], list[float]]:
    """Numbers of classes, lowest and highest published accuracy (%) of the curves of a family."""
    curves = [curve.accuracy for curve in CURVES if curve.family == family]
    classes = sorted(set.intersection(*(set(curve) for curve in curves)))
    return classes, [min(c[n] for c in curves) for n in classes], [max(c[n] for c in curves) for n in classes]
