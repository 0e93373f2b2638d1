"""Leaky integrate-and-fire over many steps: one equation, two executions that agree.

With input current x_t, membrane v (0 before the first step) and spike s_t, in `snntorch.Leaky`'s order:

    r_t = [v_{t-1} > threshold]                                   (detached)
    subtract:  v_t = (beta v_{t-1} + x_t) - r_t threshold
    zero:      v_t = beta ((1 - r_t) v_{t-1}) + x_t
    none:      v_t = beta v_{t-1} + x_t
    s_t = [v_t > threshold]                                       (surrogate derivative)

Without reset delay, step t resets itself: v_t then loses (s_t - r_t) threshold, or (s_t - r_t) v_t.

`lif_eager` is the definition: a loop of `lif_step` that autograd unrolls. `lif` is the fused scan with
delayed reset, of the gated current x_t = g_t I_t where there is a gate. Its backward is the reverse scan

    a_t = gs_t s'(v_t) + gv_t + beta k_{t+1} a_{t+1},     k_t = 1 - r_t for the reset to zero, otherwise 1,

and the gradients are a_t g_t for I_t and a_t I_t for g_t, summed over what they were broadcast over. The scan is
a Function of (gs, gv, v), linear in the first two, whose own backward is the forward scan
b_t = beta k_t b_{t-1} + ga_t; hence second derivatives are exact. The membrane is an *output* of the fused
Function: if it were only stashed on `ctx`, the path through s'(v) would be lost without a word.

Both scans walk over the samples in blocks, so that all steps of a block are done while it is in the cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from snn_anml.errors import UserError
from snn_anml.neurons.surrogate import Surrogate, spike

Reset = Literal["subtract", "zero", "none"]
RESETS = ("subtract", "zero", "none")

BLOCK = 2**18  # neurons x steps worked on at a time on the CPU: 1 MiB of float32, about what a core's L2 cache holds


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


def _blocks(x: Tensor) -> list[tuple[slice, ...]]:
    """Indices that cut x (T, B, ...) along B into blocks of about `BLOCK` values; one block on a GPU."""
    if x.dim() < 2 or x.numel() <= BLOCK or x.device.type != "cpu":
        return [(slice(None),)]
    size = max(1, BLOCK * x.shape[1] // x.numel())
    return [(slice(None), slice(i, i + size)) for i in range(0, x.shape[1], size)]


def _forward_scan(currents: Tensor, gate: Tensor | None, steps: int, p: LIFParameters) -> tuple[Tensor, Tensor]:
    """Spikes and membrane of one gated current or of one a step."""
    membranes = _empty_steps(currents[0], steps)
    spikes = torch.empty_like(membranes)
    for block in _blocks(membranes):
        x = currents[block] if gate is None else currents[block] * gate[block]
        x, s, v = x.expand(steps, *x.shape[1:]).unbind(), spikes[block].unbind(), membranes[block].unbind()
        v[0].copy_(x[0])
        for t in range(steps):
            if t > 0:
                # Two roundings, as in the definition: add(x, v, alpha=beta) would be one fused multiply-add.
                if p.reset == "zero":
                    torch.addcmul(v[t - 1], s[t - 1], v[t - 1], value=-1, out=v[t]).mul_(p.beta)
                else:
                    torch.mul(v[t - 1], p.beta, out=v[t])
                v[t].add_(x[t])
                if p.reset == "subtract":
                    v[t].sub_(s[t - 1], alpha=p.threshold)
            torch.gt(v[t], p.threshold, out=s[t])
    return spikes, membranes


def _reverse_scan(
    gs: Tensor | None, gv: Tensor | None, v: Tensor, p: LIFParameters, out: Sequence[Tensor]
) -> Iterator[tuple[int, Tensor]]:
    """Yields t and a_t from the last step to the first; a_t stands in out[t], which may be one buffer for all."""
    last = len(v) - 1
    for t in range(last, -1, -1):
        a = out[t]
        if t == last:
            a.zero_()
        else:
            torch.mul(out[t + 1], p.beta, out=a)
            if p.reset == "zero":
                a.masked_fill_(v[t] > p.threshold, 0)
        if gs is not None:
            a.addcdiv_(gs[t], p.surrogate.reciprocal_(v[t] - p.threshold))
        if gv is not None:
            a.add_(gv[t])
        yield t, a


class _ReverseScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gs: Tensor | None, gv: Tensor | None, v: Tensor, p: LIFParameters) -> Tensor:
        ctx.p, ctx.has_gv = p, gv is not None
        ctx.save_for_backward(v, gs)
        a = torch.empty_like(v)
        for _ in _reverse_scan(gs, gv, v, p, a.unbind()):
            pass
        return a

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (ga,), p, (v, gs) = grads, ctx.p, ctx.saved_tensors
        b = ga.clone()
        for t in range(1, len(v)):
            carried = b[t - 1] if p.reset != "zero" else b[t - 1].masked_fill(v[t - 1] > p.threshold, 0)
            b[t].add_(carried, alpha=p.beta)
        if gs is None:
            return None, b, None, None
        x = v - p.threshold
        return (
            b * p.surrogate.derivative(x),
            b if ctx.has_gv else None,
            b * gs * p.surrogate.second_derivative(x),
            None,
        )


def _total(scan: Iterator[tuple[int, Tensor]]) -> Tensor:
    """Sum of a_t over the steps."""
    total = next(scan)[1].clone()
    for _, a in scan:
        total.add_(a)
    return total


def _gradients(
    gs: Tensor | None, gv: Tensor | None, v: Tensor, currents: Tensor, gate: Tensor | None, p: LIFParameters
) -> tuple[Tensor, Tensor | None]:
    """Gradients with respect to currents and gate, block by block and step by step, without a graph of their own."""
    products = max(len(currents), 1 if gate is None else len(gate))  # of a current and a gate: T, or 1 for all steps
    g_currents = _empty_steps(currents[0], len(currents))
    g_gate = None if gate is None else torch.zeros_like(gate)
    if len(currents) < products:
        g_currents.zero_()
    for block in _blocks(v):
        gx, v_block = g_currents[block], v[block]
        direct = gate is None and products == len(v)
        out = gx.unbind() if direct else [torch.empty_like(v_block[0])] * len(v)
        gs_block, gv_block = (None if g is None else g[block] for g in (gs, gv))
        scan = _reverse_scan(gs_block, gv_block, v_block, p, out)
        for t, a in scan if products == len(v) else [(0, _total(scan))]:
            if gate is not None and g_gate is not None:
                x, g, gg = (steps[block][t % len(steps)] for steps in (currents, gate, g_gate))
                gg.add_((a * x).sum_to_size(g.shape))
                if len(currents) == products:
                    torch.mul(a, g, out=gx[t])
                else:
                    gx[0].addcmul_(a, g)
            elif not direct:
                gx[0].copy_(a)
    return g_currents, g_gate


class _FusedLIF(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, currents: Tensor, gate: Tensor | None, steps: int, p: LIFParameters) -> tuple[Tensor, Tensor]:
        s, v = _forward_scan(currents, gate, steps, p)
        ctx.p = p
        ctx.save_for_backward(v, currents, gate)
        ctx.set_materialize_grads(False)
        return s, v

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, Tensor | None, None, None]:
        (gs, gv), (v, currents, gate) = grads, ctx.saved_tensors
        if gs is None and gv is None:
            return None, None, None, None
        if not torch.is_grad_enabled():
            return *_gradients(gs, gv, v, currents, gate, ctx.p), None, None
        a: Any = _ReverseScan.apply(gs, gv, v, ctx.p)
        if gate is None:
            return a.sum_to_size(currents.shape), None, None, None
        return (a * gate).sum_to_size(currents.shape), (a * currents).sum_to_size(gate.shape), None, None


def lif(
    currents: Tensor, p: LIFParameters, steps: int | None = None, gate: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Fused LIF with delayed, detached reset, from a membrane of 0.

    Args:
        currents: (T, ...), or (1, ...) together with `steps`: the same current at every step.
        p: decay, threshold, reset and surrogate.
        steps: T, where the current is the same at every step.
        gate: what multiplies the currents, (T or 1, ...), each further size that of the currents or 1.

    Returns:
        spikes and membrane, both (T, ...); equal to `lif_eager(currents * gate)` bit for bit, and in every
        derivative to rounding.

    Raises:
        UserError: an unknown reset, currents of more than one step that are not `steps` steps, or a gate that
            does not fit.
    """
    if p.reset not in RESETS:
        raise UserError(f"Unknown reset {p.reset!r}; known are {', '.join(RESETS)}.")
    steps = len(currents) if steps is None else steps
    if len(currents) not in (1, steps):
        raise UserError(f"Currents of {len(currents)} steps cannot drive a neuron for {steps} steps.")
    if gate is not None:
        fits = gate.dim() == currents.dim() and len(gate) in (1, steps)
        if not fits or any(g not in (1, c) for g, c in zip(gate.shape[1:], currents.shape[1:], strict=True)):
            raise UserError(
                f"A gate of shape {tuple(gate.shape)} cannot multiply currents of shape {tuple(currents.shape)} for "
                f"{steps} steps; give it as many dimensions, each as large or 1."
            )
        gate = gate.expand(-1, *currents.shape[1:2], *[-1] * (gate.dim() - 2))  # so that both are cut into blocks
    result: Any = _FusedLIF.apply(currents, gate, steps, p)
    return result
