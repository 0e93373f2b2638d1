"""Backend `nengo`: Nengo's own simulator, one sample after the other, float32."""

from __future__ import annotations

import numpy as np

from converters.graph import Graph
from converters.nengo_network import DT, NengoExport, export, import_nengo, single_precision
from converters.recorder import read_out, thresholds
from converters.recording import Recording

NAME = "nengo"


class NengoEngine:
    """A built `nengo.Simulator`, reset for every sample."""

    def __init__(self, graph: Graph) -> None:
        nengo = import_nengo()
        self.graph = graph
        self.made = export(graph)
        with single_precision():
            self.simulator = nengo.Simulator(self.made.network, dt=DT, progress_bar=False)
        for op in self.simulator.model.operators:
            # Indices are lists, of which numpy would make arrays at every step. A reset makes the steps anew.
            if isinstance(op, nengo.builder.operator.Copy) and op.src_slice is not None:
                op.src_slice = np.array(op.src_slice)

    def run(self, encoded: np.ndarray) -> Recording:
        """Runs from rest; encoded (T or 1, b, *shape) float32."""
        probes = all_probes(self.made)
        rows: dict[str, list[np.ndarray]] = {key: [] for key in probes}
        # Sigmoid: exp may overflow to infinity, and the quotient to the right limit, zero.
        with single_precision(), np.errstate(over="ignore"):
            for i in range(encoded.shape[1]):
                self.made.input.output.data = encoded[:, i].reshape(len(encoded), -1)
                self.simulator.reset()
                self.simulator.run_steps(self.graph.steps, progress_bar=False)
                for key, probe in probes.items():
                    rows[key].append(kept(self.graph, key, self.simulator.data[probe]))
        return to_recording(self.graph, NAME, {key: np.stack(value) for key, value in rows.items()})

    def close(self) -> None:
        """Closes the simulator."""
        self.simulator.close()


def all_probes(made: NengoExport) -> dict[str, object]:
    """Every probe under a key `kind:node`."""
    probes = {f"spikes:{name}": probe for name, probe in made.spikes.items()}
    probes |= {f"membrane:{name}": probe for name, probe in made.membrane.items()}
    probes |= {f"values:{name}": probe for name, probe in made.values.items()}
    return probes | {"output:": made.output}


def kept(graph: Graph, key: str, data: np.ndarray) -> np.ndarray:
    """What is kept of a probe's data (..., T, n): truth values of spikes, and one step of a static node."""
    kind, _, name = key.partition(":")
    if kind == "spikes":
        return data > 0
    if kind == "values" and name in graph.static:
        data = data[..., :1, :]
    return np.asarray(data, np.float32)


def to_recording(graph: Graph, backend: str, data: dict[str, np.ndarray]) -> Recording:
    """Probe data (b, T or 1, n) under the keys of `all_probes`, as a recording."""
    of: dict[str, dict[str, np.ndarray]] = {"spikes": {}, "membrane": {}, "values": {}}
    for key, value in data.items():
        kind, _, name = key.partition(":")
        if kind in of:
            of[kind][name] = value
    output = read_out(data["output:"], graph.nodes[-1].name in graph.static)
    return Recording(backend, output, of["spikes"], of["membrane"], of["values"], thresholds(graph))


def build(graph: Graph, minibatch: int) -> NengoEngine:
    """The engine of backend `nengo`; it takes any minibatch."""
    return NengoEngine(graph)
