"""Snapping: exact sums in any order, and weights that hardly move."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from converters import compare, simulate, snap
from converters.graph import LIF, Activation, Affine, Conv2d, Graph, Input, MaxPool2d, Quantize, Readout
from tests.helpers import require, scalar

PIXEL_BITS = 8


def network(seed, scale=1.0, neuron="lif", encoding="constant", maxima=False):
    rng = np.random.default_rng(seed)

    def weights(*shape):
        return (rng.standard_normal(shape) * scale).astype(np.float32)

    middle = {
        "lif": LIF("lif1", ("conv1",), scalar(0.9), scalar(1.0)),
        "relu": Activation("lif1", ("conv1",), "relu"),
        "levels": Quantize("lif1", ("conv1",), 0.25, 4),
    }[neuron]
    graph = Graph(
        (
            Input("input", (), (1, 9, 9), encoding),
            Conv2d("conv1", ("input",), weights(5, 1, 3, 3), weights(5), (2, 2), (1, 1)),
            middle,
            Conv2d("conv2", ("lif1",), weights(6, 5, 3, 3) * 0.3, weights(6), (1, 1), (1, 1)),
            LIF("lif2", ("conv2",), scalar(0.8), scalar(1.0), "zero"),
            Affine("head", ("lif2",), weights(4, 150), weights(4)),
            Readout("readout", ("head",)),
        ),
        steps=6,
    )
    if not maxima:
        return graph
    nodes = []
    for node in graph.nodes:  # one before every convolution and before every neuron
        if node.name in ("conv1", "lif1", "conv2", "lif2"):
            nodes.append(MaxPool2d(f"{node.name}.maximum", node.inputs, (3, 3), (1, 1), (1, 1)))
            node = replace(node, inputs=(nodes[-1].name,))
        nodes.append(node)
    return Graph(tuple(nodes), graph.steps)


def drawings(seed, count=20):
    return (np.random.default_rng(seed).integers(0, 257, (count, 1, 9, 9)) / 256).astype(np.float32)


@given(seed=st.integers(0, 200), scale=st.floats(1e-3, 50), encoding=st.sampled_from(["constant", "latency"]))
@settings(max_examples=25, deadline=None)
def test_no_partial_sum_needs_more_than_24_bits_and_weights_hardly_move(seed, scale, encoding):
    graph = network(seed, scale, encoding=encoding)
    snapped, exact, inexact = snap(graph, PIXEL_BITS)
    assert (exact, inexact) == (("conv1", "conv2", "head"), ())
    for name in exact:
        before, after = graph[name], snapped[name]
        input_bits = PIXEL_BITS if name == "conv1" and encoding == "constant" else 0
        for row, row_before, bias, bias_before in zip(
            after.weight, before.weight, after.bias, before.bias, strict=True
        ):
            values = [Fraction(float(w)) for w in (*row.ravel(), bias)]
            grid = max(value.denominator for value in values)  # float32 numbers: always a power of two
            bound = sum(abs(value) for value in values)
            assert bound * grid * 2**input_bits <= 2**24
            size = float(np.abs(row_before).sum() + abs(bias_before))
            # Half a step of the coarsest grid that may have been chosen: twice the bound over 2^24, at most doubled.
            step = 4 * size * 2.0 ** (input_bits - 24)
            assert np.abs(row - row_before).max() <= step / 2
            assert abs(bias - bias_before) <= step / 2


@pytest.mark.parametrize("neuron", ["lif", "levels"])
@pytest.mark.parametrize("backend", ["torch", "nengo", "nengo-dl"])
def test_a_snapped_network_is_bit_identical_everywhere(backend, neuron):
    require(backend)
    graph, exact, _ = snap(network(3, 0.7, neuron, maxima=True), PIXEL_BITS)
    assert exact == ("conv1", "conv2", "head")
    x = drawings(0)
    reference = simulate(graph, x)
    assert sum(s.sum() for s in reference.spikes.values()) > 1000
    assert compare(simulate(graph, x, backend=backend), reference).identical


def test_sums_in_another_order_are_the_same_bits():
    graph = snap(network(1), PIXEL_BITS).graph
    node, rng = graph["head"], np.random.default_rng(0)
    spikes = (rng.random((30, 150)) < 0.4).astype(np.float32)
    for _ in range(5):
        order = rng.permutation(150)
        one_by_one = np.zeros((30, 4), np.float32)
        for i in order:
            one_by_one += spikes[:, i : i + 1] * node.weight[:, i]
        assert (one_by_one == spikes @ node.weight.T).all()


@pytest.mark.parametrize("maxima", [False, True])
def test_a_synapse_behind_relu_is_left_alone_and_named(maxima):
    graph = network(0, neuron="relu", maxima=maxima)
    snapped, exact, inexact = snap(graph, PIXEL_BITS)
    assert (exact, inexact) == (("conv1", "head"), ("conv2",))
    assert snapped["conv2"] is graph["conv2"]


@pytest.mark.parametrize(
    ("step", "levels", "fraction_bits"),
    [(0.25, 4, 2), (1.0, 1, 0), (2**-8, 2**8, 8), (0.25, 5, None), (0.3, 3, None)],
)
def test_levels_are_multiples_if_their_step_is_a_power_of_two(step, levels, fraction_bits):
    graph = network(0, neuron="levels")
    nodes = [replace(node, step=step, levels=levels) if node.name == "lif1" else node for node in graph.nodes]
    snapped, exact, _ = snap(Graph(tuple(nodes), 1), PIXEL_BITS)
    assert ("conv2" in exact) == (fraction_bits is not None)
    if fraction_bits is not None:
        row = [Fraction(float(w)) for w in (*snapped["conv2"].weight[0].ravel(), snapped["conv2"].bias[0])]
        grid = max(value.denominator for value in row)
        assert 2**22 < sum(map(abs, row)) * grid * 2**fraction_bits <= 2**24


@pytest.mark.parametrize(("input_bits", "fine"), [(0, True), (8, True), (16, False), (24, False)])
def test_layers_that_a_grid_would_spoil_are_left_alone(input_bits, fine):
    """512 weights share 24 bits with those of the input."""
    rng = np.random.default_rng(0)
    weight, bias = (rng.normal(0, 0.05, shape).astype(np.float32) for shape in ((10, 512), 10))
    graph = Graph((Input("input", (), (512,)), Affine("a", ("input",), weight, bias), Readout("output", ("a",))), 2)
    snapped, exact, inexact = snap(graph, input_bits)
    assert (exact, inexact) == ((("a",), ()) if fine else ((), ("a",)))
    assert (np.linalg.norm(snapped["a"].weight - weight) < 0.01 * np.linalg.norm(weight)).all()
    if not fine:
        assert snapped["a"] is graph["a"]


def test_zero_weights_stay_zero():
    graph = network(0)
    dead = Affine("head", ("lif2",), np.zeros((4, 150), np.float32), np.zeros(4, np.float32))
    graph = Graph((*graph.nodes[:-2], dead, graph.nodes[-1]), graph.steps)
    assert not snap(graph, PIXEL_BITS).graph["head"].weight.any()
