"""NIR files of other programs: what they say by NIR's equations, and refusals by name."""

import warnings
from itertools import pairwise

import numpy as np
import pytest
import snntorch
import torch
from torch import nn

from converters import graph_hash, load_nir, save_nir, simulate
from converters.graph import LIF, Affine, Gate, Integrator
from snn_anml.errors import UserError
from tests.from_torch_helpers import stepped
from tests.helpers import dyadic
from tests.nir_helpers import euler

nir = pytest.importorskip("nir", reason="NIR files need the extra nir")

DT = 1e-3
RNG = np.random.default_rng(0)
TOLD = {"steps": 8, "dt": DT, "reset": "zero"}


def chain(path, *nodes, extra=()):
    """A file of nodes in a row, called n0, n1, ...; nir's own check is left out."""
    names = [f"n{i}" for i in range(len(nodes))]
    edges = [*pairwise(names), *extra]
    made = nir.NIRGraph(dict(zip(names, nodes, strict=True)), edges, type_check=False)
    nir.write(path, made)
    return made


def whole(shape, tau=4 * DT, r=None, threshold=0.5, kind="LIF"):
    """Parameters of neurons, of full shape."""

    def full(value):
        return np.broadcast_to(np.asarray(value, np.float64), shape).copy()

    r = full(np.asarray(tau) / DT if r is None else r)
    values = {
        "LIF": {"tau": full(tau), "r": r, "v_leak": full(0), "v_threshold": full(threshold)},
        "LI": {"tau": full(tau), "r": r, "v_leak": full(0)},
        "IF": {"r": r, "v_threshold": full(threshold)},
        "I": {"r": r},
        "CubaLIF": {"tau_mem": full(tau), "tau_syn": full(2 * DT), "r": r, "v_leak": full(0)}
        | {"v_threshold": full(threshold), "w_in": full(1)},
        "CubaLI": {"tau_mem": full(tau), "tau_syn": full(2 * DT), "r": r, "v_leak": full(0), "w_in": full(2)},
    }
    return getattr(nir, kind)(**values[kind])


def pictures(*layers, shape=(2, 8, 8)):
    """A file that looks at pictures: the layers, neurons, and what they send as it is."""
    return nir.Input(np.array(shape)), *layers


def conv(*shape, stride=1, padding=0, dilation=1, groups=1):
    """The shape of the input, which nir asks for, is not what it will be fed with."""
    kind, size = (nir.Conv2d, (9, 9)) if len(shape) == 4 else (nir.Conv1d, 9)
    return kind(size, dyadic(RNG, *shape), stride, padding, dilation, groups, dyadic(RNG, shape[0]))


def pool(kind, kernel=(2, 2), stride=(2, 2), padding=(0, 0)):
    return kind(*map(np.array, (kernel, stride, padding)))


OUT = nir.Output(np.array([1]))
PER_NEURON = np.array([0.25, 0.5, 1.0, 2.0])
FILES = {
    "convolutions": (
        *pictures(conv(4, 2, 3, 3, stride=2, padding=(1, 0)), whole((4, 4, 3)), pool(nir.AvgPool2d)),
        *(conv(4, 2, 2, 1, dilation=(1, 1), groups=2, padding="valid"), whole((1,)), OUT),
    ),
    "same": (*pictures(conv(2, 2, 3, 5, padding="same", dilation=(2, 1)), whole((2, 1, 1))), OUT),
    "sum pool": (*pictures(pool(nir.SumPool2d, (3, 2), (2, 2), (1, 0)), whole((2, 4, 4), threshold=3)), OUT),
    "number options": (*pictures(nir.AvgPool2d(2, 2, 0), whole((2, 4, 4))), OUT),
    "signal": (
        *(nir.Input(np.array([2, 20])), conv(4, 1, 3, stride=2, padding=1, groups=2), whole((4, 10))),
        *(conv(2, 4, 3, dilation=2), whole((2, 6)), nir.Flatten(np.array([2, 6]), 0), nir.Linear(dyadic(RNG, 3, 12))),
        *(whole((3,)), OUT),
    ),
    "flatten": (
        *pictures(nir.Flatten(np.array([1, 8, 8]), 1, 2), shape=(1, 8, 8)),
        *(nir.Affine(dyadic(RNG, 5, 64), dyadic(RNG, 5)), whole((5,)), OUT),
    ),
    "per neuron": (
        *(nir.Input(np.array([4])), nir.Affine(dyadic(RNG, 4, 4), dyadic(RNG, 4))),
        *(whole((4,), DT * np.array([2, 4, 8, 1]), None, PER_NEURON), OUT),
    ),
    "r is 1": (nir.Input(np.array([4])), nir.Linear(dyadic(RNG, 4, 4)), whole((4,), r=1, threshold=0.125), OUT),
    "r per neuron": (nir.Input(np.array([4])), whole((4,), r=PER_NEURON, threshold=0.25), OUT),
    "IF": (nir.Input(np.array([4])), whole((4,), r=PER_NEURON * 1024, kind="IF", threshold=1.5), OUT),
    "LI": (nir.Input(np.array([4])), whole((4,), kind="LI"), OUT),
    "LI of r": (nir.Input(np.array([4])), whole((4,), r=PER_NEURON, kind="LI"), whole((4,), threshold=0.25), OUT),
    "I": (nir.Input(np.array([4])), whole((4,), r=1 / DT, kind="I"), OUT),
    "CubaLIF": (nir.Input(np.array([4])), whole((4,), kind="CubaLIF", threshold=2), OUT),
    "CubaLIF of r": (nir.Input(np.array([4])), whole((4,), kind="CubaLIF", r=PER_NEURON), OUT),
    "CubaLI": (nir.Input(np.array([4])), whole((4,), kind="CubaLI", r=2), OUT),
    "threshold": (nir.Input(np.array([4])), whole((4,), kind="LI"), nir.Threshold(np.full(4, 1.0)), OUT),
    "scale": (nir.Input(np.array([4])), nir.Scale(PER_NEURON), whole((4,)), OUT),
    "scale a channel": (
        *pictures(conv(2, 2, 3, 3), nir.Scale(np.broadcast_to([[[0.5]], [[-2.0]]], (2, 6, 6)).copy())),
        *(whole((2, 6, 6)), OUT),
    ),
    "scale a flat picture": (
        *pictures(nir.Flatten(np.array([2, 8, 8]), 0), nir.Scale(RNG.integers(1, 9, 128) / 8)),
        *(whole((128,)), OUT),
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_files_mean_what_nir_says(tmp_path, name):
    """Spikes at every step, and what the last node sends, as NIR's equations under Euler give them in float64."""
    made = chain(tmp_path / "net.nir", *FILES[name])
    graph = load_nir(tmp_path / "net.nir", **TOLD | ({"dt": 2.0**-10} if name == "IF" else {}))
    x = np.random.default_rng(1).integers(0, 17, (3, *graph.nodes[0].shape)).astype(np.float32) / 16
    recording = simulate(graph, x)
    for i, sample in enumerate(x):
        found = euler(nir.read(tmp_path / "net.nir", type_check=False), sample, 8, 2.0**-10 if name == "IF" else DT)
        for layer, spikes in recording.spikes.items():
            np.testing.assert_array_equal(found[layer].reshape(8, -1), spikes[i], err_msg=layer)
        last = found[f"n{len(made.nodes) - 1}"].mean(0).ravel()
        np.testing.assert_allclose(recording.output[i], last, rtol=1e-5)
    for layer, spikes in recording.spikes.items():
        assert 0.01 < spikes.mean() < 0.99, layer


def test_nodes_become_the_simplest_nodes(tmp_path):
    """Equal parameters are one, a weight of 1 adds nothing, and constants are one a channel where that is enough."""
    layers = FILES["scale a channel"]
    chain(tmp_path / "net.nir", *layers[:-1], nir.Scale(np.ones((2, 6, 6))), OUT)
    graph = load_nir(tmp_path / "net.nir", **TOLD, encoding="latency")
    names = ["input", "n1", "nothing", "n2.values", "n2", "n3", "readout"]
    assert [node.name for node in graph.nodes] == names
    assert graph.nodes[0].encoding == "latency"
    assert graph.shapes["n2.values"] == (2,)
    assert graph["n3"].beta.shape == graph["n3"].threshold.shape == ()
    assert (graph["n3"].beta, graph["n3"].threshold) == (0.75, 0.5)
    assert (graph["n3"].reset, graph["n3"].reset_delay) == ("zero", False)


@pytest.mark.parametrize("dt", [1e-4, 1e-3])
@pytest.mark.parametrize("beta", [0.0, 0.5, 0.9, 0.95, 0.99])
def test_the_two_conventions(tmp_path, dt, beta):
    """snnTorch's r = tau / dt keeps the threshold; Norse's r = 1 divides it by 1 - beta. Loops written out."""
    tau = dt / (1 - beta)
    x = np.random.default_rng(0).uniform(0, 0.3, (1, 50)).astype(np.float32)
    for convention, r, threshold in (("snntorch", tau / dt, 1.0), ("norse", 1.0, 0.1)):
        neuron = nir.LIF(*(np.full(50, value) for value in (tau, r, 0, threshold)))
        chain(tmp_path / "net.nir", nir.Input(np.array([50])), neuron, OUT)
        graph = load_nir(tmp_path / "net.nir", steps=40, dt=dt, reset="zero")
        spikes = simulate(graph, x).spikes["n1"][0]
        v = np.zeros(50)
        for t in range(40):
            v = beta * v + x[0] if convention == "snntorch" else v + dt / tau * (x[0] - v)
            np.testing.assert_array_equal(spikes[t], v > threshold)
            v = np.where(v > threshold, 0, v)
        assert graph["n1"].beta == np.float32(beta)


def leaky(shape, kind=snntorch.Leaky, **options):
    decays = {"beta": torch.full(shape, 0.9)} | ({"alpha": torch.full(shape, 0.5)} if kind is snntorch.Synaptic else {})
    return kind(**decays, threshold=torch.full(shape, 0.1), init_hidden=True, **options)


MODELS = {
    "linear": (lambda: nn.Sequential(nn.Linear(36, 8), leaky((8,)), nn.Linear(8, 3), leaky((3,))), (36,)),
    "no bias": (lambda: nn.Sequential(nn.Linear(36, 8, bias=False), leaky((8,))), (36,)),
    "convolution": (
        lambda: nn.Sequential(
            *(nn.Conv2d(1, 4, 3, padding=1), leaky((4, 8, 8)), nn.AvgPool2d((2, 2), (2, 2)), nn.Flatten()),
            *(nn.Linear(64, 3), leaky((3,))),
        ),
        (1, 8, 8),
    ),
    "zero": (lambda: nn.Sequential(nn.Linear(36, 8), leaky((8,), reset_mechanism="zero")), (36,)),
    "synaptic": (lambda: nn.Sequential(nn.Linear(36, 8), leaky((8,), snntorch.Synaptic)), (36,)),
}


@pytest.mark.parametrize("name", MODELS)
def test_files_of_snntorch_where_it_writes_them(tmp_path, name):
    """Its export works where decays and thresholds have the shape of the layer, and the batch is to be ignored."""
    pytest.importorskip("nirtorch", reason="snnTorch writes NIR files with nirtorch")
    from snntorch.export_nir import export_to_nir

    make, shape = MODELS[name]
    torch.manual_seed(0)
    model = make().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of nirtorch, which snnTorch calls by an old name
        nir.write(tmp_path / "net.nir", export_to_nir(model, torch.rand(1, *shape), ignore_dims=[0]))
    reset = "zero" if name == "zero" else "subtract"
    graph = load_nir(tmp_path / "net.nir", steps=10, dt=1e-4, reset=reset, reset_delay=True)
    x = 4 * torch.rand(6, *shape)
    output, spikes, membranes = stepped(model, x, 10)
    recording = simulate(graph, x)
    assert recording.spikes.keys() == spikes.keys()
    for layer, expected in spikes.items():
        assert 0.01 < expected.mean() < 0.99
        np.testing.assert_array_equal(recording.spikes[layer], expected, err_msg=layer)
        np.testing.assert_allclose(recording.membrane[layer], membranes[layer], atol=1e-5)
    np.testing.assert_allclose(recording.output, output, atol=1e-6)


def test_a_file_read_is_a_graph_like_any_other(tmp_path):
    chain(tmp_path / "net.nir", *FILES["CubaLIF of r"])
    graph = load_nir(tmp_path / "net.nir", **TOLD)
    assert [type(node) for node in graph.nodes[1:-1]] == [Integrator, LIF]
    chain(tmp_path / "li.nir", *FILES["LI of r"])
    assert {Affine, Gate, Integrator, LIF} <= {type(node) for node in load_nir(tmp_path / "li.nir", **TOLD).nodes}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        save_nir(graph, tmp_path / "ours.nir", dt=DT)
    assert graph_hash(load_nir(tmp_path / "ours.nir")) == graph_hash(graph)


FOUR = nir.Input(np.array([4]))
LAST = whole((4,))


def changed(**values):
    node = whole((4,))
    for name, value in values.items():
        setattr(node, name, value)
    return node


REFUSED = {
    "delay": ((FOUR, nir.Delay(np.ones(4)), OUT), r"node 'n1' \(Delay\) of .*: it has no counterpart"),
    "nested": ((FOUR, nir.NIRGraph.from_list(nir.Linear(np.eye(4))), OUT), r"'n1' \(NIRGraph\).*no counterpart"),
    "v_leak": ((FOUR, changed(v_leak=np.ones(4)), OUT), r"'n1' \(LIF\).*v_leak other than 0"),
    "v_reset": ((FOUR, changed(v_reset=np.ones(4)), OUT), r"'n1' \(LIF\).*v_reset other than 0"),
    "negative r": ((FOUR, changed(r=-np.ones(4)), OUT), r"'n1' \(LIF\).*weight that is not positive; check r"),
    "tau": ((FOUR, changed(tau=np.full(4, DT / 2)), OUT), r"'n1' \(LIF\).*tau that is not positive, or below dt"),
    "tau zero": ((FOUR, changed(tau=np.zeros(4)), OUT), r"'n1' \(LIF\).*tau that is not positive"),
    "infinite": ((FOUR, changed(tau=np.full(4, np.inf)), OUT), r"'n1' \(LIF\).*tau that is not finite"),
    "shape": ((FOUR, whole((3,)), OUT), r"'n1' \(LIF\).*tau of shape \(3,\), but is fed with shape \(4,\)"),
    "no vector": ((*pictures(nir.Linear(np.eye(8))), OUT), r"'n1' \(Linear\).*needs an input \(n\).*\(2, 8, 8\)"),
    "stacked": ((FOUR, nir.Linear(np.ones((2, 4, 4))), OUT), r"'n1' \(Linear\).*weight of shape \(2, 4, 4\)"),
    "inputs": ((FOUR, nir.Linear(np.ones((2, 3))), OUT), "n1: expects 3 inputs"),
    "bias": ((FOUR, nir.Affine(np.ones((2, 4)), np.ones(3)), OUT), r"'n1' \(Affine\).*bias of shape \(3,\)"),
    "conv input": ((FOUR, conv(2, 4, 3, 3), OUT), r"'n1' \(Conv2d\).*needs an input \(channels, height, width\)"),
    "conv1d input": ((*pictures(conv(2, 2, 3)), OUT), r"'n1' \(Conv1d\).*needs an input \(channels, length\)"),
    "even same": ((*pictures(conv(2, 2, 2, 3, padding="same")), OUT), r"'n1' \(Conv2d\).*pads 'same' with an even"),
    "same stride": ((*pictures(conv(2, 2, 3, 3, padding="same", stride=2)), OUT), r"\(Conv2d\).*'same'.* or a stride"),
    "stride": ((*pictures(conv(2, 2, 3, 3, stride=(1.5, 1))), OUT), r"'n1' \(Conv2d\).*whole numbers of at least 1"),
    "padded": ((*pictures(pool(nir.AvgPool2d, padding=(1, 1))), OUT), r"'n1' \(AvgPool2d\).*pads"),
    "half": ((*pictures(pool(nir.SumPool2d, stride=(0.5, 1))), OUT), r"'n1' \(SumPool2d\).*whole numbers"),
    "three": ((*pictures(pool(nir.SumPool2d, stride=(1, 1, 1))), OUT), r"'n1' \(SumPool2d\).*2 whole numbers"),
    "flatten": ((*pictures(nir.Flatten(np.array([2, 8, 8]))), OUT), r"'n1' \(Flatten\).*shape \(2, 64\), and not a v"),
    "dimension": ((FOUR, nir.Flatten(np.array([4])), OUT), r"'n1' \(Flatten\).*dimensions 1 to -1 of shape \(4,\)"),
    "no input": ((nir.Linear(np.eye(4)), OUT), "has 0 Input nodes; a graph has one"),
    "outputs": ((FOUR, OUT, OUT), r"has 2 Output nodes \(n1, n2\)"),
    "long shape": ((nir.Input(np.ones(4, int)), OUT), r"'n0' \(Input\).*one to three dimensions"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_name(tmp_path, name):
    nodes, message = REFUSED[name]
    chain(tmp_path / "net.nir", *nodes)
    with pytest.raises(UserError, match=message) as error:
        load_nir(tmp_path / "net.nir", **TOLD)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ([("n2", "n1")], r"'n1' \(Linear\).*fed by 2 nodes \(n0, n2\); a graph has neither sums nor loops"),
        ([("n1", "n1")], r"'n1' \(Linear\).*fed by 2 nodes"),
        ([("n2", "n0")], r"'n0' \(Input\).*fed by 1 nodes"),
        ([("n1", "nowhere")], "an edge to or from 'nowhere'"),
    ],
)
def test_loops_and_loose_ends_are_refused(tmp_path, extra, message):
    chain(tmp_path / "net.nir", FOUR, nir.Linear(np.eye(4)), LAST, OUT, extra=extra)
    with pytest.raises(UserError, match=message):
        load_nir(tmp_path / "net.nir", **TOLD)


@pytest.mark.parametrize(
    ("nodes", "edges", "message"),
    [
        ({"a": LAST}, [("in", "out")], r"'a' \(LIF\).*not reached from the Input"),
        ({"a": LAST}, [("in", "out"), ("out", "a")], r"'a' \(LIF\).*reads the Output"),
        ({}, [], r"'out' \(Output\).*not reached from the Input"),
    ],
)
def test_other_shapes_of_graphs_are_refused(tmp_path, nodes, edges, message):
    made = nir.NIRGraph({"in": FOUR, "out": OUT, **nodes}, edges or [("in", "in")], type_check=False)
    if not edges:
        made.edges = [("x", "x")]
        message = "an edge to or from 'x'"
    nir.write(tmp_path / "net.nir", made)
    with pytest.raises(UserError, match=message):
        load_nir(tmp_path / "net.nir", **TOLD)


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"steps": None}, "how many steps it is run for; give load_nir steps=T"),
        ({"dt": None}, r"time constants \('n1'\), but does not say the time step; give load_nir dt="),
        ({"reset": None}, r"spiking neurons \('n1'\).*give load_nir reset='zero'"),
        ({"reset": "subtract"}, "give load_nir reset_delay=True"),
        ({"dt": -1.0}, r"dt = -1\.0; a time step is a positive number"),
        ({"steps": 0}, "steps = 0"),
        ({"reset": "substract"}, r"n1\.reset is 'substract'; known are subtract, zero, none"),
    ],
)
def test_what_a_file_does_not_say_is_asked_for(tmp_path, told, message):
    chain(tmp_path / "net.nir", FOUR, LAST, OUT)
    with pytest.raises(UserError, match=message):
        load_nir(tmp_path / "net.nir", **TOLD | told)


def test_what_a_file_does_not_need_is_not_asked_for(tmp_path):
    chain(tmp_path / "net.nir", FOUR, nir.Linear(dyadic(RNG, 3, 4)), OUT)
    assert load_nir(tmp_path / "net.nir", steps=1).size("n1") == 3
