"""How often a network computes what: exact integers, per layer and sample, summed over all steps.

Counted are synapses (`Conv2d`, `Affine`), pooling, gates and neurons; the filter of a synaptic current is an
`Integrator` and counts as a neuron of its own, and so do the neurons that a maximum of spikes becomes. A picture
encoded as spikes (`rate`, `latency`) takes one update a value and step, as of a neuron that sends them; a constant one
is paid for by the multiply-accumulates of the layers that read it, and spikes that come from a sensor by nobody. Not
counted are the random numbers of `rate`, the mean over time that the `Readout` takes (one addition per class and step),
and the comparisons of `MaxPool2d` and the rounding of `Quantize`, for which no convention has a price.

A node that the graph calls static has the same output at every step and is evaluated once per inference;
every other node is evaluated T times. Synaptic counts follow NeuroBench 2.3 (`SynapticOperations`):
binarised input through binarised weights, bias excluded; accumulates if all inputs of the layer are in
{0, 1, -1}, otherwise multiply-accumulates. NeuroBench decides this anew in every call of the layer (one step
of one batch); here it is decided once for the layer, over the whole recording. The two differ only for an
analogue input that happens to hold nothing but 0, 1 and -1 in a whole call, and their sum never does.
"""

from __future__ import annotations

from dataclasses import fields

import numpy as np

from converters.energy.connectivity import fan_out, taps_with_padding
from converters.energy.table import PER_SAMPLE, Counts, LayerCount
from converters.graph import (
    LIF,
    STATEFUL,
    Activation,
    Affine,
    AvgPool2d,
    Conv2d,
    Gate,
    Graph,
    Input,
    MaxPool2d,
    Node,
    Quantize,
    Readout,
    part,
)
from converters.recording import Recording
from snn_anml.errors import UserError

FLOAT32_BYTES = 4
ENCODED = ("rate", "latency")  # as spikes, by the network itself


def count(graph: Graph, recording: Recording) -> Counts:
    """Counts operations of a simulation, exactly.

    Args:
        graph: the network.
        recording: a simulation of it, B samples over T = `graph.steps` steps.

    Returns:
        One `LayerCount` for every node but the `Readout`, and an `Input` that encodes nothing.

    Raises:
        UserError: the recording lacks the output of a node that feeds a synapse, pooling or a gate, its
            arrays do not fit the graph, or it holds no sample.
    """
    samples = len(recording.output)
    if samples == 0:
        raise UserError("The recording holds no sample, so there is nothing to count; simulate at least one.")
    rows = tuple(
        _count_node(graph, node, recording, samples)
        for node in graph.nodes
        if not isinstance(node, Readout) and (not isinstance(node, Input) or node.encoding in ENCODED)
    )
    return Counts(rows, samples, graph.steps)


def activation_sparsity(graph: Graph, recording: Recording) -> float:
    """Share of zeros in all that neurons and activations send, over layers, steps and samples.

    NeuroBench 2.3 has the same. What is static counts once, and an activation that is rounded counts as it is then.

    Args:
        graph: the network; where it has neither neurons nor activations, the share is 0.
        recording: a simulation of it.

    Raises:
        UserError: the recording lacks the output of such a node, or its arrays do not fit the graph.
    """
    rounded = {node.inputs[0]: node.name for node in graph.of_type(Quantize)}
    names = [rounded.get(node.name, node.name) for node in graph.of_type(LIF, Activation)]
    sent = [_source(graph, name, recording, len(recording.output)) for name in names]
    values = sum(x.size for x in sent)
    return (values - sum(np.count_nonzero(x) for x in sent)) / values if values else 0.0


def _count_node(graph: Graph, node: Node, recording: Recording, samples: int) -> LayerCount:
    evaluations = 1 if node.name in graph.static else graph.steps
    numbers: dict[str, int | np.ndarray] = {}
    if isinstance(node, (Conv2d, Affine)):
        numbers = _synapse(graph, node, recording, samples, evaluations)
    elif isinstance(node, AvgPool2d):
        x = _source(graph, node.inputs[0], recording, samples)
        adds = fan_out(node, graph.shapes[node.inputs[0]], graph.shapes[node.name], nonzero=False)
        events = _events(x)
        numbers = {
            "dense_pool_adds": evaluations * int(adds.sum()),
            "pool_adds": events @ adds,
            "input_events": events.sum(axis=1),
        }
    elif isinstance(node, Input):
        numbers = {"neuron_updates": evaluations * graph.size(node.name), "spikes": _spikes(graph, node, recording)}
    elif isinstance(node, Gate):
        numbers = _gate(graph, node, recording, samples, evaluations)
    elif isinstance(node, (Activation, *STATEFUL)):
        n = graph.size(node.name)
        numbers = {"neurons": n, "neuron_updates": evaluations * n}
        if isinstance(node, STATEFUL):
            numbers["state_bytes"] = FLOAT32_BYTES * n
        if isinstance(node, LIF):
            numbers["spikes"] = _spikes(graph, node, recording)
    elif not isinstance(node, (MaxPool2d, Quantize)):
        raise UserError(f"{node.name} is a {type(node).__name__}, whose operations cannot be counted.")
    return _row(graph, node, evaluations, samples, numbers)


def _row(graph: Graph, node: Node, evaluations: int, samples: int, numbers: dict[str, int | np.ndarray]) -> LayerCount:
    """A row in which everything that is not given is zero, and a number is the same for all samples."""
    arrays = (getattr(node, f.name) for f in fields(node))
    return LayerCount(
        layer=node.name,
        part=part(node.name),
        kind=type(node).__name__,
        spikes_of=_spikes_of(graph, node.inputs[0]) if node.inputs else "",
        evaluations=evaluations,
        connections=int(numbers.get("connections", 0)),
        connections_nonzero=int(numbers.get("connections_nonzero", 0)),
        connections_with_padding=int(numbers.get("connections_with_padding", 0)),
        neurons=int(numbers.get("neurons", 0)),
        parameter_bytes=sum(array.nbytes for array in arrays if isinstance(array, np.ndarray)),
        state_bytes=int(numbers.get("state_bytes", 0)),
        input_rate=np.broadcast_to(np.asarray(numbers.get("input_rate", 0.0), np.float64), (samples,)).copy(),
        **{name: np.broadcast_to(np.asarray(numbers.get(name, 0), np.int64), (samples,)).copy() for name in PER_SAMPLE},
    )


def _spikes_of(graph: Graph, name: str) -> str:
    """The node whose spikes `name` sends on, itself or through pools; empty if it sends other values."""
    node = graph[name]
    if isinstance(node, (AvgPool2d, MaxPool2d)):
        return _spikes_of(graph, node.inputs[0])
    spikes = isinstance(node, LIF) or (isinstance(node, Input) and node.encoding != "constant")
    return name if spikes else ""


def _synapse(
    graph: Graph, node: Conv2d | Affine, recording: Recording, samples: int, evaluations: int
) -> dict[str, int | np.ndarray]:
    (source,) = node.inputs
    shape, out = graph.shapes[source], graph.shapes[node.name]
    x = _source(graph, source, recording, samples)
    events = _events(x)
    every = fan_out(node, shape, out, nonzero=False)
    connections = int(every.sum())
    leaving = fan_out(node, shape, out, nonzero=True)
    spiking = bool(((x == 0) | (np.abs(x) == 1)).all())
    biased = np.count_nonzero(node.bias) * (int(np.prod(out)) // len(node.bias))
    return {
        "connections": connections,
        "connections_nonzero": int(leaving.sum()),
        "connections_with_padding": taps_with_padding(node, out),
        "dense": evaluations * connections,
        "effective_acs" if spiking else "effective_macs": events @ leaving,
        "input_events": events.sum(axis=1),
        "event_connections": events @ every,
        "input_rate": np.abs(x).mean(axis=(1, 2), dtype=np.float64),
        "bias_adds": evaluations * biased,
    }


def _gate(
    graph: Graph, node: Gate, recording: Recording, samples: int, evaluations: int
) -> dict[str, int | np.ndarray]:
    gate = node.inputs[1]
    n = graph.size(node.name)
    readers = [other for other in graph.nodes if node.name in other.inputs]
    foldable = (
        gate in graph.static
        and all(isinstance(other, LIF) for other in readers)
        and bool((_source(graph, gate, recording, samples) >= 0).all())
    )
    return {
        "gate_multiplies": evaluations * n,
        "gate_multiplies_folded": (1 if foldable else evaluations) * n,
    }


def _spikes(graph: Graph, node: Node, recording: Recording) -> np.ndarray:
    """(B,) int64, spikes that a node sends."""
    return np.count_nonzero(_source(graph, node.name, recording, len(recording.output)), axis=(1, 2))


def _events(x: np.ndarray) -> np.ndarray:
    """(B, n) int64: at how many steps every value of (B, T, n) is not zero."""
    return np.count_nonzero(x, axis=1).astype(np.int64)


def _source(graph: Graph, name: str, recording: Recording, samples: int) -> np.ndarray:
    """What a node sends on, (B, 1, n) if it is static and (B, T, n) otherwise, checked against the graph."""
    try:
        x = recording.spikes[name] if name in recording.spikes else recording.values[name]
    except KeyError:
        raise UserError(
            f"The recording of backend {recording.backend!r} has no output of {name!r}, which is needed to "
            "count operations; simulate with everything recorded."
        ) from None
    expected = (samples, 1 if name in graph.static else graph.steps, graph.size(name))
    if x.shape != expected:
        raise UserError(f"The recorded output of {name!r} has shape {x.shape}, but the graph asks for {expected}.")
    return x
