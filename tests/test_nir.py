"""NIR files of our own: read back to the bit, honest about what others will not do, and readable by others."""

import contextlib
import io
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import nir_readers
from converters import LossyExportWarning, compare, graph_hash, load_nir, lower_gates, save_nir, simulate
from converters.graph import (
    LIF,
    Activation,
    AvgPool2d,
    Conv2d,
    Gate,
    Graph,
    Input,
    Integrator,
    MaxPool2d,
    Quantize,
    Readout,
)
from snn_anml.errors import MissingExtraError
from tests.helpers import dyadic, gated_graph, inputs, scalar, without
from tests.nir_helpers import CONV, affine, euler, graphs, lif, net, saved

nir = pytest.importorskip("nir", reason="NIR files need the extra nir")


@settings(deadline=None, max_examples=60)
@given(graph=graphs(), dt=st.sampled_from([1e-4, 1e-3, 2.0**-10, 1.0]), seed=st.integers(0, 99))
def test_files_give_the_graph_back_to_the_bit(tmp_path_factory, graph, dt, seed):
    path = tmp_path_factory.mktemp("nir") / "net.nir"
    lossy = saved(graph, path, dt=dt)
    read = load_nir(path)
    assert graph_hash(read) == graph_hash(graph)
    x = np.random.default_rng(seed).random((2, *graph.nodes[0].shape)).astype(np.float32)
    with np.errstate(over="ignore"):  # decays above 1
        np.testing.assert_array_equal(simulate(read, x).output, simulate(graph, x).output)
    made = nir.read(path, type_check=False)
    assert sum(isinstance(node, nir.Input) for node in made.nodes.values()) == 1
    if not any("type_check=False" in sentence for sentence in lossy):
        assert nir.read(path).nodes.keys() == made.nodes.keys()  # nir adds an Output where one is missing


def test_the_content_is_that_of_nir(tmp_path):
    """Types, conventions and metadata, field by field."""
    graph = gated_graph(exact=False)
    saved(graph, tmp_path / "net.nir", dt=2.0**-10)
    made = nir.read(tmp_path / "net.nir", type_check=False)
    node = made.nodes["pln.lif2"]
    beta, threshold = (
        v.astype(np.float64).reshape(3, 2, 3) for v in (graph["pln.lif2"].beta, graph["pln.lif2"].threshold)
    )
    assert (type(node), node.tau.dtype, node.r.dtype) == (nir.LIF, np.float64, np.float64)
    np.testing.assert_array_equal(node.tau, 2.0**-10 / (1 - beta))
    np.testing.assert_array_equal(node.r, 1 / (1 - beta))
    np.testing.assert_array_equal(node.v_threshold, threshold)
    assert not node.v_leak.any()
    assert not node.v_reset.any()
    assert node.metadata == {"reset": "subtract", "reset_delay": True}
    assert made.nodes["pln.lif1"].tau.shape == (4, 4, 8)
    assert made.nodes["pln.gate1"].metadata == {"gate": "nm.channel_gate"}
    assert made.nodes["nm.relu"].metadata == {"function": "relu"}
    assert made.nodes["nm.channel_gate"].metadata == {"step": 2**-4, "levels": 2**4}
    node = made.nodes["nm.maximum"]
    assert (type(node), node.metadata) == (nir.AvgPool2d, {"function": "maximum"})
    assert [option.tolist() for option in (node.kernel_size, node.stride, node.padding)] == [[3, 3], [1, 1], [1, 1]]
    assert ("nm.channel_gate", "pln.gate1") not in made.edges
    ours = made.metadata["snn_anml"]
    assert (ours["dt"], ours["steps"], ours["encoding"], ours["schema"]) == (2.0**-10, 5, "constant", 3)
    assert ours["sha256"] == graph_hash(graph)
    assert [entry["name"] for entry in json.loads(ours["graph"])["nodes"]] == [node.name for node in graph.nodes]


def test_neurons_that_do_not_leak_are_exact_in_the_file_too(tmp_path):
    beta = np.array([1, 0.9, 0, 1 - 2.0**-24], np.float32)
    saved(net(LIF("l", ("in",), beta, scalar(1))), tmp_path / "net.nir")
    node = nir.read(tmp_path / "net.nir").nodes["l"]
    np.testing.assert_array_equal((1 - 1e-4 / node.tau).astype(np.float32), beta)
    assert 1 - 1e-4 / node.tau[0] == 1
    np.testing.assert_allclose(node.r * 1e-4 / node.tau, 1, rtol=1e-15)


def everything_nir_knows(long=False):
    """Layers that NIR's own equations say exactly, all neurons among them; every number is dyadic."""
    rng = np.random.default_rng(1)
    kernel, stride, padding = ((1, 3), (1, 2), (0, 1)) if long else ((3, 3), (2, 2), (1, 1))
    size = 9 if long else 8

    def neuron(name, source, **options):
        return LIF(name, (source,), scalar(0.75), scalar(0.375), **({"reset": "zero", "reset_delay": False} | options))

    def conv(name, source, out, channels, groups=1):
        weight = dyadic(rng, out, channels // groups, *kernel)
        return Conv2d(name, (source,), weight, dyadic(rng, out), stride, padding, (1, 1), groups)

    nodes = [conv("c1", "in", 4, 2), neuron("l1", "c1"), conv("c2", "l1", 4, 4)]
    nodes.append(Integrator("current", ("c2",), scalar(0.5)))
    nodes += [neuron("l2", "current"), affine("f", "l2", 6, 4 * 3 if long else 4 * 4), neuron("l3", "f", reset="none")]
    nodes += [affine("g", "l3", 6, 6), Integrator("other", ("g",), np.array([0.5] * 3 + [1] * 3, np.float32))]
    nodes += [neuron("l4", "other", reset="none"), affine("h", "l4", 3, 6), Integrator("v", ("h",), scalar(0.25))]
    return net(*nodes, shape=(2, size) if long else (2, size, size), steps=6)


@pytest.mark.parametrize("long", [False, True])
def test_the_file_alone_says_what_the_graph_computes(tmp_path, long):
    """NIR's equations under Euler, which know nothing of this project, give the same spikes and the same output."""
    graph = everything_nir_knows(long)
    lossy = saved(graph, tmp_path / "net.nir", dt=2.0**-10)
    assert [sentence.split(":")[0] for sentence in lossy] == ["l3, l4, v", "out"]
    made = nir.read(tmp_path / "net.nir")
    kinds = {type(node).__name__ for node in made.nodes.values()}
    assert kinds == {
        *("Input", "Conv1d" if long else "Conv2d", "LIF", "CubaLIF", "Flatten", "Affine", "LI", "CubaLI"),
        *("Threshold", "Output"),
    }
    x = np.random.default_rng(2).integers(0, 17, (1, *graph.nodes[0].shape)).astype(np.float32) / 16
    recording = simulate(graph, x)
    found = euler(made, x[0], graph.steps, 2.0**-10)
    for name, spikes in recording.spikes.items():
        assert 0.02 < spikes.mean() < 0.98, name
        np.testing.assert_array_equal(found[name].reshape(graph.steps, -1), spikes[0], err_msg=name)
    np.testing.assert_allclose(found["out"].mean(0), recording.output[0], rtol=1e-6)


def test_a_current_that_others_read_too_is_a_node_of_its_own(tmp_path):
    current = Integrator("i", ("in",), scalar(0.5))
    graph = net(current, lif("i"), lif("i", name="m"), affine("f", "m", 3, 4), lif("f", name="o"), steps=6)
    saved(graph, tmp_path / "net.nir", dt=2.0**-10)
    made = nir.read(tmp_path / "net.nir")
    assert not any(isinstance(node, nir.CubaLIF) for node in made.nodes.values())
    x = np.random.default_rng(0).integers(0, 5, (1, 4)).astype(np.float32) / 8
    found = euler(made, x[0], graph.steps, 2.0**-10)
    for name, spikes in simulate(graph, x).spikes.items():
        np.testing.assert_array_equal(found[name], spikes[0], err_msg=name)


def test_names_of_the_graph_come_before_names_that_are_made(tmp_path):
    """A node called like what would be added: the Flatten, the membrane before a Threshold, the Output of a leaf."""
    names = ("f.flatten", "in.flatten", "l.membrane", "leaf.output")
    extra = [lif("f", name=name) for name in names]
    nodes = (affine("f", "in", 4, 4), *extra, lif("f", reset="none"), lif("f", name="leaf"), affine("g", "l", 2, 4))
    graph = net(*nodes, shape=(1, 2, 2))
    saved(graph, tmp_path / "net.nir")
    made = nir.read(tmp_path / "net.nir")
    assert all(isinstance(made.nodes[name], nir.LIF) for name in names)
    added = {"in.flatten_": nir.Flatten, "l.membrane_": nir.LI, "leaf.output_": nir.Output}
    assert {name: type(made.nodes[name]) for name in added} == added
    assert graph_hash(load_nir(tmp_path / "net.nir")) == graph_hash(graph)


LOSSY = {
    "encoding": (
        Graph((Input("in", (), (4,), "rate"), lif(), Readout("out", ("l",))), 3),
        "in: samples enter as spikes",
    ),
    "subtract": (net(lif(reset="subtract")), "l: the reset subtracts"),
    "delay": (net(lif(reset_delay=True)), "l: the reset follows one step after"),
    "none": (net(lif(reset="none")), "l: neurons without reset"),
    "integrator": (net(Integrator("v", ("in",), scalar(0.5))), "v: neurons without reset, or without spikes"),
    "decay": (net(replace(lif(), beta=scalar(1.5))), "l: a decay below 0 or above 1"),
    "gate": (net(affine("a", "in", 4, 4), Gate("g", ("in", "a")), lif("g")), "g: NIR has no product"),
    "relu": (net(Activation("r", ("in",), "relu"), lif("r")), "r: NIR has no such function"),
    "quantize": (net(Quantize("q", ("in",), 0.1, 10), lif("q")), "q: NIR has no such function"),
    "maximum": (net(MaxPool2d("m", ("in",), (3, 2), (1, 2), (1, 0)), lif("m"), shape=(2, 6, 6)), "m: NIR has no max"),
    "oblong": (
        net(replace(CONV, weight=np.ones((2, 2, 3, 2), np.float32)), lif("c"), shape=(2, 6, 6)),
        "c: nir gets the shapes",
    ),
    "groups": (
        net(replace(CONV, groups=2, weight=CONV.weight[:, :1]), lif("c"), shape=(2, 6, 6)),
        "c: nir gets the shapes",
    ),
}


@pytest.mark.parametrize("item", LOSSY)
def test_every_lossy_item_is_said_and_warned_of(tmp_path, item):
    graph, expected = LOSSY[item]
    with pytest.warns(LossyExportWarning) as caught:
        lossy = save_nir(graph, tmp_path / "net.nir")
    assert [str(warning.message) for warning in caught] == lossy
    assert all(warning.filename == __file__ for warning in caught)
    said = [sentence for sentence in lossy if not sentence.startswith("out: the mean over the T = 3 steps")]
    assert len(said) == 1
    assert said[0].startswith(expected)
    assert graph_hash(load_nir(tmp_path / "net.nir")) == graph_hash(graph)
    with pytest.raises(ValueError, match="type mismatch") if "shapes" in expected else contextlib.nullcontext():
        nir.read(tmp_path / "net.nir")


def test_what_is_not_lossy_is_not_warned_of(tmp_path):
    pool = AvgPool2d("p", ("l",), (2, 2), (2, 2))
    plain = net(CONV, lif("c"), pool, affine("a", "p", 3, 8), lif("a", name="l2"), shape=(2, 6, 6))
    assert [sentence[:4] for sentence in saved(plain, tmp_path / "net.nir")] == ["out:"]
    assert saved(net(affine("a", "in", 3, 4)), tmp_path / "net.nir") == []


def test_a_file_without_gates_opens_where_gates_are_unknown(tmp_path):
    """Constant gates are values of nir.Scale, and what makes them is no node of the file."""
    graph = without(gated_graph(), "nm.membrane")
    lowered = lower_gates(graph, inputs(samples=2), into="constant")
    lossy = saved(lowered.graphs[1], tmp_path / "net.nir")
    assert not any("gate" in sentence for sentence in lossy)
    made = nir.read(tmp_path / "net.nir", type_check=False)
    assert set(made.nodes) == {
        *("input", "pln.conv1", "pln.gate1", "pln.lif1", "pln.maximum1", "pln.pool", "pln.conv2", "pln.maximum2"),
        *("pln.lif2", "pln.lif2.flatten"),
        *("pln.fc1", "pln.gate2", "pln.lif3", "pln.fc2", "readout"),
    }
    values = simulate(graph, inputs(samples=2)).values["nm.channel_gate"][1, 0]
    np.testing.assert_array_equal(made.nodes["pln.gate1"].scale, np.broadcast_to(values[:, None, None], (4, 4, 8)))
    assert graph_hash(load_nir(tmp_path / "net.nir")) == graph_hash(lowered.graphs[1])


@pytest.mark.parametrize(
    ("reset", "delay", "filtered"),
    [("zero", False, False), ("zero", False, True), ("zero", True, False), ("subtract", True, False)],
)
def test_snntorch_reads_our_files(tmp_path, reset, delay, filtered):
    """The same spikes for a reset to zero; others it resets to zero, and loses them. See docs/nir.md."""
    pytest.importorskip("nirtorch", reason="snnTorch reads NIR files with nirtorch")
    graph = nir_readers.network(reset, delay, steps=6)
    if filtered:  # a CubaLIF
        behind = [replace(node, inputs=("i",)) if node.name == "lif2" else node for node in graph.nodes]
        graph = Graph((*behind[:4], Integrator("i", ("conv2",), scalar(0.5)), *behind[4:]), graph.steps)
    x = np.random.default_rng(0).random((5, 1, 28, 28)).astype(np.float32)
    reference = simulate(graph, x)
    assert all(0.02 < spikes.mean() < 0.9 for spikes in reference.spikes.values())
    saved(graph, tmp_path / "net.nir")
    fidelity = compare(nir_readers.spikes_of(nir_readers.by_snntorch(tmp_path / "net.nir"), graph, x), reference)
    assert fidelity.slots == 5 * 6 * (16 * 14 * 14 + 16 * 7 * 7 + 20)
    assert (fidelity.mismatches == 0) == (reset == "zero")


def test_workarounds_for_snntorch_are_still_needed(tmp_path):
    """When this fails, `_batched` of benchmarks/nir_readers.py can go."""
    pytest.importorskip("nirtorch", reason="snnTorch reads NIR files with nirtorch")
    from snntorch.import_nir import import_from_nir

    graph = nir_readers.network("zero", False, steps=1)
    saved(graph, tmp_path / "net.nir")
    with contextlib.redirect_stdout(io.StringIO()):
        module = import_from_nir(nir.read(tmp_path / "net.nir"))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        nir_readers.spikes_of(module, graph, np.zeros((2, 1, 28, 28), np.float32))


def test_nir_is_imported_when_first_used(tmp_path, monkeypatch):
    program = "import sys, converters; sys.exit('nir' in sys.modules or 'h5py' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], timeout=120).returncode == 0
    monkeypatch.setitem(sys.modules, "nir", None)
    for use in (lambda: save_nir(net(lif()), tmp_path / "net.nir"), lambda: load_nir(tmp_path / "net.nir")):
        with pytest.raises(MissingExtraError, match=r"snn-anml\[nir\]"):
            use()
