"""What a trained network does with a few drawings: spikes of every layer, gates, and how alike the gates are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from experiments.report.statistics import correlations
from experiments.run_data import Data
from snn_anml.data.tasks import pictures
from snn_anml.networks import ANML, Network

SHOWN_DRAWINGS = 5
CORRELATED_CLASSES = 20


@dataclass(frozen=True, eq=False)
class Raster:
    """Spikes of one drawing. picture: (H, W) in [0, 1]; class_name; layers: (T, n) bool of every PLN layer."""

    picture: np.ndarray
    class_name: str
    layers: list[np.ndarray]


@dataclass(frozen=True)
class Likeness:
    """Mean Pearson correlation of the gates of one layer, over pairs of drawings within and between classes.

    raw: of the gates; deviation: of what is left once the mean gate of all these drawings is taken away.
    """

    raw_within: float | None
    raw_between: float | None
    deviation_within: float | None
    deviation_between: float | None


@dataclass(frozen=True, eq=False)
class Gates:
    """Gates of a few drawings, means over the steps where they change with time.

    pictures: (2, SHOWN_DRAWINGS, H, W) of two classes; class_names: of both; layers: (2, SHOWN_DRAWINGS, n) of
    every gated PLN layer; likeness: of each of them, over SHOWN_DRAWINGS drawings of each of `classes` classes.
    """

    pictures: np.ndarray
    class_names: tuple[str, str]
    layers: list[np.ndarray]
    likeness: list[Likeness]
    classes: int


def _drawings(data: Data, classes: np.ndarray, drawings: np.ndarray) -> torch.Tensor:
    """All pairs of the classes and drawings, classes slowest: (len(classes) * len(drawings), 1, H, W)."""
    images = torch.from_numpy(data.dataset.images)
    return pictures(images, np.repeat(classes, len(drawings)), np.tile(drawings, len(classes)))


@torch.no_grad()
def rasters(model: ANML, data: Data, seed: int, count: int = 2) -> list[Raster]:
    """Spikes of the last drawing of the first meta-test classes, one of each of `count` classes."""
    classes = data.split.meta_test[:count]
    x = _drawings(data, classes, np.array([data.dataset.drawings - 1]))
    layers = model.activity(x, torch.Generator().manual_seed(seed)).pln
    spikes = [layer.flatten(2).bool().numpy() for layer in layers]
    return [
        Raster(x[i, 0].numpy(), data.dataset.class_names[c], [layer[:, i] for layer in spikes])
        for i, c in enumerate(classes)
    ]


@torch.no_grad()
def gates(model: Network, data: Data, seed: int) -> Gates | None:
    """Gates of the first meta-test classes and drawings, which took no part in training; None without an NM network."""
    if model.modulation is None:
        return None
    classes = data.split.meta_test[:CORRELATED_CLASSES]
    drawings = np.arange(min(SHOWN_DRAWINGS, data.dataset.drawings))
    x = _drawings(data, classes, drawings)
    values = [gate.mean(0).numpy() for gate in model.activity(x, torch.Generator().manual_seed(seed)).gates]
    labels = np.repeat(np.arange(len(classes)), len(drawings))
    likeness = [
        Likeness(*correlations(layer, labels), *correlations(layer - layer.mean(0), labels)) for layer in values
    ]
    shown = 2 * len(drawings)
    a, b = (data.dataset.class_names[c] for c in classes[:2])
    return Gates(
        x[:shown, 0].numpy().reshape(2, len(drawings), *x.shape[2:]),
        (a, b),
        [layer[:shown].reshape(2, len(drawings), -1) for layer in values],
        likeness,
        len(classes),
    )


def evenly(count: int, most: int) -> np.ndarray:
    """Indices of at most `most` of `count` things, evenly spaced, the first among them."""
    if count <= most:
        return np.arange(count)
    return np.arange(most) * count // most
