"""Nengo's own neurons against the interpreter: spike for spike with resets to zero, and a refusal or a number else."""

from __future__ import annotations

import pickle
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from converters import Fidelity, certify, check, compare, simulate, to_native_nengo, zero_reset
from converters.graph import LIF, Activation, Affine, AvgPool2d, Graph, Input, Integrator, Quantize, Readout
from converters.native_nengo import DT
from converters.recorder import read_out
from snn_anml.errors import UserError
from tests.helpers import MAXIMA, gated_graph, inputs, require, scalar, without

NATIVE = "nengo-native"


@pytest.fixture(autouse=True)
def _nengo():
    require("nengo")


def static_gates(graph: Graph) -> Graph:
    """`gated_graph` with all its gates constant over the steps, and maxima on the way to a gate alone."""
    return without(graph, "nm.membrane", *MAXIMA)


def without_gates(graph: Graph) -> Graph:
    """`gated_graph` without its neuromodulatory network and without maxima."""
    modulation = [node.name for node in graph.nodes if node.name.startswith("nm.")]
    return without(graph, "pln.gate1", "pln.gate2", *modulation, *MAXIMA)


def layers(n, weights, neurons, steps, activation=None):
    """Dense layers of neurons (or other nodes) on an input of n currents."""
    nodes = [Input("input", (), (n,))]
    for i, (weight, neuron) in enumerate(zip(weights, neurons, strict=True)):
        nodes.append(Affine(f"fc{i}", (nodes[-1].name,), weight, np.zeros(len(weight), np.float32)))
        nodes.append(replace(neuron, name=f"node{i}", inputs=(f"fc{i}",)))
    return Graph((*nodes, Readout("out", (nodes[-1].name,))), steps)


@pytest.mark.parametrize("delay", [True, False])
def test_dyadic_numbers_spike_alike_and_membranes_agree_to_rounding(delay):
    graph, x = static_gates(gated_graph(reset="zero", reset_delay=delay)), inputs()
    reference = simulate(graph, x)
    recording = simulate(graph, x, backend=NATIVE)
    assert recording.backend == NATIVE
    assert all(0.02 < spikes.mean() < 0.98 for spikes in reference.spikes.values())
    fidelity = compare(recording, reference)
    assert fidelity.mismatches == 0
    for name, layer in fidelity.layers.items():
        assert layer.max_membrane_difference < 1e-6, name
        assert layer.correlation == pytest.approx(1)
    assert list(recording.values) == list(reference.values)
    for name, expected in reference.values.items():
        np.testing.assert_array_equal(recording.values[name], expected)
    np.testing.assert_allclose(recording.output, reference.output, atol=1e-6)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.data())
def test_any_decays_thresholds_and_sizes(data):
    """Sums are exact, and membranes often equal their threshold: no spike may differ, whenever the reset comes."""
    sizes = [data.draw(st.integers(1, 6), label="size") for _ in range(3)]
    rng = np.random.default_rng(data.draw(st.integers(0, 2**16), label="seed"))
    weights = [(rng.integers(-8, 17, (m, n)) / 16).astype(np.float32) for n, m in pairwise(sizes)]
    neurons = []
    for m in sizes[1:]:
        each = data.draw(st.booleans(), label="one a neuron")
        beta, threshold = rng.choice([0, 0.25, 0.5, 0.75, 1], m), rng.choice([0.125, 0.25, 0.5, 1, 2], m)
        beta, threshold = (p.astype(np.float32) if each else scalar(p[0]) for p in (beta, threshold))
        neurons.append(LIF("", (), beta, threshold, "zero", data.draw(st.booleans(), label="delay")))
    graph = layers(sizes[0], weights, neurons, steps=4)
    x = (rng.integers(0, 17, (2, sizes[0])) / 16).astype(np.float32)
    fidelity = compare(simulate(graph, x, backend=NATIVE), simulate(graph, x))
    assert fidelity.mismatches == 0
    assert all(layer.max_membrane_difference < 1e-5 for layer in fidelity.layers.values())


@pytest.mark.parametrize("seed", [1, 2])
def test_float_numbers_spike_alike(seed):
    """A flip is allowed only where the membrane was within rounding of the threshold."""
    graph, x = static_gates(gated_graph(seed, "zero", exact=False, steps=8)), inputs(seed, 4, exact=False)
    reference = simulate(graph, x)
    fidelity = compare(simulate(graph, x, backend=NATIVE), reference)
    assert sum(spikes.sum() for spikes in reference.spikes.values()) > 500
    assert fidelity.origin is None or fidelity.origin[1].margin < 1e-5


def test_a_membrane_at_its_threshold_is_silent(monkeypatch):
    """Without the margin some such membranes spike, by the rounding of Nengo's formula."""
    n = 40
    threshold = np.linspace(0.1, 1, n).astype(np.float32)
    neuron = LIF("", (), np.linspace(0.05, 0.95, n).astype(np.float32), threshold, "zero")
    graph = layers(n, [np.eye(n, dtype=np.float32)], [neuron], steps=1)
    x = threshold[None]
    assert not simulate(graph, x).spikes["node0"].any()
    assert not simulate(graph, x, backend=NATIVE).spikes["node0"].any()
    monkeypatch.setattr("converters.native_nengo.MARGIN", 0.0)
    assert simulate(graph, x, backend=NATIVE).spikes["node0"].any()


def test_spike_inputs():
    graph, x = without_gates(gated_graph(reset="zero", encoding="rate")), inputs()
    reference = simulate(graph, x, seed=3)
    assert compare(simulate(graph, x, backend=NATIVE, seed=3), reference).mismatches == 0
    assert reference.spikes["pln.lif3"].any()


def test_rates_and_leaky_integrators():
    """What is no spiking neuron: ReLU, sigmoid, filtered currents, a leaky readout."""
    rng = np.random.default_rng(0)
    weights = [rng.standard_normal((5, 5)).astype(np.float32) for _ in range(5)]
    neurons = [
        Activation("", (), "relu"),
        Activation("", (), "sigmoid"),
        Integrator("", (), rng.uniform(0.1, 0.9, 5).astype(np.float32)),
        LIF("", (), scalar(0.8), scalar(0.5), "zero"),
        Integrator("", (), scalar(0.5)),
    ]
    graph, x = layers(5, weights, neurons, steps=12), rng.random((3, 5)).astype(np.float32)
    reference, recording = simulate(graph, x), simulate(graph, x, backend=NATIVE)
    assert 0.05 < reference.spikes["node3"].mean() < 0.95
    assert compare(recording, reference).mismatches == 0
    np.testing.assert_allclose(recording.output, reference.output, atol=1e-5)


def test_neurons_without_memory_have_no_reset():
    """The maximum of spikes, as `from_torch` writes it."""
    rng = np.random.default_rng(0)
    nodes = (
        Input("input", (), (1, 4, 4), "rate"),
        AvgPool2d("mean", ("input",), (2, 2), (2, 2)),
        LIF("maximum", ("mean",), scalar(0), scalar(0.125), "none"),
        Readout("out", ("maximum",)),
    )
    graph, x = Graph(nodes, 9), rng.random((2, 1, 4, 4)).astype(np.float32) / 3
    reference = simulate(graph, x)
    assert 0.2 < reference.spikes["maximum"].mean() < 0.9
    recording = simulate(graph, x, backend=NATIVE)
    np.testing.assert_array_equal(recording.spikes["maximum"], reference.spikes["maximum"])
    assert zero_reset(graph)["maximum"].reset == "none"
    np.testing.assert_allclose(recording.membrane["maximum"], reference.membrane["maximum"], atol=1e-6)


def test_the_network_belongs_to_whoever_opens_it(tmp_path):
    """Saved, opened where this project is not, and run by Nengo as Nengo runs by itself."""
    graph, x = static_gates(gated_graph(reset="zero")), inputs()
    network = to_native_nengo(graph, sample=x[1])
    labels = {thing.label for thing in (*network.all_nodes, *network.all_ensembles)}
    assert {"input", "pln.conv1", "pln.gate1", "pln.lif1", "pln.pool", "pln.lif3", "readout"} <= labels
    assert not [label for label in labels if label.startswith("nm.")]
    content = pickle.dumps(network)
    assert b"converters" not in content
    assert b"snn_anml" not in content
    (tmp_path / "network.pkl").write_bytes(content)
    script = """
import pickle, sys, warnings
sys.path = [p for p in sys.path if p]
sys.modules["converters"] = sys.modules["snn_anml"] = None
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import nengo, numpy
network = pickle.load(open("network.pkl", "rb"))
with nengo.Simulator(network, progress_bar=False) as simulator:
    simulator.run_steps(5)
numpy.savez("spikes.npz", **{p.label: simulator.data[p] for p in network.all_probes})
"""
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True, timeout=120)
    found, reference = np.load(tmp_path / "spikes.npz"), simulate(graph, x)
    for name, spikes in reference.spikes.items():
        np.testing.assert_array_equal(found[f"{name}.spikes"], spikes[1])
    np.testing.assert_allclose(found["readout.values"].mean(0), reference.output[1], atol=1e-6)


def test_the_backend_builds_once_and_runs_the_network_that_is_exported(monkeypatch):
    """Sample and gates are set before each run, and leave no trace in the next."""
    import nengo

    built = []
    simulator = nengo.Simulator
    monkeypatch.setattr(nengo, "Simulator", lambda *a, **k: built.append(1) or simulator(*a, **k))
    graph, x = static_gates(gated_graph(reset="zero", exact=False)), inputs(samples=4, exact=False)
    recording = simulate(graph, x, backend=NATIVE, minibatch=1)
    assert len(built) == 1
    monkeypatch.undo()
    for i, sample in enumerate(x):
        network = to_native_nengo(graph, sample=sample)
        with nengo.Simulator(network, dt=DT, progress_bar=False) as alone:
            alone.run_steps(graph.steps, progress_bar=False)
            found = {probe.label: alone.data[probe] for probe in network.all_probes}
        for name, spikes in recording.spikes.items():
            np.testing.assert_array_equal(found[f"{name}.spikes"] > 0, spikes[i])
        values = found["readout.values"].astype(np.float32)
        np.testing.assert_array_equal(read_out(values[None], False)[0], recording.output[i])
    assert recording.output.dtype == np.float32
    assert len({spikes.tobytes() for spikes in recording.spikes["pln.lif1"]}) == len(x)


def test_an_exported_network_shows_the_spikes_of_its_sample():
    import nengo

    graph, x = without_gates(gated_graph(reset="zero", encoding="rate")), inputs(samples=1)
    network = to_native_nengo(graph, sample=x[0], seed=3)
    with nengo.Simulator(network, dt=DT, progress_bar=False) as simulator:
        simulator.run_steps(graph.steps, progress_bar=False)
        found = {probe.label: simulator.data[probe] for probe in network.all_probes}
    for name, spikes in simulate(graph, x, seed=3).spikes.items():
        np.testing.assert_array_equal(found[f"{name}.spikes"] > 0, spikes[0])


def test_a_graph_is_checked_without_nengo_and_what_drives_gates_stays_on_the_host(monkeypatch):
    graph, x = static_gates(gated_graph(reset="zero")), inputs()
    fidelity = compare(simulate(graph, x, backend=NATIVE), simulate(graph, x))
    assert fidelity.host == tuple(node.name for node in graph.nodes if node.name.startswith("nm."))
    assert Fidelity.from_dict(fidelity.to_dict()) == fidelity
    older = {key: value for key, value in fidelity.to_dict().items() if key != "host"}
    assert Fidelity.from_dict(older) == replace(fidelity, host=())
    assert simulate(graph, x).host == ()
    monkeypatch.setitem(sys.modules, "nengo", None)
    check(graph, NATIVE)
    check(gated_graph(), "nengo")  # takes every graph, and says so without Nengo
    with pytest.raises(UserError, match=r"pln\.gate2 changes with every step"):
        check(gated_graph(reset="zero"), NATIVE)
    with pytest.raises(UserError, match="Unknown backend 'brian'"):
        check(graph, "brian")


@pytest.mark.parametrize("reset", ["subtract", "none"])
def test_other_resets_are_refused_or_measured(reset):
    graph, x = static_gates(gated_graph(reset=reset)), inputs()
    with pytest.raises(UserError, match=f"pln.lif1 has reset '{reset}', and nengo.LIF resets to zero alone"):
        simulate(graph, x, backend=NATIVE)
    with pytest.raises(UserError, match="resets to zero alone"):
        to_native_nengo(graph, sample=x[0])
    assert to_native_nengo(graph, approximate=True, sample=x[0]).all_ensembles
    fidelity = compare(simulate(zero_reset(graph), x, backend=NATIVE), simulate(graph, x))
    assert 0.01 < fidelity.mismatches / fidelity.slots < 0.5
    assert fidelity.layers["pln.lif1"].correlation > 0.8
    assert certify(graph, [fidelity]).to_dict()["comparisons"][0]["backend"] == NATIVE


@pytest.mark.parametrize(
    ("neuron", "message"),
    [
        (LIF("", (), scalar(0.5), scalar(0), "zero"), "node0 has a threshold of 0.0"),
        (LIF("", (), scalar(1.5), scalar(1), "zero"), r"node0 has a beta outside \[0, 1\]"),
        (Activation("", (), "hard_sigmoid"), "node0 is a hard_sigmoid between layers"),
        (Quantize("", (), 0.5, 2), "node0 is a Quantize between layers, .* the backends interpreter, torch, nengo and"),
    ],
)
def test_what_plain_nengo_cannot_do_is_refused_by_name(neuron, message):
    graph = layers(2, [np.eye(2, dtype=np.float32)], [neuron], steps=2)
    with pytest.raises(UserError, match=message):
        to_native_nengo(graph)


def test_maxima_are_refused_but_on_the_way_to_a_gate():
    graph = without(gated_graph(reset="zero"), "nm.membrane")
    with pytest.raises(UserError, match=r"pln\.maximum1 is a MaxPool2d between layers, which plain Nengo does not"):
        simulate(graph, inputs(), backend=NATIVE)
    assert to_native_nengo(static_gates(graph), sample=inputs()[0]).all_ensembles  # with nm.maximum


def test_gates_need_a_sample_and_must_stand_still():
    with pytest.raises(UserError, match="sample="):
        to_native_nengo(static_gates(gated_graph(reset="zero")))
    with pytest.raises(UserError, match=r"pln\.gate2 changes with every step, .* as nengo"):
        simulate(gated_graph(reset="zero"), inputs(), backend=NATIVE)
