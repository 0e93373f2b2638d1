"""How tensors of a layer lie in memory for the fused scans: steps x neurons, and what is broadcast over them.

All kernels see currents as a contiguous (T, N) matrix, in whatever order the neurons of a step lie in memory, so
that channels-last stays channels-last. Gates, parameters and initial states are flat arrays that a pattern expands:
neuron n = (o M + m) K + k reads element o so + m sm + k sk, with a stride of 0 where the operand is broadcast.
Three nested sizes are enough for one a channel, a neuron, a sample, or a sample and channel, in either layout;
anything else is expanded in memory first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Pattern(NamedTuple):
    """Sizes M, K of the two inner loops, and the strides of an operand in the three."""

    M: int
    K: int
    so: int
    sm: int
    sk: int


class Layout(NamedTuple):
    """Shape of one step's currents (B, ...), and the order in which its dimensions lie in memory, outermost first."""

    shape: tuple[int, ...]
    order: tuple[int, ...]

    @property
    def neurons(self) -> int:
        """N, the neurons of the layer times the batch."""
        return torch.Size(self.shape).numel()

    def flat(self, x: Tensor) -> Tensor:
        """x (T or 1, *shape) as a contiguous matrix (T or 1, N); a view where it lies so already."""
        return x.permute(0, *(d + 1 for d in self.order)).reshape(len(x), self.neurons).contiguous()

    def unflat(self, x: Tensor) -> Tensor:
        """The inverse of `flat` in the same memory: (T, N) to (T, *shape). No view, for autograd lets nobody change
        those outputs of a Function in place that are."""
        inverse = sorted(range(len(self.order)), key=self.order.__getitem__)
        view = x.view(len(x), *(self.shape[d] for d in self.order)).permute(0, *(d + 1 for d in inverse))
        return x.new_empty(0).set_(x.untyped_storage(), x.storage_offset(), view.shape, view.stride())

    def operand(self, x: Tensor) -> tuple[Tensor, Pattern]:
        """x (T or 1, ...), each further size that of a step or 1, as (T or 1, n) and the pattern that expands it."""
        groups = _groups([self.shape[d] for d in self.order], [x.shape[d + 1] for d in self.order])
        if len(groups) > 3:
            return self.flat(x.expand(len(x), *self.shape)), Pattern(1, self.neurons, 0, 0, 1)
        flat = x.permute(0, *(d + 1 for d in self.order)).reshape(len(x), -1).contiguous()
        return flat, _pattern(groups)


def layout_of(currents: Tensor) -> Layout:
    """Layout in which the steps of currents (T, B, ...) lie; the usual one where they overlap or have gaps."""
    shape, strides = currents.shape[1:], currents.stride()[1:]
    order = sorted(range(len(shape)), key=lambda d: -strides[d])
    dense = 1
    for d in reversed(order):
        if shape[d] > 1 and strides[d] != dense:
            return Layout(tuple(shape), tuple(range(len(shape))))
        dense *= shape[d]
    return Layout(tuple(shape), tuple(order))


def _groups(sizes: Sequence[int], own: Sequence[int]) -> list[tuple[int, bool]]:
    """Runs of neighbouring dimensions that an operand has (True) or is broadcast over (False), and their sizes."""
    groups: list[tuple[int, bool]] = []
    for size, mine in zip(sizes, own, strict=True):
        if size == 1:
            continue
        has = mine != 1
        if groups and groups[-1][1] == has:
            size *= groups.pop()[0]
        groups.append((size, has))
    return groups


def _pattern(groups: list[tuple[int, bool]]) -> Pattern:
    groups = [(1, False)] * (3 - len(groups)) + groups
    strides, stride = [], 1
    for size, has in reversed(groups):
        strides.append(stride if has else 0)
        if has:
            stride *= size
    return Pattern(groups[1][0], groups[2][0], strides[2], strides[1], strides[0])
