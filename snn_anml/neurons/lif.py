"""Leaky integrate-and-fire neurons over many steps, in one call."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from snn_anml.errors import UserError
from snn_anml.neurons.equation import LIFParameters, State, lif_eager, state_dtype
from snn_anml.neurons.fused import fused
from snn_anml.neurons.scan import scan_of
from snn_anml.neurons.scans import has_scans


def _is_traced(currents: Tensor) -> bool:
    """Whether somebody records operations, or the tensor is not what it seems: kernels would pass unseen."""
    return (
        torch.compiler.is_compiling()
        or torch._C._is_tracing()
        or torch._C._len_torch_dispatch_stack() > 0
        or type(currents) not in (Tensor, nn.Parameter)
    )


def lif(
    currents: Tensor, p: LIFParameters, steps: int | None = None, gate: Tensor | None = None, state: State | None = None
) -> tuple[Tensor, State]:
    """Runs `snn_anml.neurons.equation` over all steps: one kernel forwards, one for each derivative.

    Equal to `lif_eager` bit for bit on the CPU, and in the first and second derivatives, of currents, gate,
    parameters and initial state, to rounding. On CUDA devices the kernels need Triton; where there are none, and
    within `torch.compile` or another tracer, `lif_eager` runs.

    Args:
        currents: (T, B, ...), or (1, B, ...) together with `steps`: the same current at every step. In bfloat16 or
            float16, states are float32 and spikes of the currents' type.
        p: parameters; tensors among them broadcast to (B, ...) and get gradients.
        steps: T, where the current is the same at every step.
        gate: what multiplies the currents, (T or 1, ...), each further size that of the currents or 1.
        state: before the first step, tensors that broadcast to (B, ...); None is 0.

    Returns:
        spikes (T, B, ...), 0 or 1, and the state after each step, each tensor (T, B, ...).

    Raises:
        UserError: currents that are no floating-point numbers or of more than one step that are not `steps`, an
            unknown reset, half of an adaptation, an initial state of what is not there, or a gate, parameter or
            state that does not fit.
    """
    p.check(currents)
    steps = len(currents) if steps is None else steps
    if len(currents) not in (1, steps) or steps < 1:
        raise UserError(f"Currents of {len(currents)} steps cannot drive a neuron for {steps} steps.")
    if gate is not None:
        fits = gate.dim() == currents.dim() and len(gate) in (1, steps)
        if not fits or any(g not in (1, c) for g, c in zip(gate.shape[1:], currents.shape[1:], strict=True)):
            raise UserError(
                f"A gate of shape {tuple(gate.shape)} cannot multiply currents of shape {tuple(currents.shape)} for "
                f"{steps} steps; give it as many dimensions, each as large or 1."
            )
    dtype = state_dtype(currents.dtype)
    state = state or State()
    for name, value, owner in (("current", state.current, p.alpha), ("adaptation", state.adaptation, p.rho)):
        if value is not None and owner is None:
            raise UserError(f"An initial {name} is given to a neuron that has no {name}; leave it out.")

    def fit(name: str, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        try:
            fits = torch.broadcast_shapes(value.shape, currents.shape[1:]) == currents.shape[1:]
        except RuntimeError:
            fits = False
        if not fits:
            raise UserError(
                f"{name} of shape {tuple(value.shape)} does not broadcast to the currents of a step, "
                f"{tuple(currents.shape[1:])}; one a channel is (C, 1, 1), one a neuron (C, H, W)."
            )
        return value.to(currents.device, dtype)

    names = ("alpha", "beta", "threshold", "rho", "adaptation")
    parameters = tuple(fit(name, getattr(p, name)) for name in names)
    start = tuple(fit(f"Initial {name}", value) for name, value in zip(State._fields, state, strict=True))
    gate = None if gate is None else gate.to(currents.device, dtype)
    if _is_traced(currents) or not has_scans(currents):
        p = p._replace(**dict(zip(names, parameters, strict=True)))
        return lif_eager(currents, p, steps, gate, State(*start))
    s, *states = fused(currents.to(dtype), gate, steps, scan_of(p), (*parameters, *start))
    assert s is not None
    return s.to(currents.dtype), State(*states)
