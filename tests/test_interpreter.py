"""The reference interpreter against torch and snnTorch, which it does not use."""

import hypothesis.strategies as st
import numpy as np
import snntorch
import torch
from hypothesis import given, settings
from torch.nn import functional as F

from converters import interpreter, simulate
from converters.graph import LIF, Affine, AvgPool2d, Conv2d, Graph, Input, Integrator, MaxPool2d, Readout
from tests.helpers import gated_graph, inputs, scalar

SIZES = st.tuples(st.integers(1, 3), st.integers(1, 3))


@settings(deadline=None, max_examples=40)
@given(
    kernel=SIZES,
    stride=SIZES,
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    dilation=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    size=st.tuples(st.integers(7, 9), st.integers(7, 9)),
    channels=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    groups=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_convolution_and_pool(kernel, stride, padding, dilation, size, channels, groups, seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((2, channels[0] * groups, *size)).astype(np.float32)
    weight = rng.standard_normal((channels[1] * groups, channels[0], *kernel)).astype(np.float32)
    bias = rng.standard_normal(len(weight)).astype(np.float32)
    node = Conv2d("c", (), weight, bias, stride, padding, dilation, groups)
    ours = interpreter.conv2d(x, node)
    tensors = map(torch.from_numpy, (x, weight, bias))
    theirs = F.conv2d(*tensors, stride, padding, dilation, groups).numpy()
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert ours.dtype == np.float32
    assert ours.shape[1:] == node.infer_shape([x.shape[1:]])

    pool = AvgPool2d("p", (), kernel, stride)
    ours = interpreter.avg_pool2d(x, pool)
    np.testing.assert_allclose(ours, F.avg_pool2d(torch.from_numpy(x), kernel, stride).numpy(), atol=1e-6)
    assert ours.dtype == np.float32
    assert ours.shape[1:] == pool.infer_shape([x.shape[1:]])


@settings(deadline=None, max_examples=60)
@given(
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=SIZES,
    size=st.tuples(st.integers(5, 9), st.integers(5, 9)),
    seed=st.integers(0, 99),
    data=st.data(),
)
def test_maximum_pool(kernel, stride, size, seed, data):
    padding = tuple(data.draw(st.integers(0, k // 2)) for k in kernel)
    x = np.random.default_rng(seed).standard_normal((2, 3, *size)).astype(np.float32) - 2  # mostly below 0
    pool = MaxPool2d("p", (), kernel, stride, padding)
    ours = interpreter.max_pool2d(x, pool)
    theirs = F.max_pool2d(torch.from_numpy(x), kernel, stride, padding).numpy()
    np.testing.assert_array_equal(ours, theirs)
    assert ours.dtype == np.float32
    assert ours.shape[1:] == pool.infer_shape([x.shape[1:]])


@settings(deadline=None, max_examples=60)
@given(step=st.floats(2**-10, 4, width=32), levels=st.integers(1, 300), seed=st.integers(0, 99))
def test_rounding_to_levels(step, levels, seed):
    rng = np.random.default_rng(seed)
    middle = (rng.integers(-2, levels + 3, 40) + 0.5) * step
    x = np.concatenate([middle, rng.uniform(-1, levels + 1, 40) * step]).astype(np.float32)
    expected = []
    for value in x.tolist():
        # A quotient or product of two float32 is rounded to the right float32 by way of a float64.
        level = min(max(round(float(np.float32(value / step))), 0), levels)  # Python rounds half to even, too
        expected.append(np.float32(level * step))
    ours = interpreter.quantize(x, step, levels)
    np.testing.assert_array_equal(ours, expected)
    assert ours.dtype == np.float32


def test_activations():
    x = np.array([-200, -2, -0.5, 0, 0.5, 2, 200], np.float32)
    wide = x.astype(np.float64)
    np.testing.assert_array_equal(interpreter.activation(x, "relu"), np.maximum(wide, 0))
    np.testing.assert_array_equal(interpreter.activation(x, "hard_sigmoid"), np.clip(wide / 4 + 0.5, 0, 1))
    np.testing.assert_allclose(interpreter.activation(x, "sigmoid"), 1 / (1 + np.exp(-wide)), atol=1e-7)


@settings(deadline=None, max_examples=40)
@given(
    reset=st.sampled_from(["subtract", "zero", "none"]),
    delay=st.booleans(),
    beta=st.floats(0, 1, width=32),
    threshold=st.floats(0.25, 2, width=32),
    seed=st.integers(0, 99),
)
def test_neurons_are_those_of_snntorch_bit_for_bit(reset, delay, beta, threshold, seed):
    n, steps = 20, 8
    x = np.random.default_rng(seed).uniform(0, 1, (3, n)).astype(np.float32)
    nodes = (
        Input("in", (), (n,)),
        LIF("lif", ("in",), scalar(beta), scalar(threshold), reset, delay),
        Readout("out", ("lif",)),
    )
    recording = simulate(Graph(nodes, steps), x)
    neuron = snntorch.Leaky(beta, threshold, reset_mechanism=reset, reset_delay=delay)
    membrane = torch.zeros(3, n)
    total = 0
    for t in range(steps):
        spikes, membrane = neuron(torch.from_numpy(x), membrane)
        np.testing.assert_array_equal(recording.spikes["lif"][:, t], spikes.numpy() > 0)
        np.testing.assert_array_equal(recording.membrane["lif"][:, t], membrane.numpy())
        total = total + spikes
    np.testing.assert_array_equal(recording.output, (total / steps).numpy())


def test_integrator_and_readout():
    nodes = (
        Input("in", (), (2,)),
        Integrator("v", ("in",), np.array([0.5, 1], np.float32)),
        Affine("fc", ("v",), np.eye(2, dtype=np.float32), np.array([1, -1], np.float32)),
        Readout("out", ("fc",)),
    )
    recording = simulate(Graph(nodes, 3), np.array([[1.0, 2.0]]))
    np.testing.assert_array_equal(recording.values["v"][0], [[1, 2], [1.5, 4], [1.75, 6]])
    np.testing.assert_allclose(recording.output, [[4.25 / 3 + 1, 3]], rtol=1e-7)


def test_what_is_recorded():
    graph = gated_graph(steps=4)
    recording = simulate(graph, inputs())
    assert list(recording.spikes) == ["pln.lif1", "pln.lif2", "pln.lif3"]
    fed = {"input", "nm.relu", "nm.channel_gate", "nm.neuron_gate", "pln.maximum1", "pln.pool"}
    assert set(recording.values) == fed
    assert recording.values["nm.channel_gate"].shape == (3, 1, 4)
    assert recording.values["nm.neuron_gate"].shape == (3, 4, 12)
    assert recording.spikes["pln.lif1"].shape == (3, 4, 128)
    assert recording.spikes["pln.lif1"].dtype == bool
    np.testing.assert_array_equal(recording.threshold["pln.lif3"], graph["pln.lif3"].threshold)
    assert recording.source("pln.lif1").dtype == np.float32
    # A gate with no effect would make the two gated currents equal.
    assert len(np.unique(recording.values["nm.neuron_gate"])) > 4
