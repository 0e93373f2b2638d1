"""Gates that do not change: their values, and gates as thresholds or as constants for what knows no gates."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np

from converters.graph import LIF, Affine, Gate, Graph, Node, gate_index
from converters.interpreter import Interpreter
from converters.simulate import Inputs, encode_inputs
from snn_anml.errors import UserError

CLOSED = np.finfo(np.float32).max
"""Threshold of a neuron behind a gate of 0: one that no current reaches."""


class Lowered(NamedTuple):
    """One graph a sample, the names of the gates that became thresholds, and of those that became constants."""

    graphs: tuple[Graph, ...]
    thresholds: tuple[str, ...]
    constants: tuple[str, ...]


def lower_gates(graph: Graph, x: Inputs, into: Literal["threshold", "constant"] = "threshold") -> Lowered:
    """The network as its gates make it for each sample, without the network that drives them.

    A gate g > 0 that is the same at all steps multiplies the current, and so, as v starts at 0, the membrane: v = g u
    with u the membrane of the current alone. v > threshold where u > threshold / g, and each reset takes u where it
    takes v. So the neurons get the threshold threshold / g: exact up to its rounding to float32, and that of u. A
    closed gate, g = 0, gets a threshold that is never reached.

    A gate whose values are below 0, or whose current is read by others than LIF neurons, remains a gate, by a
    constant: exact to the bit. `save_nir` writes that as nir.Scale.

    Args:
        graph: what to lower. Nodes that nothing needs any more are left out.
        x: (B, *shape), the samples, as for `simulate`.
        into: `constant` makes all gates constants.

    Returns:
        B graphs for one sample each, and what became of the gates. They compute another sample wrongly.

    Raises:
        UserError: a gate that changes from step to step, or samples that do not fit.
    """
    for gate in changing_gates(graph):
        raise UserError(
            f"{gate.name} is gated by {gate.inputs[1]}, which changes from step to step: no threshold and no "
            "constant does that. Keep the gates, and read the file with load_nir."
        )
    encoded = encode_inputs(graph, x)
    values = gate_values(graph, encoded)
    behind = _neurons_behind(graph, values) if into == "threshold" else {}
    graphs = tuple(_lowered(graph, behind, {k: v[i] for k, v in values.items()}) for i in range(encoded.shape[1]))
    return Lowered(graphs, tuple(n for n in values if n in behind), tuple(n for n in values if n not in behind))


def changing_gates(graph: Graph) -> tuple[Gate, ...]:
    """The gates whose values differ from step to step."""
    gates = (node for node in graph.nodes if isinstance(node, Gate) and node.inputs[1] not in graph.static)
    return tuple(gate for gate in gates if constant_gate(graph, gate) is None)


def gate_values(graph: Graph, encoded: np.ndarray) -> dict[str, np.ndarray]:
    """What every gate multiplies by, (b, m) float32, one value a neuron or a channel; none of them changes.

    Args:
        graph: without `changing_gates`.
        encoded: (T or 1, b, *shape), the samples as they enter the graph.
    """
    gates = graph.of_type(Gate)
    if not gates:
        return {}
    first = Interpreter(replace(graph, steps=1)).run(encoded[:1])
    return {gate.name: first.values[gate.inputs[1]][:, 0] for gate in gates}


def gate_factors(graph: Graph, encoded: np.ndarray) -> dict[str, np.ndarray]:
    """The same with one value a neuron, (b, n)."""
    values = gate_values(graph, encoded)
    return {g.name: values[g.name][:, gate_index(graph, g)] for g in graph.of_type(Gate) if isinstance(g, Gate)}


def constant_gate(graph: Graph, gate: Gate) -> np.ndarray | None:
    """What a gate multiplies by, (n,), if no input can change it: an `Affine` without weights gives its bias."""
    source = graph[gate.inputs[1]]
    if not isinstance(source, Affine) or source.weight.any():
        return None
    return source.bias[gate_index(graph, gate)]


def hidden_constants(graph: Graph) -> frozenset[str]:
    """Names of the nodes that do no more than make constants for gates."""
    hidden: set[str] = set()
    for node in reversed(graph.nodes):
        reading = [reader for reader in graph.nodes if node.name in reader.inputs]
        constant = isinstance(node, Affine) and not node.weight.any()
        if constant and reading and all(_as_constant(reader, node.name, hidden) for reader in reading):
            hidden.add(node.name)
    return frozenset(hidden)


def constant(values: np.ndarray) -> dict[str, np.ndarray]:
    """Weight and bias of a node that sends (m,) values whatever it is fed with, which is one value."""
    return {"weight": np.zeros((len(values), 1), np.float32), "bias": np.array(values, np.float32)}


def nothing(size: int) -> dict[str, np.ndarray]:
    """Weight and bias of a node that sends 0, one value, whatever the `size` values are: the source of constants."""
    return {"weight": np.zeros((1, size), np.float32), "bias": np.zeros(1, np.float32)}


def _as_constant(reader: Node, name: str, hidden: set[str]) -> bool:
    return reader.name in hidden or (isinstance(reader, Gate) and reader.inputs[0] != name)


def _neurons_behind(graph: Graph, values: dict[str, np.ndarray]) -> dict[str, list[LIF]]:
    """For every gate that thresholds can replace, the neurons whose thresholds those are."""
    found: dict[str, list[LIF]] = {}
    for gate in reversed(values):
        behind: list[LIF] = []
        for reader in graph.nodes:
            if isinstance(reader, LIF) and gate in reader.inputs:
                behind.append(reader)
            elif reader.name in found and gate == reader.inputs[0] != reader.inputs[1]:
                behind += found[reader.name]
            elif gate in reader.inputs:
                break
        else:
            lowest = values[gate].min()
            if lowest > 0 or (lowest == 0 and all((neuron.threshold >= 0).all() for neuron in behind)):
                found[gate] = behind
    return found


def _lowered(graph: Graph, behind: dict[str, list[LIF]], values: dict[str, np.ndarray]) -> Graph:
    """The graph for one sample, whose gates are `values`, (m,) each."""
    factors: dict[str, np.ndarray] = {}
    for name, neurons in behind.items():
        gate = graph[name]
        assert isinstance(gate, Gate)
        for neuron in neurons:
            factor = values[name].astype(np.float64)[gate_index(graph, gate)]
            factors[neuron.name] = factors.get(neuron.name, 1.0) * factor
    taken = {node.name for node in graph.nodes}
    first = graph.nodes[0]
    zero = Affine(unused("nothing", taken), (first.name,), **nothing(graph.size(first.name)))
    nodes: list[Node] = [first, zero]
    current: dict[str, str] = {}
    for node in graph.nodes[1:]:
        node = replace(node, inputs=tuple(current.get(name, name) for name in node.inputs))
        if node.name in behind:
            current[node.name] = node.inputs[0]
            continue
        if isinstance(node, Gate):
            name = unused(f"{node.name}.values", taken)
            nodes.append(Affine(name, (zero.name,), **constant(values[node.name])))
            node = replace(node, inputs=(node.inputs[0], name))
        elif isinstance(node, LIF) and node.name in factors:
            node = replace(node, threshold=_divided(node.threshold, factors[node.name]))
        nodes.append(node)
    needed = {nodes[-1].name}
    for node in reversed(nodes):
        if node.name in needed:
            needed.update(node.inputs)
    return Graph(tuple(node for node in nodes if node.name in needed or node is first), graph.steps)


def _divided(threshold: np.ndarray, gate: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        quotient = np.where(gate == 0, CLOSED, threshold / gate)
    return np.clip(quotient, -CLOSED, CLOSED).astype(np.float32)


def unused(name: str, taken: set[str]) -> str:
    """The name, or one like it that is not taken."""
    while name in taken:
        name += "_"
    return name
