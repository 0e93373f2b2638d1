"""The tangent scan: derivative of the adjoint scan, from the first step to the last.

The equations stand in `cpu/tangent.h`: `_dot` is what moves in the direction, `_bar` the gradient of what the adjoint
scan was given. A state's bar gets its last share one step later, and is stored then; that of step 0 is an operand's.
"""

# pyright: reportMissingImports=false

from __future__ import annotations

import triton
import triton.language as tl

from snn_anml.neurons.gpu.parts import expand_all, load_row, spikes_at, store_row, threshold_at
from snn_anml.neurons.gpu.surrogates import curvature, slope


@triton.jit(do_not_specialize=["T"])
def tangent_kernel(
    past,  # Steps (T, N): of the forward scan; s is not needed
    kept,  # Adjoints, of which those that enter are there; S is gs where no gradient flows through spikes
    operands,
    x_dot,  # direction of the gradient of the gated currents (T, N), or None
    operands_dot,  # and of those of the operands; all None where `dp` is
    dots,  # Steps (T, N): gradients of the upstream gradients, each there if that is
    bars,  # Steps (T, N): of the saved spikes and states
    dp,  # Operands (N); or None, where none is learned
    T,
    N,
    how: tl.constexpr,
    BLOCK: tl.constexpr,
):
    n = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    there = n < N
    zeros = tl.zeros((BLOCK,), past.v.dtype.element_ty)
    c = expand_all(operands, n, there, zeros)
    c_dot = expand_all(operands_dot, n, there, zeros)
    learned: tl.constexpr = dp is not None
    row = tl.full((), 0, tl.int64)
    first_row = tl.full((), 0, tl.int64)
    v, i, a = c.membrane, c.current, c.adaptation_start
    v_dot, i_dot, a_dot, r_dot = c_dot.membrane, c_dot.current, c_dot.adaptation_start, zeros
    v_bar, i_bar, a_bar, r_bar = zeros, zeros, zeros, zeros
    v_bar_0, i_bar_0, a_bar_0, r_bar_0 = zeros, zeros, zeros, zeros
    d_alpha, d_beta, d_threshold, d_rho, d_adaptation = zeros, zeros, zeros, zeros, zeros
    if learned and how.delay and how.through_spikes:  # r_1, a spike of the initial membrane
        th = threshold_at(c, a, how)
        th_dot = c_dot.threshold + c.adaptation * c_dot.adaptation_start + c_dot.adaptation * a
        rise = v_dot - th_dot
        R = load_row(kept.R, first_row, n, there, zeros)
        sloped = slope(v - th, how)
        curved = curvature(v - th, how) * rise * R
        r_dot = sloped * rise
        v_bar += curved
        d_threshold -= curved
        if how.adaptive:
            d_adaptation -= sloped * R * a_dot + curved * a
            a_bar -= sloped * R * c_dot.adaptation + curved * c.adaptation
    for _ in range(T):
        u = load_row(past.u, row, n, there, zeros)
        a_saved = load_row(past.a, row, n, there, zeros)
        r, d, th, raised = spikes_at(c, v, a, u, a_saved, how)
        S = load_row(kept.S, row, n, there, zeros)
        U = load_row(kept.U, row, n, there, zeros)
        V = load_row(kept.V, row, n, there, zeros)
        u_dot = load_row(x_dot, row, n, there, zeros)
        th_dot = c_dot.threshold
        th_bar = zeros
        raised_bar = zeros
        a1_dot = a_dot
        if how.filtered:
            u_dot += c.alpha * i_dot
            if learned:
                I = load_row(kept.I, row, n, there, zeros)
                u_dot += c_dot.alpha * i
                d_alpha += I * i_dot
                i_bar += I * c_dot.alpha
                i = load_row(past.i, row, n, there, zeros)
            i_dot = u_dot
            store_row(dots.i, row, n, there, i_dot)
        if how.adaptive:
            a1_dot = c.rho * a_dot + (1.0 - c.rho) * r_dot
            if learned:
                A1 = load_row(kept.A1, row, n, there, zeros)
                H = load_row(kept.H, row, n, there, zeros)
                d_rho += A1 * (a_dot - r_dot)
                a_bar += A1 * c_dot.rho
                if how.delay:
                    r_bar -= A1 * c_dot.rho
                a1_dot += c_dot.rho * (a - r)
                th_dot += c_dot.adaptation * raised
                d_adaptation += H * a1_dot
                raised_bar = H * c_dot.adaptation
            th_dot += c.adaptation * a1_dot
        # The membrane: of what is left of v after the reset, and then the reset by subtraction.
        left = v
        left_dot = v_dot
        if how.reset == "zero":
            left = (1.0 - r) * v
            left_dot = (1.0 - r) * v_dot
        u_dot += c.beta * left_dot
        if learned:
            u_dot += c_dot.beta * left
            d_beta += U * left_dot
            if how.reset == "zero":
                v_bar += (1.0 - r) * (U * c_dot.beta)
            else:
                v_bar += U * c_dot.beta
        if how.reset == "subtract":
            u_dot -= r * th_dot
        if how.delay and not how.detach:
            if how.reset == "subtract":
                u_dot -= th * r_dot
                r_bar -= U * th_dot
                th_bar -= U * r_dot
            else:
                u_dot -= c.beta * v * r_dot
                d_beta -= U * r_dot * v
                v_bar -= U * r_dot * c.beta
                r_bar -= U * (c.beta * v_dot + c_dot.beta * v)
        # With these, the bars of the step before are complete.
        store_row(bars.v, row - N, n, there & (row > 0), v_bar)
        if how.filtered:
            store_row(bars.i, row - N, n, there & (row > 0), i_bar)
        if how.delay:
            store_row(bars.s, row - N, n, there & (row > 0), r_bar)
        # The spike.
        rise = u_dot - th_dot
        s_dot = slope(u - th, how) * rise
        curved = curvature(u - th, how) * rise * S
        store_row(dots.s, row, n, there, s_dot)
        th_bar -= curved
        v_dot = u_dot
        a_now_dot = a1_dot
        s_bar = zeros
        u_bar = curved
        if not how.delay:
            if how.reset == "subtract":
                v_dot -= d * th_dot
                if not how.detach:
                    v_dot -= th * s_dot
                    s_bar -= V * th_dot
                    th_bar -= V * s_dot
            if how.reset == "zero":
                v_dot -= d * u_dot
                if not how.detach:
                    v_dot -= u * s_dot
                    s_bar -= V * u_dot
                    u_bar -= V * s_dot
            if how.adaptive:
                a_now_dot += (1.0 - c.rho) * s_dot
                if learned:
                    A = load_row(kept.A, row, n, there, zeros)
                    a_now_dot -= c_dot.rho * d
                    d_rho -= A * s_dot
                    s_bar -= A * c_dot.rho
            store_row(dots.u, row, n, there, u_dot)
            store_row(bars.s, row, n, there, s_bar)
            store_row(bars.u, row, n, there, u_bar)
        store_row(dots.v, row, n, there, v_dot)
        d_threshold += th_bar
        if how.adaptive:
            store_row(dots.a, row, n, there, a_now_dot)
            a_dot = a_now_dot
            d_adaptation += raised * th_bar
            raised_bar += c.adaptation * th_bar
            if not how.delay:
                a_bar += c.rho * raised_bar
                d_rho += (a - r) * raised_bar
            store_row(bars.a, row - N, n, there & (row > 0), a_bar)
        # On to the next step.
        if learned:
            v_bar_0 = tl.where(row > 0, v_bar_0, v_bar)
            i_bar_0 = tl.where(row > 0, i_bar_0, i_bar)
            a_bar_0 = tl.where(row > 0, a_bar_0, a_bar)
            r_bar_0 = tl.where(row > 0, r_bar_0, r_bar)
        v_bar, i_bar, a_bar, r_bar = zeros, zeros, zeros, zeros
        v, a = u, a_saved
        if how.delay:
            v_bar = u_bar
            a_bar = raised_bar
            r_dot = s_dot
        else:
            v = load_row(past.v, row, n, there, zeros)
        row += N
    store_row(bars.v, row - N, n, there, v_bar)
    if how.filtered:
        store_row(bars.i, row - N, n, there, i_bar)
    if how.adaptive:
        store_row(bars.a, row - N, n, there, a_bar)
    if how.delay:
        store_row(bars.s, row - N, n, there, r_bar)
    if learned:
        if how.delay and how.through_spikes:  # what reached r_1 goes on to the initial membrane
            th = threshold_at(c, c.adaptation_start, how)
            through = slope(c.membrane - th, how) * r_bar_0
            v_bar_0 += through
            d_threshold -= through
            d_adaptation -= through * c.adaptation_start
            a_bar_0 -= through * c.adaptation
        store_row(dp.alpha, first_row, n, there, d_alpha)
        store_row(dp.beta, first_row, n, there, d_beta)
        store_row(dp.threshold, first_row, n, there, d_threshold)
        store_row(dp.rho, first_row, n, there, d_rho)
        store_row(dp.adaptation, first_row, n, there, d_adaptation)
        store_row(dp.membrane, first_row, n, there, v_bar_0)
        store_row(dp.current, first_row, n, there, i_bar_0)
        store_row(dp.adaptation_start, first_row, n, there, a_bar_0)
