"""What networks of plain LIF neurons can do of a graph: a reset to zero, and gates that do not change.

Nengo's own neurons and those of a Loihi chip are of this kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from converters.gates import changing_gates
from converters.graph import LIF, Graph, Node
from converters.interpreter import Interpreter
from snn_anml.errors import UserError


def zero_reset(graph: Graph) -> Graph:
    """The same graph with every reset to zero: what plain LIF neurons can do, and what `approximate` uses.

    How far it is from the graph is a comparison: `compare(simulate(zero_reset(graph), x), simulate(graph, x))`.
    """
    nodes = (replace(n, reset="zero") if isinstance(n, LIF) and not _resets_to_zero(n) else n for n in graph.nodes)
    return Graph(tuple(nodes), graph.steps)


def _resets_to_zero(node: LIF) -> bool:
    """Without memory there is nothing to reset."""
    return node.reset == "zero" or (node.reset == "none" and not node.beta.any())


def check_plain(node: LIF, target: str) -> None:
    """Refuses a neuron that is no plain LIF neuron.

    Raises:
        UserError: another reset than to zero, a threshold that is not above 0, or a decay outside [0, 1].
    """
    if not _resets_to_zero(node):
        raise UserError(
            f"{node.name} has reset {node.reset!r}, and {target} resets to zero alone; train with reset 'zero', or "
            "take it for one (zero_reset(graph), snn-anml export --approximate) and compare the two."
        )
    if not (node.threshold > 0).all():
        raise UserError(
            f"{node.name} has a threshold of {node.threshold.min()}, and {target} needs one above 0; train with one."
        )
    if not ((node.beta >= 0) & (node.beta <= 1)).all():
        raise UserError(f"{node.name} has a beta outside [0, 1], and {target} decays; train with one inside.")


def check_gates(graph: Graph, target: str) -> None:
    """Refuses gates that change from step to step."""
    for gate in changing_gates(graph):
        raise UserError(
            f"{gate.name} changes with every step, and {target} has no product of two signals; gates that are constant "
            "need encoding 'constant' and a conventional NM network, and all others a backend with gates, as nengo."
        )


class Replay(Interpreter):
    """The interpreter with the spikes and membranes of some `LIF` nodes given: what follows from them.

    Args:
        graph: the graph.
        spikes: of these nodes, (b, T, n) bool.
        membrane: of the same nodes, (b, T, n) float32.
    """

    def __init__(self, graph: Graph, spikes: Mapping[str, np.ndarray], membrane: Mapping[str, np.ndarray]) -> None:
        super().__init__(graph)
        self.given = {
            name: iter(zip(spikes[name].swapaxes(0, 1), membrane[name].swapaxes(0, 1), strict=True)) for name in spikes
        }

    def _compute(self, node: Node, outputs: dict, state: dict, encoded: np.ndarray) -> np.ndarray:
        if node.name not in self.given:
            return super()._compute(node, outputs, state, encoded)
        spikes, state[node.name] = next(self.given[node.name])
        return spikes.astype(np.float32).reshape(len(encoded), *self.graph.shapes[node.name])
