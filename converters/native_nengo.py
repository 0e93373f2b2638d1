"""The graph in Nengo's own neurons alone: a network to open, edit, save and run without this project.

    input                   a Node that holds one sample: a constant, or `PresentInput` for spikes
    synapse, pool           as in `converters.nengo_network`, with the trained weights
    neuron                  Ensemble of `nengo.LIF`, one for each decay that occurs
    gate                    a pass-through Node behind a factor for every neuron
    leaky integrator        a pass-through Node that returns to itself, times beta, after one step

`nengo.LIF` with tau_ref = 0, in time steps of `DT`, is, with d = exp(-DT / tau_rc),

    v_t = d v_{t-1} + (1 - d) J_t,   s_t = [v_t > 1],   v_t = 0 after a spike,

which is the neuron of a graph with reset "zero", d = beta and a gain of 1 / (threshold (1 - beta)). It resets in the
step of the spike, and the graph one step later or in the same step (`reset_delay`): the next membrane, and so every
spike, is the same. A reset by subtraction, or none, has no such form.

A gate that is the same at every step is a factor on the current, and so a threshold divided by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np
import torch

from converters.gates import constant_gate, gate_factors
from converters.graph import LIF, Activation, Gate, Graph, Input, Integrator, MaxPool2d, Node, Quantize, Readout
from converters.nengo_network import NetworkBuilder, import_nengo
from converters.plain_lif import check_gates, check_plain, zero_reset
from converters.simulate import encode_inputs, sample_shape
from snn_anml.errors import UserError

DT = 0.001
"""Time step, s: Nengo's own. An amplitude of DT makes spikes 1 high, so that weights are the trained ones."""

MARGIN = 2.0**-30
"""Thresholds are raised by this fraction: far above the rounding of float64, by which a membrane that equals its
threshold could spike, and far below that of the float32 in which the network was trained."""

SMALLEST = 2.0**-40
"""A decay is kept this far from 0 and from 1, where tau_rc or the current would be infinite."""

LEAST_GAIN = 2.0
"""Nengo works out a tuning curve, though nothing here uses it, and warns of one for gains of 1 or less; what is smaller
stands in the connection."""


def used_nodes(graph: Graph) -> set[str]:
    """Names of the nodes on the way of a current to a neuron or to the readout; what only drives gates is left out."""
    used: set[str] = set()
    for node in reversed(graph.nodes):
        if node.name in used or isinstance(node, (LIF, Readout)):
            used |= {node.name, *node.inputs[:1]}
    return used


def check(graph: Graph) -> None:
    """Refuses what plain Nengo cannot compute; needs no Nengo.

    Raises:
        UserError: gates that change from step to step, neurons that are not `nengo.LIF`, or another such node.
    """
    check_gates(graph, "plain Nengo")
    used = used_nodes(graph)
    for node in graph.nodes:
        if isinstance(node, LIF):
            check_plain(node, "nengo.LIF")
        elif node.name in used and (isinstance(node, (MaxPool2d, Quantize)) or _is_hard_sigmoid(node)):
            raise UserError(
                f"{node.name} is a {getattr(node, 'function', type(node).__name__)} between layers, which plain Nengo "
                "does not have; the backends interpreter, torch, nengo and nengo-dl do."
            )


def _is_hard_sigmoid(node: Node) -> bool:
    return isinstance(node, Activation) and node.function == "hard_sigmoid"


def to_native_nengo(
    graph: Graph,
    approximate: bool = False,
    sample: np.ndarray | torch.Tensor | None = None,
    seed: int = 0,
) -> Any:
    """The graph as a `nengo.Network` of plain `nengo.LIF` neurons, for time steps of 0.001 s in float64.

    Args:
        graph: what to convert.
        approximate: take resets to zero for other ones; see `zero_reset`.
        sample: (*shape), or (T, *shape) of spike trains: what the input shows, and where the values of the gates come
            from; zeros without it.
        seed: of the generator that draws rate-coded spikes.

    Returns:
        The network, with a probe on the spikes and the voltage of every layer, and on the output.

    Raises:
        UserError: a node that plain Nengo cannot compute, or gates and no sample.
        MissingExtraError: Nengo is not installed.
    """
    graph = zero_reset(graph) if approximate else graph
    if sample is None:
        if any(constant_gate(graph, node) is None for node in graph.nodes if isinstance(node, Gate)):
            raise UserError(
                "The gates of this graph follow from the input; hand one over: to_native_nengo(graph, sample=...)."
            )
        sample = np.zeros(sample_shape(graph), np.float32)
    return export_native(graph, encode_inputs(graph, torch.as_tensor(sample)[None], seed)).network


@dataclass
class Layer:
    """Neurons of one `LIF` node that share a decay.

    Attributes:
        neurons: their indices in the node.
        beta: decay of the membrane in one step.
        voltage: probe of the voltage, thresholds at 1.
        current: probe of the current, or None.
    """

    neurons: np.ndarray
    beta: float
    voltage: Any
    current: Any = None


@dataclass
class NativeExport:
    """A network and its probes.

    Attributes:
        network: the `nengo.Network`.
        spikes: probe of every `LIF` node.
        layers: ensembles of every `LIF` node.
        output: probe of what the `Readout` averages over the steps.
    """

    network: Any
    spikes: dict[str, Any] = field(default_factory=dict)
    layers: dict[str, list[Layer]] = field(default_factory=dict)
    output: Any = None


def export_native(graph: Graph, encoded: np.ndarray) -> NativeExport:
    """Builds the network for one sample, encoded (T or 1, 1, *shape)."""
    check(graph)
    sample = encoded.reshape(len(encoded), -1).astype(np.float64)
    shown = sample[0] if len(sample) == 1 else import_nengo().processes.PresentInput(sample, DT)
    return build_network(graph, shown, {name: values[0] for name, values in gate_factors(graph, encoded).items()})


def build_network(graph: Graph, shown: Any, gates: Mapping[str, Any], currents: bool = False) -> NativeExport:
    """Builds the network.

    Args:
        graph: that passes `check`.
        shown: the output of the input Node.
        gates: for every gate its factors, (n,), or what makes the output of its Node from the current.
        currents: whether to probe those of the neurons, too.
    """
    nengo, used = import_nengo(), used_nodes(graph)
    with nengo.Network(label="spiking network", seed=0) as network:
        builder = _NativeBuilder(nengo, graph, shown, gates, currents)
        for node in graph.nodes:
            if node.name in used:
                builder.add(node)
        readout = graph.nodes[-1].name
        output = nengo.Probe(builder.outputs[readout], label=f"{readout}.values")
    return NativeExport(network, builder.spikes, builder.layers, output)


class _NativeBuilder(NetworkBuilder):
    """Adds one node after the other, those of `converters.nengo_network` where they are Nengo's own."""

    def __init__(self, nengo: ModuleType, graph: Graph, shown: Any, gates: Mapping[str, Any], currents: bool) -> None:
        super().__init__(nengo, graph)
        self.shown, self.gates, self.currents = shown, gates, currents
        self.spikes: dict[str, Any] = {}
        self.layers: dict[str, list[Layer]] = {}

    def add(self, node: Any) -> None:
        """Adds a node whose inputs were added before."""
        nengo = self.nengo
        if isinstance(node, Input):
            self.outputs[node.name] = nengo.Node(self.shown, size_out=self.graph.size(node.name), label=node.name)
        elif isinstance(node, LIF):
            self._lif(node)
        elif isinstance(node, Gate):
            self.outputs[node.name] = self._gate(node)
        elif isinstance(node, Integrator):
            output = self._relay(node.name, node.name)
            self._connect(self.outputs[node.inputs[0]], output)
            nengo.Connection(output, output, transform=node.beta.astype(np.float64), synapse=0)
            self.outputs[node.name] = output
        else:
            super().add(node)

    def _gate(self, node: Gate) -> Any:
        gate, source, n = self.gates[node.name], self.outputs[node.inputs[0]], self.graph.size(node.name)
        if callable(gate):
            output = self.nengo.Node(gate, size_in=n, size_out=n, label=node.name)
            self._connect(source, output)
        else:
            output = self._relay(node.name, node.name)
            self._connect(source, output, gate.astype(np.float64))
        return output

    def _lif(self, node: LIF) -> None:
        """One ensemble, or one for each decay and a pass-through Node in which their spikes come together."""
        nengo, n = self.nengo, self.graph.size(node.name)
        source = self.outputs[node.inputs[0]]
        decays = np.clip(np.broadcast_to(node.beta, n).astype(np.float64), SMALLEST, 1 - SMALLEST)
        threshold = np.broadcast_to(node.threshold, n).astype(np.float64) * (1 + MARGIN)
        different = np.unique(decays)
        together = None if len(different) == 1 else self._relay(node.name, node.name)
        self.layers[node.name] = []
        for beta in different:
            neurons = np.flatnonzero(decays == beta)
            label = node.name if together is None else f"{node.name}[beta={beta:.9g}]"
            gain, factor = 1 / (threshold[neurons] * (1 - beta)), None
            if gain.min() < LEAST_GAIN:
                gain, factor = np.full(len(neurons), LEAST_GAIN), gain / LEAST_GAIN
            ensemble = nengo.Ensemble(
                len(neurons),
                1,
                neuron_type=nengo.LIF(
                    tau_rc=-DT / np.log(beta),
                    tau_ref=0,
                    min_voltage=-np.inf,
                    amplitude=DT,
                    initial_state={"voltage": nengo.dists.Choice([0])},
                ),
                gain=gain,
                bias=np.zeros(len(neurons)),
                encoders=np.ones((len(neurons), 1)),
                label=label,
            )
            if together is None:
                self._connect(source, ensemble.neurons, factor)
                self.outputs[node.name] = ensemble.neurons
            else:
                self._connect(source[neurons.tolist()], ensemble.neurons, factor)
                self._connect(ensemble.neurons, together[neurons.tolist()])
                self.outputs[node.name] = together
            layer = Layer(neurons, beta, nengo.Probe(ensemble.neurons, "voltage", label=f"{label}.voltage"))
            if self.currents:
                layer.current = nengo.Probe(ensemble.neurons, "input", label=f"{label}.current")
            self.layers[node.name].append(layer)
        self.spikes[node.name] = nengo.Probe(self.outputs[node.name], label=f"{node.name}.spikes")
