"""Backend `nengo-native`: the network of `converters.native_nengo` in Nengo's simulator, sample after sample.

It is built once. Sample and gates are outputs of Nodes here, which are set before every run; in an exported network
they stand in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from converters.gates import gate_factors
from converters.graph import LIF, Gate, Graph
from converters.native_nengo import DT, Layer, build_network, check, used_nodes
from converters.nengo_network import StepInput, import_nengo, without_decoder_cache
from converters.plain_lif import Replay
from converters.recorder import read_out
from converters.recording import Recording

__all__ = ["NAME", "GateFactors", "NativeEngine", "build", "check"]

NAME = "nengo-native"


class GateFactors:
    """The output of a gate's Node: the current, times what the gate is for the present sample.

    Attributes:
        values: (n,) float64; set it before a run.
    """

    def __init__(self, n: int) -> None:
        self.values = np.ones(n)

    def __call__(self, t: float, current: np.ndarray) -> np.ndarray:
        return current * self.values


class NativeEngine:
    """A built `nengo.Simulator`, reset for every sample. Values of other nodes follow from the spikes.

    Attributes:
        host: names of the nodes that only drive gates, and are none of the network.
    """

    def __init__(self, graph: Graph) -> None:
        check(graph)
        nengo, used = import_nengo(), used_nodes(graph)
        self.graph, self.host = graph, tuple(node.name for node in graph.nodes if node.name not in used)
        self.shown = StepInput(graph.size(graph.nodes[0].name), DT)
        self.gates = {gate.name: GateFactors(graph.size(gate.name)) for gate in graph.of_type(Gate)}
        self.made = build_network(graph, self.shown, self.gates, currents=True)
        with without_decoder_cache():
            self.simulator = nengo.Simulator(self.made.network, dt=DT, progress_bar=False)

    def run(self, encoded: np.ndarray) -> Recording:
        """Runs from rest; encoded (T or 1, b, *shape) float32."""
        graph, made, samples, output = self.graph, self.made, encoded.shape[1], []
        sizes = {n.name: (samples, graph.steps, graph.size(n.name)) for n in graph.of_type(LIF)}
        spikes = {name: np.zeros(shape, bool) for name, shape in sizes.items()}
        membrane = {name: np.zeros(shape, np.float32) for name, shape in sizes.items()}
        factors = gate_factors(graph, encoded)
        for i in range(samples):
            self.shown.data = encoded[:, i].reshape(len(encoded), -1)
            for name, gate in self.gates.items():
                gate.values = factors[name][i].astype(np.float64)
            self.simulator.reset()
            with np.errstate(over="ignore"):  # sigmoid: exp may overflow to infinity, and the quotient to 0, its limit
                self.simulator.run_steps(graph.steps, progress_bar=False)
            data = self.simulator.data
            for name, layers in made.layers.items():
                spikes[name][i] = data[made.spikes[name]] > 0
                for layer in layers:
                    membrane[name][i][:, layer.neurons] = self._membrane(name, layer, data)
            output.append(read_out(data[made.output].astype(np.float32)[None], graph.nodes[-1].name in graph.static))
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
        """Closes the simulator."""
        self.simulator.close()


def build(graph: Graph, minibatch: int) -> NativeEngine:
    """The engine of backend `nengo-native`; it takes any minibatch."""
    return NativeEngine(graph)
