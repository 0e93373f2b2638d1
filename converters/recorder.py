"""Which values of a simulation are kept, and how they become one `Recording`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from converters.graph import LIF, Affine, AvgPool2d, Conv2d, Gate, Graph
from converters.recording import Recording


def observed(graph: Graph) -> tuple[str, ...]:
    """Names of the nodes, other than `LIF`, whose output is recorded.

    They are what feeds a synapse or a pool, and the values of gates (not the gated currents: a gate multiplies
    once a neuron, whatever the current), in the order of computation.
    """
    wanted: set[str] = set()
    for node in graph.nodes:
        if isinstance(node, (Conv2d, Affine, AvgPool2d)):
            wanted.add(node.inputs[0])
        elif isinstance(node, Gate):
            wanted.add(node.inputs[1])
    return tuple(n.name for n in graph.nodes if n.name in wanted and not isinstance(n, LIF))


def read_out(values: np.ndarray, static: bool) -> np.ndarray:
    """Mean over all steps of (b, T, n), added up one step after the other in float32; (b, n).

    A static value is its own mean.
    """
    if static:
        return np.array(values[:, 0], np.float32)
    total = np.zeros_like(values[:, 0], dtype=np.float32)
    for t in range(values.shape[1]):
        total = total + values[:, t]
    return total / np.float32(values.shape[1])


@dataclass
class Recorder:
    """Collects one minibatch step by step, for simulators that are stepped from Python.

    Attributes:
        graph: the graph that is simulated.
        samples: b, size of the minibatch.
    """

    graph: Graph
    samples: int
    spikes: dict[str, np.ndarray] = field(init=False)
    membrane: dict[str, np.ndarray] = field(init=False)
    values: dict[str, np.ndarray] = field(init=False)
    _read: list[np.ndarray] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        graph, b, T = self.graph, self.samples, self.graph.steps
        layers = {node.name: graph.size(node.name) for node in graph.of_type(LIF)}
        self.spikes = {name: np.empty((b, T, n), bool) for name, n in layers.items()}
        self.membrane = {name: np.empty((b, T, n), np.float32) for name, n in layers.items()}
        self.values = {
            name: np.empty((b, 1 if name in graph.static else T, graph.size(name)), np.float32)
            for name in observed(graph)
        }

    def step(self, t: int, outputs: Mapping[str, np.ndarray], membrane: Mapping[str, np.ndarray]) -> None:
        """Takes the outputs of all nodes, (b, ...), and the membranes of the `LIF` nodes of step t."""
        for name, rows in self.spikes.items():
            rows[:, t] = outputs[name].reshape(self.samples, -1) > 0
            self.membrane[name][:, t] = membrane[name].reshape(self.samples, -1)
        for name, rows in self.values.items():
            if t < rows.shape[1]:
                rows[:, t] = outputs[name].reshape(self.samples, -1)
        self._read.append(np.array(outputs[self.graph.nodes[-1].inputs[0]]).reshape(self.samples, -1))

    def recording(self, backend: str) -> Recording:
        """What was collected."""
        static = self.graph.nodes[-1].name in self.graph.static
        output = read_out(np.stack(self._read, axis=1), static)
        return Recording(backend, output, self.spikes, self.membrane, self.values, thresholds(self.graph))


def thresholds(graph: Graph) -> dict[str, np.ndarray]:
    """Threshold of every `LIF` node, () or (n,)."""
    return {node.name: node.threshold for node in graph.nodes if isinstance(node, LIF)}


def join(parts: Sequence[Recording]) -> Recording:
    """The recordings of consecutive minibatches as one; run times add up."""
    first = parts[0]

    def stack(arrays: list[np.ndarray]) -> np.ndarray:
        return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)

    return Recording(
        backend=first.backend,
        output=stack([p.output for p in parts]),
        spikes={k: stack([p.spikes[k] for p in parts]) for k in first.spikes},
        membrane={k: stack([p.membrane[k] for p in parts]) for k in first.membrane},
        values={k: stack([p.values[k] for p in parts]) for k in first.values},
        threshold=first.threshold,
        build_seconds=first.build_seconds,
        run_seconds=sum(p.run_seconds for p in parts),
        host=first.host,
        cores=first.cores,
    )
