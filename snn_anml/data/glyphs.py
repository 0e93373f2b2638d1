"""Glyphs: made-up handwritten characters, any number of classes, from a seed alone.

A class is one to four random strokes (lines, bows, hooks, waves), often joined. A drawing of it is written
with motor noise: in the strokes' place, length and direction, in their points, and in slant, rotation, scale,
shift and pen of the whole. Glyphs take the place of Omniglot where nothing can be downloaded, and are about
as hard: nearest class mean on 28 x 28 pixels, 100 classes, 15 drawings each, is right on 46 % of the other
drawings (41 to 53 % over six seeds with ten choices of classes each; Omniglot: 45 %, 42 to 49 %).
"""

from __future__ import annotations

import math

import numpy as np

from snn_anml.data.cache import cached_array
from snn_anml.data.dataset import Dataset
from snn_anml.data.strokes import curve_basis, render
from snn_anml.errors import UserError

RECIPE = 1
"""Version of what is drawn; raised whenever the same arguments would give other bytes."""

BACKGROUND_SHARE = 0.6
"""Part of the classes that form the background half (Omniglot: 964 of 1623 = 0.59)."""

STROKES = 4
"""Most strokes of a character."""
CONTROLS = 7
"""Control points of a stroke."""
POINTS = 19
"""Points of a stroke's curve."""

STROKE_COUNT_SHARES = (0.12, 0.36, 0.32, 0.20)
"""Shares of characters with 1, 2, 3, 4 strokes."""

CHUNK = 64
"""Classes drawn at a time; bounds the memory."""

_NUMBERS_STROKE = 12
_NUMBERS_CLASS = 2 + STROKES * _NUMBERS_STROKE
_NOISES_DRAWING = 7 + STROKES * (5 + 2 * CONTROLS)
_UNIFORMS_PER_NORMAL = 4
_NUMBERS_DRAWING = _NOISES_DRAWING * _UNIFORMS_PER_NORMAL


def load_glyphs(
    classes: int = 1200, drawings: int = 20, size: int = 28, seed: int = 0, background: int | None = None
) -> Dataset:
    """Draws the glyphs, or reads them from the cache.

    Drawing j of class i depends on the seed, i, j and the size alone, not on how many are asked for.

    Args:
        classes: number of classes, at least 2.
        drawings: drawings of every class.
        size: height and width of the images, pixels, at least 8.
        seed: not negative; another seed gives other characters.
        background: number of leading classes that form the training half; 60 % of the classes when None.

    Returns:
        Images (classes, drawings, size, size).

    Raises:
        UserError: a number out of its range.
    """
    for name, value, least in (
        ("classes", classes, 2),
        ("drawings", drawings, 1),
        ("size", size, 8),
        ("seed", seed, 0),
    ):
        if value < least:
            raise UserError(f"Glyphs cannot be drawn with {name} = {value}; it must be at least {least}.")
    if background is None:
        background = round(BACKGROUND_SHARE * classes)
    key = f"glyphs-{RECIPE}-{classes}x{drawings}-{size}-seed{seed}"
    images = cached_array(key, lambda: draw_glyphs(classes, drawings, size, seed))
    names = tuple(f"glyph{i:04d}" for i in range(classes))
    return Dataset.of("glyphs", images, names, background)


def draw_glyphs(classes: int, drawings: int, size: int, seed: int) -> np.ndarray:
    """(classes, drawings, size, size) uint8; see `load_glyphs`."""
    images = np.empty((classes, drawings, size, size), np.uint8)
    for first in range(0, classes, CHUNK):
        chunk = range(first, min(first + CHUNK, classes))
        numbers = np.stack([_uniforms(seed, i, _NUMBERS_CLASS + drawings * _NUMBERS_DRAWING) for i in chunk])
        controls, present = _characters(numbers[:, :_NUMBERS_CLASS])
        noise = _normals(numbers[:, _NUMBERS_CLASS:].reshape(len(chunk), drawings, _NUMBERS_DRAWING))
        written, radius = _write(controls, noise)
        points = curve_basis(CONTROLS, POINTS) @ written.reshape(-1, STROKES, CONTROLS, 2)
        shown = np.repeat(present, drawings, axis=0)
        pictures = render(points, shown, radius.ravel() * size, size)
        images[first : first + len(chunk)] = pictures.reshape(len(chunk), drawings, size, size)
    return images


def _uniforms(seed: int, index: int, count: int) -> np.ndarray:
    """(count,) numbers in [0, 1), from raw bits: numpy may change its distributions, but not these."""
    raw = np.random.PCG64(np.random.SeedSequence((seed, index))).random_raw(count)
    return (raw >> np.uint64(11)) * 2.0**-53


def _normals(uniforms: np.ndarray) -> np.ndarray:
    """Sums of four uniforms, scaled to mean 0 and variance 1: nearly normal, and never beyond 3.5."""
    sums = uniforms.reshape(*uniforms.shape[:-1], -1, _UNIFORMS_PER_NORMAL).sum(-1)
    return (sums - _UNIFORMS_PER_NORMAL / 2) * math.sqrt(12 / _UNIFORMS_PER_NORMAL)


def _characters(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Prototypes of C classes.

    Args:
        numbers: (C, _NUMBERS_CLASS), uniform.

    Returns:
        Control points (C, STROKES, CONTROLS, 2), centred on 0, in units of the paper's side, and which
        strokes there are (C, STROKES), bool.
    """
    count, extent = numbers[:, 0], numbers[:, 1]
    strokes = numbers[:, 2:].reshape(-1, STROKES, _NUMBERS_STROKE)
    present = np.concatenate([[0.0], np.cumsum(STROKE_COUNT_SHARES)[:-1]]) <= count[:, None]
    classes = np.arange(len(numbers))
    controls = np.zeros((len(numbers), STROKES, CONTROLS, 2))
    for s in range(STROKES):
        u = strokes[:, s].T
        shape = _stroke_shapes(u[:8], ornate=~present[:, 1])
        # The stroke is fixed by its start or its middle, to a point of an earlier stroke or to a free place.
        own = shape[classes, np.where(u[8] < 0.6, 0, CONTROLS // 2)]
        place = 0.7 * np.stack([u[9], u[10]], axis=-1)
        if s > 0:
            earlier = controls[classes, (u[9] * s).astype(int), (u[10] * CONTROLS).astype(int)]
            place = np.where((u[11] < 0.65)[:, None], earlier, place)
        controls[:, s] = shape + (place - own)[:, None]
    shown = present[:, :, None, None]
    low = np.where(shown, controls, np.inf).min(axis=(1, 2))
    high = np.where(shown, controls, -np.inf).max(axis=(1, 2))
    sides = np.maximum(high - low, 1e-3)
    longer = sides.max(axis=-1, keepdims=True)
    # The narrow side is stretched, up to 1.5 times: few characters of a real script are all but flat.
    scale = (0.44 + 0.20 * extent[:, None]) / longer * np.minimum((longer / sides) ** 0.4, 1.5)
    return (controls - ((low + high) / 2)[:, None, None]) * scale[:, None, None], present


def _stroke_shapes(u: np.ndarray, ornate: np.ndarray) -> np.ndarray:
    """(C, CONTROLS, 2) control points from u (8, C): a pen that starts at 0 and turns along its way.

    A straight line, a bow, a hook or a wave; where ornate (C,), a bow and a wave at once, since two
    characters that are a single plain stroke would often be the same.
    """
    kind, way, tilt, length, turn, where, side, phase = u
    bow, hook, wave = (kind >= 0.35) & (kind < 0.6), (kind >= 0.6) & (kind < 0.8), kind >= 0.8
    bow, wave = bow | ornate, wave | ornate
    middle = (np.arange(CONTROLS - 1) + 0.5) / (CONTROLS - 1)
    sign = np.where(side < 0.5, -1.0, 1.0)
    # Most writing keeps to the horizontal, the vertical and the diagonals.
    heading = (np.floor(way * 8) / 4 + (tilt - 0.5) / 8) * math.pi
    bend = np.where(bow, sign * (0.5 + 1.3 * turn) * math.pi, 0.0)
    corner = np.where(hook, sign * (0.35 + 0.45 * turn) * math.pi, 0.0)
    swing = np.where(wave, sign * (0.4 + 0.35 * turn) * math.pi, 0.0)
    angle = (
        heading[:, None]
        + bend[:, None] * (middle - 0.5)
        + corner[:, None] * (middle > (0.25 + 0.5 * where)[:, None])
        + swing[:, None] * np.sin(2 * math.pi * (middle * (0.8 + 0.6 * where)[:, None] + phase[:, None]))
    )
    step = np.where(bow | wave, 0.5 + 0.9 * length, 0.25 + 0.75 * length) / (CONTROLS - 1)
    moves = step[:, None, None] * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    return np.concatenate([np.zeros((len(moves), 1, 2)), np.cumsum(moves, axis=1)], axis=1)


def _write(controls: np.ndarray, noise: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Writes characters with motor noise.

    Args:
        controls: (C, STROKES, CONTROLS, 2), centred on 0.
        noise: (C, D, _NOISES_DRAWING), standard normal.

    Returns:
        Control points (C, D, STROKES, CONTROLS, 2) on the paper (0 to 1) and half the pen's width (C, D),
        both in units of the paper's side.
    """
    whole, strokes = noise[..., :7], noise[..., 7:].reshape(*noise.shape[:2], STROKES, -1)
    start = controls[:, None, :, :1]
    along = controls[:, None] - start
    longer = 1 + 0.12 * strokes[..., 0]
    along = _turned(along, 0.12 * strokes[..., 1, None]) * longer[..., None, None]
    points = start + along + 0.025 * strokes[..., None, 2:4]
    points = points + 0.009 * strokes[..., 5:].reshape(*strokes.shape[:3], CONTROLS, 2)
    rotation, slant, grow, widen, right, down, pen = np.moveaxis(whole, -1, 0)
    points = _turned(points, 0.08 * rotation[..., None, None])
    x = points[..., 0] - (0.12 * slant)[..., None, None] * points[..., 1]
    x = x * ((1 + 0.14 * grow) * (1 + 0.10 * widen))[..., None, None] + 0.5 + (0.04 * right)[..., None, None]
    y = (
        points[..., 1] * ((1 + 0.14 * grow) * (1 - 0.10 * widen))[..., None, None]
        + 0.5
        + (0.04 * down)[..., None, None]
    )
    return np.stack([x, y], axis=-1), (0.7 + 0.06 * pen) / 28


def _turned(points: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Points (..., 2) turned about 0 by angles (...), rad."""
    x, y = points[..., 0], points[..., 1]
    return np.stack([x * np.cos(angle) - y * np.sin(angle), x * np.sin(angle) + y * np.cos(angle)], axis=-1)
