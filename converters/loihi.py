"""Backend `loihi`: nengo-loihi's emulator of a Loihi chip, one sample after the other.

What runs where is said in `converters.loihi_layers`, and how it is divided among cores in `converters.loihi_blocks`.
A gate that is constant over T is a threshold divided by it, set before every sample.

The chip rounds (`converters.loihi_chip`), so no equal spikes are promised; `loihi_report` says how far each layer is
from the graph.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import prod
from typing import NamedTuple

import numpy as np

from converters.fidelity import Fidelity, compare
from converters.gates import gate_factors
from converters.graph import Graph, Readout
from converters.interpreter import Interpreter
from converters.loihi_blocks import Division, Load, divide
from converters.loihi_chip import Chip, layer_sizes
from converters.loihi_layers import TARGET, ChipLayer, chip_layers, host_layers, host_nodes
from converters.plain_lif import Replay
from converters.recording import Recording
from converters.simulate import Inputs, simulate
from snn_anml.errors import UserError

NAME = "loihi"


def check(graph: Graph) -> None:
    """Refuses what the chip cannot compute, and layers that fit no core; needs no nengo-loihi.

    Raises:
        UserError: see `converters.loihi_layers.chip_layers` and `converters.loihi_blocks.divide`.
    """
    _placed(graph)


def _placed(graph: Graph) -> tuple[tuple[ChipLayer, ...], dict[str, Division]]:
    """The layers on the chip, and their cores."""
    layers = chip_layers(graph)
    return layers, divide(layer_sizes(layers))


class LoihiEngine:
    """A chip, brought to rest before every sample, and the host before and behind it.

    Attributes:
        host: names of the nodes that the host computes.
        cores: how many each layer on the chip takes.
    """

    def __init__(self, graph: Graph, target: str = "sim") -> None:
        self.layers, divisions = _placed(graph)
        self.graph, self.host = graph, host_nodes(graph, self.layers)
        self.cores = {name: len(division.loads) for name, division in divisions.items()}
        self.chip = Chip(self.layers, divisions, target)
        before = {graph.nodes[0].name, *graph.static, *host_layers(graph)}
        nodes = [node for node in graph.nodes[:-1] if node.name in before]
        self.before = Interpreter(Graph((*nodes, Readout(graph.nodes[-1].name, (nodes[-1].name,))), graph.steps))

    def run(self, encoded: np.ndarray) -> Recording:
        """Runs from rest; encoded (T or 1, b, *shape) float32."""
        graph, samples = self.graph, encoded.shape[1]
        sources = self.before.run(encoded).spikes
        if graph.nodes[0].name not in graph.static:
            sources[graph.nodes[0].name] = encoded.reshape(len(encoded), samples, -1).swapaxes(0, 1) > 0
        gates = {name: factors.astype(np.float64) for name, factors in gate_factors(graph, encoded).items()}
        for gate in (name for layer in self.layers for name in layer.gates):
            if gates[gate].min() < 0:
                raise UserError(
                    f"{gate} is {gates[gate].min():.3g} for a sample, and a threshold on {TARGET} is above 0; train "
                    "with gates that are never negative, as those of a sigmoid."
                )
        runs = [
            self._run_one({name: x[i] for name, x in sources.items()}, {name: x[i] for name, x in gates.items()})
            for i in range(samples)
        ]
        spikes, membrane = (
            {layer.name: np.stack([r[k][layer.name] for r in runs]) for layer in self.layers} for k in (0, 1)
        )
        return replace(Replay(graph, spikes, membrane).run(encoded), backend=NAME)

    def _run_one(
        self, sources: Mapping[str, np.ndarray], gates: Mapping[str, np.ndarray]
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """One sample: spikes (T, n) of what the host sends, and factors (n,); spikes and membranes (T, n) of layers."""
        T, chip = self.graph.steps, self.chip
        factors = {layer.name: prod((gates[gate] for gate in layer.gates), start=np.ones(())) for layer in self.layers}
        with np.errstate(divide="ignore"):  # a gate of 0 shuts its neuron for good
            chip.restart({layer.name: layer.neuron.threshold / factors[layer.name] for layer in self.layers})
        for t in range(T):
            for name in chip.sources:
                chip.send(name, t + 1, np.flatnonzero(sources[name][t]))
        seen: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {layer.name: [] for layer in self.layers}
        for t in range(T + max(layer.depth for layer in self.layers)):
            chip.step()
            for layer in self.layers:
                if layer.depth <= t < layer.depth + T:
                    seen[layer.name].append(chip.read(layer.name))
        spikes = {name: np.stack([s for s, _ in steps]) for name, steps in seen.items()}
        membrane = {
            name: (np.stack([v for _, v in steps]) * factors[name]).astype(np.float32) for name, steps in seen.items()
        }
        return spikes, membrane

    def close(self) -> None:
        """Closes the chip."""
        self.chip.close()


def build(graph: Graph, minibatch: int) -> LoihiEngine:
    """The engine of backend `loihi`; it takes any minibatch."""
    return LoihiEngine(graph)


class LayerReport(NamedTuple):
    """A layer of neurons on the emulator, beside the reference.

    Attributes:
        layer: name of the `LIF` node.
        cores: it takes on the chip; 0 for a layer of the host.
        load: the most that one of them is asked for, or None.
        mismatch: fraction of the spike slots that differ.
        correlation: of the spike counts, or None; see `LayerFidelity`.
    """

    layer: str
    cores: int
    load: Load | None
    mismatch: float
    correlation: float | None


def loihi_report(graph: Graph, inputs: Inputs, seed: int = 0) -> tuple[LayerReport, ...]:
    """How far every layer is from the graph when it runs on the chip, and how many cores it takes.

    Args:
        graph: what to run.
        inputs: as for `simulate`.
        seed: of the generator that draws rate-coded spikes.

    Raises:
        UserError: a graph that the chip cannot compute.
        MissingExtraError: nengo-loihi is not installed.
    """
    return report_of(graph, compare(simulate(graph, inputs, NAME, seed), simulate(graph, inputs, seed=seed)))


def report_of(graph: Graph, fidelity: Fidelity) -> tuple[LayerReport, ...]:
    """A comparison of backend `loihi` on this graph, with the cores of every layer."""
    _, divisions = _placed(graph)
    report = []
    for name, layer in fidelity.layers.items():
        loads = divisions[name].loads if name in divisions else ()
        most = Load(*np.max(loads, axis=0).tolist()) if loads else None
        report.append(LayerReport(name, len(loads), most, layer.mismatches / layer.slots, layer.correlation))
    return tuple(report)
