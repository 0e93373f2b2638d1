"""Surrogate derivatives of the spike s = [x > 0], with x = v - threshold.

Each surrogate is a pair of functions of x: the derivative that stands in for the Dirac pulse in the backward
pass, and the derivative of that, which second-order gradients need. Both are finite everywhere. The first is kept
as its reciprocal, which is what the backward pass divides by, in place on a scratch copy of x: the fewer passes over
memory, the faster.
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
    root = torch.rsub(x.abs_(), 1, alpha=-k)  # 1 + k|x| in one pass
    return root.mul_(root)  # a product: pow(2) is slower


def _fast_sigmoid_second(x: Tensor, k: float) -> Tensor:
    reciprocal = x.abs().mul_(k).add_(1).reciprocal_()
    return x.sign() * (-2 * k) * reciprocal * reciprocal * reciprocal


def _atan(x: Tensor, k: float) -> Tensor:
    scaled = x.mul_(math.pi / 2 * k)
    return scaled.mul_(scaled).add_(1).mul_(2 / k)


def _atan_second(x: Tensor, k: float) -> Tensor:
    c = math.pi / 2 * k
    scaled = 1 + (x * c) * (x * c)
    return -k * c * c * x / (scaled * scaled)


def _sigmoid(x: Tensor, k: float) -> Tensor:
    return x.mul_(k / 2).cosh_().square_().mul_(4 / k)  # s (1 - s) = 1 / (4 cosh^2(kx/2)); infinite far from 0


def _sigmoid_second(x: Tensor, k: float) -> Tensor:
    s = torch.sigmoid(k * x)
    return k * k * s * (1 - s) * (1 - 2 * s)


def _triangular(x: Tensor, k: float) -> Tensor:
    return torch.rsub(x.abs_(), 1, alpha=k).clamp_(min=0).mul_(k).reciprocal_()  # infinite outside the triangle


def _triangular_second(x: Tensor, k: float) -> Tensor:
    return torch.where(k * x.abs() < 1, -k * k * x.sign(), torch.zeros_like(x))


def _straight_through(x: Tensor, k: float) -> Tensor:
    return x.fill_(1)


def _straight_through_second(x: Tensor, k: float) -> Tensor:
    return torch.zeros_like(x)


_Function = Callable[[Tensor, float], Tensor]
_FUNCTIONS: dict[str, tuple[_Function, _Function]] = {
    "fast_sigmoid": (_fast_sigmoid, _fast_sigmoid_second),
    "atan": (_atan, _atan_second),
    "sigmoid": (_sigmoid, _sigmoid_second),
    "triangular": (_triangular, _triangular_second),
    "straight_through": (_straight_through, _straight_through_second),
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
        if not self.slope > 0:
            raise UserError(f"Surrogate slope is {self.slope}; it must be positive.")

    def reciprocal_(self, x: Tensor) -> Tensor:
        """1 / `derivative` at x, any shape; infinite where that is 0. Overwrites x."""
        return _FUNCTIONS[self.name][0](x, self.slope)

    def derivative(self, x: Tensor) -> Tensor:
        """Stand-in for ds/dx at x, any shape."""
        return self.reciprocal_(x.clone()).reciprocal_()

    def second_derivative(self, x: Tensor) -> Tensor:
        """Derivative of `derivative` at x, any shape; 0 at the kinks."""
        return _FUNCTIONS[self.name][1](x, self.slope)


class _Derivative(torch.autograd.Function):
    """The surrogate derivative as a differentiable function."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, surrogate: Surrogate) -> Tensor:
        ctx.save_for_backward(x)
        ctx.surrogate = surrogate
        return surrogate.derivative(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return grads[0] * ctx.surrogate.second_derivative(x), None


class _Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, surrogate: Surrogate) -> Tensor:
        ctx.save_for_backward(x)
        ctx.surrogate = surrogate
        return (x > 0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        derivative: Any = _Derivative.apply(x, ctx.surrogate)
        return grads[0] * derivative, None


def spike(x: Tensor, surrogate: Surrogate) -> Tensor:
    """s = [x > 0] with the surrogate derivative, right to second order. x (...), s (...) of the same type."""
    result: Any = _Spike.apply(x, surrogate)
    return result
