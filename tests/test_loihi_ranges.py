"""Numbers at the edges of the chip's ranges, against the interpreter: nothing wraps around, nothing is cut off."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from converters import check, open_simulator, simulate
from converters.gates import constant, nothing
from converters.graph import LIF, Affine, Gate, Graph, Input, Readout
from snn_anml.errors import UserError
from tests.helpers import scalar
from tests.loihi_helpers import driven, require_loihi

ONES = np.ones((1, 200), np.float32)


@pytest.fixture(autouse=True)
def _loihi():
    require_loihi()


def assert_same_spikes(graph, x, counts=None):
    reference = simulate(graph, x)
    np.testing.assert_array_equal(simulate(graph, x, "loihi").spikes["lif2"], reference.spikes["lif2"])
    if counts is not None:
        assert reference.spikes["lif2"].sum(axis=(0, 1)).tolist() == counts


@pytest.mark.parametrize(
    ("bias", "threshold", "counts"),
    [
        ([0.031, 0.101, -0.2, 60], [0.451, 0.451, 0.301, 20], [8, 24, 0, 120]),
        ([0.003, 0.004, 0, 0], 0.143, [2, 3, 0, 0]),
    ],
)
def test_biases_of_any_size_beside_the_weights(bias, threshold, counts):
    """They alone drive: the inputs, whose weights are 1, are silent."""
    assert_same_spikes(driven(np.ones((4, 3)), threshold, 1.0, bias, steps=120), np.zeros((1, 3), np.float32), counts)


def test_a_bias_waits_for_the_first_spikes():
    """Three layers: the third is late by two steps, in which its bias does not act yet."""
    graph = driven(np.eye(3), 0.9, 0.5, [0.25, 0.0, -0.25])
    behind = Affine("fc3", ("lif2",), np.eye(3, dtype=np.float32), np.array([0.3, 0.5, 0.2], np.float32))
    nodes = (*graph.nodes[:-1], behind, LIF("lif3", ("fc3",), scalar(0.75), scalar(0.85), "zero"))
    graph = Graph((*nodes, Readout("out", ("lif3",))), 12)
    x = np.array([[0, 0, 0], [1, 1, 1], [1, 0, 1]], np.float32)
    found, reference = simulate(graph, x, "loihi"), simulate(graph, x)
    for name in ("lif2", "lif3"):
        np.testing.assert_array_equal(found.spikes[name], reference.spikes[name])
        np.testing.assert_allclose(found.membrane[name], reference.membrane[name], atol=0.02)
    assert 0.1 < reference.spikes["lif3"].mean() < 0.6


def test_gates_that_are_closed_or_almost():
    """Their membranes go to the end of the chip's range, which no threshold is above."""
    assert_same_spikes(driven(np.ones((3, 200)), gates=[[0, 1, 1e-7]]), ONES, [0, 8, 0])


def test_gates_in_a_row_multiply():
    graph = driven(np.eye(3), 0.9, gates=[[0.5, 1, 0.5], [0.7, 0.25, 2]])
    assert_same_spikes(graph, np.ones((1, 3), np.float32), [2, 2, 8])


def test_a_gate_of_the_host_may_be_negative():
    graph = driven(np.eye(2))
    value = Affine("value", ("input",), np.zeros((2, 2), np.float32), np.array([-1, 1], np.float32))
    gate = Gate("gate", ("fc1", "value"))
    nodes = (*graph.nodes[:2], value, gate, replace(graph["lif1"], inputs=("gate",)), *graph.nodes[3:])
    assert_same_spikes(Graph(nodes, 8), np.array([[-1, 1]], np.float32), [4, 4])


def test_many_weights_at_once_fit_or_are_refused():
    """What arrives in a step has 21 bits: 128 of the largest weights, or 257 where membranes have finer units."""
    assert_same_spikes(driven(np.stack([np.ones(200), -np.ones(200), np.linspace(-1, 1, 200)])), ONES, [8, 0, 0])
    with open_simulator(driven(np.ones((2, 300))), "loihi", 1) as simulator:
        few = np.ones((1, 300), np.float32) * (np.arange(300) < 100)
        before = simulator.run(few)
        with pytest.raises(UserError, match="more weights arrive at a neuron in one step than its 21 bits hold"):
            simulator.run(np.ones((1, 300), np.float32))
        np.testing.assert_array_equal(simulator.run(few).spikes["lif2"], before.spikes["lif2"])


def test_thresholds_of_many_weights_are_reached():
    """Up to the 514 weights of the coarsest units and beyond; one out of reach takes no bits from the others."""
    graph = driven(np.ones((4, 200)), [30.5, 600.5, 1200.5, 1e6])
    assert_same_spikes(graph, ONES, [8, 2, 1, 0])
    with pytest.raises(UserError, match="lif2 has a threshold of 100000 times its largest weight"):
        check(driven(np.ones((1, 200)), 1e5, steps=600), "loihi")


@pytest.mark.parametrize("backend", ["loihi", "nengo-native"])
def test_a_constant_gate_is_one_though_the_input_changes(backend):
    eye, none = np.eye(3, dtype=np.float32), np.zeros(3, np.float32)
    nodes = (
        Input("input", (), (3,), "rate"),
        Affine("nothing", ("input",), **nothing(3)),
        Affine("values", ("nothing",), **constant(np.array([0.5, 0.25, 2]))),
        Affine("fc", ("input",), eye, none),
        Gate("gate", ("fc", "values")),
        LIF("lif2", ("gate",), scalar(0.75), scalar(0.45), "zero"),
        Readout("out", ("lif2",)),
    )
    graph, x = Graph(nodes, 20), np.full((2, 3), 0.6, np.float32)
    reference = simulate(graph, x)
    np.testing.assert_array_equal(simulate(graph, x, backend).spikes["lif2"], reference.spikes["lif2"])
    assert (reference.spikes["lif2"].any(axis=(0, 1))).all()
