"""Pen strokes on paper: smooth curves from control points, and their anti-aliased picture."""

from __future__ import annotations

import math

import numpy as np

SUBPIXELS = 1024
"""Points are rounded to this fraction of a pixel. Everything after the rounding is sums, products,
quotients and roots, which IEEE arithmetic fixes to the last bit, so every machine draws the same bytes."""


def curve_basis(controls: int, points: int) -> np.ndarray:
    """Matrix that maps control points to points on their Catmull-Rom spline (it passes through all of them).

    The end tangents are those of the mirrored neighbours: p_-1 = 2 p_0 - p_1.

    Source: E. Catmull, R. Rom, "A class of local interpolating splines", 1974.

    Args:
        controls: number of control points, at least 2.
        points: number of points on the curve, at least 2, equally spaced in the parameter.

    Returns:
        (points, controls), every row sums to 1.
    """
    extended = np.zeros((controls + 2, controls))
    extended[1:-1] = np.eye(controls)
    extended[0, :2] = (2, -1)
    extended[-1, -2:] = (-1, 2)
    t = np.linspace(0, controls - 1, points)
    left = np.minimum(t.astype(int), controls - 2)
    u = (t - left)[:, None]
    p0, p1, p2, p3 = (extended[left + i] for i in range(4))
    return 0.5 * (2 * p1 + (p2 - p0) * u + (2 * p0 - 5 * p1 + 4 * p2 - p3) * u**2 + (3 * (p1 - p2) + p3 - p0) * u**3)


def render(points: np.ndarray, present: np.ndarray, radius: np.ndarray, size: int) -> np.ndarray:
    """Draws polylines with a round pen.

    The ink of a pixel is clip(radius + 1/2 - d, 0, 1), where d is the distance of its centre to the nearest
    segment: the part of the pixel that the pen covers, to first order. What lies off the paper is cut off.

    Args:
        points: (N, S, P, 2), x (right) and y (down) of P points of S strokes, in units of the paper's side.
        present: (N, S), bool; strokes that are False are not drawn.
        radius: (N,), half the width of the pen, pixels.
        size: height and width of the pictures, pixels.

    Returns:
        (N, size, size), uint8; 255 = full ink.
    """
    count, strokes, length, _ = points.shape
    pixels = (np.rint(points * (size * SUBPIXELS)) / SUBPIXELS - 0.5).astype(np.float32)
    radius = (np.rint(radius * SUBPIXELS) / SUBPIXELS).astype(np.float32)
    side = size + 2
    paper = np.zeros(count * side * side, np.float32)
    for stroke in range(strokes):
        who = np.flatnonzero(present[:, stroke])
        corner = who[:, None] * (side * side)
        for i in range(length - 1):
            start, end = pixels[who, stroke, i], pixels[who, stroke, i + 1]
            # Only a square of pixels around the segment is looked at; what is off the paper goes to a margin.
            dx, dy = _patch(start, end, radius)
            centre = np.rint((start + end) / 2).astype(np.int64)
            x = centre[:, :1] + dx
            y = centre[:, 1:] + dy
            ink = _ink(x.astype(np.float32), y.astype(np.float32), start, end, radius[who])
            where = corner + np.clip(y + 1, 0, side - 1) * side + np.clip(x + 1, 0, side - 1)
            paper[where] = np.maximum(paper[where], ink)
    return np.rint(paper.reshape(count, side, side)[:, 1:-1, 1:-1] * 255).astype(np.uint8)


def _patch(start: np.ndarray, end: np.ndarray, radius: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Offsets (K,), (K,) in x and y from the rounded middle of a segment to all pixels that it can ink."""
    longest = float(np.abs(end - start).max(initial=0))
    # Half the segment, the pen, half a pixel for its edge, half a pixel for the rounding of the middle.
    reach = math.floor(longest / 2 + float(radius.max(initial=0)) + 1)
    dy, dx = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    return dx.ravel(), dy.ravel()


def _ink(x: np.ndarray, y: np.ndarray, start: np.ndarray, end: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """(N, K) ink at K pixels of the segments from start (N, 2) to end (N, 2)."""
    x = x - start[:, :1]
    y = y - start[:, 1:]
    along = end - start
    ax, ay = along[:, :1], along[:, 1:]
    squared = ax * ax + ay * ay
    t = (x * ax + y * ay) / np.maximum(squared, np.float32(1e-12))
    np.clip(t, 0, 1, out=t)
    x -= t * ax
    y -= t * ay
    return np.clip(radius[:, None] + np.float32(0.5) - np.sqrt(x * x + y * y), 0, 1)
