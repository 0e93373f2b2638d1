"""The KerasSpiking convention against `keras_spiking.ModelEnergy` itself, on random networks and a trained one."""

from __future__ import annotations

import importlib.util
import warnings

import numpy as np
import pytest

from converters.energy import count, estimate
from converters.graph import Activation, Affine, Conv2d, Graph, Input, Readout
from converters.recording import Recording
from tests.energy_helpers import lif

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("keras_spiking") is None, reason="keras_spiking is not installed (extra: nengo)"
)

DT = 0.001
DEVICES = ("cpu", "gpu", "arm", "loihi", "spinnaker", "spinnaker2")


@pytest.fixture(scope="module")
def libraries():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TensorFlow 2.12 itself uses what newer Pythons deprecate
        import keras_spiking
        import tensorflow as tf
    return tf, keras_spiking


def case(seed):
    """Shapes and weights (Keras layout) of an input, a convolution and two dense layers."""
    rng = np.random.default_rng(seed)
    size, channels, filters = (int(n) for n in rng.integers([5, 1, 2], [9, 4, 5]))
    same = seed % 2 == 0
    kernel = int(rng.choice([1, 3, 5])) if same else int(rng.integers(1, 4))
    if seed == 0:
        kernel = 3  # at least one case with taps on padding
    stride = 1 if same else int(rng.integers(1, 3))  # with a stride, "same" pads one side only
    out = size if same else (size - kernel) // stride + 1
    sizes = (filters * out * out, int(rng.integers(3, 9)), int(rng.integers(2, 6)))
    conv = rng.normal(size=(kernel, kernel, channels, filters)).astype(np.float32)
    dense = [(rng.normal(size=s) / 3).astype(np.float32) for s in (sizes[:2], sizes[1:])]
    padding = (kernel - 1) // 2 if same else 0
    return rng, size, same, stride, padding, conv, dense


def keras_layers(tf, conv, dense, same, stride):
    options = {"use_bias": False}
    return (
        tf.keras.layers.Conv2D(
            conv.shape[3],
            conv.shape[0],
            strides=stride,
            padding="same" if same else "valid",
            kernel_initializer=tf.keras.initializers.Constant(conv),
            **options,
        ),
        *(
            tf.keras.layers.Dense(w.shape[1], kernel_initializer=tf.keras.initializers.Constant(w), **options)
            for w in dense
        ),
    )


def channels_first(x):
    """(..., height, width, channels) as (..., channels * height * width)."""
    return np.moveaxis(x, -1, -3).reshape(*x.shape[:-3], -1)


def graph_of(size, stride, padding, conv, dense, steps, encoding, neuron):
    def affine(name, source, weight):
        return Affine(name, (source,), np.ascontiguousarray(weight.T), np.zeros(weight.shape[1], np.float32))

    weight = np.ascontiguousarray(conv.transpose(3, 2, 0, 1))
    bias = np.zeros(conv.shape[3], np.float32)
    nodes = (
        Input("input", (), (conv.shape[2], size, size), encoding),
        Conv2d("conv", ("input",), weight, bias, (stride, stride), (padding, padding)),
        neuron("act1", "conv"),
        affine("fc1", "act1", dense[0]),
        neuron("act2", "fc1"),
        affine("fc2", "act2", dense[1]),
        Readout("output", ("fc2",)),
    )
    return Graph(nodes, steps)


def assert_same_energy(counts, energy, names, steps):
    """`names`: our layer for each Keras layer that costs something."""
    layers = {layer.name: layer for layer in energy.model.layers}
    for device in DEVICES:
        ours = estimate(counts, device, convention="keras-spiking")
        theirs = energy.total_energy(device, timesteps_per_inference=steps, dt=DT)
        assert ours.joules == pytest.approx(theirs, rel=1e-6)
        by_layer = {row.layer: row.joules for row in ours.layers}
        for keras_name, name in names.items():
            layer = energy.layer_energy(layers[keras_name], device, timesteps_per_inference=steps, dt=DT)
            assert by_layer[name] > 0
            assert by_layer[name] == pytest.approx(sum(layer), rel=1e-6)


@pytest.mark.parametrize(("seed", "trained"), [*((seed, False) for seed in range(4)), (1, True)])
def test_spiking_network(libraries, seed, trained):
    """The spikes that KerasSpiking itself makes, counted by both."""
    tf, keras_spiking = libraries
    rng, size, same, stride, padding, conv, dense = case(seed)
    steps, samples = 12, 3
    x = (rng.random((samples, steps, size, size, conv.shape[2])) < 0.3).astype(np.float32)

    first, second, third = keras_layers(tf, conv, dense, same, stride)
    inputs = tf.keras.Input(x.shape[1:])
    h = tf.keras.layers.TimeDistributed(first, name="conv")(inputs)
    # Seen as spikes of 1 / dt, a current of 1 makes at most one spike a step for the rates drawn here.
    s1 = keras_spiking.SpikingActivation(rated(tf), dt=DT, seed=seed, name="act1")(h)
    h = tf.keras.layers.Reshape((steps, dense[0].shape[0]))(s1)
    h = tf.keras.layers.TimeDistributed(second, name="fc1")(h)
    s2 = keras_spiking.SpikingActivation(rated(tf), dt=DT, seed=seed, name="act2")(h)
    y = tf.keras.layers.TimeDistributed(third, name="fc2")(s2)
    model = tf.keras.Model(inputs, y)
    data = x / np.float32(DT)
    if trained:
        drawn = conv
        conv, *dense = train(tf, data[:, 0], (first, second, third))
        assert np.abs(conv - drawn).mean() > 0.05
    spikes = [s * DT for s in tf.keras.Model(inputs, [s1, s2]).predict(data, verbose=0)]
    for s in spikes:
        assert set(np.unique(np.round(s, 4))) == {0.0, 1.0}

    graph = graph_of(size, stride, padding, conv, dense, steps, "rate", lif)
    recording = Recording(
        "KerasSpiking",
        np.zeros((samples, dense[1].shape[1]), np.float32),
        {"act1": channels_first(spikes[0]) > 0.5, "act2": spikes[1] > 0.5},
        {},
        {"input": channels_first(x)},
    )
    names = {name: name for name in ("conv", "act1", "fc1", "act2", "fc2")}
    counts = count(graph, recording)
    assert_same_energy(counts, keras_spiking.ModelEnergy(model, example_data=data), names, steps)
    # The point of the exact counts: taps on padding are no connections.
    padded = counts["conv"].connections < counts["conv"].connections_with_padding
    assert padded == (padding > 0)


def rated(tf):
    """Firing rate in Hz, at most one spike a step, of a current in the units that spikes of 1 / dt make."""

    def activation(x):
        return tf.nn.sigmoid(x * DT) / DT

    return activation


def train(tf, data, layers):
    """The weights of the layers after some steps of the network of rates, towards random outputs."""
    first, second, third = layers
    inputs = tf.keras.Input(data.shape[1:])
    h = tf.keras.layers.Flatten()(rated(tf)(first(inputs)))
    model = tf.keras.Model(inputs, third(rated(tf)(second(h))))
    model.compile(tf.keras.optimizers.Adam(0.02), "mse")
    targets = np.random.default_rng(0).normal(size=(len(data), third.units))
    model.fit(data, targets.astype(np.float32) / DT, epochs=20, verbose=0)
    return [layer.get_weights()[0] for layer in layers]


@pytest.mark.parametrize("seed", range(2))
def test_conventional_network(libraries, seed):
    tf, keras_spiking = libraries
    rng, size, same, stride, padding, conv, dense = case(seed)
    samples = 5
    x = rng.random((samples, size, size, conv.shape[2])).astype(np.float32)
    first, second, third = keras_layers(tf, conv, dense, same, stride)
    inputs = tf.keras.Input(x.shape[1:])
    a1 = tf.keras.layers.ReLU(name="act1")(first(inputs))
    a2 = tf.keras.layers.ReLU(name="act2")(second(tf.keras.layers.Flatten()(a1)))
    model = tf.keras.Model(inputs, third(a2))
    data = x / np.float32(DT)
    values = [a * DT for a in tf.keras.Model(inputs, [a1, a2]).predict(data, verbose=0)]

    def relu(name, source):
        return Activation(name, (source,), "relu")

    graph = graph_of(size, stride, padding, conv, dense, 1, "constant", relu)
    recording = Recording(
        "Keras",
        np.zeros((samples, dense[1].shape[1]), np.float32),
        {},
        {},
        {
            "input": channels_first(x)[:, None],
            "act1": channels_first(values[0])[:, None],
            "act2": values[1][:, None],
        },
    )
    names = {first.name: "conv", "act1": "act1", second.name: "fc1", "act2": "act2", third.name: "fc2"}
    energy = keras_spiking.ModelEnergy(model, example_data=data)
    assert_same_energy(count(graph, recording), energy, names, steps=1)
