"""The adjoint scan: gradients of the forward scan, from the last step to the first.

The equations stand in `cpu/adjoint.h`; names are those of its S, U, V, H, A', A, I.
"""

# pyright: reportMissingImports=false

from __future__ import annotations

from typing import Any, NamedTuple

import triton
import triton.language as tl

from snn_anml.neurons.gpu.parts import expand, expand_all, load_row, place, spikes_at, store_row, threshold_at
from snn_anml.neurons.gpu.surrogates import slope


class Adjoints(NamedTuple):
    """The derivatives of the loss by s_t, u_t, v_t, th_t, a'_t, a_t, i_t (T, N), and by r_1 (1, N)."""

    S: Any
    U: Any
    V: Any
    H: Any
    A1: Any
    A: Any
    I: Any
    R: Any


@triton.jit(do_not_specialize=["T"])
def adjoint_kernel(
    g,  # Steps (T, N): upstream gradients
    past,  # Steps (T, N): of the forward scan; s is not needed
    x,  # currents (T or 1, N) and gate as in the forward scan; x is needed where the gate is learned
    gate,
    gate_size,
    operands,
    dx,  # gradients of currents (T or 1, N) and gates (T or 1, N); or None
    dgate,
    dp,  # Operands (N); or None, where none is learned
    kept,  # Adjoints; or None
    T,
    N,
    how: tl.constexpr,
    MANY_CURRENTS: tl.constexpr,
    MANY_GATES: tl.constexpr,
    BLOCK: tl.constexpr,
):
    n = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    there = n < N
    zeros = tl.zeros((BLOCK,), past.v.dtype.element_ty)
    c = expand_all(operands, n, there, zeros)
    row = T.to(tl.int64) * N - N
    gate_row = T.to(tl.int64) * gate_size - gate_size
    first_row = tl.full((), 0, tl.int64)
    if gate is not None:
        if MANY_GATES:
            gate_place = place(gate.pattern, n)
        else:
            gate_of_all = expand(gate, n, there, zeros)
    if dgate is not None and not MANY_CURRENTS:
        current_of_all = load_row(x, first_row, n, there, zeros)
    S_next, V_next, A_next, I_next = zeros, zeros, zeros, zeros
    sum_x, sum_gate = zeros, zeros
    d_alpha, d_beta, d_threshold, d_rho, d_adaptation = zeros, zeros, zeros, zeros, zeros
    v = load_row(past.v, row, n, there, zeros)
    a = load_row(past.a, row, n, there, zeros)
    for _ in range(T):
        before = there & (row > 0)
        v_before = tl.load(past.v + (row - N) + n, mask=before, other=c.membrane)
        a_before = zeros
        if how.adaptive:
            a_before = tl.load(past.a + (row - N) + n, mask=before, other=c.adaptation_start)
        u = v
        if not how.delay:
            u = load_row(past.u, row, n, there, zeros)
        r, d, th, raised = spikes_at(c, v_before, a_before, u, a, how)
        S = load_row(g.s, row, n, there, zeros)
        V = load_row(g.v, row, n, there, zeros) + V_next
        A = zeros
        if how.adaptive:
            A = load_row(g.a, row, n, there, zeros) + A_next
        if how.delay:
            S += S_next
        else:
            if how.adaptive:
                S += (1.0 - c.rho) * A
            if not how.detach:
                if how.reset == "subtract":
                    S -= th * V
                else:
                    S -= u * V
        U = slope(u - th, how) * S
        H = -U
        if how.reset == "zero":
            U += (1.0 - d) * V
        else:
            U += V
        U += load_row(g.u, row, n, there, zeros)
        if how.reset == "subtract":
            H -= r * U + d * V
        A1 = A
        if how.adaptive:
            A1 = A + c.adaptation * H
            A_next = c.rho * A1
        I = U
        if how.filtered:
            I = U + load_row(g.i, row, n, there, zeros) + I_next
            I_next = c.alpha * I
        V_next = c.beta * U
        if how.delay:
            if how.adaptive:
                S_next = (1.0 - c.rho) * A1
            if not how.detach:
                if not how.adaptive:
                    S_next = zeros
                if how.reset == "subtract":
                    S_next -= th * U
                else:
                    S_next -= V_next * v_before
        if how.reset == "zero":
            V_next *= 1.0 - r

        if dx is not None:
            own = I
            if gate is not None:
                if MANY_GATES:
                    own = I * tl.load(gate.data + gate_row + gate_place, mask=there, other=0.0)
                else:
                    own = I * gate_of_all
            if MANY_CURRENTS:
                store_row(dx, row, n, there, own)
            else:
                sum_x += own
        if dgate is not None:
            of_gate = I * (load_row(x, row, n, there, zeros) if MANY_CURRENTS else current_of_all)
            if MANY_GATES:
                store_row(dgate, row, n, there, of_gate)
            else:
                sum_gate += of_gate
        if dp is not None:
            if dp.alpha is not None:
                d_alpha += I * tl.load(past.i + (row - N) + n, mask=before, other=c.current)
            if how.reset == "zero":
                d_beta += U * ((1.0 - r) * v_before)
            else:
                d_beta += U * v_before
            d_threshold += H
            if how.adaptive:
                d_adaptation += H * raised
                d_rho += A1 * (a_before - r) - A * d
        if kept is not None:
            store_row(kept.S, row, n, there, S)
            store_row(kept.U, row, n, there, U)
            store_row(kept.V, row, n, there, V)
            store_row(kept.H, row, n, there, H)
            store_row(kept.A1, row, n, there, A1)
            store_row(kept.A, row, n, there, A)
            store_row(kept.I, row, n, there, I)
        v, a = v_before, a_before
        row -= N
        gate_row -= gate_size

    if dx is not None and not MANY_CURRENTS:
        store_row(dx, first_row, n, there, sum_x)
    if dgate is not None and not MANY_GATES:
        store_row(dgate, first_row, n, there, sum_gate)
    if kept is not None:
        store_row(kept.R, first_row, n, there, S_next)
    if dp is not None:
        if how.delay and how.through_spikes:  # r_1 is a spike like any other, of the initial membrane
            th = threshold_at(c, c.adaptation_start, how)
            through = slope(c.membrane - th, how) * S_next
            V_next += through
            d_threshold -= through
            d_adaptation -= through * c.adaptation_start
            A_next -= through * c.adaptation
        store_row(dp.alpha, first_row, n, there, d_alpha)
        store_row(dp.beta, first_row, n, there, d_beta)
        store_row(dp.threshold, first_row, n, there, d_threshold)
        store_row(dp.rho, first_row, n, there, d_rho)
        store_row(dp.adaptation, first_row, n, there, d_adaptation)
        store_row(dp.membrane, first_row, n, there, V_next)
        store_row(dp.current, first_row, n, there, I_next)
        store_row(dp.adaptation_start, first_row, n, there, A_next)
