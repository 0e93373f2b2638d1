"""Counts against what a reader works out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from converters.energy import count, estimate
from converters.energy.break_even import spike_rate
from converters.energy.table import PER_SAMPLE
from converters.energy.traffic import traffic
from converters.graph import (
    Activation,
    Affine,
    Conv2d,
    Gate,
    Graph,
    Input,
    MaxPool2d,
    Quantize,
    Readout,
)
from converters.recording import Recording
from converters.simulate import simulate
from tests.energy_helpers import (
    anml_like,
    lif,
    normal,
    recording_of,
)


@pytest.mark.parametrize("neuron", ["lif", "relu"])
def test_maxima_and_rounding_cost_nothing(neuron):
    """Behind a maximum of spikes a synapse still sees spikes, and rounded gates are gates."""
    rng = np.random.default_rng(9)
    graph = Graph(
        (
            Input("input", (), (2, 6, 6)),
            Affine("nm.fc", ("input",), normal(rng, (3, 72)), normal(rng, (3,))),
            Activation("nm.gate", ("nm.fc",), "sigmoid"),
            Quantize("nm.gate.levels", ("nm.gate",), 2**-4, 2**4),
            Conv2d("conv", ("input",), normal(rng, (3, 2, 3, 3)), normal(rng, (3,)), (1, 1), (1, 1)),
            MaxPool2d("currents", ("conv",), (2, 2), (2, 2)),
            Gate("gated", ("currents", "nm.gate.levels")),
            lif("neurons", "gated") if neuron == "lif" else Activation("neurons", ("gated",), "relu"),
            MaxPool2d("maxima", ("neurons",), (2, 2), (1, 1)),
            Affine("head", ("maxima",), normal(rng, (4, 12), 0.8), normal(rng, (4,))),
            Readout("output", ("head",)),
        ),
        4,
    )
    recording = simulate(graph, rng.random((5, 2, 6, 6)))
    counts = count(graph, recording)
    for name in ("currents", "maxima", "nm.gate.levels"):
        assert not any(getattr(counts[name], number).any() for number in PER_SAMPLE)
        assert (counts[name].neurons, counts[name].state_bytes, counts[name].parameter_bytes) == (0, 0, 0)
    pooled = recording.source("maxima")
    assert 0 < (pooled != 0).mean() < 1
    assert set(np.unique(pooled)) == {0, 1} or neuron == "relu"
    leaving = (graph["head"].weight != 0).sum(axis=0)
    operations = np.count_nonzero(pooled, axis=1) @ leaving
    zeros = np.zeros(5)
    row = counts["head"]
    np.testing.assert_array_equal(row.effective_acs, operations if neuron == "lif" else zeros)
    np.testing.assert_array_equal(row.effective_macs, zeros if neuron == "lif" else operations)
    assert counts["gated"].gate_multiplies.tolist() == [27] * 5


def test_negative_spikes_are_accumulates_and_any_other_value_is_not():
    affine = Affine("layer", ("input",), np.ones((2, 4), np.float32), np.zeros(2, np.float32))
    graph = Graph((Input("input", (), (4,), "rate"), affine, Readout("output", ("layer",))), 2)
    x = np.array([[[1, -1, 0, 0], [0, -1, 0, 0]]], np.float32)

    def row(x):
        return count(graph, Recording("made up", np.zeros((1, 2), np.float32), {}, {}, {"input": x}))["layer"]

    assert (row(x).effective_acs.tolist(), row(x).effective_macs.tolist()) == ([6], [0])
    assert row(x).input_rate.tolist() == [3 / 8]
    x[0, 1, 3] = 0.5
    assert (row(x).effective_acs.tolist(), row(x).effective_macs.tolist()) == ([0], [8])


def test_padding_has_no_connections():
    """A 3x3 kernel with padding 1 on 4x4: 4 corners see 4 pixels, 8 edges 6, 4 inner ones 9."""
    weight, bias = np.ones((1, 1, 3, 3), np.float32), np.zeros(1, np.float32)
    conv = Conv2d("layer", ("input",), weight, bias, (1, 1), (1, 1))
    graph = Graph((Input("input", (), (1, 4, 4)), conv, Readout("output", ("layer",))), 5)
    row = count(graph, recording_of(graph, 1, np.random.default_rng(0)))["layer"]
    assert row.connections == 4 * 4 + 8 * 6 + 4 * 9
    assert row.connections_with_padding == 16 * 9


def test_every_spike_adds_its_fan_out():
    """Disjoint spike trains add up, and a single spike costs the connections that leave its neuron."""
    rng = np.random.default_rng(2)
    graph = anml_like(rng)
    recording = recording_of(graph, 3, rng, density=0.5)
    spikes = recording.spikes["pln.lif2"]
    half = rng.random(spikes.shape) < 0.5

    def acs(trains):
        changed = replace(recording, spikes={**recording.spikes, "pln.lif2": trains})
        return count(graph, changed)["head"].effective_acs

    assert acs(spikes).sum() > 0
    np.testing.assert_array_equal(acs(spikes & half) + acs(spikes & ~half), acs(spikes))
    leaving = (graph["head"].weight != 0).sum(axis=0)
    for neuron in range(spikes.shape[2]):
        single = np.zeros_like(spikes)
        single[1, 2, neuron] = True
        assert acs(single).tolist() == [0, leaving[neuron], 0]


def test_neurons_biases_spikes_and_bytes():
    rng = np.random.default_rng(3)
    graph = anml_like(rng, steps=4)
    recording = recording_of(graph, 3, rng)
    counts = count(graph, recording)
    # nm: static, once. pln: 3 x 7 x 6 and 3 x 2 x 2 neurons at 4 steps; head: 5 integrators.
    updates = {"nm.relu1": 24, "nm.gate": 3, "pln.lif1": 4 * 126, "pln.lif2": 4 * 12, "head.membrane": 4 * 5}
    for row in counts.layers:
        assert row.neuron_updates.tolist() == [updates.get(row.layer, 0)] * 3
    assert counts["pln.conv1"].bias_adds.tolist() == [np.count_nonzero(graph["pln.conv1"].bias) * 42] * 3
    assert counts["pln.conv2"].bias_adds.tolist() == [4 * 12] * 3
    assert counts["head"].bias_adds.tolist() == [0] * 3
    np.testing.assert_array_equal(counts["pln.lif2"].spikes, recording.spikes["pln.lif2"].sum(axis=(1, 2)))
    assert counts.mean("state_bytes") == 4 * (126 + 12 + 5)
    numbers = (2 * 2 * 9 + 2) + (3 * 24 + 3) + (3 * 2 * 9 + 3) + (3 * 3 * 4 + 3) + (5 * 12 + 5) + 2 + 2 + 1
    assert counts.mean("parameter_bytes") == 4 * numbers


@pytest.mark.parametrize("encoding", ["constant", "rate", "latency", "spikes"])
def test_encoding_as_spikes_is_an_update_a_value_and_step(encoding):
    """A constant picture is paid for by the layers that read it, and a sensor's spikes come from outside."""
    rng = np.random.default_rng(4)
    graph = anml_like(rng, steps=4, encoding=encoding)
    recording = recording_of(graph, 3, rng)
    counts = count(graph, recording)
    of_input = [row for row in counts.layers if row.kind == "Input"]
    if encoding in ("constant", "spikes"):
        assert of_input == []
        return
    (row,) = of_input
    n, spikes = graph.size("input"), np.count_nonzero(recording.values["input"], axis=(1, 2))
    assert row.neuron_updates.tolist() == [4 * n] * 3
    assert (row.neurons, row.state_bytes, row.parameter_bytes, row.dense.sum()) == (0, 0, 0, 0)
    np.testing.assert_array_equal(row.spikes, spikes)
    energy = estimate(counts, "cmos45-fp32")
    without = estimate(replace(counts, layers=tuple(r for r in counts.layers if r is not row)), "cmos45-fp32")
    assert energy.joules - without.joules == pytest.approx(4.6e-12 * 4 * n)
    assert spike_rate(counts) == spike_rate(without.counts)  # pixels are no neurons
    for accounting in ("exact", "lemaire"):
        (of_memory,) = (one for one in traffic(graph, counts, accounting) if one.layer == "input")
        assert of_memory.reads == {"inputs": 4 * n, "outputs": 0}
        assert of_memory.writes == {"inputs": 0, "outputs": row.mean("spikes")}
        assert of_memory.accumulates == 4 * n
