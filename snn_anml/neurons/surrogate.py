"""Surrogate derivatives of the spike s = [x > 0], with x = v - threshold.

Each surrogate is a function of x that stands in for the Dirac pulse in the backward pass. It is written so that
autograd's derivative of it, which second-order gradients need, is right and finite as far as float32 can square kx
(|kx| below 1e18), and 0 at the kinks.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from snn_anml.errors import UserError


def _fast_sigmoid(x: Tensor, k: float) -> Tensor:
    root = 1 + k * x.abs()
    return 1 / (root * root)


def _atan(x: Tensor, k: float) -> Tensor:
    scaled = math.pi / 2 * k * x
    return k / 2 / (1 + scaled * scaled)


def _sigmoid(x: Tensor, k: float) -> Tensor:
    e = torch.exp(-k * x.abs())  # at most 1: e^-kx itself would overflow
    return k * e / ((1 + e) * (1 + e))


def _triangular(x: Tensor, k: float) -> Tensor:
    return k * torch.relu(1 - k * x.abs())


def _straight_through(x: Tensor, k: float) -> Tensor:
    return torch.ones_like(x)


_FUNCTIONS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "fast_sigmoid": _fast_sigmoid,
    "atan": _atan,
    "sigmoid": _sigmoid,
    "triangular": _triangular,
    "straight_through": _straight_through,
}
SURROGATES = tuple(_FUNCTIONS)


@dataclass(frozen=True)
class Surrogate:
    """A surrogate derivative by name and slope k (dimensionless).

        fast_sigmoid      1 / (1 + k|x|)^2                  (Zenke & Ganguli 2018)
        atan              (k/2) / (1 + (pi k x / 2)^2)      (Fang et al. 2021)
        sigmoid           k s (1 - s), s = 1 / (1 + e^-kx)
        triangular        k max(0, 1 - k|x|)                (Bellec et al. 2018)
        straight_through  1

    The first three are those of `snntorch.surrogate` with `slope` (`alpha` for atan) = k.

    Raises:
        UserError: an unknown name, or a slope that is not positive.
    """

    name: str = "fast_sigmoid"
    slope: float = 5.0

    def __post_init__(self) -> None:
        if self.name not in _FUNCTIONS:
            raise UserError(f"Unknown surrogate {self.name!r}; known are {', '.join(SURROGATES)}.")
        if not 0 < self.slope < math.inf:
            raise UserError(f"Surrogate slope is {self.slope}; it must be positive and finite.")

    @property
    def index(self) -> int:
        """Place in `SURROGATES`, by which kernels know it."""
        return SURROGATES.index(self.name)

    def derivative(self, x: Tensor) -> Tensor:
        """Stand-in for ds/dx at x, any shape; itself differentiable."""
        return _FUNCTIONS[self.name](x, self.slope)


class _Spike(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, surrogate: Surrogate) -> Tensor:
        return (x > 0).to(x.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Surrogate], output: Tensor) -> None:
        x, ctx.surrogate = inputs
        ctx.save_for_backward(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return grads[0] * ctx.surrogate.derivative(x), None


def spike(x: Tensor, surrogate: Surrogate) -> Tensor:
    """s = [x > 0] with the surrogate derivative, right to every order. x (...), s (...) of the same type."""
    result: Any = _Spike.apply(x, surrogate)
    return result
