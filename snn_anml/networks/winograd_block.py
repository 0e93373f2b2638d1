"""Convolution, norm, max-pool and ReLU on many pictures: forward and backward, by Winograd's convolution.

Blocks hold their kernel as `winograd.kernel_inside` makes it, (16, C, C'), and so do gradients.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from snn_anml.networks import norm_pool, winograd
from snn_anml.networks.norm_pool import Block


class State(NamedTuple):
    """What backward needs: shape (N, H, W, C) of the input, its tiles (16, N tiles, C), and what followed."""

    shape: torch.Size
    tiles: Tensor
    after: norm_pool.State

    @property
    def y(self) -> Tensor:
        """Output (N, H', W', C')."""
        return self.after.y


def inside(block: Block) -> Block:
    """A block as this module's functions take it."""
    return block._replace(kernel=winograd.kernel_inside(block.kernel))


def outside(gradient: Block) -> Block:
    """The gradient in a block from that in `inside` of it."""
    return gradient._replace(kernel=winograd.kernel_outside(gradient.kernel))


def forward(x: Tensor, block: Block, pooled: bool) -> State:
    """The block's output on x (N, H, W, C), and what its gradient needs."""
    tiles = winograd.tiles(x)
    z = winograd.outputs(tiles @ block.kernel, x.shape)
    return State(x.shape, tiles, norm_pool.forward(z, block, pooled))


def backward(gradient: Tensor, state: State, block: Block, total: Block) -> tuple[Tensor, Block]:
    """From the gradient in y (N, H', W', C'): that in x, and `total` plus that in the weights."""
    pulled = norm_pool.backward(gradient, state.after, block)
    products = winograd.products_gradient(pulled.dz.unflatten(1, state.after.pooled.shape[2:]))
    added = Block(
        torch.baddbmm(total.kernel, state.tiles.mT, products),
        total.scale + pulled.dscale.sum(0),
        total.shift + pulled.dshift.sum(0),
    )
    return winograd.pictures_gradient(products, block.kernel, state.shape), added
