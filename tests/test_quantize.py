"""Gates, activations and weights of few bits: the values that they may have, and that nothing else changes."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from converters import quantize_activations, quantize_gates, quantize_weights, simulate
from converters.graph import LIF, Activation, Affine, Conv2d, Gate, Graph, Input, MaxPool2d, Quantize, Readout
from converters.quantize import CANDIDATES, best_steps
from snn_anml.errors import UserError
from tests.helpers import MAXIMA, assert_identical, gated_graph, inputs, require, scalar, without


def unquantized(**options):
    """`gated_graph` with gates of all bits."""
    return without(gated_graph(**options), "nm.channel_gate")


@pytest.mark.parametrize("bits", [1, 4, 8, 16])
def test_gates_are_the_nearest_multiples(bits):
    graph, x = unquantized(exact=False, reset="zero"), inputs(exact=False)
    made = quantize_gates(graph, bits)
    names = ("nm.channel_value", "nm.neuron_gate")
    assert [node.name for node in made.of_type(Quantize)] == [f"{name}.quantized" for name in names]
    assert len(made.nodes) == len(graph.nodes) + 2
    before, after = simulate(graph, x).values, simulate(made, x).values
    for name in names:
        gate = after[f"{name}.quantized"]
        assert gate.shape == before[name].shape
        expected = [round(Fraction(float(value)) * 2**bits) for value in before[name].flat]  # half to even
        np.testing.assert_array_equal(gate.ravel() * 2**bits, expected)
        assert len(np.unique(gate)) > 1


def test_a_driver_that_is_shared_is_quantized_once_and_others_read_it_as_it_was():
    eye, zero = np.eye(4, dtype=np.float32), np.zeros(4, np.float32)
    nodes = (
        Input("in", (), (4,)),
        Activation("g", ("in",), "sigmoid"),
        Affine("a", ("g",), eye, zero),
        Affine("g.quantized", ("in",), eye, zero),  # the name that the new node would have
        Gate("one", ("a", "g")),
        Gate("two", ("g.quantized", "g")),
        Gate("three", ("one", "g")),
        Readout("out", ("three",)),
    )
    made = quantize_gates(Graph(nodes, 1), 3)
    assert [node.name for node in made.of_type(Quantize)] == ["g.quantized_"]
    assert made["a"].inputs == ("g",)
    assert [made[name].inputs for name in ("one", "two", "three")] == [
        ("a", "g.quantized_"),
        ("g.quantized", "g.quantized_"),
        ("one", "g.quantized_"),
    ]


@pytest.mark.parametrize("backend", ["torch", "nengo", "nengo-dl"])
def test_quantized_gates_are_bit_identical_everywhere(backend):
    require(backend)
    graph = quantize_gates(unquantized(), 3)
    reference = simulate(graph, inputs())
    assert_identical(simulate(graph, inputs(), backend=backend), reference)
    assert any(
        (reference.spikes[name] != spikes).any() for name, spikes in simulate(unquantized(), inputs()).spikes.items()
    )


@pytest.mark.parametrize("backend", ["nengo-native", "loihi"])
def test_backends_that_know_static_gates_alone_take_quantized_ones(backend):
    require("nengo")
    if backend == "loihi":
        pytest.importorskip("nengo_loihi")
    graph = quantize_gates(without(unquantized(reset="zero"), "nm.membrane", *MAXIMA), 2)
    reference, recording = simulate(graph, inputs()), simulate(graph, inputs(), backend=backend)
    for name in ("nm.channel_value.quantized", "nm.neuron_gate.quantized"):
        np.testing.assert_array_equal(recording.values[name], reference.values[name])
    assert set(np.unique(reference.values["nm.neuron_gate.quantized"])) <= {0, 0.25, 0.5, 0.75, 1}
    if backend == "nengo-native":
        np.testing.assert_array_equal(recording.spikes["pln.lif3"], reference.spikes["pln.lif3"])


@pytest.mark.parametrize("bits", [1, 3, 8])
def test_activations_are_multiples_of_a_step_of_their_own(bits):
    graph, x = without(gated_graph(exact=False, encoding="rate"), "nm.channel_gate"), inputs(samples=8, exact=False)
    made = quantize_activations(graph, bits, x)
    names = ["nm.relu", "nm.channel_value", "nm.neuron_gate"]
    rounded = {node.inputs[0]: node for node in made.of_type(Quantize)}
    assert list(rounded) == names
    assert [node.name for node in made.nodes if not isinstance(node, Quantize)] == [n.name for n in graph.nodes]
    assert made["nm.channel"].inputs == made["nm.neuron"].inputs == ("nm.relu.quantized",)
    assert made["pln.gate1"].inputs == ("pln.conv1", "nm.channel_value.quantized")
    values = simulate(made, x).values
    before = simulate(graph, x).values
    for name, node in rounded.items():
        assert node.levels == 2**bits - 1
        np.testing.assert_allclose(node.step, best_steps(before[name].reshape(1, -1), node.levels)[0], rtol=1e-6)
        found = np.unique(np.rint(values[node.name] / node.step))
        assert set(found) <= set(range(2**bits))
        assert len(found) > 1


@settings(deadline=None, max_examples=30)
@given(bits=st.integers(1, 8), seed=st.integers(0, 99), signed=st.booleans())
def test_the_steps_have_the_least_squared_error(bits, seed, signed):
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((4, 30)).astype(np.float32) ** 3
    rows = rows if signed else np.maximum(rows, 0)
    levels = 2**bits - 1

    def error(row, step):
        return sum((v - step * max(-levels, min(round(v / step), levels))) ** 2 for v in row)

    for row, step in zip(rows.tolist(), best_steps(rows, levels).tolist(), strict=True):
        largest = max(map(abs, row))
        errors = [error(row, largest / levels * k / CANDIDATES) for k in range(1, CANDIDATES + 1)]
        assert error(row, step) == pytest.approx(min(errors), rel=1e-9)
        assert error(row, step) <= errors[-1]  # nothing cut off


def test_an_outlier_is_cut_off_and_silence_has_any_step():
    values = np.append(np.linspace(0, 1, 1000), 3)
    assert best_steps(np.stack([values, -values]), 7) * 7 == pytest.approx([1, 1], abs=0.15)
    assert best_steps(np.append(np.arange(8), 0)[None], 7) == [1]
    assert best_steps(np.zeros((2, 3)), 7).tolist() == best_steps(np.zeros((2, 0)), 7).tolist() == [1, 1]


def test_activations_are_rounded_wherever_they_go_but_once():
    """Behind a maximum, before the readout, as a current, and not again where `quantize_gates` has done so."""
    eye, zero = np.eye(8, dtype=np.float32), np.zeros(8, np.float32)
    nodes = (
        Input("in", (), (2, 2, 2)),
        Activation("a", ("in",), "relu"),
        MaxPool2d("maximum", ("a",), (1, 1), (1, 1)),
        Affine("b", ("maximum",), eye, zero),
        Activation("c", ("b",), "relu"),
        Activation("g", ("in",), "sigmoid"),
        Gate("gate", ("c", "g")),
        Activation("last", ("gate",), "relu"),
        Readout("out", ("last",)),
    )
    x = np.random.default_rng(0).random((5, 2, 2, 2)).astype(np.float32)
    made = quantize_activations(quantize_gates(Graph(nodes, 2), 3), 4, x)
    assert [node.name for node in made.of_type(Quantize)] == [f"{n}.quantized" for n in ("a", "c", "g", "last")]
    assert [node.levels for node in made.of_type(Quantize)] == [15, 15, 8, 15]
    assert made["maximum"].inputs == ("a.quantized",)
    assert made["gate"].inputs == ("c.quantized", "g.quantized")
    assert made["out"].inputs == ("last.quantized",)
    assert len(made.nodes) == len(nodes) + 4


def test_twins_of_many_bits_hardly_change():
    graph, x = without(gated_graph(exact=False), "nm.channel_gate"), inputs(samples=8, exact=False)
    reference = simulate(graph, x).values["nm.neuron_gate"]
    error = {}
    for bits in (2, 4, 8, 12):
        made = quantize_activations(quantize_weights(graph, bits), bits, x)
        error[bits] = np.abs(simulate(made, x).values["nm.neuron_gate.quantized"] - reference).max()
    assert error[2] > error[4] > error[8] > error[12]
    assert error[12] < 2e-3


@settings(deadline=None, max_examples=40)
@given(bits=st.integers(2, 16), seed=st.integers(0, 99), convolution=st.booleans())
def test_weights_of_every_output_are_on_a_grid_of_their_own(bits, seed, convolution):
    rng = np.random.default_rng(seed)
    shape = (5, 3, 2, 2) if convolution else (5, 12)
    weight = (rng.standard_normal(shape) * 10 ** rng.uniform(-3, 3, (5, *(1,) * (len(shape) - 1)))).astype(np.float32)
    weight[2] = 0
    bias = rng.standard_normal(5).astype(np.float32)
    node = (Conv2d if convolution else Affine)("w", ("in",), weight, bias)
    graph = Graph((Input("in", (), (3, 2, 2)), node, LIF("l", ("w",), scalar(0.9), scalar(1)), Readout("o", ("l",))), 2)
    made = quantize_weights(graph, bits)
    assert made["l"] is graph["l"]
    assert made["w"].bias is bias
    assert (made["w"].weight.dtype, made["w"].weight.shape) == (np.float32, shape)
    most = 2 ** (bits - 1) - 1
    for before, after in zip(weight.reshape(5, -1), made["w"].weight.reshape(5, -1), strict=True):
        if not before.any():
            assert not after.any()
            continue
        step = float(best_steps(before[None], most)[0])
        for old, new in zip(before.tolist(), after.tolist(), strict=True):
            steps = max(-most, min(round(old / step), most))
            assert new == pytest.approx(steps * step, rel=1e-6)
        assert len(np.unique(after)) <= 2 * most + 1


def test_weights_of_many_bits_hardly_change_a_network():
    graph, x = gated_graph(exact=False), inputs(exact=False)
    outputs = {bits: simulate(quantize_weights(graph, bits), x).output for bits in (2, 16)}
    reference = simulate(graph, x).output
    assert np.abs(outputs[16] - reference).max() < 1e-2 < np.abs(outputs[2] - reference).max()


def driven_by(node):
    nodes = (Input("in", (), (4,)), node, Gate("gate", ("in", "driver")), Readout("out", ("gate",)))
    return Graph(nodes, 1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: quantize_gates(driven_by(Activation("driver", ("in",), "relu")), 4),
            r"driver \(Activation\).*exceed 1",
        ),
        (lambda: quantize_gates(driven_by(Quantize("driver", ("in",), 0.5, 4)), 4), r"driver \(Quantize\)"),
        (lambda: quantize_gates(gated_graph(), 4), r"pln\.gate1 is driven by nm\.channel_gate \(Quantize\)"),
        (lambda: quantize_gates(unquantized(), 0), "bits = 0; give a whole number from 1 to 16"),
        (lambda: quantize_gates(unquantized(), 17), "bits = 17"),
        (lambda: quantize_activations(unquantized(), 17, inputs()), "bits = 17; give a whole number from 1 to 16"),
        (lambda: quantize_weights(unquantized(), 1), "bits = 1; give a whole number from 2 to 16"),
    ],
)
def test_mistakes_are_named(make, message):
    with pytest.raises(UserError, match=message):
        make()
