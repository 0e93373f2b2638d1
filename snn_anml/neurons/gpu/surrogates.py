"""The surrogates of `snn_anml.neurons.surrogate` and their derivatives, for blocks of neurons in registers."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _quotient(x, y):
    """x / y, rounded correctly: Triton's own division of float32 is off by up to two places."""
    if y.dtype == tl.float32:
        return tl.div_rn(x, y)
    else:
        return x / y


@triton.jit
def _sign(x):
    return (x > 0).to(x.dtype) - (x < 0).to(x.dtype)


@triton.jit
def slope(x, how: tl.constexpr):
    """The stand-in for ds/dx at x."""
    k: tl.constexpr = how.slope
    one = tl.zeros_like(x) + 1.0
    if how.surrogate == "fast_sigmoid":
        root = 1.0 + k * tl.abs(x)
        return _quotient(one, root * root)
    elif how.surrogate == "atan":
        scaled = (1.5707963267948966 * k) * x
        return _quotient((k / 2) * one, 1.0 + scaled * scaled)
    elif how.surrogate == "sigmoid":
        e = tl.exp(-k * tl.abs(x))
        return _quotient(k * e, (1.0 + e) * (1.0 + e))
    elif how.surrogate == "triangular":
        return k * tl.maximum(1.0 - k * tl.abs(x), 0.0)
    else:
        tl.static_assert(how.surrogate == "straight_through", "unknown surrogate")
        return one


@triton.jit
def curvature(x, how: tl.constexpr):
    """The derivative of `slope` at x."""
    k: tl.constexpr = how.slope
    if how.surrogate == "fast_sigmoid":
        root = 1.0 + k * tl.abs(x)
        return _quotient((-2.0 * k) * _sign(x), root * root * root)
    elif how.surrogate == "atan":
        c: tl.constexpr = 1.5707963267948966 * k
        root = 1.0 + (c * x) * (c * x)
        return _quotient((-k * c * c) * x, root * root)
    elif how.surrogate == "sigmoid":
        e = tl.exp(-k * tl.abs(x))
        root = 1.0 + e
        return _quotient((-k * k) * _sign(x) * e * (1.0 - e), root * root * root)
    elif how.surrogate == "triangular":
        return tl.where(k * tl.abs(x) < 1.0, (-k * k) * _sign(x), 0.0)
    else:
        tl.static_assert(how.surrogate == "straight_through", "unknown surrogate")
        return tl.zeros_like(x)
