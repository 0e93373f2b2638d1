"""Gates as thresholds and as constants: the same spikes for the sample they were made for."""

from dataclasses import replace

import numpy as np
import pytest

from converters import compare, graph_hash, lower_gates, simulate
from converters.gates import CLOSED, constant, nothing
from converters.graph import LIF, Activation, Affine, Gate, Graph, Input, Integrator, Readout
from snn_anml.errors import UserError
from tests.helpers import assert_identical, dyadic, scalar

RESETS = [(reset, delay) for reset in ("subtract", "zero", "none") for delay in (True, False)]
N = 12


def eye(name, source, n=N):
    return Affine(name, (source,), np.eye(n, dtype=np.float32), np.zeros(n, np.float32))


def gated(*gates, reset="subtract", delay=True, threshold=0.5, shape=(N,), between=(), steps=12):
    """Neurons behind gates, each driven by the sample through one of the given functions of its first values."""
    nodes, last = [Input("in", (), (2 * N,))], "current"
    first = np.hstack([np.eye(N), np.zeros((N, N))]).astype(np.float32)
    nodes.append(Affine("current", ("in",), first, np.zeros(N, np.float32)))
    for i, function in enumerate(gates):
        nodes.append(Affine(f"drive{i}", ("in",), first[:, ::-1].copy(), np.zeros(N, np.float32)))
        nodes.append(Activation(f"gate{i}.value", (f"drive{i}",), function))
        nodes.append(Gate(f"gate{i}", (last, f"gate{i}.value")))
        last = f"gate{i}"
    for kind, name in between:
        nodes.append(kind(name, last))
        last = name
    beta = np.linspace(0.5, 1, N).astype(np.float32)
    nodes += [LIF("lif", (last,), beta, np.full(N, threshold, np.float32), reset, delay), eye("fc", "lif")]
    return Graph((*nodes, Readout("out", ("fc",))), steps)


def samples(count=8, lowest=0.1):
    return np.random.default_rng(0).uniform(lowest, 1, (count, 2 * N)).astype(np.float32)


def assert_same_spikes(lowered, graph, x):
    """Of every sample on its graph, but for slots within rounding of the threshold; returns the number of spikes."""
    reference = simulate(graph, x)
    for i, made in enumerate(lowered.graphs):
        fidelity = compare(simulate(made, x[i : i + 1]), replace_rows(reference, i))
        assert fidelity.origin is None or fidelity.origin[1].margin < 1e-5
    return sum(int(spikes.sum()) for spikes in reference.spikes.values())


def replace_rows(recording, i):
    def rows(kind):
        return {name: value[i : i + 1] for name, value in kind.items()}

    return replace(
        recording, output=recording.output[i : i + 1], spikes=rows(recording.spikes), membrane=rows(recording.membrane)
    )


@pytest.mark.parametrize(("reset", "delay"), RESETS)
@pytest.mark.parametrize("gates", [("sigmoid",), ("hard_sigmoid", "sigmoid")])
def test_a_gate_is_a_threshold(reset, delay, gates):
    graph, x = gated(*gates, reset=reset, delay=delay), samples()
    lowered = lower_gates(graph, x)
    assert (lowered.thresholds, lowered.constants) == (tuple(f"gate{i}" for i in range(len(gates))), ())
    assert [node.name for node in lowered.graphs[0].nodes] == ["in", "current", "lif", "fc", "out"]
    assert 100 < assert_same_spikes(lowered, graph, x) < 8 * 12 * N


def test_the_threshold_is_divided_by_the_gate():
    graph, x = gated("sigmoid"), samples(1)
    gate = simulate(graph, x).values["gate0.value"][0, 0].astype(np.float64)
    (made,) = lower_gates(graph, x).graphs
    np.testing.assert_allclose(made["lif"].threshold, 0.5 / gate, rtol=1e-7)


@pytest.mark.parametrize(("reset", "delay"), RESETS)
def test_dyadic_gates_give_the_same_spikes_exactly(reset, delay):
    """Gates of 0, 1/2 and 1 a channel: with dyadic numbers nothing is rounded, closed gates included."""
    rng = np.random.default_rng(3)
    channel = np.array([[0], [0], [8]], np.float32)  # hard_sigmoid of 8 x - 2: 0, then 1/2 at x = 1/4, then 1
    nodes = (
        Input("in", (), (1, 4, 4)),
        Affine("w", ("in",), dyadic(rng, 3 * 16, 16), dyadic(rng, 48)),
        Affine("drive", ("in",), channel * np.eye(1, 16, dtype=np.float32), np.array([-2, 0, -2], np.float32)),
        Activation("value", ("drive",), "hard_sigmoid"),
        Affine("spread", ("value",), np.repeat(np.eye(3, dtype=np.float32), 16, 0), np.zeros(48, np.float32)),
        Gate("gate", ("w", "spread")),
        LIF("lif", ("gate",), scalar(0.5), scalar(0.25), reset, delay),
        Readout("out", ("lif",)),
    )
    graph = Graph(nodes, 6)
    x = rng.integers(0, 9, (6, 1, 4, 4)).astype(np.float32) / 8
    x[:, 0, 0, 0] = [0.25, 0.5, 0.25, 1, 0.75, 0.25]
    lowered, reference = lower_gates(graph, x), simulate(graph, x)
    assert lowered.thresholds == ("gate",)
    assert (lowered.graphs[0]["lif"].threshold[:16] == CLOSED).all()
    assert reference.spikes["lif"][:, :, 16:].any()
    assert not reference.spikes["lif"][:, :, :16].any()
    for i, made in enumerate(lowered.graphs):
        recording = simulate(made, x[i : i + 1])
        np.testing.assert_array_equal(recording.spikes["lif"], reference.spikes["lif"][i : i + 1])
        np.testing.assert_array_equal(recording.output, reference.output[i : i + 1])


@pytest.mark.parametrize(
    ("graph", "why"),
    [
        (lambda: gated("sigmoid", "hard_sigmoid"), "asked for"),
        (lambda: gated("relu", between=[(lambda n, s: Activation(n, (s,), "relu"), "relu")]), "not read by neurons"),
        (lambda: gated("relu", threshold=-0.5), "closed gates and a threshold below 0"),
    ],
)
def test_constants_are_exact_to_the_bit(graph, why):
    graph, x = graph(), samples(lowest=-0.3)
    lowered = lower_gates(graph, x, into="constant" if why == "asked for" else "threshold")
    assert lowered.thresholds == ()
    assert lowered.constants == tuple(node.name for node in graph.of_type(Gate))
    reference = simulate(graph, x)
    assert reference.spikes["lif"].any()
    for i, made in enumerate(lowered.graphs):
        assert "gate0.value" not in [node.name for node in made.nodes]
        recording = simulate(made, x[i : i + 1])
        assert_identical(replace(recording, values={}), replace(replace_rows(reference, i), values={}))


def test_closed_gates_are_thresholds_out_of_reach():
    """Also where the threshold is 0 and any current at all would do."""
    graph, x = gated("relu", threshold=0.0), samples(lowest=-0.5)
    lowered = lower_gates(graph, x)
    assert lowered.thresholds == ("gate0",)
    closed = x[:, : N - 1 : -1] <= 0
    assert closed.any()
    for made, shut in zip(lowered.graphs, closed, strict=True):
        np.testing.assert_array_equal(made["lif"].threshold == CLOSED, shut)
    assert assert_same_spikes(lowered, graph, x) > 100


def test_a_gate_of_one_value_a_channel_stays_one():
    """On pictures, and beside a gate that becomes a threshold."""
    rng = np.random.default_rng(0)
    nodes = (
        Input("in", (), (2, 3, 3)),
        Affine("drive", ("in",), dyadic(rng, 2, 18), np.ones(2, np.float32)),
        Activation("value", ("drive",), "sigmoid"),
        Gate("first", ("in", "value")),
        Integrator("v", ("first",), scalar(0.5)),
        Gate("second", ("v", "value")),
        LIF("lif", ("second",), scalar(0.5), scalar(0.25)),
        Readout("out", ("lif",)),
    )
    graph, x = Graph(nodes, 5), rng.random((3, 2, 3, 3)).astype(np.float32)
    lowered = lower_gates(graph, x)
    assert (lowered.thresholds, lowered.constants) == (("second",), ("first",))
    assert lowered.graphs[0].shapes["first.values"] == (2,)
    assert assert_same_spikes(lowered, graph, x) > 50


def test_dynamic_gates_and_foreign_samples_are_refused():
    graph = gated("sigmoid")
    nodes = [replace(node, inputs=("sum",)) if node.name == "gate0.value" else node for node in graph.nodes]
    nodes.insert(3, Integrator("sum", ("drive0",), scalar(0.9)))
    with pytest.raises(UserError, match=r"gate0 is gated by gate0\.value, which changes from step to step"):
        lower_gates(Graph(tuple(nodes), 4), samples())
    with pytest.raises(UserError, match="inputs have shape"):
        lower_gates(graph, samples()[:, :3])


def test_a_graph_without_gates_is_itself():
    graph = gated()
    lowered = lower_gates(graph, samples(2))
    assert lowered.thresholds == lowered.constants == ()
    assert [graph_hash(made) for made in lowered.graphs] == [graph_hash(graph)] * 2


@pytest.mark.parametrize("encoding", ["rate", "spikes"])
def test_a_constant_gate_is_lowered_though_the_input_changes(encoding):
    rng = np.random.default_rng(0)
    nodes = (
        Input("in", (), (N,), encoding),
        Affine("nothing", ("in",), **nothing(N)),
        Affine("values", ("nothing",), **constant(rng.choice([0.5, 0.25, 2], N))),
        Gate("gate", ("in", "values")),
        LIF("lif", ("gate",), scalar(0.5), scalar(0.375), "zero"),
        Readout("out", ("lif",)),
    )
    graph = Graph(nodes, 7)
    x = rng.random((3, N)) if encoding == "rate" else (rng.random((3, 7, N)) < 0.6)
    lowered, reference = lower_gates(graph, x.astype(np.float32)), simulate(graph, x.astype(np.float32))
    assert (lowered.thresholds, len(lowered.graphs)) == (("gate",), 3)
    assert [node.name for node in lowered.graphs[0].nodes] == ["in", "lif", "out"]
    np.testing.assert_array_equal(
        simulate(lowered.graphs[0], x.astype(np.float32)).spikes["lif"], reference.spikes["lif"]
    )
    assert 0.1 < reference.spikes["lif"].mean() < 0.6
