"""What an inference computes, addresses, reads and writes, layer by layer: the counts of the memory-aware model.

After E. Lemaire et al., "An Analytical Estimation of Spiking Neural Networks Energy Efficiency" (ICONIP 2022, arXiv
2210.13107). Every layer has memories of its own, each of the size of what it holds; a value is one word, and each read
and write of a word is one access. theta are spikes in an inference, T the steps, n the values of a node, k the kernel,
s the stride. Two accountings:

`lemaire`  the article's formulas, which know neither the border nor, but for the additions, the stride:

    formal conv      reads: inputs = weights = C_in/groups k^2 n, biases n;  writes: outputs n;  MAC C_in/groups k^2 n,
                     ACC n;  addresses: ACC n_in + n + C_out k^2
    formal linear    reads: inputs n_in, weights n_in n, biases n;  writes: outputs n;  MAC n_in n, ACC n;  addresses:
                     ACC n_in n
    spiking conv     reads: inputs theta, weights theta C_out/groups k^2, biases T n;  potentials read and written
                     theta C_out/groups k^2;  ACC theta C_out/groups ceil(k/s)^2 + T n;  addresses: MAC 2 theta,
                     ACC theta C_out/groups k^2
    spiking linear   reads: inputs theta, weights theta n, biases T n;  potentials theta n;  ACC theta n + T n;
                     addresses: ACC theta n
    neurons          potentials read and written T n;  MAC T n (leak), ACC theta_out (reset);  writes: outputs theta_out

    Its authors' program (Qualia, EnergyEstimationMetric) differs: biases of a spiking layer are read once and not T
    times, potentials are written theta C k^2 + n times and not read, C_out is missing from the addresses of a spiking
    conv and n_in from those of a spiking linear. It corrects the article in the additions of a spiking linear, as here
    (theta n + T n + theta_out, for theta n_in n + T n). The queues of spikes, whose length the program is told, have
    here one word for every neuron, as the article's.

`exact`    what is really touched: a spike reads one weight, and reads and writes one potential, for every connection
           that leaves its neuron (`converters.energy.connectivity.fan_out`), border, stride, dilation and groups
           minded; a formal layer has as many inputs, weights and MACs as it has connections. An addition and an
           address for each. A weight of zero is stored, read and added like any other. A layer whose biases are all
           zero has none; otherwise each is read and added. In `lemaire` the addition stays, as in the program.

Charged alike in both, where the article says nothing:

- A node with the same output at every step is evaluated once, as a formal layer; what changes reads its output at every
  step, n words. So the first conv under a constant picture is formal, and its current is read T n times.
- Elementwise nodes (gates, activations, rounding, maxima) hand a value on in a register. An output is written to memory
  where a synapse, a pool or a gate reads it, where it is static and its reader is not, and at the end.
- Spikes that do not meet a membrane directly but a gate, a pool, an activation or the mean of the readout are
  summed up in a memory of currents, which is read and cleared n words a step (for the readout without biases: once).
- A gate reads its value, n words of the memory that its driver wrote, and multiplies n times for each evaluation.
- Average pooling of spikes is a convolution without weights: each spike is read, addressed, and added to a current for
  every window it is in. What comes out has fractions, so the next layer multiplies (MAC for ACC). Pooling of values
  reads and adds every value of every window, and addresses n_in + n.
- A picture that is encoded as spikes is read at each step, n words, compared (ACC), and each spike written.
- Integrators (synaptic filters, membranes of a head) are neurons without outputs. Neurons that neither leak nor forget
  (beta 1 or 0) have no MAC; one of them that reads a current adds it, ACC T n. Thresholds and betas of one value a
  neuron are read at each step.
- An activation costs one MAC a value in `exact`, as on `arithmetic` devices; nothing in `lemaire`.
- The neuromodulatory network is layers like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal, get_args

import numpy as np

from converters.energy.table import Counts, LayerCount
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
    Integrator,
    MaxPool2d,
    Node,
    Readout,
)
from snn_anml.errors import UserError

Accounting = Literal["lemaire", "exact"]
Number = int | Fraction

MEMORIES = ("inputs", "weights", "biases", "potentials", "currents", "gates", "outputs")
OPERATIONS = ("macs", "accumulates", "multiplies", "address_macs", "address_accumulates")


@dataclass(frozen=True, eq=False)
class LayerTraffic:
    """Operations and accesses of one node in an inference, exact means over the samples counted.

    Attributes:
        layer: name of the node.
        part: the network it belongs to.
        kind: type of the node.
        macs, accumulates, multiplies: operations on values.
        address_macs, address_accumulates: operations to find an address.
        reads, writes: accesses by memory, those of `MEMORIES` that the node has.
        words: words that each of these memories holds.
    """

    layer: str
    part: str
    kind: str
    macs: Number = 0
    accumulates: Number = 0
    multiplies: Number = 0
    address_macs: Number = 0
    address_accumulates: Number = 0
    reads: dict[str, Number] = field(default_factory=dict)
    writes: dict[str, Number] = field(default_factory=dict)
    words: dict[str, int] = field(default_factory=dict)

    def accesses(self, memory: str) -> Number:
        """Reads and writes of one memory."""
        return self.reads.get(memory, 0) + self.writes.get(memory, 0)


def traffic(graph: Graph, counts: Counts, accounting: Accounting = "exact") -> tuple[LayerTraffic, ...]:
    """Operations and accesses of every layer that was counted.

    Args:
        graph: the network.
        counts: of this graph, by `converters.energy.count`.
        accounting: `exact` or `lemaire`, see the module.

    Raises:
        UserError: an unknown accounting, or counts of another graph.
    """
    if accounting not in get_args(Accounting):
        raise UserError(f"Unknown accounting {accounting!r}; known are {', '.join(get_args(Accounting))}.")
    nodes = {node.name: node for node in graph.nodes}
    if counts.steps != graph.steps or any(type(nodes.get(row.layer)).__name__ != row.kind for row in counts.layers):
        raise UserError("The counts are not of this graph; count a simulation of it.")
    return tuple(_layer(_Place(graph, nodes[row.layer], row), accounting == "lemaire") for row in counts.layers)


@dataclass(frozen=True)
class _Place:
    """A node of the graph with what was counted of it."""

    graph: Graph
    node: Node
    row: LayerCount

    @property
    def n(self) -> int:
        return self.graph.size(self.node.name)

    @property
    def source(self) -> str:
        return self.node.inputs[0]

    @property
    def times(self) -> int:
        return self.row.evaluations

    def mean(self, name: str) -> Fraction:
        return self.row.mean(name)

    def readers(self) -> Iterator[Node]:
        return (node for node in self.graph.nodes if self.node.name in node.inputs)

    def stored(self) -> bool:
        """Whether the output is written to a memory, and not handed on."""
        static = self.graph.static
        return any(
            isinstance(reader, (Conv2d, Affine, AvgPool2d, Readout))
            or (isinstance(reader, Gate) and reader.inputs[1] == self.node.name)
            or (self.node.name in static and reader.name not in static)
            for reader in self.readers()
        )

    def held(self, name: str) -> bool:
        """Whether input `name` lies in a memory, to be read anew at every step."""
        return name in self.graph.static and self.node.name not in self.graph.static


@dataclass
class _Ledger:
    operations: dict[str, Number] = field(default_factory=dict)
    reads: dict[str, Number] = field(default_factory=dict)
    writes: dict[str, Number] = field(default_factory=dict)
    words: dict[str, int] = field(default_factory=dict)

    def compute(self, operation: str, times: Number) -> None:
        self.operations[operation] = self.operations.get(operation, 0) + times

    def access(self, memory: str, words: int, *, reads: Number = 0, writes: Number = 0) -> None:
        self.reads[memory] = self.reads.get(memory, 0) + reads
        self.writes[memory] = self.writes.get(memory, 0) + writes
        self.words[memory] = words

    def output(self, place: _Place) -> None:
        if place.stored():
            self.access("outputs", place.n, writes=place.times * place.n)


def _layer(place: _Place, lemaire: bool) -> LayerTraffic:
    node, ledger = place.node, _Ledger()
    fill: Callable[[_Place, _Ledger, bool], None]
    if isinstance(node, (Conv2d, Affine, AvgPool2d)):
        fill = _spiking if place.row.spikes_of else _formal
    elif isinstance(node, Gate):
        fill = _gate
    elif isinstance(node, Input):
        fill = _encoding
    elif isinstance(node, STATEFUL):
        fill = _neurons
    else:
        fill = _elementwise
    fill(place, ledger, lemaire)
    return LayerTraffic(
        place.row.layer,
        place.row.part,
        place.row.kind,
        reads=ledger.reads,
        writes=ledger.writes,
        words=ledger.words,
        **ledger.operations,
    )


def _formal(place: _Place, ledger: _Ledger, lemaire: bool) -> None:
    """A layer that computes every output from all of its inputs."""
    node, n, times = place.node, place.n, place.times
    n_in = place.graph.size(place.source)
    if isinstance(node, AvgPool2d):
        adds = place.mean("dense_pool_adds")
        ledger.access("inputs", n_in, reads=adds)
        ledger.compute("accumulates", adds)
        ledger.compute("address_accumulates", times * (n_in + n))
        ledger.output(place)
        return
    assert isinstance(node, (Conv2d, Affine))
    conv = isinstance(node, Conv2d)
    macs = times * (place.row.connections_with_padding if lemaire else place.row.connections)
    ledger.access("inputs", n_in, reads=macs if conv else times * n_in)
    ledger.access("weights", node.weight.size, reads=macs)
    ledger.compute("macs", macs)
    addresses = n_in + n + len(node.weight) * int(np.prod(node.weight.shape[2:])) if conv else n_in * n
    ledger.compute("address_accumulates", times * addresses)
    _biases(place, node, ledger, lemaire)
    ledger.output(place)


def _spiking(place: _Place, ledger: _Ledger, lemaire: bool) -> None:
    """A layer that adds something to its outputs for every spike."""
    node, n = place.node, place.n
    events = place.mean("input_events")
    touched = added = place.mean("pool_adds" if isinstance(node, AvgPool2d) else "event_connections")
    biased = False
    if isinstance(node, (Conv2d, Affine)):
        if lemaire:
            outputs, kernel, stride = len(node.weight), (1, 1), (1, 1)
            if isinstance(node, Conv2d):
                outputs, kernel, stride = outputs // node.groups, node.weight.shape[2:], node.stride
            touched = events * outputs * int(np.prod(kernel))
            added = events * outputs * int(np.prod([-(-k // s) for k, s in zip(kernel, stride, strict=True)]))
        ledger.access("weights", node.weight.size, reads=touched)
        biased = _biases(place, node, ledger, lemaire)
    fractions = not isinstance(node, AvgPool2d) and _fractions(place.graph, place.source)
    ledger.access("inputs", place.graph.size(place.source), reads=events)
    ledger.compute("macs" if fractions else "accumulates", added)
    if not isinstance(node, Affine):
        ledger.compute("address_macs", 2 * events)
    ledger.compute("address_accumulates", touched)
    readers = list(place.readers())
    if len(readers) == 1 and isinstance(readers[0], STATEFUL):
        ledger.access("potentials", n, reads=touched, writes=touched)
    else:
        once = not (lemaire or biased) and all(isinstance(reader, Readout) for reader in readers)
        passes = (1 if once else place.times) * n
        ledger.access("currents", n, reads=touched + passes, writes=touched + passes)


def _fractions(graph: Graph, name: str) -> bool:
    """Whether spikes come through an average pool, and so as fractions."""
    node = graph[name]
    return isinstance(node, AvgPool2d) or (isinstance(node, MaxPool2d) and _fractions(graph, node.inputs[0]))


def _biases(place: _Place, node: Conv2d | Affine, ledger: _Ledger, lemaire: bool) -> bool:
    """Charges the biases of a synapse, and says whether it has any."""
    biased = bool(node.bias.any())
    if biased:
        ledger.access("biases", node.bias.size, reads=place.times * place.n)
    if biased or lemaire:
        ledger.compute("accumulates", place.times * place.n)
    return biased


def _gate(place: _Place, ledger: _Ledger, lemaire: bool) -> None:
    current, gate = place.node.inputs
    multiplies = place.mean("gate_multiplies")
    ledger.compute("multiplies", multiplies)
    ledger.access("gates", place.graph.size(gate), reads=multiplies)
    if place.held(current):
        ledger.access("currents", place.n, reads=multiplies)
    ledger.output(place)


def _encoding(place: _Place, ledger: _Ledger, lemaire: bool) -> None:
    updates = place.mean("neuron_updates")
    ledger.access("inputs", place.n, reads=updates)
    ledger.compute("accumulates", updates)
    ledger.access("outputs", place.n, writes=place.mean("spikes"))


def _neurons(place: _Place, ledger: _Ledger, lemaire: bool) -> None:
    node, n = place.node, place.n
    assert isinstance(node, (LIF, Integrator))
    updates = place.mean("neuron_updates")
    ledger.access("potentials", n, reads=updates, writes=updates)
    held = place.held(place.source)
    if held:
        ledger.access("currents", n, reads=updates)
    if not np.isin(node.beta, (0, 1)).all():
        ledger.compute("macs", updates)
    elif held:
        ledger.compute("accumulates", updates)
    each = [array for array in (node.beta, getattr(node, "threshold", None)) if array is not None and array.size > 1]
    if each:
        ledger.access("weights", len(each) * n, reads=len(each) * updates)
    if isinstance(node, LIF):
        spikes = place.mean("spikes")
        ledger.access("outputs", n, writes=spikes)
        if node.reset != "none":
            ledger.compute("accumulates", spikes)


def _elementwise(place: _Place, ledger: _Ledger, lemaire: bool) -> None:
    if isinstance(place.node, Activation) and not lemaire:
        ledger.compute("macs", place.mean("neuron_updates"))
    if not (isinstance(place.node, MaxPool2d) and place.row.spikes_of):
        ledger.output(place)
