"""One LIF layer over many steps, as this project and others compute it, and what each ought to give.

All have beta = 0.9, threshold 1, reset by subtraction without a gradient, and a fast sigmoid of slope 5 for the
derivative of a spike. What the options of the others do not allow:

    snnTorch       nothing: the same equation, v_t = beta v_{t-1} + x_t - s_{t-1} threshold
    SpikingJelly   the reset is not delayed: v_t = beta (v_{t-1} - s_{t-1} threshold) + x_t. Its SoftSign(k) is k/2
                   times the fast sigmoid of slope k. Membranes are not collected, which is its default. It picks
                   its implementation by device; with a surrogate of one's own it runs its loop in torch
    Norse          the reset is SpikingJelly's. LIFBoxCell, the cell without a synapse, in Lift. Its SuperSpike has
                   slope 1 whatever its `alpha`, and its membrane follows (1 - beta) x_t: both are undone by the unit
                   of the membrane and by the size of the currents. Membranes are not collected. Lift takes x[t] at each
                   step, and autograd then makes a gradient of all T steps for each of them

`expected` is an unrolled loop in float64 by plain autograd, with no code in common with any of them.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata, util
from typing import Any, NamedTuple

import snntorch
import torch
from snntorch import surrogate
from torch import Tensor

from snn_anml.config import DataConfig, NetworkConfig
from snn_anml.networks.layers import make_neuron
from snn_anml.neurons import LIFParameters, lif_eager

DEFAULTS = NetworkConfig()
BETA, THRESHOLD, SLOPE = DEFAULTS.beta, DEFAULTS.threshold, DEFAULTS.slope
EDGE = (DataConfig().size + 1) // 2  # after one convolution with stride 2, pixels
LAYER = (DEFAULTS.widths[0], EDGE, EDGE)
OPTIONAL = ("spikingjelly", "norse")
ROUNDING = 1e-5  # how far float32 may be from float64, relative to the largest value

Run = Callable[[Tensor, "Tensor | None"], "tuple[Tensor, Tensor | None]"]


@dataclass(frozen=True)
class Contender:
    """One way to compute the layer.

    Args:
        name: what it is called in the tables.
        run: currents (T, B, C, H, W) and gate (1, B, C, 1, 1) or None, to spikes and membranes (T, B, C, H, W);
            None for membranes that are not collected.
        gated: takes a gate.
        delayed: the reset follows one step after the spike, outside of the decay.
        current_scale: what the currents are multiplied by beforehand, dimensionless.
        surrogate_scale: derivative of its spikes with respect to the unscaled membrane, as a multiple of the fast
            sigmoid's.
    """

    name: str
    run: Run
    gated: bool = False
    delayed: bool = True
    current_scale: float = 1.0
    surrogate_scale: float = 1.0


def expected(currents: Tensor, gate: Tensor | None, delayed: bool) -> Tensor:
    """Spikes (T, ...) of currents (T, ...), in float64 and differentiable any number of times.

    The derivative of a spike is that of x / (1 + slope |x|), x = v - threshold: the fast sigmoid's.
    """
    v = s = torch.zeros((), dtype=torch.float64, device=currents.device)
    spikes = []
    for current in currents if gate is None else currents * gate:
        reset = s.detach() * THRESHOLD
        v = BETA * v + current - reset if delayed else BETA * (v - reset) + current
        x = v - THRESHOLD
        soft = x / (1 + SLOPE * x.abs())
        s = (x > 0).to(x.dtype) + (soft - soft.detach())
        spikes.append(s)
    return torch.stack(spikes)


def _ours(gate_outside: bool) -> Run:
    neuron = make_neuron(DEFAULTS, spiking=True)

    def run(currents: Tensor, gate: Tensor | None) -> tuple[Tensor, Tensor | None]:
        if gate_outside and gate is not None:
            return neuron(currents * gate)
        return neuron(currents, gate=gate)

    return run


def _eager(currents: Tensor, gate: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """The project's definition. Its second output is the membranes, or a state that has them."""
    result: Any = lif_eager(currents, LIFParameters(BETA, THRESHOLD))
    spikes, state = result
    return spikes, getattr(state, "membrane", state)


def _snntorch(device: torch.device) -> Run:
    slope: Any = SLOPE  # annotated as an integer, and not treated as one
    spike = surrogate.fast_sigmoid(slope=slope)
    neuron = snntorch.Leaky(BETA, THRESHOLD, spike_grad=spike, reset_mechanism="subtract").to(device)

    def run(currents: Tensor, gate: Tensor | None) -> tuple[Tensor, Tensor | None]:
        membrane = torch.zeros_like(currents[0])
        spikes, membranes = [], []
        for current in currents:
            s, membrane = neuron(current if gate is None else current * gate[0], membrane)
            spikes.append(s)
            membranes.append(membrane)
        return torch.stack(spikes), torch.stack(membranes)

    return run


def _spikingjelly(device: torch.device) -> list[Contender]:
    neurons: Any = importlib.import_module("spikingjelly.activation_based.neuron")
    surrogates: Any = importlib.import_module("spikingjelly.activation_based.surrogate")
    functional: Any = importlib.import_module("spikingjelly.activation_based.functional")

    class OwnSurrogate(surrogates.SoftSign):
        """SoftSign under a name that SpikingJelly has no kernel for."""

    def contender(kind: str, make_surrogate: Any) -> Contender:
        node = neurons.LIFNode(
            tau=1 / (1 - BETA),
            decay_input=False,
            v_threshold=THRESHOLD,
            v_reset=None,
            surrogate_function=make_surrogate(SLOPE),
            detach_reset=True,
            step_mode="m",
        ).to(device)

        def run(currents: Tensor, gate: Tensor | None) -> tuple[Tensor, Tensor | None]:
            node.reset()
            return node(currents), None

        return Contender(f"SpikingJelly ({kind})", run, delayed=False, surrogate_scale=SLOPE / 2)

    if device.type == "cpu":
        return [contender("torch", surrogates.SoftSign)]
    chosen = functional.neuron_implementation("lif", device)["implementation"]
    return [contender(chosen, surrogates.SoftSign), contender("its loop in torch", OwnSurrogate)]


def _norse(device: torch.device) -> list[Contender]:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # it imports TensorFlow where there is one, which is talkative
    norse: Any = importlib.import_module("norse.torch")
    box: Any = importlib.import_module("norse.torch.functional.lif_box")
    reset: Any = importlib.import_module("norse.torch.functional.reset")
    dt = 1e-3

    def detached(z: Tensor, v: Tensor, v_reset: Tensor, v_th: Tensor) -> Tensor:
        return reset.reset_subtract(z.detach(), v, v_reset, v_th)

    parameters = box.LIFBoxParameters(
        tau_mem_inv=torch.tensor((1 - BETA) / dt, device=device),
        v_leak=torch.tensor(0.0, device=device),
        v_th=torch.tensor(THRESHOLD * SLOPE, device=device),  # membranes times the slope: |x| there is slope |x| here
        reset_method=detached,
    )
    layer = norse.Lift(norse.LIFBoxCell(parameters, dt=dt))

    def run(currents: Tensor, gate: Tensor | None) -> tuple[Tensor, Tensor | None]:
        return layer(currents)[0], None

    scale = SLOPE / (1 - BETA)
    return [Contender("Norse", run, delayed=False, current_scale=scale, surrogate_scale=SLOPE)]


def contenders(device: torch.device) -> list[Contender]:
    """Those whose packages are installed: those without a gate, then those with one, each led by ours."""
    found = [
        Contender("ours", _ours(gate_outside=False)),
        Contender("ours, eager loop", _eager),
        Contender("snnTorch", _snntorch(device)),
    ]
    for package, make in zip(OPTIONAL, (_spikingjelly, _norse), strict=True):
        if util.find_spec(package) is not None:
            found += make(device)
    return [
        *found,
        Contender("ours, gated", _ours(gate_outside=False), gated=True),
        Contender("ours, product outside", _ours(gate_outside=True), gated=True),
        Contender("snnTorch, product outside", _snntorch(device), gated=True),
    ]


def versions() -> dict[str, str | None]:
    """Versions of the optional packages, and of Triton; None where one is not installed."""
    found: dict[str, str | None] = {}
    for package in (*OPTIONAL, "triton"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found


class Inputs(NamedTuple):
    """x (T, B, C, H, W), gate (1, B, C, 1, 1) and w (T, B, C, H, W)."""

    currents: Tensor
    gate: Tensor
    weights: Tensor


def make_inputs(batch: int, steps: int, device: torch.device, channels_last: bool = False) -> Inputs:
    """Normal currents of variance 1, as a batch norm gives, gates in [0, 1) and normal weights."""
    generator = torch.Generator(device).manual_seed(0)
    draw = {"generator": generator, "device": device}
    currents, weights = (torch.randn(steps, batch, *LAYER, **draw) for _ in range(2))
    if channels_last:
        currents, weights = (
            x.flatten(0, 1).to(memory_format=torch.channels_last).unflatten(0, (steps, batch))
            for x in (currents, weights)
        )
    return Inputs(currents, torch.rand(1, batch, LAYER[0], 1, 1, **draw), weights)


def leaves(contender: Contender, inputs: Inputs) -> tuple[Tensor, ...]:
    """What is differentiated with respect to: the currents in the contender's unit, and its gate if it takes one."""
    currents = inputs.currents.detach()
    if contender.current_scale != 1:
        currents = currents * contender.current_scale
    chosen = (currents, inputs.gate.detach()) if contender.gated else (currents,)
    return tuple(x.requires_grad_() for x in chosen)


def derivatives(spikes: Tensor, x: tuple[Tensor, ...], weights: Tensor, order: str) -> tuple[Tensor, ...]:
    """grad(w . s), or grad(|grad(w . s)|^2 / 2), with respect to each of x."""
    if order == "first order":
        return torch.autograd.grad(spikes, x, weights)
    first = torch.autograd.grad(spikes, x, weights, create_graph=True)
    return torch.autograd.grad(first, x, [g.detach() for g in first])


def differences(contender: Contender, inputs: Inputs) -> dict[str, str]:
    """For each order at which the contender is not what it ought to be, how."""
    doubles = Inputs(*(x.double() for x in inputs))
    plain = Contender("expected", lambda x, gate: (expected(x, gate, contender.delayed), None), contender.gated)
    x, y = leaves(contender, inputs), leaves(plain, doubles)
    spikes = contender.run(x[0], x[1] if contender.gated else None)[0]
    if not torch.equal(spikes.double(), plain.run(y[0], y[1] if contender.gated else None)[0].detach().round()):
        return dict.fromkeys(("forward", "first order", "second order"), "other spikes than its equation's")
    found = {}
    # Derivatives of the surrogate multiply each gradient once; each derivative is by the scaled currents.
    c, a = contender.surrogate_scale, contender.current_scale
    for order, factor in (("first order", c / a), ("second order", c**2 / a**3)):
        wants = derivatives(plain.run(y[0], y[1] if plain.gated else None)[0], y, doubles.weights, order)
        try:
            gots = derivatives(contender.run(x[0], x[1] if contender.gated else None)[0], x, inputs.weights, order)
        except (RuntimeError, NotImplementedError) as error:
            found[order] = f"raises {type(error).__name__}: {str(error).splitlines()[0]}"
            continue
        error = max(float((g / factor - w).abs().max() / w.abs().max()) for g, w in zip(gots, wants, strict=True))
        if not error <= ROUNDING:
            found[order] = f"wrong by {error:.1g} of the largest value of an unrolled loop"
    return found


def check(ways: list[Contender], device: torch.device) -> dict[str, dict[str, str]]:
    """`differences` of every contender, after making sure that ours is snnTorch's layer exactly.

    Raises:
        RuntimeError: ours or snnTorch's differ from each other or from the unrolled loop.
    """
    inputs = make_inputs(2, 12, device)
    by_name = {way.name: way for way in ways}
    with torch.no_grad():
        ours, theirs = (by_name[name].run(inputs.currents, None) for name in ("ours", "snnTorch"))
    for kind, a, b in zip(("spikes", "membranes"), ours, theirs, strict=True):
        assert a is not None
        assert b is not None
        if not torch.equal(a, b):
            raise RuntimeError(f"{kind} of ours and of snnTorch differ by up to {float((a - b).abs().max()):g}")
    found = {way.name: differences(way, inputs) for way in ways}
    for name, orders in found.items():
        if orders and name.startswith(("ours", "snnTorch")):
            raise RuntimeError(f"{name}: {orders}")
    return found
