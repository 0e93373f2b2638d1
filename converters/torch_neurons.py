"""How neurons of snnTorch and of this project become nodes; see `converters.graph_builder`."""

from __future__ import annotations

from typing import Any

import numpy as np
import snntorch
import torch

from converters.graph import LIF, Integrator
from converters.graph_builder import GraphBuilder, Wire, impossible, lowering
from converters.torch_modules import neuron_parameter
from snn_anml.neurons import AdaptiveLeaky, Leaky, LeakyIntegrator, Synaptic
from snn_anml.neurons.from_snntorch import reset_of

# Where the spike function is probed to see that it is a step, in units of the membrane minus the threshold.
STEP_PROBES = (-2.0, -1e-3, 0.0, 1e-3, 2.0)

impossible(
    "feeds its output back to itself, and a graph has no loops",
    snntorch.RLeaky,
    snntorch.RSynaptic,
    snntorch.SLSTM,
    snntorch.SConv2dLSTM,
)
impossible("moves its threshold with its spikes, which no node of a graph does", AdaptiveLeaky)


def _check_options(builder: GraphBuilder, module: Any) -> None:
    """Refuses what makes a neuron of snnTorch another one, and a second place for its state."""
    builder.once(module)
    if module.inhibition:
        builder.refuse(module, "has inhibition=True, which is not supported")
    if module.state_quant:
        builder.refuse(module, "has state_quant set, which is not supported")
    if not bool((module.graded_spikes_factor == 1).all()):
        factor = module.graded_spikes_factor.tolist()
        builder.refuse(module, f"has graded spikes (graded_spikes_factor={factor}), which are not supported")
    probes = torch.tensor(STEP_PROBES)
    with torch.no_grad():
        if not torch.equal(module.spike_grad(probes.clone()).float(), (probes > 0).float()):
            builder.refuse(module, "has a spike_grad whose forward pass is not the step function")


def _lif(builder: GraphBuilder, module: Any, source: Wire, beta: torch.Tensor, reset_delay: bool = True) -> Wire:
    return builder.add(
        LIF,
        source,
        beta=neuron_parameter(builder, module, "beta", beta, source.shape),
        threshold=neuron_parameter(builder, module, "threshold", module.threshold, source.shape),
        reset=reset_of(module),
        reset_delay=reset_delay,
    )


def _filtered(builder: GraphBuilder, module: Any, source: Wire, alpha: torch.Tensor) -> Wire:
    """The synaptic current i_t = alpha i_{t-1} + x_t."""
    decay = neuron_parameter(builder, module, "alpha", alpha, source.shape)
    with builder.inside("current"):
        return builder.add(Integrator, source, beta=decay)


def _scaled(builder: GraphBuilder, module: Any, source: Wire, factor: torch.Tensor) -> Wire:
    """A current times one number."""
    if factor.numel() != 1:
        builder.refuse(module, f"has an R, C or time_step of shape {tuple(factor.shape)}, not a single number")
    n = int(np.prod(source.shape))
    return builder.scaled(source, np.full(n, builder.array(factor)), f"{builder.place}.scaled".lstrip("."))


@lowering(snntorch.Leaky)
def _leaky(builder: GraphBuilder, module: snntorch.Leaky, source: Wire) -> Wire:
    _check_options(builder, module)
    return _lif(builder, module, source, module.beta.clamp(0, 1), bool(module.reset_delay))


@lowering(snntorch.Synaptic)
def _synaptic(builder: GraphBuilder, module: snntorch.Synaptic, source: Wire) -> Wire:
    _check_options(builder, module)
    if reset_of(module) == "zero" and (module.reset_delay or bool((module.threshold < 0).any())):
        builder.refuse(
            module,
            "has reset_mechanism='zero' with reset_delay=True or a threshold below 0, where snnTorch throws away the "
            "input current of the step after a spike, too; build it with reset_delay=False or 'subtract'",
        )
    current = _filtered(builder, module, source, module.alpha.clamp(0, 1))
    return _lif(builder, module, current, module.beta.clamp(0, 1), bool(module.reset_delay))


@lowering(snntorch.Lapicque)
def _lapicque(builder: GraphBuilder, module: Any, source: Wire) -> Wire:
    """`v_t = x_t R (1 / (R C)) dt + (1 - dt / (R C)) v_{t-1} - r_t threshold`, rounded after every product."""
    _check_options(builder, module)
    if reset_of(module) == "zero":
        builder.refuse(
            module,
            "has reset_mechanism='zero', with which snnTorch throws away the input current of the step after a spike, "
            "too; build it with 'subtract' or 'none'",
        )
    resistance, capacity, step = module.R, module.C, module.time_step
    for factor in (resistance, 1 / (resistance * capacity), step):
        source = _scaled(builder, module, source, factor)
    return _lif(builder, module, source, 1 - step / (resistance * capacity))


@lowering(Synaptic)
def _own_synaptic(builder: GraphBuilder, module: Synaptic, source: Wire) -> Wire:
    alpha = torch.as_tensor(module.alpha).clamp(0, 1)
    return builder.lower_as(Leaky, module, _filtered(builder, module, source, alpha))


@lowering(LeakyIntegrator)
def _integrator(builder: GraphBuilder, module: LeakyIntegrator, source: Wire) -> Wire:
    decay = torch.as_tensor(module.beta).clamp(0, 1)
    return builder.add(Integrator, source, beta=neuron_parameter(builder, module, "beta", decay, source.shape))
