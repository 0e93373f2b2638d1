"""The table of counts: one row per layer, one integer per sample."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from fractions import Fraction

import numpy as np

from snn_anml.errors import UserError

PER_SAMPLE = (
    "dense",
    "effective_acs",
    "effective_macs",
    "input_events",
    "event_connections",
    "dense_pool_adds",
    "pool_adds",
    "gate_multiplies",
    "gate_multiplies_folded",
    "neuron_updates",
    "bias_adds",
    "spikes",
)
STATIC = ("connections", "connections_nonzero", "neurons", "parameter_bytes", "state_bytes")


@dataclass(frozen=True, eq=False)
class LayerCount:
    """Counts of one node of the graph. Arrays are (B,) int64, per sample, summed over all evaluations.

    Attributes:
        layer: name of the node.
        part: the network it belongs to (`converters.graph.part`).
        kind: type of the node, such as `Conv2d`.
        spikes_of: name of the node whose spikes come in, pooled or not; empty if other values do.
        evaluations: how often it is computed in one inference: 1 if static, otherwise T.
        connections: connections of any weight, border-aware.
        connections_nonzero: those whose weight is not zero.
        connections_with_padding: the same as `connections`, but taps on zero padding count (KerasSpiking).
        neurons: neurons that are updated in one evaluation.
        parameter_bytes: bytes of the arrays of the node, float32; an array of zeros counts like any other.
        state_bytes: bytes of the membrane of one sample, float32, whatever the batch size.
        dense: synaptic operations if every connection is computed in every evaluation.
        effective_acs: operations whose input and weight are not zero, if the layer sees 0, 1 and -1 only.
        effective_macs: the same if the layer sees anything else.
        input_events: input values that are not zero, of synapses and pooling (the spikes that come in).
        event_connections: connections, of any weight, that leave these events: what they touch in memory. Of
            synapses only.
        input_rate: (B,) float64, mean of |x| over the inputs of a synapse and all steps; for spikes, spikes
            per neuron and step.
        dense_pool_adds: additions of average pooling, all inputs. Pooling is no synapse: its weights are not
            learned, and NeuroBench does not count it. The division is left to the weights that follow.
        pool_adds: those whose input is not zero.
        gate_multiplies: one for each gated neuron and evaluation of the gated current.
        gate_multiplies_folded: one for each gated neuron and inference where the gate can move into the
            threshold (a static gate that is not negative and feeds `LIF` nodes only: g * x against the
            threshold is x against threshold / g); otherwise the same as `gate_multiplies`.
        neuron_updates: one per neuron and step (`LIF`, `Integrator`), value and evaluation (`Activation`), or value and
            step of a picture that is encoded as spikes (`Input`).
        bias_adds: one per output and evaluation whose bias is not zero.
        spikes: spikes that a `LIF` node or the encoding of the picture sends.
    """

    layer: str
    part: str
    kind: str
    spikes_of: str
    evaluations: int
    connections: int
    connections_nonzero: int
    connections_with_padding: int
    neurons: int
    parameter_bytes: int
    state_bytes: int
    dense: np.ndarray
    effective_acs: np.ndarray
    effective_macs: np.ndarray
    input_events: np.ndarray
    event_connections: np.ndarray
    input_rate: np.ndarray
    dense_pool_adds: np.ndarray
    pool_adds: np.ndarray
    gate_multiplies: np.ndarray
    gate_multiplies_folded: np.ndarray
    neuron_updates: np.ndarray
    bias_adds: np.ndarray
    spikes: np.ndarray

    def mean(self, name: str) -> Fraction:
        """Exact mean over samples of the count `name`; a static count is its own mean."""
        if name in STATIC:
            return Fraction(int(getattr(self, name)))
        if name not in PER_SAMPLE:
            raise UserError(f"Unknown count {name!r}; known are {', '.join((*PER_SAMPLE, *STATIC))}.")
        values = getattr(self, name)
        return Fraction(int(values.sum()), len(values))


@dataclass(frozen=True, eq=False)
class Counts:
    """Counts of all nodes, in the order of computation.

    Attributes:
        layers: one row for every node but the `Readout`, and an `Input` that encodes nothing.
        samples: B, number of samples (at least one).
        steps: T, number of time steps.
    """

    layers: tuple[LayerCount, ...]
    samples: int
    steps: int

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the networks, in the order of computation."""
        return tuple(dict.fromkeys(row.part for row in self.layers))

    def of_part(self, name: str) -> Counts:
        """The rows of one network, such as `pln` or `nm`."""
        if name not in self.parts:
            raise UserError(f"No part is called {name!r}; there are {', '.join(self.parts)}.")
        return replace(self, layers=tuple(row for row in self.layers if row.part == name))

    def per_sample(self, name: str) -> np.ndarray:
        """(B,) int64, the count `name` summed over all layers, for every sample."""
        if name not in PER_SAMPLE:
            raise UserError(f"Unknown count per sample {name!r}; known are {', '.join(PER_SAMPLE)}.")
        return sum((getattr(row, name) for row in self.layers), np.zeros(self.samples, np.int64))

    def mean(self, name: str) -> Fraction:
        """Exact mean over samples of the count `name`, summed over all layers."""
        return sum((row.mean(name) for row in self.layers), Fraction(0))

    def __getitem__(self, layer: str) -> LayerCount:
        for row in self.layers:
            if row.layer == layer:
                return row
        raise KeyError(layer)


def concatenate(counts: Iterable[Counts]) -> Counts:
    """Joins counts of several batches of samples of one graph, in order.

    Raises:
        UserError: nothing to join, or the counts are not of one graph.
    """
    batches = list(counts)
    if not batches:
        raise UserError("There are no counts to concatenate; pass at least one.")
    first = batches[0]
    per_sample = (*PER_SAMPLE, "input_rate")
    fixed = [f.name for f in fields(LayerCount) if f.name not in per_sample]
    signature = [[getattr(row, name) for name in fixed] for row in first.layers]
    for other in batches[1:]:
        if other.steps != first.steps or [[getattr(r, n) for n in fixed] for r in other.layers] != signature:
            raise UserError("The counts to concatenate are not of one graph; count every batch on the same graph.")
    rows = tuple(
        replace(
            row,
            **{name: np.concatenate([getattr(b.layers[i], name) for b in batches]) for name in per_sample},
        )
        for i, row in enumerate(first.layers)
    )
    return Counts(rows, sum(b.samples for b in batches), first.steps)
