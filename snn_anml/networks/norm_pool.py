"""Instance norm, max-pool and ReLU: forward, backward, and the tangent of both, written out.

    n = r (z - mean z),  r = (var z + eps)^-1/2  (mean and variance over each picture's positions)
    y = relu(pool(a)),   a = scale n + shift

Backward, with the means over positions:

    h = da - mean(da) - n mean(n da),   dz = scale r h,   dscale = sum n da,   dshift = sum da

Autograd would do the same, but keeps and walks several times as much, and its second order costs several times the
arithmetic. Here a second order is the tangent of backward: it takes a direction in the weights to that derivative of
the gradient. Layouts are (N, H, W, C), or (N, P, C) with the P = H W positions in one axis.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

NORM_EPS = 1e-5
_POOL = ([2, 2], [2, 2], [0, 0], [1, 1], False)  # window, stride, padding, dilation, ceil mode


class Block(NamedTuple):
    """Weights of a convolution and the norm after it, or a gradient or direction of that form.

    kernel: (C', 9 C) in the order (row, column, channel); scale, shift: (C',) of the norm.
    """

    kernel: Tensor
    scale: Tensor
    shift: Tensor


class Pooled(NamedTuple):
    """What undoes a max-pool: shape (N, C, H, W) of its input, and where in it the maxima were, (N, C, H', W')."""

    shape: torch.Size
    index: Tensor | None


def pool(a: Tensor, pooled: bool) -> tuple[Tensor, Pooled]:
    """2x2 max-pool of a (N, H, W, C), an odd last row or column being left out; nothing if not `pooled`."""
    channels_first = a.permute(0, 3, 1, 2)
    if not pooled:
        return a, Pooled(channels_first.shape, None)
    values, index = torch.ops.aten.max_pool2d_with_indices(channels_first, *_POOL)
    return values.permute(0, 2, 3, 1), Pooled(channels_first.shape, index)


def unpool(gradient: Tensor, pooled: Pooled) -> Tensor:
    """Gradient (N, H', W', C) of a max-pool's output to that of its input."""
    if pooled.index is None:
        return gradient
    N, C, H, W = pooled.shape
    source = gradient.new_empty(N, H, W, C).permute(0, 3, 1, 2)  # only its layout is read
    back = torch.ops.aten.max_pool2d_with_indices_backward
    return back(gradient.permute(0, 3, 1, 2), source, *_POOL, pooled.index).permute(0, 2, 3, 1)


def at_maxima(a: Tensor, pooled: Pooled) -> Tensor:
    """The values of a (N, H, W, C) where the max-pool found its maxima: its tangent."""
    if pooled.index is None:
        return a
    index = pooled.index.permute(0, 2, 3, 1)
    return a.flatten(1, 2).gather(1, index.flatten(1, 2)).view(index.shape)


def through_relu(gradient: Tensor, y: Tensor) -> Tensor:
    """The gradient where the ReLU's output y is positive, zero elsewhere; a tangent likewise."""
    return torch.ops.aten.threshold_backward(gradient, y, 0)


class State(NamedTuple):
    """What the derivatives need: n (N, P, C), r (N, 1, C), the max-pool, and the output y (N, H', W', C)."""

    n: Tensor
    r: Tensor
    pooled: Pooled
    y: Tensor


def forward(z: Tensor, block: Block, pooled: bool) -> State:
    """The output on the convolution's, z (N, H, W, C), with what the derivatives need."""
    positions = z.flatten(1, 2)
    n = positions - positions.mean(1, keepdim=True)
    r = torch.rsqrt(torch.linalg.vecdot(n, n, dim=1) / n.shape[1] + NORM_EPS)[:, None]
    n *= r
    y, found = pool(torch.addcmul(block.shift, n, block.scale).view(z.shape), pooled)
    return State(n, r, found, y.relu_())


class Pulled(NamedTuple):
    """A backward pass: da, h and dz (N, P, C), dscale and dshift of each picture, (N, C)."""

    da: Tensor
    h: Tensor
    dz: Tensor
    dscale: Tensor
    dshift: Tensor


def _through_norm(da: Tensor, dscale: Tensor, dshift: Tensor, n: Tensor) -> Tensor:
    """h of this module's equation."""
    P = da.shape[1]
    return torch.addcmul(da - (dshift / P)[:, None], n, (dscale / P)[:, None], value=-1)


def backward(gradient: Tensor, state: State, block: Block) -> Pulled:
    """Gradients from that in y (N, H', W', C)."""
    da = unpool(through_relu(gradient, state.y), state.pooled).flatten(1, 2)
    dscale, dshift = torch.linalg.vecdot(da, state.n, dim=1), da.sum(1)
    h = _through_norm(da, dscale, dshift, state.n)
    return Pulled(da, h, h * (state.r * block.scale), dscale, dshift)


class Moved(NamedTuple):
    """Tangents of a forward pass: n (N, P, C), log r (N, 1, C), y (N, H', W', C)."""

    n: Tensor
    log_r: Tensor
    y: Tensor


def tangent(z: Tensor, direction: Block, state: State, block: Block) -> Moved:
    """Derivative of the forward pass along z (N, P, C) and along the direction in scale and shift."""
    nz = torch.linalg.vecdot(state.n, z, dim=1)[:, None] / z.shape[1]
    n = torch.addcmul(z - z.mean(1, keepdim=True), state.n, nz, value=-1).mul_(state.r)
    a = torch.addcmul(direction.shift, state.n, direction.scale).addcmul_(n, block.scale)
    y = at_maxima(a.unflatten(1, state.pooled.shape[2:]), state.pooled)
    return Moved(n, -state.r * nz, through_relu(y, state.y))


class MovedPull(NamedTuple):
    """Tangents of a backward pass: dz (N, P, C), dscale and dshift of each picture, (N, C)."""

    dz: Tensor
    dscale: Tensor
    dshift: Tensor


def backward_tangent(
    gradient: Tensor, moved: Moved, pulled: Pulled, direction: Block, state: State, block: Block
) -> MovedPull:
    """Derivative of `backward` where the gradient in y moves by `gradient` and all else along the direction."""
    da = unpool(through_relu(gradient, state.y), state.pooled).flatten(1, 2)
    dscale = torch.linalg.vecdot(da, state.n, dim=1) + torch.linalg.vecdot(pulled.da, moved.n, dim=1)
    dshift = da.sum(1)
    h = _through_norm(da, dscale, dshift, state.n)
    h.addcmul_(moved.n, (pulled.dscale / da.shape[1])[:, None], value=-1)
    dz = h.mul_(state.r * block.scale)
    dz.addcmul_(pulled.h, state.r * torch.addcmul(direction.scale, block.scale, moved.log_r))
    return MovedPull(dz, dscale, dshift)
