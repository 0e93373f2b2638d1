"""Layers of neurons at random, and all their derivatives to second order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from snn_anml.neurons import LIFParameters, State, lif


class Layer(NamedTuple):
    """What a layer is run on; tensors of it are leaves that want gradients."""

    currents: Tensor
    p: LIFParameters
    steps: int
    gate: Tensor | None = None
    state: State = State()

    def leaves(self) -> list[Tensor]:
        values = (self.currents, self.gate, *self.state, *self.p)
        return [value for value in values if isinstance(value, Tensor)]


def uniform(shape: Sequence[int], low: float, high: float, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """A leaf of values between low and high."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(tuple(shape), generator=generator, dtype=dtype) * (high - low) + low).requires_grad_()


def currents(shape: Sequence[int], seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Currents that make some neurons spike and others not."""
    return uniform(shape, -0.2, 1.4, seed, dtype)


def outputs(layer: Layer, run: Callable = lif) -> list[Tensor]:
    """Spikes, membrane, and whatever else of the state there is."""
    spikes, state = run(layer.currents, layer.p, layer.steps, layer.gate, layer.state)
    return [spikes, *(x for x in state if x is not None)]


def derivatives(layer: Layer, seed: int, run: Callable = lif, order: int = 2) -> tuple[list[Tensor], ...]:
    """Outputs; gradients of a random functional of them; gradients of a random functional of those.

    The functional has products of outputs, so that the incoming gradients themselves carry a graph.
    """
    generator = torch.Generator().manual_seed(seed)

    def random(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=generator, dtype=like.dtype)

    def gradients(of: Tensor, create_graph: bool) -> list[Tensor]:
        found = torch.autograd.grad(of, leaves, create_graph=create_graph, allow_unused=True)
        return [torch.zeros_like(leaf) if g is None else g for g, leaf in zip(found, leaves, strict=True)]

    leaves, out = layer.leaves(), outputs(layer, run)
    loss = sum((random(x) * x).sum() + (random(x) * x * out[1]).sum() for x in out)
    assert isinstance(loss, Tensor)
    first = gradients(loss, order == 2)
    if order == 1:
        return out, first
    total = sum((random(g) * g).sum() for g in first)
    assert isinstance(total, Tensor)
    return out, first, gradients(total, False) if total.requires_grad else []


def assert_same_derivatives(ours: tuple[list[Tensor], ...], oracle: tuple[list[Tensor], ...], tolerance: float) -> None:
    """Outputs equal to the bit, derivatives to `tolerance`."""
    for x, y in zip(ours[0], oracle[0], strict=True):
        assert torch.equal(x, y)
    for of_order, of_oracle in zip(ours[1:], oracle[1:], strict=True):
        for x, y in zip(of_order, of_oracle, strict=True):
            torch.testing.assert_close(x, y, rtol=tolerance, atol=tolerance)
