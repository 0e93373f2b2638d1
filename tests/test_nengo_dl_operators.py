"""NengoDL with its operators rewritten, against Nengo's own simulator, which runs them as they were built."""

from __future__ import annotations

import numpy as np
import pytest

from tests.helpers import dyadic, gated_graph, require

STEPS = 3


@pytest.fixture(autouse=True)
def _nengo_dl():
    require("nengo-dl")


def kinds(operators) -> list[str]:
    return [type(op).__name__ for op in operators]


def picture(nengo, source, places, label):
    """A 2x5x4 relay into which a 2x3x2 source is copied by lists of indices, and the convolution of the relay."""
    whole, out = nengo.Node(size_in=40, label=f"{label}.whole"), nengo.Node(size_in=18, label=label)
    for indices in places:
        nengo.Connection(source, whole[indices], synapse=None)
    weight = dyadic(np.random.default_rng(1), 2, 2, 2, 3)
    transform = nengo.Convolution(
        3, (2, 5, 4), strides=(2, 1), kernel_size=(2, 2), padding="valid", channels_last=False, init=weight
    )
    nengo.Connection(whole, out, transform=transform, synapse=None)
    return whole, out


def box(top: int, left: int) -> list[int]:
    """Indices of a 2x3x2 box in 2x5x4."""
    return np.arange(40).reshape(2, 5, 4)[:, top : top + 3, left : left + 2].ravel().tolist()


def consumers(nengo, source):
    """Nodes behind copies of a source of 12 values: those that can be rewritten, and beside them some that cannot."""
    from converters.nengo_nodes import GateNode

    def gate(label, parts):
        node = GateNode(12, label)
        for part, given in parts:
            nengo.Connection(source[given], node[part], synapse=None)
        return node

    backwards, all_of_it = list(range(11, -1, -1)), slice(0, 12)
    halves, out = nengo.Node(size_in=24, label="halves.whole"), nengo.Node(size_in=6, label="halves")
    nengo.Connection(source, halves[:12], synapse=None)
    nengo.Connection(source, halves[12:], synapse=None)
    nengo.Connection(halves[9:15], out, synapse=None)
    repeated, first = nengo.Node(size_in=36, label="repeated"), nengo.Node(size_in=24, label="first")
    nengo.Connection(source[np.repeat(range(12), 3).tolist()], repeated, synapse=None)
    nengo.Connection(source[np.repeat(range(6), 4).tolist()], first, synapse=None)
    return [
        picture(nengo, source, [box(1, 2)], "padded")[1],
        picture(nengo, source, [box(1, 1)[::-1]], "turned")[1],
        picture(nengo, source, [box(0, 0), box(1, 1)], "twice")[1],
        *picture(nengo, source, [box(1, 1)], "seen"),
        gate("gate", [(slice(12, 24), all_of_it), (slice(0, 12), backwards)]),
        gate("overlapping", [(slice(0, 12), all_of_it), (slice(12, 24), all_of_it), (slice(6, 18), all_of_it)]),
        gate("half", [(slice(0, 12), all_of_it), (slice(12, 18), slice(0, 6)), (slice(18, 24), slice(6, 12))]),
        out,
        repeated,
        first,
    ]


@pytest.mark.parametrize("changing", [True, False])
def test_rewritten_operators_compute_the_same(changing):
    import nengo
    import nengo_dl

    from converters.nengo_dl import DEVICE
    from converters.nengo_dl_operators import plan

    samples = dyadic(np.random.default_rng(0), 2, STEPS, 12)
    samples = samples if changing else np.repeat(samples[:, :1], STEPS, axis=1)
    shown, plans = {}, []

    def planner(operators):
        plans.append(plan(operators, f"{source}.out" if changing else None))
        return plans[-1]

    with nengo.Network() as network:
        source = nengo.Node(lambda t: shown["x"][max(round(t) - 1, 0)], size_out=12, label="source")
        through = nengo.Node(size_in=12, label="through")
        nengo.Connection(source, through, synapse=None)
        probes = [nengo.Probe(node) for node in consumers(nengo, through)]
        nengo_dl.configure_settings(stateful=False, inference_only=True, planner=planner)
    expected = []
    for shown["x"] in samples:
        with nengo.Simulator(network, dt=1.0, progress_bar=False) as simulator:
            simulator.run_steps(STEPS)
            expected.append([simulator.data[probe] for probe in probes])
    with nengo_dl.Simulator(network, dt=1.0, minibatch_size=2, device=DEVICE, progress_bar=False) as simulator:
        data = simulator.predict_on_batch({source: samples}, n_steps=STEPS)
    for probe, *values in zip(probes, *expected, strict=True):
        assert np.any(values)
        np.testing.assert_array_equal(data[probe], values, err_msg=str(probe.target))

    operators = [op for (op,) in plans[0]]
    assert ("Once" in kinds(operators)) is not changing
    operators = [part for op in operators for part in getattr(op, "operators", [op])]
    written = {s.base.name for op in operators for s in (*op.sets, *op.incs)}
    assert "ConvSet" not in kinds(operators)
    convolutions = [op.padding for op in operators if type(op).__name__ == "PaddedConvolution"]
    assert sorted(convolutions) == [((0, 0), (0, 0))] * 3 + [((1, 1), (2, 0))]
    assert [op.times for op in operators if type(op).__name__ == "Repeat"] == [3]
    assert not written & {"<Node 'padded.whole'>.in", "<GateNode 'gate'>.in"}
    assert {f"<Node '{name}.whole'>.in" for name in ("turned", "twice", "seen", "halves")} <= written
    assert {"<GateNode 'overlapping'>.in", "<GateNode 'half'>.in"} <= written


def test_what_never_changes_runs_once():
    from converters.nengo_dl import NengoDLEngine

    def once(encoding):
        engine = NengoDLEngine(gated_graph(encoding=encoding), 1)
        plan = [op for (op,) in engine.simulator.tensor_graph.plan]
        engine.close()
        (found,) = [op for op in plan if type(op).__name__ == "Once"]
        return kinds(found.operators), kinds(plan)

    inside, outside = once("constant")
    assert inside.count("PaddedConvolution") == 2  # of the modulation, and the first of the prediction
    assert outside.count("PaddedConvolution") == 1
    assert {"SimNeurons", "DotSet", "SimMaxPool"} <= set(inside)
    inside, outside = once("rate")
    assert set(inside) == {"Repeat"}  # of biases
    assert outside.count("PaddedConvolution") == 3
