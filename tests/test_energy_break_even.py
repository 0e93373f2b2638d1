"""Break-even spike rates against a search over scaled spike counts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq

from converters.energy import SpikeCost, break_even, count, estimate, estimate_memory, spike_cost, spike_rate
from converters.energy.break_even import without_spikes
from tests.energy_helpers import anml_like, recording_of

OF_SPIKES = ("effective_acs", "effective_macs", "input_events", "event_connections", "pool_adds", "spikes")


@pytest.fixture(params=["constant", "rate"])
def network(request):
    rng = np.random.default_rng(0)
    graph = anml_like(rng, encoding=request.param)
    recording = recording_of(graph, 3, rng)
    # Pools send spikes on, as fractions, so that they are silent where the neurons are.
    values = {k: v for k, v in recording.values.items() if k != "pln.pool1"}
    spikes = recording.spikes["pln.lif1"].reshape(3, 4, 3, 7, 6)[:, :, :, :6].reshape(3, 4, 3, 3, 2, 3, 2)
    values["pln.pool1"] = spikes.mean(axis=(4, 6)).reshape(3, 4, 27).astype(np.float32)
    return graph, replace(recording, values=values)


def scaled(counts, factor):
    """The counts if neurons sent `factor` times as many spikes, layer by layer by hand."""
    drives = {"pln.pool1": "pln.lif1", "pln.conv2": "pln.lif1", "head": "pln.lif2"}
    coded = counts["pln.conv1"].evaluations > 1
    drives |= {"nm.conv1": "input", "pln.conv1": "input"} if coded else {}
    rows = []
    for row in counts.layers:
        assert row.spikes_of == drives.get(row.layer, "")
        moved = row.kind == "LIF" or row.spikes_of.startswith("pln")
        rows.append(replace(row, **{name: factor * getattr(row, name) for name in OF_SPIKES}) if moved else row)
    return replace(counts, layers=tuple(rows))


PRICES = {
    "loihi": lambda graph, counts: estimate(counts, "loihi").joules,
    "cmos45-fp32": lambda graph, counts: estimate(counts, "cmos45-fp32").joules,
    "exact": lambda graph, counts: estimate_memory(graph, counts).joules,
    "lemaire": lambda graph, counts: estimate_memory(graph, counts, accounting="lemaire").joules,
}


@pytest.mark.parametrize("price", PRICES)
def test_equals_a_search_over_scaled_spikes(network, price):
    graph, recording = network
    counts = count(graph, recording)

    def joules(factor):
        return PRICES[price](graph, scaled(counts, factor))

    cost = spike_cost(counts, lambda one: PRICES[price](graph, one))
    assert cost.joules == pytest.approx(joules(1), rel=1e-12)
    assert cost.fixed == pytest.approx(joules(0), rel=1e-12)
    assert cost.driven > 0
    for factor in (2, 7):
        assert cost.at(factor * cost.rate) == pytest.approx(joules(factor), rel=1e-12)
    rival = 0.7 * joules(2) + 0.3 * joules(3)
    # Between whole multiples the energy is a line by interpolation.
    found = brentq(lambda f: np.interp(f, range(5), [joules(i) for i in range(5)]) - rival, 0, 4)
    assert break_even(cost, rival) == pytest.approx(found * cost.rate, rel=1e-9)


def test_silent_layers_are_spiking_neurons(network):
    graph, recording = network
    spikes = recording.spikes["pln.lif1"].sum() / 3
    silent = {**recording.spikes, "pln.lif2": np.zeros_like(recording.spikes["pln.lif2"])}
    counts = count(graph, replace(recording, spikes=silent))
    assert spike_rate(counts) == pytest.approx(spikes / (126 + 12), rel=1e-12)
    assert spike_rate(counts.of_part("nm")) is None
    assert spike_cost(counts.of_part("nm"), lambda one: estimate(one, "loihi").joules) is None


def test_a_simulation_without_spikes_is_what_counting_without_spikes_says(network):
    graph, recording = network
    never = {name: np.zeros_like(trains) for name, trains in recording.spikes.items()}
    values = {**recording.values, "pln.pool1": np.zeros_like(recording.values["pln.pool1"])}
    silent = count(graph, replace(recording, spikes=never, values=values))
    for mine, theirs in zip(without_spikes(count(graph, recording)).layers, silent.layers, strict=True):
        for name in (*OF_SPIKES, "dense", "bias_adds", "neuron_updates", "gate_multiplies", "input_rate"):
            np.testing.assert_array_equal(getattr(mine, name), getattr(theirs, name), err_msg=f"{mine.layer} {name}")
    cost = spike_cost(silent, lambda one: estimate(one, "loihi").joules)
    assert (cost.rate, cost.driven) == (0.0, 0.0)
    assert cost.at(1.0) == cost.joules
    assert break_even(cost, 1.0) is None


@settings(max_examples=50, deadline=None)
@given(*[st.floats(1e-3, 1e3) for _ in range(4)])
def test_both_cost_the_same_there(rate, fixed, driven, rival):
    cost = SpikeCost(rate, fixed, driven)
    even = break_even(cost, rival)
    if rival <= fixed:
        assert even is None
    else:
        assert cost.at(even) == pytest.approx(rival, rel=1e-6)


def test_devices_that_pay_for_every_connection_have_no_break_even(network):
    graph, recording = network
    cost = spike_cost(count(graph, recording), lambda one: estimate(one, "gpu").joules)
    assert cost.driven == 0
    assert break_even(cost, 1.0) is None
