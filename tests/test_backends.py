"""Every backend against the interpreter: bit for bit on dyadic numbers, spike for spike on any others."""

import importlib
from dataclasses import replace

import numpy as np
import pytest
import snntorch
import torch
from torch import nn

from converters import backends, compare, encode_inputs, from_torch, open_simulator, register, simulate, to_nengo
from converters.graph import LIF, Activation, Affine, Conv2d, Graph, Input, MaxPool2d, Quantize, Readout
from converters.interpreter import Interpreter, affine, conv2d
from converters.simulate import default_minibatch
from snn_anml.errors import MissingExtraError, UserError
from tests.from_torch_helpers import dyadic_model, samples
from tests.helpers import BACKENDS, assert_identical, gated_graph, inputs, require, scalar

RESETS = [(reset, delay) for reset in ("subtract", "zero", "none") for delay in (True, False)]


@pytest.mark.parametrize("backend", BACKENDS[1:])
@pytest.mark.parametrize(("reset", "delay"), RESETS)
def test_dyadic_numbers_are_bit_identical(backend, reset, delay):
    require(backend)
    graph = gated_graph(reset=reset, reset_delay=delay)
    reference = simulate(graph, inputs())
    for name, spikes in reference.spikes.items():
        assert 0.02 < spikes.mean() < 0.98, f"{name} shows nothing: {spikes.mean()}"
    recording = simulate(graph, inputs(), backend=backend, minibatch=2)
    assert_identical(recording, reference)
    assert compare(recording, reference).identical
    assert recording.backend == backend
    assert recording.build_seconds > 0
    assert recording.run_seconds > 0


def of_snntorch(dims):
    """A graph with what a model of snnTorch can hold beyond `gated_graph`, on samples of one or two dimensions."""
    conv, pool = ((nn.Conv1d, nn.MaxPool1d), (nn.Conv2d, nn.MaxPool2d))[dims - 1]
    hidden = {"threshold": 0.5, "init_hidden": True}
    layers = [
        conv(2, 4, 3, padding=2, dilation=2, groups=2),
        pool(3, 1, padding=1),
        snntorch.Lapicque(R=2, C=0.7, **hidden),
        pool(2),
        pool(3, 1, padding=1),
        conv(4, 4, 3, stride=2, padding=1, groups=4),
        pool(2, 1, padding=1),
        snntorch.Synaptic(0.5, 0.75, reset_mechanism="zero", reset_delay=False, **hidden),
        nn.Flatten(),
        nn.Linear(4 * 3**dims, 6),
        snntorch.Lapicque(0.5, reset_mechanism="none", **hidden),
    ]
    x = samples(1, 3, 2, *(8, 6)[:dims])
    return from_torch(dyadic_model(nn.Sequential(*layers), 0), steps=5, example_input=x), x


@pytest.mark.parametrize("backend", BACKENDS[1:])
@pytest.mark.parametrize("dims", [1, 2])
def test_models_of_snntorch_are_bit_identical(backend, dims):
    require(backend)
    graph, x = of_snntorch(dims)
    reference = simulate(graph, x)
    for name, spikes in reference.spikes.items():
        assert 0.02 < spikes.mean() < 0.98, f"{name} shows nothing: {spikes.mean()}"
    assert_identical(simulate(graph, x, backend=backend, minibatch=2), reference)


def quantum(values):
    """The largest power of two of which all values are multiples."""
    values = values.astype(np.float64)
    return next(2.0**-k for k in range(60) if (values * 2.0**k % 1 == 0).all())


@pytest.mark.parametrize("reset", ["subtract", "zero", "none"])
def test_the_dyadic_graph_is_exact(reset):
    """No partial sum needs more than float32's 24 bits, so that no order of addition can matter."""
    graph = gated_graph(reset=reset)
    reference = simulate(graph, inputs())
    for node in graph.of_type(Affine, Conv2d):
        x = reference.source(node.inputs[0])
        x = np.abs(x).astype(np.float64).reshape(-1, *graph.shapes[node.inputs[0]])
        absolute = replace(node, weight=np.abs(node.weight), bias=np.abs(node.bias))
        largest = (conv2d if isinstance(node, Conv2d) else affine)(x, absolute).max()
        assert largest < 2**24 * min(quantum(x) * quantum(node.weight), quantum(node.bias)), node.name


@pytest.mark.parametrize("backend", BACKENDS[1:])
@pytest.mark.parametrize("seed", [1, 2])
def test_float_numbers_spike_alike(backend, seed):
    """A flip is allowed only where the membrane was within rounding of the threshold."""
    require(backend)
    graph = gated_graph(seed, exact=False, steps=8)
    reference = simulate(graph, inputs(seed, 6, exact=False))
    fidelity = compare(simulate(graph, inputs(seed, 6, exact=False), backend=backend), reference)
    assert fidelity.slots > 7000
    assert all(spikes.any() for spikes in reference.spikes.values())
    if fidelity.origin is None:
        assert fidelity.max_output_difference < 1e-5
    else:
        assert fidelity.origin[1].margin < 1e-5


@pytest.mark.parametrize("backend", BACKENDS[1:])
def test_the_same_currents_give_the_same_bits(backend):
    """Any float parameters: all resets side by side, driven by currents that no rounding can change."""
    require(backend)
    rng, n = np.random.default_rng(0), 200
    nodes = [Input("input", (), (n,)), Affine("fc", ("input",), np.eye(n, dtype=np.float32), np.zeros(n, np.float32))]
    for reset, delay in RESETS:
        beta, threshold = (rng.uniform(0.5, 1, n).astype(np.float32) for _ in range(2))
        nodes.append(LIF(f"{reset}{delay}", ("fc",), beta, threshold, reset, delay))
        nodes.append(LIF(f"{reset}{delay}.all", ("fc",), scalar(0.9), scalar(0.7), reset, delay))
    graph = Graph((*nodes, Readout("out", ("fc",))), 30)
    x = rng.random((4, n)).astype(np.float32)
    reference = simulate(graph, x)
    assert all(0.01 < spikes.mean() < 0.99 for spikes in reference.spikes.values())
    assert_identical(simulate(graph, x, backend=backend), reference)


@pytest.mark.parametrize("backend", BACKENDS[1:])
def test_maxima_and_rounding_are_the_same_bits(backend):
    """Windows of many forms, and steps of all sizes with values at, just below and just above the middle of two."""
    require(backend)
    shape, nodes = (2, 7, 9), [Input("input", (), (2, 7, 9))]
    windows = [((2, 2), (2, 2)), ((3, 2), (1, 2), (1, 1)), ((5, 4), (2, 3), (2, 2)), ((7, 9), (1, 1)), ((1, 1), (2, 3))]
    steps = [np.float32(step) for step in (0.1, 1 / 3, 0.007, 0.013, 2**-8)]
    kinds = [MaxPool2d(f"maximum{i}", ("input",), *window) for i, window in enumerate(windows)]
    kinds += [Quantize(f"levels{i}", ("input",), float(step), 100) for i, step in enumerate(steps)]
    for node in kinds:  # what feeds a synapse is recorded
        weight = np.ones((1, int(np.prod(node.infer_shape([shape])))), np.float32)
        nodes += [node, Affine(f"{node.name}.fc", (node.name,), weight, np.zeros(1, np.float32))]
    graph = Graph((*nodes, Readout("out", ("input",))), 1)
    middle = ((np.arange(126) - 5.5).astype(np.float32) * steps[i] for i in range(5))
    x = np.concatenate([[np.nextafter(v, -np.inf), v, np.nextafter(v, np.inf)] for v in middle]).astype(np.float32)
    x = np.concatenate([x, -x[:, ::-1]]).reshape(-1, *shape)
    reference = simulate(graph, x)
    for i, step in enumerate(steps[:4]):  # where a product with 1 / step would be seen
        other = step * np.clip(np.rint(x * (np.float32(1) / step)), 0, 100).reshape(len(x), 1, -1)
        assert (other != reference.values[f"levels{i}"]).any()
    assert_identical(simulate(graph, x, backend=backend), reference)


@pytest.mark.parametrize("backend", BACKENDS[1:])
@pytest.mark.parametrize("encoding", ["rate", "latency"])
def test_spike_inputs(backend, encoding):
    require(backend)
    graph = gated_graph(encoding=encoding, steps=4)
    reference = simulate(graph, inputs(), seed=3)
    assert set(np.unique(reference.values["input"])) == {0, 1}
    assert_identical(simulate(graph, inputs(), backend=backend, seed=3), reference)
    if encoding == "rate":
        other = simulate(graph, inputs(), seed=4)
        assert not np.array_equal(other.values["input"], reference.values["input"])


@pytest.mark.parametrize("backend", BACKENDS)
def test_build_once_run_many(backend):
    """A second run starts from rest, and a smaller last minibatch is the same samples."""
    require(backend)
    graph, x = gated_graph(steps=3), inputs(samples=5)
    reference = simulate(graph, x)
    with open_simulator(graph, backend=backend, minibatch=2) as simulator:
        assert_identical(simulator.run(x), reference)
        assert_identical(simulator.run(torch.from_numpy(x)), reference)
        assert [len(part.output) for part in simulator.stream(x)] == [2, 2, 1]
    with pytest.raises(UserError, match="closed"):
        simulator.run(x)


@pytest.mark.parametrize("backend", BACKENDS[1:])
def test_extreme_activations_and_a_static_output(backend):
    """A network without spikes: sigmoids far out, and an output that is the same at every step."""
    require(backend)
    weight = np.array([[200.0], [-200.0], [0.5], [-1e-3]], np.float32)
    graph = Graph(
        (
            Input("input", (), (1,)),
            Affine("fc", ("input",), weight, np.zeros(4, np.float32)),
            Activation("gate", ("fc",), "sigmoid"),
            Readout("out", ("gate",)),
        ),
        steps=3,
    )
    x = np.array([[1.0], [0.3]], np.float32)
    expected = 1 / (1 + np.exp(-(x.astype(np.float64) @ weight.T.astype(np.float64))))
    np.testing.assert_allclose(simulate(graph, x, backend=backend).output, expected, atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS[1:])
def test_close_parameters_are_not_merged(backend):
    """beta 0.9 and 0.900001 in twin layers must stay apart: NengoDL would take them for equal."""
    require(backend)
    eye, none = np.eye(3, dtype=np.float32), np.zeros(3, np.float32)
    nodes = [Input("input", (), (3,))]
    for name, beta in (("a", 0.9), ("b", 0.900001)):
        nodes.append(Affine(f"{name}.fc", ("input",), eye, none))
        nodes.append(LIF(f"{name}.lif", (f"{name}.fc",), scalar(beta), scalar(100.0)))
    nodes += [Affine("fc", ("b.lif",), eye, none), Readout("out", ("fc",))]
    graph, x = Graph(tuple(nodes), 6), np.array([[0.3, 0.5, 0.7]], np.float32)
    reference = simulate(graph, x)
    recording = simulate(graph, x, backend=backend)
    assert (recording.membrane["a.lif"] != recording.membrane["b.lif"]).any()
    assert_identical(recording, reference)


def test_the_nengo_network_is_readable():
    require("nengo")
    network = to_nengo(gated_graph())
    labels = {thing.label for thing in (*network.all_nodes, *network.all_ensembles)}
    assert {node.name for node in gated_graph().nodes} <= labels


def test_settings_of_others_are_restored():
    require("nengo-dl")
    import nengo
    import tensorflow as tf

    graph, x = gated_graph(steps=1), inputs(samples=1)
    options = tf.config.optimizer.get_experimental_options().get("arithmetic_optimization", True)
    simulate(graph, x, backend="nengo-dl")
    assert tf.config.optimizer.get_experimental_options().get("arithmetic_optimization", True) == options
    assert nengo.rc.get("precision", "bits") == "64"
    assert nengo.rc.get("decoder_cache", "enabled") == "True"


@pytest.mark.parametrize("backend", ["nengo", "nengo-dl"])
def test_the_cache_of_decoders_is_left_alone(backend, monkeypatch):
    """It has a lock for which several processes would wait."""
    require(backend)

    def locked(*_):
        raise AssertionError("the cache of decoders was asked for")

    monkeypatch.setattr("nengo.cache.DecoderCache", locked)
    simulate(gated_graph(steps=1), inputs(samples=1), backend=backend)


def test_workarounds_for_nengo_dl_are_still_needed():
    """When this fails, the adapter can shrink: `exact_constant` or `divide_no_nan`."""
    require("nengo-dl")
    from types import SimpleNamespace

    import tensorflow as tf
    from nengo_dl.signals import SignalDict

    from converters.nengo_dl import DEVICE, exact_arithmetic
    from converters.nengo_dl_neurons import exact_constant

    close = [0.9, 0.900001]
    theirs = SignalDict("float32", 1).op_constant([SimpleNamespace(b=b) for b in close], [1, 1], "b", "float32")
    assert theirs.shape == ()
    assert exact_constant([np.array([b]) for b in close], [1, 1]).shape == (1, 2)

    step, x = np.float32(0.1), np.random.default_rng(0).random(1000).astype(np.float32)

    def differ(divide):
        def both(x):
            quotient = divide(x, tf.constant(step))
            return quotient, tf.sqrt(tf.abs(quotient)) + tf.exp(x)  # TensorFlow leaves the smallest graphs as they are

        with tf.device(DEVICE), exact_arithmetic(tf):
            return (tf.function(both, autograph=False)(tf.constant(x))[0].numpy() != x / step).any()

    assert differ(tf.divide)
    assert not differ(tf.math.divide_no_nan)


@pytest.mark.parametrize("backend", ["nengo", "nengo-dl"])
def test_missing_packages_name_the_extra(backend, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "nengo" if backend == "nengo" else "nengo_dl", None)
    if backend == "nengo-dl":
        monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(MissingExtraError, match=r"snn-anml\[nengo\]"):
        simulate(gated_graph(), inputs(), backend=backend)


def test_own_backends_can_be_registered(monkeypatch):
    # The package exports a function of the same name as the module.
    module = importlib.import_module("converters.simulate")
    monkeypatch.setattr(module, "_BACKENDS", dict.fromkeys(backends(), ""))
    register("mine", lambda graph, minibatch: Interpreter(graph))
    assert simulate(gated_graph(), inputs(), backend="mine").backend == "mine"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"backend": "nengo_dl"}, "Unknown backend 'nengo_dl'; known are interpreter"),
        ({"inputs": np.zeros((3, 8, 8))}, r"shape \(3, 8, 8\).*\(samples, 2, 8, 8\)"),
        ({"inputs": np.zeros((0, 2, 8, 8))}, "at least one"),
        ({"minibatch": 0}, "minibatch = 0"),
    ],
)
def test_mistakes_are_named(change, message):
    with pytest.raises(UserError, match=message):
        simulate(gated_graph(), **({"inputs": inputs()} | change))


@pytest.mark.parametrize("encoding", ["constant", "rate", "spikes"])
@pytest.mark.parametrize(("value", "count"), [(np.nan, 2), (-np.inf, 1), (1e300, 3)])  # the last overflows float32
def test_samples_that_are_not_finite_are_refused(encoding, value, count):
    graph = gated_graph(encoding=encoding)
    x = np.zeros((4, graph.steps, 2, 8, 8) if encoding == "spikes" else (4, 2, 8, 8))
    x.reshape(4, -1)[:count, 5] = value
    with pytest.raises(UserError, match=f"^Of {x.size} values of the inputs {count} are NaN or infinite .*; give numb"):
        simulate(graph, x)


def test_encoding_is_that_of_training():
    from snn_anml.encoding import encode

    graph, x = gated_graph(encoding="rate"), inputs()
    ours = encode_inputs(graph, x, seed=7)
    theirs = encode(torch.from_numpy(x), "rate", graph.steps, torch.Generator().manual_seed(7))
    np.testing.assert_array_equal(ours, theirs.numpy())


def test_default_minibatch_bounds_memory():
    big = Graph(
        (
            Input("input", (), (1, 256, 256), "rate"),
            Conv2d("conv", ("input",), np.zeros((64, 1, 1, 1), np.float32), np.zeros(64, np.float32)),
            Readout("out", ("conv",)),
        ),
        steps=50,
    )
    assert default_minibatch(big, 1000) == 1
    assert default_minibatch(gated_graph(), 1000) == 1000
