"""The equation of all spiking neurons here, and its definition in code: a loop of steps that autograd unrolls.

State: membrane v, synaptic current i (where there is a filter), adaptation a (where there is one). Input of step t
is the gated current x_t = g_t I_t.

    r_t  = [v_{t-1} > threshold + b a_{t-1}]
    i_t  = alpha i_{t-1} + x_t                                    (no filter: i_t = x_t)
    a'_t = rho a_{t-1} + (1 - rho) r_t,   th_t = threshold + b a'_t     (no adaptation: th_t = threshold)
    u_t  = (beta v_{t-1} + i_t) - r_t th_t                        reset by subtraction
         = beta ((1 - r_t) v_{t-1}) + i_t                         reset to zero
         = beta v_{t-1} + i_t                                     no reset
    s_t  = [u_t > th_t]                                           (surrogate derivative)

With reset delay a spike acts on the next step: v_t = u_t, a_t = a'_t, and r_{t+1} = s_t. Without, it acts at once:

    v_t = u_t - (s_t - r_t) th_t    or    u_t - (s_t - r_t) u_t,        a_t = a'_t + (1 - rho) (s_t - r_t)

where r_t, what is left above threshold after a reset, counts as a constant. `detach_reset` cuts the gradient that
would flow from the spike through the reset of the membrane; that through the adaptation always flows, for it is
what carries the past of an adaptive neuron.

Sources: order of operations and both resets, `snntorch.Leaky` and `snntorch.Synaptic` (1.0); adaptation, the LSNN of
Bellec et al. 2018 (arXiv:1803.09574), where b is called beta; its reset subtracts the threshold of the present step,
which the spike has already raised, as their published code does.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, cast

import torch
from torch import Tensor

from snn_anml.errors import UserError
from snn_anml.neurons.surrogate import Surrogate, spike

Reset = Literal["subtract", "zero", "none"]
RESETS = ("subtract", "zero", "none")
HALF = (torch.bfloat16, torch.float16)


class LIFParameters(NamedTuple):
    """Parameters of a layer; each a number, or a tensor that broadcasts to the currents of one step (B, ...):
    (C, 1, 1) is one a channel, (C, H, W) one a neuron. Tensors get gradients.

    beta: decay of the membrane a step, dimensionless, in [0, 1].
    threshold: in units of the membrane.
    reset: `subtract`, `zero` or `none`.
    surrogate: what stands in for the derivative of the spike.
    reset_delay: True: a spike resets one step later; False: in its own step.
    detach_reset: whether the reset of the membrane carries no gradient.
    alpha: decay of the synaptic current a step, dimensionless, in [0, 1]; None: no filter.
    rho: decay of the adaptation a step, dimensionless, in [0, 1]; None: no adaptation.
    adaptation: b, by how much full adaptation raises the threshold, in units of the membrane.
    """

    beta: float | Tensor = 0.9
    threshold: float | Tensor = 1.0
    reset: Reset = "subtract"
    surrogate: Surrogate = Surrogate()
    reset_delay: bool = True
    detach_reset: bool = True
    alpha: float | Tensor | None = None
    rho: float | Tensor | None = None
    adaptation: float | Tensor | None = None

    def check(self, currents: Tensor) -> None:
        """Raises UserError where they cannot drive such a neuron, the reset is unknown, or half of an adaptation is
        given."""
        if currents.dim() == 0 or not currents.is_floating_point():
            raise UserError(
                f"Currents are {currents.dtype} of shape {tuple(currents.shape)}; give floating-point numbers of shape "
                "(T, B, ...)."
            )
        if self.reset not in RESETS:
            raise UserError(f"Unknown reset {self.reset!r}; known are {', '.join(RESETS)}.")
        if (self.rho is None) != (self.adaptation is None):
            raise UserError(
                f"rho is {self.rho} and adaptation is {self.adaptation}; an adaptive neuron needs both, others neither."
            )


class State(NamedTuple):
    """Membrane, synaptic current and adaptation; (...) at one step, (T, ...) over all. None: 0, or not there."""

    membrane: Tensor | None = None
    current: Tensor | None = None
    adaptation: Tensor | None = None


def state_dtype(dtype: torch.dtype) -> torch.dtype:
    """Of the membrane for currents of `dtype`: float32 for the half types, whose few bits a decay would eat."""
    return torch.float32 if dtype in HALF else dtype


def lif_step(current: Tensor, state: State, p: Any) -> tuple[Tensor, State]:
    """One step of the equation.

    Args:
        current: x_t (...), gated.
        state: after the step before, each (...); those that `p` asks for must be there.
        p: `LIFParameters`, with tensors of the currents' type.

    Returns:
        spikes (...), and the state after the step.
    """
    v, i, a = cast(Any, state)
    threshold = p.threshold
    if a is not None:
        threshold = p.threshold + p.adaptation * a
    r = spike(v - threshold, p.surrogate)
    if not p.reset_delay:
        r = r.detach()
    reset = r.detach() if p.detach_reset else r
    if p.alpha is not None:
        current = i = p.alpha * i + current
    if a is not None:
        a = p.rho * a + (1 - p.rho) * r
        threshold = p.threshold + p.adaptation * a
    if p.reset == "zero":
        v = (1 - reset) * v
    u = p.beta * v + current
    if p.reset == "subtract":
        u = u - reset * threshold
    s = spike(u - threshold, p.surrogate)
    if p.reset_delay:
        return s, State(u, i, a)
    if p.reset != "none":
        change = (s.detach() if p.detach_reset else s) - r
        v = u - change * (threshold if p.reset == "subtract" else u)
    else:
        v = u
    if a is not None:
        a = a + (1 - p.rho) * (s - r)
    return s, State(v, i, a)


def lif_eager(
    currents: Tensor, p: LIFParameters, steps: int | None = None, gate: Tensor | None = None, state: State | None = None
) -> tuple[Tensor, State]:
    """The definition: `lif_step` over all steps. Arguments and results are those of `snn_anml.neurons.lif`."""
    p.check(currents)
    dtype = state_dtype(currents.dtype)
    steps = len(currents) if steps is None else steps
    x = currents.to(dtype) if gate is None else currents.to(dtype) * gate.to(dtype)

    def tensor(value: float | Tensor | None) -> Tensor | None:
        return None if value is None else torch.as_tensor(value, dtype=dtype, device=x.device)

    def start(value: Tensor | None, there: bool) -> Tensor | None:
        return (torch.zeros_like(x[0]) if value is None else value.to(dtype).expand_as(x[0])) if there else None

    names = ("beta", "threshold", "alpha", "rho", "adaptation")
    p = p._replace(**{name: tensor(getattr(p, name)) for name in names})
    v, i, a = state or State()
    now = State(start(v, True), start(i, p.alpha is not None), start(a, p.rho is not None))
    spikes, states = [], []
    each = x.unbind()  # at once: autograd would give each x[t] a gradient of all steps
    for t in range(steps):
        s, now = lif_step(each[t % len(each)], now, p)
        spikes.append(s)
        states.append(now)
    over_time = State(*(None if values[0] is None else torch.stack(values) for values in zip(*states, strict=True)))
    return torch.stack(spikes).to(currents.dtype), over_time
