"""Trajectories, remember sets and plain batches: which drawings a training step sees.

All sampling is a pure function of a NumPy generator; a step's generator is seeded with (seed, phase, step), so
that a resumed run sees what an uninterrupted one would have seen.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from snn_anml.config import MetaConfig
from snn_anml.errors import UserError

PIXEL_SCALE = 256
"""Pictures are k/256, so that every pixel is a dyadic fraction and sums of them can be exact in float32."""


class Drawings(NamedTuple):
    """Indices of drawings and their labels, all (M, N): M trajectories of N drawings."""

    classes: np.ndarray
    drawings: np.ndarray
    labels: np.ndarray


def pictures(images: Tensor, classes: np.ndarray, drawings: np.ndarray) -> Tensor:
    """Pictures (B, 1, H, W) in [0, 1), from images (classes, drawings, H, W) uint8 and flat or (M, N) indices."""
    device = images.device
    index = [torch.from_numpy(np.ascontiguousarray(i.reshape(-1))).to(device) for i in (classes, drawings)]
    return (images[index[0], index[1]].float() / PIXEL_SCALE).unsqueeze(1)


def sample_batch(rng: np.random.Generator, classes: np.ndarray, drawings: int, size: int) -> Drawings:
    """A batch of random drawings of random classes, (1, size); labels are positions in `classes`."""
    labels = rng.integers(len(classes), size=(1, size))
    return Drawings(classes[labels], rng.integers(drawings, size=labels.shape), labels)


def sample_trajectories(rng: np.random.Generator, classes: np.ndarray, drawings: int, config: MetaConfig) -> Drawings:
    """M trajectories of `config.classes` classes each.

    Args:
        rng: source of randomness.
        classes: (K,) indices of the meta-training classes.
        drawings: number of drawings of each class in the data.
        config: numbers of trajectories, classes, shots, queries and remembered drawings.

    Returns:
        (M, S + Q + R): first the S = classes x shots drawings of the inner loop, class after class; then Q =
        classes x queries held-out drawings of the same classes; then R remembered drawings of any class. Labels
        are positions in `classes` for `head = "meta"`, positions in the trajectory for the others.

    Raises:
        UserError: more classes than there are, or more drawings than a class has.
    """
    if config.classes > len(classes):
        raise UserError(
            f"meta.classes = {config.classes}, but there are only {len(classes)} meta-training classes; lower it."
        )
    if config.shots + config.queries > drawings:
        raise UserError(
            f"meta.shots + meta.queries = {config.shots + config.queries}, but a class has {drawings} drawings; "
            "lower one."
        )
    M, C = config.trajectories, config.classes
    positions = np.stack([rng.permutation(len(classes))[:C] for _ in range(M)])
    order = rng.random((M, C, drawings)).argsort(-1)
    parts = []
    for which in (slice(config.shots), slice(config.shots, config.shots + config.queries)):
        chosen = order[:, :, which]
        position = np.broadcast_to(positions[:, :, None], chosen.shape)
        label = position if config.head == "meta" else np.broadcast_to(np.arange(C)[None, :, None], chosen.shape)
        parts.append([a.reshape(M, -1) for a in (classes[position], chosen, label)])
    remembered = rng.integers(len(classes), size=(M, config.remember))
    parts.append([classes[remembered], rng.integers(drawings, size=remembered.shape), remembered])
    return Drawings(*(np.concatenate(columns, axis=1) for columns in zip(*parts, strict=True)))
