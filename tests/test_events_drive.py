"""Networks that are driven by events, against networks that encode by themselves."""

from __future__ import annotations

import re
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from converters import (
    EVENT,
    EventInput,
    drive_by_spikes,
    encode_inputs,
    energy,
    events_of,
    from_torch,
    graph_hash,
    load_graph,
    load_nir,
    loihi_report,
    lower_gates,
    open_simulator,
    save_graph,
    save_nir,
    simulate,
    spikes_of,
    to_native_nengo,
)
from converters.graph import LIF, Affine, Conv2d, Graph, Input, Readout
from converters.nir_write import losses
from snn_anml.errors import MissingExtraError, UserError
from tests.from_torch_helpers import leaky
from tests.helpers import BACKENDS, assert_identical, dyadic, gated_graph, inputs, require, scalar


def events(*rows):
    return np.array(list(rows), EVENT)


# Networks driven by events


def plain_net(encoding="rate", shape=(2, 4, 4)):
    """Two layers of neurons with reset to zero behind a convolution, and dyadic weights: every backend takes it."""
    rng = np.random.default_rng(0)
    return Graph(
        (
            Input("input", (), shape, encoding),
            Conv2d("conv", ("input",), dyadic(rng, 3, 2, 2, 2), dyadic(rng, 3)),
            LIF("lif1", ("conv",), scalar(0.5), scalar(0.25), "zero"),
            Affine("fc1", ("lif1",), dyadic(rng, 6, 27), dyadic(rng, 6)),
            LIF("lif2", ("fc1",), scalar(0.75), scalar(0.25), "zero"),
            Affine("fc2", ("lif2",), dyadic(rng, 3, 6), dyadic(rng, 3)),
            Readout("out", ("fc2",)),
        ),
        6,
    )


def pictures(samples=5):
    """The last one is dark: a sample without any event."""
    x = np.random.default_rng(1).random((samples, 2, 4, 4)).astype(np.float32)
    x[-1] = 0
    return x


def recorded(graph, x, seed=3):
    """What a graph encodes, as arrays (B, T, *shape) and as events."""
    trains = encode_inputs(graph, x, seed).swapaxes(0, 1)
    return trains, EventInput(events_of(trains), len(x))


EVERYWHERE = [*BACKENDS, "nengo-native", "loihi", "nir"]


def needs(backend):
    require("nengo" if backend == "nengo-native" else backend)
    try:
        if backend == "loihi":
            from converters.loihi_chip import import_nengo_loihi

            import_nengo_loihi()
        elif backend == "nir":
            from converters.nir_nodes import import_nir

            import_nir()
    except MissingExtraError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("backend", EVERYWHERE)
def test_recorded_spikes_drive_as_the_encoding_did(backend):
    """Arrays and events, the latter in minibatches: the same bits as with the pictures."""
    needs(backend)
    graph, x = plain_net(), pictures()
    trains, driving = recorded(graph, x)
    assert driving.events["sample"].max() == 3
    reference = simulate(graph, x, backend, seed=3)
    assert reference.spikes["lif2"].any()
    with open_simulator(drive_by_spikes(graph), backend, minibatch=3) as simulator:
        assert [len(part.output) for part in simulator.stream(driving)] == [3, 2]
        assert_identical(simulator.run(driving), reference)
        assert_identical(simulator.run(trains), reference)
        assert_identical(simulator.run(torch.from_numpy(trains > 0)), reference)


@pytest.mark.parametrize("backend", EVERYWHERE)
def test_a_recorded_layer_drives_the_rest(backend):
    """As a chip behind another: what lies behind the first layer spikes as in the whole network."""
    needs(backend)
    graph, x = plain_net(), pictures()
    whole = simulate(graph, x, backend)
    rest = drive_by_spikes(graph, layer="lif1")
    assert [node.name for node in rest.nodes] == ["lif1", "fc1", "lif2", "fc2", "out"]
    assert rest.nodes[0].shape == (3, 3, 3)
    alone = simulate(rest, EventInput(whole.events("lif1"), len(x)), backend)
    assert alone.events("lif2").tolist() == whole.events("lif2").tolist() != []
    np.testing.assert_array_equal(alone.membrane["lif2"], whole.membrane["lif2"])
    np.testing.assert_array_equal(alone.output, whole.output)


def test_what_the_output_does_not_need_is_left_out_and_ways_around_are_refused():
    graph = gated_graph()
    with pytest.raises(
        UserError, match=re.escape("pln.lif1 alone cannot drive the graph: its output also needs input")
    ):
        drive_by_spikes(graph, layer="pln.lif1")
    with pytest.raises(UserError, match=r"called 'pln.pool'; there are pln.lif1, pln.lif2, pln.lif3"):
        drive_by_spikes(graph, layer="pln.pool")
    rest = drive_by_spikes(graph, steps=9, layer="pln.lif3")
    assert [node.name for node in rest.nodes] == ["pln.lif3", "pln.fc2", "readout"]
    assert rest.steps == 9
    for steps in (0, 2.5, 6.0):
        with pytest.raises(UserError, match=f"steps = {steps}; a graph runs for a whole number"):
            drive_by_spikes(graph, steps=steps)
    same = drive_by_spikes(graph)
    assert same.steps == graph.steps
    assert graph_hash(Graph((graph.nodes[0], *same.nodes[1:]), same.steps)) == graph_hash(graph)


def test_a_network_without_spikes_has_no_layer_to_name():
    fc = np.ones((2, 3), np.float32), np.zeros(2, np.float32)
    graph = Graph((Input("input", (), (3,)), Affine("fc", ("input",), *fc), Readout("out", ("fc",))), 2)
    recording = simulate(graph, np.zeros((1, 3), np.float32))
    for ask in (recording.events, lambda name: drive_by_spikes(graph, layer=name)):
        with pytest.raises(UserError, match=r"called 'fc'; this network has no LIF neurons, so none sends spikes\.$"):
            ask("fc")


def test_longer_and_shorter_trains():
    """The first steps are those of the short run, since nothing looks ahead."""
    graph, x = plain_net(), pictures()
    trains, _ = recorded(graph, x)
    long = np.concatenate([trains, 1 - trains], axis=1)
    runs = {T: simulate(drive_by_spikes(graph, steps=T), long[:, :T]) for T in (2, 6, 12)}
    for T, run in runs.items():
        assert run.spikes["lif2"].shape == (5, T, 6)
        np.testing.assert_array_equal(run.membrane["lif2"], runs[12].membrane["lif2"][:, :T])
    assert_identical(runs[6], simulate(graph, x, seed=3))


def test_long_samples_of_one_dimension():
    rng = np.random.default_rng(0)
    nodes = (
        Input("input", (), (2, 9), "spikes"),
        Conv2d("conv", ("input",), dyadic(rng, 3, 2, 1, 3), dyadic(rng, 3)),
        LIF("lif", ("conv",), scalar(0.5), scalar(0.25)),
        Readout("out", ("lif",)),
    )
    graph, trains = Graph(nodes, 5), rng.random((2, 5, 2, 9)) < 0.4
    found = simulate(graph, trains)
    assert found.spikes["lif"].any()
    assert_identical(simulate(graph, EventInput(events_of(trains), 2), "torch"), found)


def test_events_become_arrays_one_minibatch_at_a_time():
    """As one array, these samples would have 10^13 values."""
    graph = drive_by_spikes(plain_net())
    with open_simulator(graph, minibatch=2) as simulator:
        parts = simulator.stream(EventInput(events((1, 2, 3), (10**10, 0, 0)), 10**11))
        first = next(parts)
    trains = spikes_of(events((1, 2, 3)), 2, 6, (2, 4, 4))
    assert_identical(replace(first, backend=""), replace(simulate(graph, trains), backend=""))


SILENT = EventInput(events(), 2)
REFUSED = {
    "a bare list": (lambda g: simulate(g, events((0, 0, 0))), r"give EventInput\(events, samples\)"),
    "no samples": (lambda g: simulate(g, EventInput(events(), 0)), "samples = 0"),
    "too few samples": (lambda g: simulate(g, EventInput(events((2, 0, 0)), 2)), "sample 2, not in 0 to 1"),
    "late": (lambda g: simulate(g, EventInput(events((0, 6, 0)), 2)), r"drive_by_spikes\(graph, steps=T\)"),
    "steps": (
        lambda g: simulate(g, np.zeros((3, 5, 2, 4, 4))),
        r"\(3, 5, 2, 4, 4\), but the graph takes \(samples, 6, 2, 4, 4\).*drive_by_spikes\(graph, steps=T\)",
    ),
    "pictures": (lambda g: simulate(g, pictures()), r"the graph takes \(samples, 6, 2, 4, 4\)"),
    "intensities": (lambda g: simulate(g, np.full((1, 6, 2, 4, 4), 0.5)), r"0.5 at \(0, 0, 0, 0, 0\)"),
    "another encoding": (lambda g: simulate(plain_net(), SILENT), "encodes its samples by 'rate'.*drive_by_spikes"),
    "no layer": (lambda g: simulate(g, SILENT).events("conv"), "called 'conv'; there are lif1, lif2"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_drive_a_graph_is_refused(case):
    make, message = REFUSED[case]
    with pytest.raises(UserError, match=message):
        make(drive_by_spikes(plain_net()))


def test_a_network_of_snntorch_on_spike_trains():
    """Its loop takes (steps, samples, ...), and we (samples, steps, ...)."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 3, 3), leaky(threshold=0.3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(12, 5), leaky()
    )
    x = (torch.rand(7, 3, 2, 6, 6) < 0.4).float()  # as snnTorch has it
    graph = from_torch(model.eval(), steps=7, example_input=x.transpose(0, 1), encoding="spikes")
    assert graph.nodes[0].shape == (2, 6, 6)
    for neuron in (model[1], model[5]):
        neuron.reset_mem()
    with torch.no_grad():
        expected = torch.stack([model(step) for step in x], 1).numpy() > 0
    found = simulate(graph, x.transpose(0, 1))
    np.testing.assert_array_equal(found.spikes["5"], expected)
    assert expected.any()
    with pytest.raises(
        UserError, match=re.escape("are (samples, 7, ...) for steps=7; of (T, samples, ...), as snnTorch")
    ):
        from_torch(model, steps=7, example_input=x, encoding="spikes")


def test_plain_nengo_shows_the_trains_of_a_sample():
    needs("nengo-native")
    import nengo

    from converters.native_nengo import DT

    graph, x = plain_net(), pictures()
    trains, driving = recorded(graph, x)
    driven = drive_by_spikes(graph)
    expected = simulate(driven, driving).spikes["lif2"]
    for sample, spikes in ((None, expected[-1]), (trains[0], expected[0])):  # the last is silent, as no sample is
        network = to_native_nengo(driven, sample=sample)
        probe = next(p for p in network.all_probes if p.label == "lif2.spikes")
        with nengo.Simulator(network, dt=DT, progress_bar=False) as simulator:
            simulator.run_steps(graph.steps)
            np.testing.assert_array_equal(simulator.data[probe] > 0, spikes)
    assert expected[0].any()


def test_the_report_of_a_chip_takes_events():
    needs("loihi")
    graph, x = plain_net(), pictures()
    _, driving = recorded(graph, x)
    assert loihi_report(drive_by_spikes(graph), driving) == loihi_report(graph, x, seed=3)


def test_files_and_losses(tmp_path):
    """The encoding is in the file of either kind, and a reader of NIR that is fed the spikes misses nothing."""
    graph = drive_by_spikes(plain_net())
    save_graph(graph, tmp_path / "graph")
    assert b'"schema":"3"' in (tmp_path / "graph").read_bytes()
    assert graph_hash(load_graph(tmp_path / "graph")) == graph_hash(graph) != graph_hash(plain_net())
    assert any("encoding" in sentence for sentence in losses(plain_net()))
    assert not any("encoding" in sentence for sentence in losses(graph))
    pytest.importorskip("nir")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        save_nir(graph, tmp_path / "net.nir")
    assert graph_hash(load_nir(tmp_path / "net.nir")) == graph_hash(graph)


def test_operations_are_counted_as_for_the_encoding():
    """But for the encoding itself, which spikes from outside do not need."""
    graph, x = gated_graph(encoding="rate"), inputs()
    _, driving = recorded(graph, x)
    ours, theirs = (
        energy.count(g, simulate(g, data, seed=3)) for g, data in ((drive_by_spikes(graph), driving), (graph, x))
    )
    assert ours.layers[0].effective_acs.all()
    encoding, *others = theirs.layers
    assert encoding.kind == "Input"
    for mine, other in zip(ours.layers, others, strict=True):
        np.testing.assert_equal(vars(mine), vars(other))


def test_graphs_without_gates_stay_as_they_are():
    graph = drive_by_spikes(plain_net())
    lowered = lower_gates(graph, EventInput(events(), 3)).graphs
    assert [graph_hash(g) for g in lowered] == 3 * [graph_hash(graph)]
