"""The forward scan: spikes and states of all steps."""

# pyright: reportMissingImports=false

from __future__ import annotations

import triton
import triton.language as tl

from snn_anml.neurons.gpu.parts import expand, expand_all, fire, load_row, place, store_row, threshold_at


@triton.jit(do_not_specialize=["T"])
def forward_kernel(
    x,  # currents (T or 1, N)
    gate,  # an Operand, its data (T or 1, gate_size); or None
    gate_size,
    operands,
    out,  # Steps (T, N)
    T,
    N,
    how: tl.constexpr,
    MANY_CURRENTS: tl.constexpr,
    MANY_GATES: tl.constexpr,
    BLOCK: tl.constexpr,
):
    n = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    there = n < N
    zeros = tl.zeros((BLOCK,), out.v.dtype.element_ty)
    c = expand_all(operands, n, there, zeros)
    v, i, a = c.membrane, c.current, c.adaptation_start
    th = threshold_at(c, a, how)
    r = fire(v, th)
    row = tl.full((), 0, tl.int64)
    gate_row = tl.full((), 0, tl.int64)
    if not MANY_CURRENTS:
        current_of_all = load_row(x, row, n, there, zeros)
    if gate is not None:
        if MANY_GATES:
            gate_place = place(gate.pattern, n)
        else:
            gate_of_all = expand(gate, n, there, zeros)
    for _ in range(T):
        current = load_row(x, row, n, there, zeros) if MANY_CURRENTS else current_of_all
        if gate is not None:
            if MANY_GATES:
                current *= tl.load(gate.data + gate_row + gate_place, mask=there, other=0.0)
            else:
                current *= gate_of_all
        if how.filtered:
            i = c.alpha * i + current
            current = i
            store_row(out.i, row, n, there, i)
        if how.adaptive:
            a = c.rho * a + (1.0 - c.rho) * r
            th = threshold_at(c, a, how)
        if how.reset == "zero":
            u = c.beta * ((1.0 - r) * v) + current
        else:
            u = c.beta * v + current
            if how.reset == "subtract":
                u -= r * th
        s = fire(u, th)
        store_row(out.s, row, n, there, s)
        if how.delay:
            v, r = u, s
            store_row(out.v, row, n, there, v)
        else:
            d = s - r
            if how.reset == "subtract":
                v = u - d * th
            elif how.reset == "zero":
                v = u - d * u
            else:
                v = u
            if how.adaptive:
                a += (1.0 - c.rho) * d
                th = threshold_at(c, a, how)
            r = fire(v, th)
            store_row(out.u, row, n, there, u)
            store_row(out.v, row, n, there, v)
        if how.adaptive:
            store_row(out.a, row, n, there, a)
        row += N
        gate_row += gate_size
