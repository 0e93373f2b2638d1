"""What the three kernels share: their arguments, and a block of neurons in registers.

A program has a block of neurons and runs them over all steps. Its arguments are tuples of pointers, of which None is
absent: Triton compiles a kernel for what is there, and for one variant `How`, so that nothing else is computed.
Rows of the matrices (T, N) are found by a scalar of 64 bits, the place in a row by one of 32 bits.
"""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

from __future__ import annotations

from typing import Any, NamedTuple

import triton
import triton.language as tl

from snn_anml.neurons.layout import Pattern


class How(NamedTuple):
    """The variant of the equation: `scan.Scan` in what a kernel can read.

    through_spikes: whether a gradient flows from later steps into a spike.
    """

    reset: str
    delay: bool
    detach: bool
    filtered: bool
    adaptive: bool
    through_spikes: bool
    surrogate: str
    slope: float


class Operand(NamedTuple):
    """A flat array and the `layout.Pattern` that expands it, or a number as the sum of three of float32."""

    data: Any
    pattern: Pattern | None
    number: tuple[float, ...] | None


class Operands(NamedTuple):
    """One thing for each operand, in the order of `scan.OPERANDS`."""

    alpha: Any
    beta: Any
    threshold: Any
    rho: Any
    adaptation: Any
    membrane: Any
    current: Any
    adaptation_start: Any


class Steps(NamedTuple):
    """One thing for each output of the forward scan, in the order of `scan.Saved`; u is v with reset delay."""

    s: Any
    v: Any
    u: Any
    i: Any
    a: Any


@triton.jit
def load_row(x, row, n, there, zeros):
    """A row of a matrix, 0 where it is absent."""
    if x is None:
        return zeros
    else:
        return tl.load(x + row + n, mask=there, other=0.0)


@triton.jit
def store_row(x, row, n, there, value):
    """Into a row of a matrix, where there is one."""
    if x is not None:
        tl.store(x + row + n, value, mask=there)


@triton.jit
def place(pattern, n):
    """Which element of a flat array neuron n reads."""
    outer = n // pattern.K
    return outer // pattern.M * pattern.so + outer % pattern.M * pattern.sm + n % pattern.K * pattern.sk


@triton.jit
def expand(operand, n, there, zeros):
    """A block of an operand; 0 where it is absent."""
    if operand is None:
        return zeros
    elif operand.data is not None:
        return tl.load(operand.data + place(operand.pattern, n), mask=there, other=0.0)
    else:
        number = tl.full(zeros.shape, operand.number[0], zeros.dtype)
        if zeros.dtype == tl.float64:
            number += tl.full(zeros.shape, operand.number[1], tl.float64)
            number += tl.full(zeros.shape, operand.number[2], tl.float64)
        return number


@triton.jit
def expand_all(operands, n, there, zeros):
    """A block of each operand."""
    return Operands(
        expand(operands.alpha, n, there, zeros),
        expand(operands.beta, n, there, zeros),
        expand(operands.threshold, n, there, zeros),
        expand(operands.rho, n, there, zeros),
        expand(operands.adaptation, n, there, zeros),
        expand(operands.membrane, n, there, zeros),
        expand(operands.current, n, there, zeros),
        expand(operands.adaptation_start, n, there, zeros),
    )


@triton.jit
def fire(x, threshold):
    """[x > threshold]"""
    return (x - threshold > 0).to(x.dtype)


@triton.jit
def threshold_at(c, a, how: tl.constexpr):
    """threshold + adaptation a"""
    if how.adaptive:
        return c.threshold + c.adaptation * a
    else:
        return c.threshold


@triton.jit
def spikes_at(c, v_before, a_before, u, a, how: tl.constexpr):
    """r_t, d_t, th_t and a'_t of a step from the states saved before and after it."""
    th = threshold_at(c, a_before, how)
    r = fire(v_before, th)
    raised = a
    if how.adaptive:
        if not how.delay:
            raised = c.rho * a_before + (1.0 - c.rho) * r
        th = threshold_at(c, raised, how)
    d = tl.zeros_like(r)
    if not how.delay:
        d = fire(u, th) - r
    return r, d, th, raised
