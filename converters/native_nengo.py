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
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any

import numpy as np
import torch

from converters.graph import LIF, Activation, Gate, Graph, Input, Integrator, Readout
from converters.nengo_network import _NetworkBuilder, import_nengo, without_decoder_cache
from converters.plain_lif import Replay, check_gates, check_plain, constant_gates, zero_reset
from converters.recorder import read_out
from converters.recording import Recording
from converters.simulate import encode_inputs
from snn_anml.errors import UserError

NAME = "nengo-native"
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
        sample: (*shape), what the input shows, and where the values of the gates come from; zeros without it.
        seed: of the generator that draws rate-coded spikes.

    Returns:
        The network, with a probe on the spikes and the voltage of every layer, and on the output.

    Raises:
        UserError: a node that plain Nengo cannot compute, or gates and no sample.
        MissingExtraError: Nengo is not installed.
    """
    graph = zero_reset(graph) if approximate else graph
    node = graph.nodes[0]
    assert isinstance(node, Input)
    if sample is None:
        if graph.of_type(Gate):
            raise UserError(
                "The gates of this graph follow from the input; hand one over: to_native_nengo(graph, sample=...)."
            )
        sample = np.zeros(node.shape, np.float32)
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


def export_native(graph: Graph, encoded: np.ndarray, currents: bool = False) -> NativeExport:
    """Builds the network for one sample, encoded (T or 1, 1, *shape); with `currents`, those are probed, too."""
    nengo = import_nengo()
    check_gates(graph, "plain Nengo")
    gates = {name: values[0] for name, values in constant_gates(graph, encoded).items()}
    used = used_nodes(graph)
    with nengo.Network(label="spiking network", seed=0) as network:
        builder = _NativeBuilder(nengo, graph, encoded[:, 0], gates, currents)
        for node in graph.nodes:
            if node.name in used:
                builder.add(node)
        readout = graph.nodes[-1].name
        output = nengo.Probe(builder.outputs[readout], label=f"{readout}.values")
    return NativeExport(network, builder.spikes, builder.layers, output)


class _NativeBuilder(_NetworkBuilder):
    """Adds one node after the other, those of `converters.nengo_network` where they are Nengo's own."""

    def __init__(
        self, nengo: ModuleType, graph: Graph, sample: np.ndarray, gates: Mapping[str, np.ndarray], currents: bool
    ) -> None:
        super().__init__(nengo, graph)
        self.sample, self.gates, self.currents = sample.reshape(len(sample), -1).astype(np.float64), gates, currents
        self.spikes: dict[str, Any] = {}
        self.layers: dict[str, list[Layer]] = {}

    def add(self, node: Any) -> None:
        nengo = self.nengo
        if isinstance(node, Input):
            constant = len(self.sample) == 1
            shown = self.sample[0] if constant else nengo.processes.PresentInput(self.sample, DT)
            self.outputs[node.name] = nengo.Node(shown, label=node.name)
        elif isinstance(node, LIF):
            self._lif(node)
        elif isinstance(node, Gate):
            output = self._relay(node.name, node.name)
            self._connect(self.outputs[node.inputs[0]], output, self.gates[node.name].astype(np.float64))
            self.outputs[node.name] = output
        elif isinstance(node, Integrator):
            output = self._relay(node.name, node.name)
            self._connect(self.outputs[node.inputs[0]], output)
            nengo.Connection(output, output, transform=node.beta.astype(np.float64), synapse=0)
            self.outputs[node.name] = output
        elif isinstance(node, Activation) and node.function == "hard_sigmoid":
            raise UserError(f"{node.name} is a hard_sigmoid between layers, and Nengo has no such neuron.")
        else:
            super().add(node)

    def _lif(self, node: LIF) -> None:
        """One ensemble, or one for each decay and a pass-through Node in which their spikes come together."""
        check_plain(node, "nengo.LIF")
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


class NativeEngine:
    """A network for every sample, since its gates stand in it. Values of other nodes follow from the spikes."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        export_native(graph, np.zeros((1, 1, *graph.shapes[graph.nodes[0].name]), np.float32))  # to be refused now

    def run(self, encoded: np.ndarray) -> Recording:
        """Runs from rest; encoded (T or 1, b, *shape) float32."""
        graph, samples, output = self.graph, encoded.shape[1], []
        sizes = {n.name: (samples, graph.steps, graph.size(n.name)) for n in graph.of_type(LIF)}
        spikes = {name: np.zeros(shape, bool) for name, shape in sizes.items()}
        membrane = {name: np.zeros(shape, np.float32) for name, shape in sizes.items()}
        nengo = import_nengo()
        for i in range(samples):
            made = export_native(graph, encoded[:, i : i + 1], currents=True)
            with without_decoder_cache():
                built = nengo.Simulator(made.network, dt=DT, progress_bar=False)
            # Sigmoid: exp may overflow to infinity, and the quotient to the right limit, zero.
            with np.errstate(over="ignore"), built as simulator:
                simulator.run_steps(graph.steps)
                data = simulator.data
            for name, layers in made.layers.items():
                spikes[name][i] = data[made.spikes[name]] > 0
                for layer in layers:
                    membrane[name][i][:, layer.neurons] = self._membrane(name, layer, data)
            output.append(read_out(data[made.output][None], graph.nodes[-1].name in graph.static))
        recording = Replay(graph, spikes, membrane).run(encoded)
        return replace(recording, backend=NAME, output=np.concatenate(output))

    def _membrane(self, name: str, layer: Layer, data: Mapping[Any, np.ndarray]) -> np.ndarray:
        """(T, n) in the units of the graph: before the reset, unless the graph makes it in the step of the spike."""
        node = self.graph[name]
        assert isinstance(node, LIF)
        voltage = data[layer.voltage]
        if node.reset_delay or node.reset == "none":
            before = np.concatenate([np.zeros_like(voltage[:1]), voltage[:-1]])
            voltage = layer.beta * before + (1 - layer.beta) * data[layer.current]
        return voltage * np.broadcast_to(node.threshold, self.graph.size(name))[layer.neurons]

    def close(self) -> None:
        """Holds nothing."""


def build(graph: Graph, minibatch: int) -> NativeEngine:
    """The engine of backend `nengo-native`; it takes any minibatch."""
    return NativeEngine(graph)
