"""Convolution, norm, max-pool and ReLU on few pictures: forward, SGD step, and the tangent of both.

A convolution is the product of all windows of its input with a kernel matrix, so that an SGD step goes with the
product that is its gradient. For a picture at a time this is faster than torch's convolutions and than Winograd's,
whose kernels would have to be transformed at each step. Norm and pool: `snn_anml.networks.norm_pool`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from snn_anml.networks import norm_pool
from snn_anml.networks.norm_pool import Block

KERNEL = 3  # height and width of every kernel; no padding


class State(NamedTuple):
    """What backward needs: shape (N, H, W, C) of the input, its windows (N P, 9 C), and what followed."""

    shape: torch.Size
    windows: Tensor
    after: norm_pool.State

    @property
    def y(self) -> Tensor:
        """Output (N, H', W', C')."""
        return self.after.y


def _windows(x: Tensor) -> Tensor:
    """All 3x3 windows of x (N, H, W, C): (N P, 9 C)."""
    N, H, W, C = x.shape
    rows, width = H - KERNEL + 1, W - KERNEL + 1
    strides = (H * W * C, W * C, C, W * C, C, 1)
    return x.contiguous().as_strided((N, rows, width, KERNEL, KERNEL, C), strides).reshape(N * rows * width, -1)


def _overlap(windows: Tensor, shape: torch.Size) -> Tensor:
    """The transpose of `_windows`: (N P, 9 C) summed into pictures of the given shape."""
    N, H, W, C = shape
    rows, width = H - KERNEL + 1, W - KERNEL + 1
    x, parts = windows.new_zeros(shape), windows.view(N, rows, width, KERNEL, KERNEL, C)
    for i in range(KERNEL):
        for j in range(KERNEL):
            x[:, i : i + rows, j : j + width] += parts[:, :, :, i, j]
    return x


def forward(x: Tensor, block: Block, pooled: bool) -> State:
    """The block's output on x (N, H, W, C), and what its derivatives need."""
    windows = _windows(x)
    z = (windows @ block.kernel.T).view(len(x), x.shape[1] - KERNEL + 1, x.shape[2] - KERNEL + 1, -1)
    return State(x.shape, windows, norm_pool.forward(z, block, pooled))


def descend(
    gradient: Tensor, state: State, block: Block, onto: Block, rate: float
) -> tuple[Tensor, Block, norm_pool.Pulled]:
    """A step along the gradient in the weights: `onto` - rate gradient.

    Args:
        gradient: in y (N, H', W', C').
        state: of the forward pass.
        block: weights of the forward pass.
        onto: where the step goes from; the block itself for SGD, a sum of gradients to add to with rate -1.
        rate: learning rate.

    Returns:
        Gradient in x, the result of the step, and what the derivative of this function needs.
    """
    pulled = norm_pool.backward(gradient, state.after, block)
    dz = pulled.dz.flatten(0, 1)
    stepped = Block(
        torch.addmm(onto.kernel, dz.T, state.windows, alpha=-rate),
        torch.sub(onto.scale, pulled.dscale.sum(0), alpha=rate),
        torch.sub(onto.shift, pulled.dshift.sum(0), alpha=rate),
    )
    return _overlap(dz @ block.kernel, state.shape), stepped, pulled


class Moved(NamedTuple):
    """Tangents of a forward pass: windows (N P, 9 C), and what followed."""

    windows: Tensor
    after: norm_pool.Moved

    @property
    def y(self) -> Tensor:
        """Of the output (N, H', W', C')."""
        return self.after.y


def tangent(x: Tensor, direction: Block, state: State, block: Block) -> Moved:
    """Derivative of the forward pass along x (N, H, W, C) and along the direction in the weights."""
    windows = _windows(x)
    z = (state.windows @ direction.kernel.T).addmm_(windows, block.kernel.T).unflatten(0, (len(x), -1))
    return Moved(windows, norm_pool.tangent(z, direction, state.after, block))


def descend_tangent(
    gradient: Tensor, moved: Moved, pulled: norm_pool.Pulled, direction: Block, state: State, block: Block, rate: float
) -> tuple[Tensor, Block]:
    """Derivative of an SGD step where the gradient in y moves by `gradient` and the weights along `direction`.

    Returns:
        Of the gradient in x, and of the block after the step.
    """
    d = norm_pool.backward_tangent(gradient, moved.after, pulled, direction, state.after, block)
    dz, was = d.dz.flatten(0, 1), pulled.dz.flatten(0, 1)
    kernel = torch.addmm(direction.kernel, dz.T, state.windows, alpha=-rate)
    stepped = Block(
        kernel.addmm_(was.T, moved.windows, alpha=-rate),
        torch.sub(direction.scale, d.dscale.sum(0), alpha=rate),
        torch.sub(direction.shift, d.dshift.sum(0), alpha=rate),
    )
    return _overlap((dz @ block.kernel).addmm_(was, direction.kernel), state.shape), stepped
