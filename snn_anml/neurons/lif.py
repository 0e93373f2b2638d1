"""Leaky integrate-and-fire over many steps: one equation, two executions that agree.

With input current x_t, membrane v (0 before the first step) and spike s_t, in `snntorch.Leaky`'s order:

    r_t = [v_{t-1} > threshold]                                   (detached)
    subtract:  v_t = (beta v_{t-1} + x_t) - r_t threshold
    zero:      v_t = beta ((1 - r_t) v_{t-1}) + x_t
    none:      v_t = beta v_{t-1} + x_t
    s_t = [v_t > threshold]                                       (surrogate derivative)

Without reset delay, step t resets itself: v_t then loses (s_t - r_t) threshold, or (s_t - r_t) v_t.

`lif_eager` is the definition: a loop of `lif_step` that autograd unrolls. `lif` is the fused scan with
delayed reset. Its backward is the reverse scan a_t = gv_t + gs_t s'(v_t) + beta k_{t+1} a_{t+1}, where
k_t = 1 - r_t for the reset to zero and 1 otherwise, and gx_t = a_t. That scan is a Function of (gs, gv, v),
linear in the first two, whose own backward is the forward scan b_t = beta k_t b_{t-1} + ga_t; hence second
derivatives are exact. The membrane is an *output* of the fused Function: if it were only stashed on `ctx`,
the path through s'(v) would be lost without a word.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from snn_anml.errors import UserError
from snn_anml.neurons.surrogate import Surrogate, spike

Reset = Literal["subtract", "zero", "none"]
RESETS = ("subtract", "zero", "none")


class LIFParameters(NamedTuple):
    """beta: decay a step, dimensionless, in [0, 1]; threshold: in units of the membrane."""

    beta: float = 0.9
    threshold: float = 1.0
    reset: Reset = "subtract"
    surrogate: Surrogate = Surrogate()


def lif_step(current: Tensor, membrane: Tensor, p: LIFParameters, reset_delay: bool = True) -> tuple[Tensor, Tensor]:
    """One step. current and membrane (...); returns (spikes, membrane), both (...)."""
    r = (membrane - p.threshold > 0).to(membrane.dtype).detach()
    if p.reset == "zero":
        membrane = (1 - r) * membrane
    membrane = p.beta * membrane + current
    if p.reset == "subtract":
        membrane = membrane - r * p.threshold
    s = spike(membrane - p.threshold, p.surrogate)
    if not reset_delay and p.reset != "none":
        membrane = membrane - (s - r) * (p.threshold if p.reset == "subtract" else membrane)
    return s, membrane


def lif_eager(
    currents: Tensor, p: LIFParameters, reset_delay: bool = True, membrane: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The definition: `lif_step` over currents (T, ...), from `membrane` (...) or 0; returns both (T, ...)."""
    v = torch.zeros_like(currents[0]) if membrane is None else membrane
    spikes, membranes = [], []
    for current in currents:
        s, v = lif_step(current, v, p, reset_delay)
        spikes.append(s)
        membranes.append(v)
    return torch.stack(spikes), torch.stack(membranes)


def _empty_steps(one: Tensor, steps: int) -> Tensor:
    """Uninitialised (steps, ...) in the memory format of one step, so that channels-last stays channels-last."""
    strides = (one.numel(), *torch.empty_like(one).stride())
    return torch.empty_strided((steps, *one.shape), strides, dtype=one.dtype, device=one.device)


def _forward_scan(currents: Tensor, steps: int, p: LIFParameters) -> tuple[Tensor, Tensor]:
    v = _empty_steps(currents[0], steps)
    s = torch.empty_like(v)
    for t in range(steps):
        current = currents[t] if len(currents) > 1 else currents[0]
        if t == 0:
            v[0].copy_(current)
        else:
            # Two roundings, as in the definition: add(x, v, alpha=beta) would be one fused multiply-add.
            if p.reset == "zero":
                torch.mul(v[t - 1].masked_fill(s[t - 1] > 0, 0), p.beta, out=v[t])
            else:
                torch.mul(v[t - 1], p.beta, out=v[t])
            v[t].add_(current)
            if p.reset == "subtract":
                v[t].sub_(s[t - 1], alpha=p.threshold)
        torch.gt(v[t], p.threshold, out=s[t])
    return s, v


def _reverse_scan(gs: Tensor | None, gv: Tensor | None, v: Tensor, p: LIFParameters, static: bool) -> Tensor:
    """Gradient with respect to the currents; (1, ...) if `static`, that is, one current served every step.

    Step by step, so that what is worked on stays in the cache.
    """
    steps = len(v)
    a = torch.empty_like(v)
    for t in range(steps - 1, -1, -1):
        if gs is None:
            a[t].zero_()
        else:
            torch.mul(p.surrogate.derivative(v[t] - p.threshold), gs[t], out=a[t])
        if gv is not None:
            a[t].add_(gv[t])
        if t < steps - 1:
            carried = a[t + 1] if p.reset != "zero" else a[t + 1].masked_fill(v[t] > p.threshold, 0)
            a[t].add_(carried, alpha=p.beta)
    return a.sum(0, keepdim=True) if static else a


class _ReverseScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gs: Tensor | None, gv: Tensor | None, v: Tensor, p: LIFParameters, static: bool) -> Tensor:
        ctx.p, ctx.has_gv = p, gv is not None
        ctx.save_for_backward(v, gs)
        return _reverse_scan(gs, gv, v, p, static)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (ga,), p, (v, gs) = grads, ctx.p, ctx.saved_tensors
        b = ga.expand_as(v).clone()
        for t in range(1, len(v)):
            carried = b[t - 1] if p.reset != "zero" else b[t - 1].masked_fill(v[t - 1] > p.threshold, 0)
            b[t].add_(carried, alpha=p.beta)
        if gs is None:
            return None, b, None, None, None
        x = v - p.threshold
        return (
            b * p.surrogate.derivative(x),
            b if ctx.has_gv else None,
            b * gs * p.surrogate.second_derivative(x),
            None,
            None,
        )


class _FusedLIF(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, currents: Tensor, steps: int, p: LIFParameters) -> tuple[Tensor, Tensor]:
        s, v = _forward_scan(currents, steps, p)
        ctx.p, ctx.static = p, len(currents) == 1 and steps > 1
        ctx.save_for_backward(v)
        ctx.set_materialize_grads(False)
        return s, v

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, None, None]:
        gs, gv = grads
        if gs is None and gv is None:
            return None, None, None
        return _ReverseScan.apply(gs, gv, ctx.saved_tensors[0], ctx.p, ctx.static), None, None


def lif(currents: Tensor, p: LIFParameters, steps: int | None = None) -> tuple[Tensor, Tensor]:
    """Fused LIF with delayed, detached reset, from a membrane of 0.

    Args:
        currents: (T, ...), or (1, ...) together with `steps`: the same current at every step.
        p: decay, threshold, reset and surrogate.
        steps: T, where the current is the same at every step.

    Returns:
        spikes and membrane, both (T, ...); equal to `lif_eager` bit for bit, and in every derivative to rounding.

    Raises:
        UserError: an unknown reset, or currents of more than one step that are not `steps` steps.
    """
    if p.reset not in RESETS:
        raise UserError(f"Unknown reset {p.reset!r}; known are {', '.join(RESETS)}.")
    steps = len(currents) if steps is None else steps
    if len(currents) not in (1, steps):
        raise UserError(f"Currents of {len(currents)} steps cannot drive a neuron for {steps} steps.")
    result: Any = _FusedLIF.apply(currents, steps, p)
    return result
