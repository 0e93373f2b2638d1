"""The first block of a tower, on one channel: as the others, with the norm folded into the kernel exactly.

Its 3x3 windows q (9,) do not depend on the weights, so that mean m and covariance S of a picture's windows give the
statistics of the convolution with kernel w without looking at its output:

    n = r w . (q - m),   r = (w . S w + eps)^-1/2

and the normalised output is a convolution of the centred windows with r scale w. With T = sum over positions of
(q - m) da, the gradients are

    dscale = r w . T,   dw = scale r (T - r dscale S w),   dshift = sum da.

This layer has the largest maps; every pass over them that is not made shows.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from snn_anml.networks.norm_pool import NORM_EPS, Block, Pooled, at_maxima, pool, through_relu, unpool
from snn_anml.networks.normed_block import KERNEL


class Windows(NamedTuple):
    """Centred 3x3 windows (N, P, 9) of pictures, row after row, their covariance (N, 9, 9) and rows (P = rows^2)."""

    centred: Tensor
    covariance: Tensor

    def pick(self, which: slice) -> Windows:
        """Of some of the pictures."""
        return Windows(self.centred[which], self.covariance[which])


def windows(pictures: Tensor) -> Windows:
    """The windows of square pictures (N, H, H)."""
    columns = pictures.unfold(1, KERNEL, 1).unfold(2, KERNEL, 1).flatten(3).flatten(1, 2)
    centred = columns - columns.mean(1, keepdim=True)
    return Windows(centred, centred.mT @ centred / centred.shape[1])


class State(NamedTuple):
    """What backward needs: S w (N, 9, C'), r (N, 1, C'), the max-pool, and the output y (N, H', W', C')."""

    spread: Tensor
    r: Tensor
    pooled: Pooled
    y: Tensor


def _image(rows: Tensor) -> Tensor:
    """(N, P, C') as (N, H, H, C')."""
    return rows.unflatten(1, (round(rows.shape[1] ** 0.5), -1))


def forward(q: Windows, block: Block) -> State:
    """The block's output on N pictures, with 2x2 max-pool; its kernel is (C', 9)."""
    w = block.kernel.T
    spread = q.covariance @ w
    r = torch.rsqrt((w * spread).sum(1, keepdim=True) + NORM_EPS)
    y, found = pool(_image(torch.baddbmm(block.shift, q.centred, w * (r * block.scale))), True)
    return State(spread, r, found, y.relu_())


class Pulled(NamedTuple):
    """What the tangent of backward needs of it: T (N, 9, C') and the gradient in the scale (N, 1, C')."""

    total: Tensor
    dscale: Tensor


def _totals(gradient: Tensor, q: Windows, state: State) -> tuple[Tensor, Tensor]:
    """T (N, 9, C') and the sum over positions (C'), from the gradient in y (N, H', W', C')."""
    masked = through_relu(gradient, state.y)
    return q.centred.mT @ unpool(masked, state.pooled).flatten(1, 2), masked.sum((0, 1, 2))


def backward(gradient: Tensor, q: Windows, state: State, block: Block) -> tuple[Block, Pulled]:
    """Gradient in the weights, summed over pictures, from that in y (N, H', W', C')."""
    w, (total, dshift) = block.kernel.T, _totals(gradient, q, state)
    dscale = state.r * (w * total).sum(1, keepdim=True)
    dw = torch.addcmul(total, state.r * dscale, state.spread, value=-1) * (state.r * block.scale)
    return Block(dw.sum(0).T, dscale.sum((0, 1)), dshift), Pulled(total, dscale)


class Moved(NamedTuple):
    """Tangents of a forward pass: S w (N, 9, C'), r (N, 1, C'), y (N, H', W', C')."""

    spread: Tensor
    r: Tensor
    y: Tensor


def tangent(direction: Block, q: Windows, state: State, block: Block) -> Moved:
    """Derivative of the forward pass along a direction in the weights."""
    w, v = block.kernel.T, direction.kernel.T
    spread = q.covariance @ v
    r = -(state.r**3) * (w * spread).sum(1, keepdim=True)
    effective = v * (state.r * block.scale) + w * (r * block.scale + state.r * direction.scale)
    a = _image(torch.baddbmm(direction.shift, q.centred, effective))
    return Moved(spread, r, through_relu(at_maxima(a, state.pooled), state.y))


def backward_tangent(
    gradient: Tensor, moved: Moved, pulled: Pulled, direction: Block, q: Windows, state: State, block: Block
) -> Block:
    """Derivative of `backward` where the gradient in y moves by `gradient` and the weights along `direction`."""
    w, v, r = block.kernel.T, direction.kernel.T, state.r
    total, dshift = _totals(gradient, q, state)
    along = (v * pulled.total + w * total).sum(1, keepdim=True)
    dscale = moved.r / r * pulled.dscale + r * along
    inner = pulled.total - r * pulled.dscale * state.spread
    moved_inner = total - (moved.r * pulled.dscale + r * dscale) * state.spread - r * pulled.dscale * moved.spread
    dw = (moved.r * block.scale + r * direction.scale) * inner + r * block.scale * moved_inner
    return Block(dw.sum(0).T, dscale.sum((0, 1)), dshift)
