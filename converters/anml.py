"""How ANML becomes nodes: prediction network under `pln`, neuromodulatory network under `nm`, then the head.

The norm is folded into the convolutions. A gate node stands between every convolution and its neurons, fed by
the neuromodulatory network; the head reads the last layer's spikes at every step, and the readout takes the mean
over the steps, which is the head of the mean spike count.
"""

from __future__ import annotations

import time

import numpy as np
import torch
from torch import Tensor, nn

from converters.graph import LIF, Activation, Gate, Integrator
from converters.graph_builder import GraphBuilder, Wire, lowering
from converters.recording import Recording
from converters.torch_modules import neuron_parameter
from snn_anml.networks import ANML
from snn_anml.networks.layers import NormedConv, ReLU
from snn_anml.networks.neuromodulation import Neuromodulation
from snn_anml.neurons import Leaky


@lowering(NormedConv)
def _normed_conv(builder: GraphBuilder, module: NormedConv, source: Wire) -> Wire:
    return builder.lower(module.norm, builder.lower(module.conv, source))


@lowering(Leaky)
def _leaky(builder: GraphBuilder, module: Leaky, source: Wire) -> Wire:
    p = module.parameters_of_neuron
    beta, threshold = (
        neuron_parameter(builder, module, name, torch.as_tensor(getattr(p, name)), source.shape)
        for name in ("beta", "threshold")
    )
    return builder.add(LIF, source, beta=beta, threshold=threshold, reset=p.reset, reset_delay=p.reset_delay)


@lowering(ReLU)
def _relu(builder: GraphBuilder, module: ReLU, source: Wire) -> Wire:
    return builder.add(Activation, source, function="relu")


def _layers(builder: GraphBuilder, module: nn.Module, source: Wire, gates: list[Wire]) -> Wire:
    """Convolution, gate and neuron of every layer of a network."""
    convs, neurons = getattr(module, "convs"), getattr(module, "neurons")  # noqa: B009 - both networks have them
    for i, (conv, neuron) in enumerate(zip(convs, neurons, strict=True), 1):
        source = builder.lower(conv, source, f"conv{i}")
        if gates:
            source = builder.add(Gate, source, gates[i - 1], name=f"{builder.place}.gate{i}")
        source = builder.lower(neuron, source, f"{'lif' if isinstance(neuron, Leaky) else 'relu'}{i}")
    return Wire(source.name, (int(np.prod(source.shape)),))


def _modulation(builder: GraphBuilder, module: Neuromodulation, source: Wire) -> list[Wire]:
    hidden = _layers(builder, module, source, [])
    gates = []
    for i, linear in enumerate(module.gates, 1):
        drive = builder.lower(linear, hidden, f"linear{i}")
        if module.spiking:
            drive = builder.add(Integrator, drive, beta=np.asarray(np.float32(module.beta)), name=f"nm.sum{i}")
        gates.append(builder.add(Activation, drive, function=module.gate, name=f"nm.gate{i}"))
    return gates


@lowering(Neuromodulation)
def _neuromodulation(builder: GraphBuilder, module: Neuromodulation, source: Wire) -> Wire:
    builder.refuse(module, "has several outputs and is converted as a part of ANML only")


@lowering(ANML)
def _anml(builder: GraphBuilder, module: ANML, source: Wire) -> Wire:
    gates: list[Wire] = []
    if module.modulation is not None:
        with builder.inside("nm"):
            gates = _modulation(builder, module.modulation, source)
    with builder.inside("pln"):
        features = _layers(builder, module, source, gates)
    return builder.lower(module.head, features, "head")


@torch.no_grad()
def record_anml(model: ANML, x: Tensor, seed: int = 0) -> Recording:
    """Runs the network itself, not its graph, and records it under the graph's names.

    What separates it from the graph on the `torch` backend is the folding of the norm: a rounding of the weights.

    Args:
        model: in evaluation mode, on any device.
        x: (B, 1, H, W), pictures in [0, 1].
        seed: of the spikes of a rate encoding; the same as for `converters.simulate`.

    Returns:
        spikes, membranes and output of every LIF layer; no other values.
    """
    spikes, membranes, thresholds, hooks = {}, {}, {}, []

    def watch(name: str, neuron: Leaky) -> None:
        def keep(module: nn.Module, arguments: tuple, result: tuple[Tensor, Tensor]) -> None:
            s, v = (value.flatten(2).transpose(0, 1).cpu().numpy() for value in result)
            spikes[name], membranes[name] = s > 0, v
            threshold = torch.as_tensor(neuron.parameters_of_neuron.threshold).float().cpu()
            thresholds[name] = (
                threshold.expand(result[0].shape[2:]).flatten() if threshold.dim() else threshold
            ).numpy()

        hooks.append(neuron.register_forward_hook(keep))

    networks = {"pln": model, "nm": model.modulation}
    for part, network in networks.items():
        for i, neuron in enumerate([] if network is None else network.neurons, 1):
            if isinstance(neuron, Leaky):
                watch(f"{part}.lif{i}", neuron)
    start = time.perf_counter()
    try:
        output = model(x.to(model.head.weight.device), torch.Generator().manual_seed(seed))
    finally:
        for hook in hooks:
            hook.remove()
    seconds = time.perf_counter() - start
    return Recording("snn_anml", output.cpu().numpy(), spikes, membranes, {}, thresholds, run_seconds=seconds)
