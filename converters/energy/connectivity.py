"""How many connections leave every input of a layer.

A layer that sees spikes performs, for every spike, as many operations as connections leave the input that
fired. So one map of the fan-out, made once, turns the count over all connections into one dot product:

    operations = sum_i [x_i != 0] * fan_out_i

Border-aware: a kernel tap that falls on zero padding is no connection, and neither is an input that no
window reaches.
"""

from __future__ import annotations

import numpy as np

from converters.graph import Affine, AvgPool2d, Conv2d, Shape


def window_fan_out(
    taps: np.ndarray,
    shape: Shape,
    out: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int] = (0, 0),
    dilation: tuple[int, int] = (1, 1),
) -> np.ndarray:
    """Fan-out of every input under a window that moves over it.

        fan_out[c, y, x] = sum of taps[c, i, j] over all outputs (p, q) with
                           y = p * stride_h + i * dilation_h - padding_h, and x alike

    Args:
        taps: (channels, kernel_h, kernel_w) integer, connections that leave an input through each tap.
        shape: (channels, height, width) of the input.
        out: (height, width) of the output.
        stride: (height, width), in pixels.
        padding: (height, width), in pixels.
        dilation: (height, width), pixels from one tap to the next.

    Returns:
        (channels * height * width,) int64, in C order.
    """
    fan_out = np.zeros(shape, np.int64)
    for i, j in np.ndindex(*taps.shape[1:]):
        rows = np.arange(out[0]) * stride[0] + i * dilation[0] - padding[0]
        columns = np.arange(out[1]) * stride[1] + j * dilation[1] - padding[1]
        rows = rows[(rows >= 0) & (rows < shape[1])]
        columns = columns[(columns >= 0) & (columns < shape[2])]
        # One tap meets an input at most once, since the stride is at least one: no index repeats.
        fan_out[:, rows[:, None], columns[None, :]] += taps[:, i, j, None, None]
    return fan_out.reshape(-1)


def fan_out(node: Conv2d | Affine | AvgPool2d, shape: Shape, out: Shape, *, nonzero: bool) -> np.ndarray:
    """Connections that leave every input of a layer.

    Args:
        node: the layer.
        shape: shape of its input, per sample and step.
        out: shape of its output.
        nonzero: count only connections whose weight is not zero (pooling has no zero weight).

    Returns:
        (n,) int64, one number for every input value, in C order.
    """
    if isinstance(node, AvgPool2d):
        taps = np.ones((shape[0], *node.kernel), np.int64)
        return window_fan_out(taps, shape, (out[1], out[2]), node.stride)
    exists = (node.weight != 0) if nonzero else np.ones(node.weight.shape, bool)
    if isinstance(node, Affine):
        return exists.sum(axis=0, dtype=np.int64)
    # An input meets the outputs of its own group only.
    by_group = exists.reshape(node.groups, -1, *exists.shape[1:]).sum(axis=1, dtype=np.int64)
    leaving = by_group.reshape(shape[0], *exists.shape[2:])
    return window_fan_out(leaving, shape, (out[1], out[2]), node.stride, node.padding, node.dilation)


def taps_with_padding(node: Conv2d | Affine, out: Shape) -> int:
    """Connections of a layer where taps on zero padding count too: outputs times inputs of one output."""
    return int(np.prod(out)) * int(np.prod(node.weight.shape[1:]))
