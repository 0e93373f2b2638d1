"""The emulator of a Loihi chip against the interpreter."""

from __future__ import annotations

import re
import sys
import warnings
from dataclasses import replace

import numpy as np
import pytest

from converters import check, compare, loihi_blocks, loihi_report, open_simulator, simulate
from converters.graph import LIF, Affine, Gate, Graph, Input, Integrator, Readout
from converters.loihi_blocks import LIMITS, divide
from converters.loihi_chip import layer_sizes
from converters.loihi_layers import chip_layers, host_layers, host_nodes
from converters.simulate import encode_inputs
from snn_anml.errors import MissingExtraError, UserError
from tests.helpers import gated_graph, inputs, scalar, without
from tests.loihi_helpers import SMALL, changed, conv_net, driven, net, pictures, require_loihi

GEOMETRIES = {
    "padded": net((3, 3), (1, 1), (1, 1)),
    "strided": net((3, 3), (2, 2), (1, 1)),
    "uneven": net((5, 3), (1, 2), (2, 1)),
    "unpadded": net((3, 2), (2, 1), (0, 0)),
    "gaps": net((2, 2), (3, 3), (0, 0)),
    "wide padding": net((3, 3), (1, 1), (2, 2)),
    "groups": net((3, 3), (1, 1), (1, 1), groups=2),
    "pool": net((2, 2), (1, 1), (0, 0), pool=True),
    "spikes": net((3, 3), (1, 1), (1, 1), encoding="rate"),
}


@pytest.mark.parametrize("limits", [LIMITS, SMALL], ids=["whole", "divided"])
@pytest.mark.parametrize("name", GEOMETRIES)
def test_without_rounding_the_emulator_spikes_alike(name, limits, monkeypatch):
    """In float32, weights, biases, delays and blocks are all that could be wrong; nengo-loihi counts its own cores."""
    require_loihi()
    from converters.loihi import LoihiEngine

    monkeypatch.setattr(loihi_blocks, "LIMITS", limits)
    graph, x = GEOMETRIES[name], pictures()
    engine = LoihiEngine(graph, target="simreal")
    reference, found = simulate(graph, x), engine.run(encode_inputs(graph, x))
    assert all(spikes.any() for spikes in reference.spikes.values())
    assert compare(found, reference).mismatches == 0
    np.testing.assert_array_equal(found.output, reference.output)
    for layer, membrane in reference.membrane.items():  # in the graph the reset comes in the same or the next step
        np.testing.assert_allclose(found.membrane[layer], membrane, rtol=1e-5, atol=1e-5)
    divided = divide(layer_sizes(chip_layers(graph)))
    assert (len(divided["lif2"].blocks) > 1) == (limits is SMALL and name not in ("gaps", "pool"))
    loads = [load for division in divided.values() for load in division.loads]
    for load, core in zip(loads, engine.chip.model.blocks, strict=True):
        used = [value for value, _ in core.utilization().values()]
        if name in ("wide padding", "pool"):  # nengo-loihi stores equal lists once, and without the indices they need
            assert used[:3] == list(load[:3])
            assert used[3] <= load.synapse_bits
        else:
            assert used == list(load)
    engine.close()


def test_a_gated_network_stays_close():
    """Mismatches of about 1 % are what 8 bits leave; nothing here depends on luck, so the bounds are near."""
    require_loihi()
    graph, x = conv_net()
    reference = simulate(graph, x)
    assert all(0.05 < spikes.mean() < 0.6 for spikes in reference.spikes.values())
    report = {row.layer: row for row in loihi_report(graph, x)}
    assert (report["lif1"].cores, report["lif1"].load, report["lif1"].mismatch) == (0, None, 0)
    for name in ("lif2", "lif3"):
        assert report[name].cores == 1
        assert report[name].load.fits
        assert 0 < report[name].mismatch < 0.03
        assert report[name].correlation > 0.98


def rounded(node):
    """Weights as a core holds them: 127 steps of 2/255 of a neuron's largest; a bias has 12 bits."""
    weight, bias = node.weight.reshape(len(node.weight), -1).astype(float), node.bias.astype(float)
    largest = np.maximum(np.abs(weight).max(axis=1), np.abs(bias) / 16)
    weight = np.clip(np.round(weight / largest[:, None] * 127.5), -127, 127) / 127.5 * largest[:, None]
    bias = np.round(bias / largest * 4095) / 4095 * largest
    return replace(node, weight=weight.reshape(node.weight.shape).astype(np.float32), bias=bias.astype(np.float32))


@pytest.mark.parametrize("seed", [0, 1, 3])
def test_the_rounding_of_weights_is_all_that_the_chip_changes(seed):
    require_loihi()
    graph, x = conv_net(seed)
    found = simulate(graph, x, "loihi")
    nodes = (rounded(node) if node.name in ("conv2", "fc") else node for node in graph.nodes)
    left = compare(found, simulate(Graph(tuple(nodes), graph.steps), x)).mismatches
    assert 10 * left < compare(found, simulate(graph, x)).mismatches


def test_samples_stream_from_rest():
    """What came before leaves no trace: neither its state nor its thresholds."""
    require_loihi()
    graph, x = conv_net(steps=5)
    with open_simulator(graph, "loihi", minibatch=2) as simulator:
        first = simulator.run(x[:3])
        again = simulator.run(x[[2, 0, 1, 0]])
    assert first.backend == "loihi"
    for name in first.spikes:
        np.testing.assert_array_equal(again.spikes[name], first.spikes[name][[2, 0, 1, 0]])
        # The host's sums depend on the size of the minibatch.
        np.testing.assert_allclose(again.membrane[name], first.membrane[name][[2, 0, 1, 0]], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(again.output, first.output[[2, 0, 1, 0]], rtol=1e-5, atol=1e-5)
    assert list(first.values) == list(simulate(graph, x[:3]).values)


def test_closed_gates_and_extreme_thresholds():
    """A gate of 0 and a threshold far above all weights never spike; one far below the weights always does."""
    require_loihi()
    eye, none = np.eye(4, dtype=np.float32), np.zeros(4, np.float32)
    nodes = (
        Input("input", (), (4,), "latency"),
        Affine("nothing", ("input",), 0 * eye, none),
        Affine("fc", ("input",), eye, none),
        LIF("lif", ("fc",), scalar(0.5), np.array([0.5, 1e-6, 1e6, 0.5], np.float32), "zero"),
        Readout("out", ("lif",)),
    )
    graph, x = Graph(nodes, 4), np.array([[1, 1, 1, 0]], np.float32)
    found = simulate(graph, x, "loihi")
    np.testing.assert_array_equal(found.spikes["lif"], simulate(graph, x).spikes["lif"])
    assert found.spikes["lif"].any(axis=1).tolist() == [[True, True, False, False]]
    nodes = (
        Input("input", (), (4,)),
        Affine("gate", ("input",), eye, none),
        Affine("fc1", ("input",), 0 * eye, none + 1),
        LIF("lif1", ("fc1",), scalar(0.5), scalar(0.5), "zero"),
        Affine("fc2", ("lif1",), eye, none),
        Gate("gated", ("fc2", "gate")),
        LIF("lif2", ("gated",), scalar(0.5), scalar(0.4), "zero"),
        Readout("out", ("lif2",)),
    )
    graph, x = Graph(nodes, 4), np.array([[1, 0.5, 0.01, 0]], np.float32)
    found = simulate(graph, x, "loihi")
    np.testing.assert_array_equal(found.spikes["lif2"], simulate(graph, x).spikes["lif2"])
    assert found.spikes["lif2"].any(axis=1).tolist() == [[True, True, False, False]]
    with pytest.raises(UserError, match="gated is -1 for a sample"):
        simulate(graph, np.array([[1, 1, -1, 1]], np.float32), "loihi")


@pytest.mark.parametrize("encoding", ["rate", "latency"])
def test_spike_inputs(encoding):
    """An encoded input enters the chip itself, so that every layer is there."""
    require_loihi()
    graph, x = net((3, 3), (2, 2), (1, 1), beta=0.75, encoding=encoding), pictures(5)
    assert host_layers(graph) == ()
    assert [(layer.name, layer.depth) for layer in chip_layers(graph)] == [("lif1", 1), ("lif2", 2), ("lif3", 3)]
    fidelity = compare(simulate(graph, x, "loihi", seed=3), simulate(graph, x, seed=3))
    assert fidelity.mismatches / fidelity.slots < 0.03
    assert fidelity.layers["lif1"].correlation > 0.98


def with_integrator():
    graph, _ = conv_net()
    nodes = list(graph.nodes)
    at = nodes.index(graph["lif3"])
    nodes.insert(at, Integrator("current", ("gate3",), scalar(0.5)))
    nodes[at + 1] = replace(nodes[at + 1], inputs=("current",))
    return Graph(tuple(nodes), graph.steps)


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (gated_graph(reset="zero"), "pln.gate2 changes with every step, and the Loihi chip has no product"),
        (changed("lif2", reset="subtract"), "lif2 has reset 'subtract', and the Loihi chip resets to zero alone"),
        (changed("lif2", threshold=scalar(-1)), "lif2 has a threshold of -1.0"),
        (with_integrator(), r"current \(Integrator\) stands before the neurons lif3"),
        (
            without(gated_graph(reset="zero"), "nm.membrane"),
            r"pln\.maximum2 \(MaxPool2d\) stands before the neurons pln\.lif2, .* nengo and nengo-dl can have it",
        ),
        (net((3, 3), (1, 1), (1, 1)), None),
    ],
)
def test_what_the_chip_cannot_do_is_refused_in_one_sentence(graph, message):
    if message is None:
        alone = Graph((*graph.nodes[:3], Readout("out", ("lif1",))), 2)
        graph, message = alone, "No layer of this graph is fed by spikes, .* train with two or more layers"
    for refuse in (lambda: check(graph, "loihi"), lambda: simulate(graph, inputs(), "loihi")):
        with pytest.raises(UserError, match=message) as caught:
            refuse()
        assert str(caught.value).count(". ") == 0


def test_a_graph_is_checked_without_nengo_loihi(monkeypatch):
    monkeypatch.setitem(sys.modules, "nengo_loihi", None)
    monkeypatch.setattr(loihi_blocks, "LIMITS", LIMITS._replace(axons_in=40))
    with pytest.raises(UserError, match="lif3 does not fit the cores"):
        check(conv_net()[0], "loihi")
    monkeypatch.undo()
    check(conv_net()[0], "loihi")


def test_what_stays_on_the_host_is_named():
    require_loihi()
    graph, x = conv_net(steps=2)
    report = compare(simulate(graph, x[:3], "loihi", minibatch=2), simulate(graph, x[:3]))
    chip = {"conv2", "gate2", "lif2", "fc", "gate3", "lif3"}
    assert report.host == tuple(node.name for node in graph.nodes if node.name not in chip)
    pooled = net((2, 2), (1, 1), (0, 0), pool=True, encoding="rate")
    assert set(host_nodes(pooled, chip_layers(pooled))) == {"input", "fc2", "out"}
    readout = replace(pooled.nodes[-1], inputs=("pool",))  # the head sees the average, too
    both = Graph((*pooled.nodes[:-1], readout), 2)
    assert host_nodes(both, chip_layers(both)) == ("input", "pool", "fc2", "out")


def test_the_host_resets_as_the_graph_says():
    """The first layer is the interpreter's, whatever its reset."""
    require_loihi()
    graph, x = changed("lif1", reset="subtract"), conv_net()[1][:3]
    fidelity = compare(simulate(graph, x, "loihi"), simulate(graph, x))
    assert fidelity.layers["lif1"].mismatches == 0
    assert fidelity.layers["lif1"].max_membrane_difference == 0


def test_the_warnings_are_still_given():
    """When this fails, an entry of `EXPECTED_WARNINGS` can go."""
    require_loihi()
    from converters import loihi_chip

    graph, x = driven(np.ones((2, 200)), threshold=1200.0), np.ones((1, 200), np.float32)
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        simulate(graph, x, "loihi")
        assert not seen
        expected = loihi_chip.EXPECTED_WARNINGS
        patch.setattr(loihi_chip, "EXPECTED_WARNINGS", ())
        simulate(graph, x, "loihi")
    for category, message in expected:
        assert any(issubclass(w.category, category) and re.match(message, str(w.message)) for w in seen)


def test_missing_packages_name_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "nengo_loihi", None)
    with pytest.raises(MissingExtraError, match=r"snn-anml\[loihi\]"):
        simulate(conv_net()[0], conv_net()[1], "loihi")
