"""Counts against loops over every single connection, and against NeuroBench's definition."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from converters.energy import activation_sparsity, concatenate, count
from converters.energy.table import PER_SAMPLE
from converters.graph import (
    LIF,
    Activation,
    Affine,
    AvgPool2d,
    Conv2d,
    Graph,
    Input,
    Quantize,
    Readout,
)
from converters.simulate import open_simulator, simulate
from snn_anml.errors import UserError
from tests.energy_helpers import (
    anml_like,
    connections_by_loops,
    lif,
    normal,
    operations_by_loops,
    recording_of,
    scalar,
)

SEEDS = st.integers(0, 2**32 - 1)


@st.composite
def layers(draw):
    """A graph of one layer between input and readout."""
    rng = np.random.default_rng(draw(SEEDS))
    small = st.integers(1, 3)
    shape = (draw(st.integers(1, 2)), draw(st.integers(3, 6)), draw(st.integers(3, 6)))
    encoding = draw(st.sampled_from(["constant", "rate"]))
    pair = st.tuples(small, small)
    kind = draw(st.sampled_from(["conv", "affine", "pool"]))
    density = draw(st.sampled_from([0.0, 0.3, 0.8, 1.0]))
    if kind == "conv":
        kernel, padding = draw(pair), draw(st.tuples(st.integers(0, 3), st.integers(0, 3)))
        fitting = ((n - 1) // max(k - 1, 1) for k, n in zip(kernel, shape[1:], strict=True))
        dilation, groups = tuple(draw(st.integers(1, most)) for most in fitting), draw(st.integers(1, 2))
        out = groups * draw(small)
        weight = normal(rng, (out, shape[0], *kernel), density)
        shape = (groups * shape[0], *shape[1:])
        layer = Conv2d("layer", ("input",), weight, normal(rng, (out,), 0.5), draw(pair), padding, dilation, groups)
    elif kind == "affine":
        out = draw(small)
        layer = Affine("layer", ("input",), normal(rng, (out, int(np.prod(shape))), density), normal(rng, (out,), 0.5))
    else:
        layer = AvgPool2d("layer", ("input",), draw(pair), draw(pair))
    nodes = (Input("input", (), shape, encoding), layer, Readout("output", ("layer",)))
    return Graph(nodes, draw(st.integers(1, 3))), rng


@settings(max_examples=80, deadline=None)
@given(layers(), st.integers(1, 3))
def test_equals_loops_over_every_connection(case, samples):
    graph, rng = case
    recording = recording_of(graph, samples, rng)
    node = graph["layer"]
    row = count(graph, recording)["layer"]
    connections = connections_by_loops(node, graph.shapes["input"], graph.shapes["layer"])
    x = recording.source("input")
    evaluations = 1 if graph["input"].encoding == "constant" else graph.steps
    operations = operations_by_loops(connections, x)
    dense = [evaluations * len(connections)] * samples
    zeros = [0] * samples
    assert row.evaluations == evaluations
    assert row.input_events.tolist() == [int((sample != 0).sum()) for sample in x]
    if isinstance(node, AvgPool2d):
        assert row.dense_pool_adds.tolist() == dense
        assert row.pool_adds.tolist() == operations
        assert row.connections == 0
        assert row.dense.tolist() == row.effective_acs.tolist() == row.effective_macs.tolist() == zeros
        return
    spiking = bool(np.isin(x, (0, 1, -1)).all())
    assert row.connections == len(connections)
    assert row.connections_nonzero == sum(weight != 0 for _, weight in connections)
    assert row.dense.tolist() == dense
    assert row.effective_acs.tolist() == (operations if spiking else zeros)
    assert row.effective_macs.tolist() == (zeros if spiking else operations)
    biased = sum(
        bias != 0
        for bias in np.broadcast_to(node.bias[:, None], (len(node.bias), graph.size("layer") // len(node.bias))).flat
    )
    assert row.bias_adds.tolist() == [evaluations * biased] * samples
    np.testing.assert_allclose(row.input_rate, np.abs(x.astype(np.float64)).mean(axis=(1, 2)), rtol=1e-12)


def neurobench_call(node, x, shape, total):
    """NeuroBench 2.3's definition for one call of a layer: (operations, whether they are accumulates)."""
    x = torch.from_numpy(np.ascontiguousarray(x)).double()
    weight = torch.from_numpy(node.weight).double()
    spiking = bool(((x == 0) | (x == 1) | (x == -1)).all())
    ones = [torch.ones_like(a) if total else (a != 0).double() for a in (x, weight)]
    if isinstance(node, Affine):
        out = torch.nn.functional.linear(*ones)
    else:
        options = (None, node.stride, node.padding, node.dilation, node.groups)
        out = torch.nn.functional.conv2d(ones[0].reshape(-1, *shape), ones[1], *options)
    return int(out.sum()), spiking


def grouped(rng):
    """Convolutions in groups, dilated, and a maximum pool as a graph has it."""
    return Graph(
        (
            Input("input", (), (2, 9, 8)),
            Conv2d("a", ("input",), normal(rng, (4, 1, 3, 2), 0.8), normal(rng, (4,)), (1, 2), (2, 1), (2, 3), 2),
            lif("a.lif", "a"),
            AvgPool2d("pool.mean", ("a.lif",), (2, 2), (2, 1)),
            LIF("pool", ("pool.mean",), scalar(0), scalar(0.125), "none"),
            Conv2d("b", ("pool",), normal(rng, (4, 1, 2, 1), 0.8), normal(rng, (4,)), groups=4),
            lif("b.lif", "b"),
            Readout("output", ("b.lif",)),
        ),
        3,
    )


@pytest.mark.parametrize("case", ["constant", "rate", "groups"])
def test_equals_the_definition_of_neurobench(case):
    rng = np.random.default_rng(1)
    graph = grouped(rng) if case == "groups" else anml_like(rng, encoding=case)
    recording = recording_of(graph, 6, rng)
    counts = count(graph, recording)
    expected = {"dense": 0, "effective_acs": 0, "effective_macs": 0}
    for node in graph.of_type(Conv2d, Affine):
        x = recording.source(node.inputs[0])
        for t in range(x.shape[1]):
            shape = graph.shapes[node.inputs[0]]
            operations, spiking = neurobench_call(node, x[:, t], shape, total=False)
            expected["effective_acs" if spiking else "effective_macs"] += operations
            expected["dense"] += neurobench_call(node, x[:, t], shape, total=True)[0]
    assert min(expected.values()) > 0
    for name, total in expected.items():
        assert int(counts.per_sample(name).sum()) == total
        assert counts.mean(name) == Fraction(total, 6)


@settings(max_examples=10, deadline=None)
@given(SEEDS, st.integers(2, 5), st.sampled_from(["constant", "rate"]))
def test_samples_are_counted_one_by_one(seed, samples, encoding):
    rng = np.random.default_rng(seed)
    graph = anml_like(rng, steps=2, encoding=encoding)
    recording = recording_of(graph, samples, rng, density=0.7)
    whole = count(graph, recording)
    split = [
        replace(
            recording,
            output=recording.output[part],
            spikes={k: v[part] for k, v in recording.spikes.items()},
            values={k: v[part] for k, v in recording.values.items()},
        )
        for part in (slice(0, 1), slice(1, None))
    ]
    joined = concatenate(count(graph, part) for part in split)
    assert joined.samples == whole.samples == samples
    for name in PER_SAMPLE:
        np.testing.assert_array_equal(joined.per_sample(name), whole.per_sample(name))
        assert whole.per_sample(name).dtype == np.int64


def test_parts_add_up():
    rng = np.random.default_rng(5)
    graph = anml_like(rng)
    counts = count(graph, recording_of(graph, 2, rng))
    assert counts.parts == ("nm", "pln", "head")
    for name in (*PER_SAMPLE, "connections", "parameter_bytes", "state_bytes"):
        assert sum(counts.of_part(part).mean(name) for part in counts.parts) == counts.mean(name)
    assert [row.layer for row in counts.of_part("head").layers] == ["head", "head.membrane"]


def test_means_are_exact_ratios():
    rng = np.random.default_rng(6)
    graph = anml_like(rng)
    counts = count(graph, recording_of(graph, 3, rng))
    total = int(counts.per_sample("spikes").sum())
    assert counts.mean("spikes") == Fraction(total, 3)


def test_mistakes_are_named():
    rng = np.random.default_rng(7)
    graph = anml_like(rng, steps=3)
    recording = recording_of(graph, 2, rng)
    without = {k: v for k, v in recording.values.items() if k != "pln.pool1"}
    with pytest.raises(UserError, match=r"'made up' has no output of 'pln\.pool1'"):
        count(graph, replace(recording, values=without))
    with pytest.raises(UserError, match=r"'pln\.lif1' has shape \(2, 2, 126\), but the graph asks for \(2, 3, 126\)"):
        count(graph, replace(recording, spikes={**recording.spikes, "pln.lif1": np.zeros((2, 2, 126), bool)}))
    with pytest.raises(UserError, match="no sample"):
        count(graph, replace(recording, output=recording.output[:0]))
    counts = count(graph, recording)
    with pytest.raises(UserError, match="Unknown count 'flops'"):
        counts["head"].mean("flops")
    with pytest.raises(UserError, match="No part is called 'rln'; there are nm, pln, head"):
        counts.of_part("rln")
    with pytest.raises(UserError, match="not of one graph"):
        concatenate([counts, replace(counts, steps=9)])
    with pytest.raises(UserError, match="no counts to concatenate"):
        concatenate([])


@pytest.mark.parametrize("encoding", ["constant", "rate"])
def test_counts_a_real_simulation_minibatch_by_minibatch(encoding):
    rng = np.random.default_rng(8)
    graph = anml_like(rng, encoding=encoding)
    inputs = rng.random((5, 2, 7, 6)).astype(np.float32)
    recording = simulate(graph, inputs)
    whole = count(graph, recording)
    with open_simulator(graph, minibatch=2) as simulator:
        streamed = concatenate(count(graph, part) for part in simulator.stream(inputs))
    for name in PER_SAMPLE:
        np.testing.assert_array_equal(streamed.per_sample(name), whole.per_sample(name))
    assert whole.per_sample("spikes").sum() > 0
    leaving = (graph["head"].weight != 0).sum(axis=0)
    expected = recording.spikes["pln.lif2"].sum(axis=1) @ leaving
    np.testing.assert_array_equal(whole["head"].effective_acs, expected)


def test_sparsity_counts_every_value_sent_and_rounded_ones_as_they_are_then():
    rng = np.random.default_rng(10)
    nodes = (
        Input("input", (), (3,)),
        Activation("a", ("input",), "relu"),
        Quantize("a.levels", ("a",), 1.0, 3),
        Affine("fc", ("a.levels",), normal(rng, (2, 3)), np.zeros(2, np.float32)),
        lif("b", "fc"),
        Readout("output", ("b",)),
    )
    x = np.array([[0.2, 1, 2], [0, 0.4, 3]], np.float32)
    recording = simulate(Graph(nodes, 4), x)
    zeros = 3 + int((~recording.spikes["b"]).sum())  # 0.2, 0 and 0.4 become 0, at one step of four
    assert activation_sparsity(Graph(nodes, 4), recording) == zeros / (2 * 3 + 2 * 4 * 2)
    linear = Graph((nodes[0], replace(nodes[3], inputs=("input",)), Readout("output", ("fc",))), 1)
    assert activation_sparsity(linear, simulate(linear, x)) == 0
