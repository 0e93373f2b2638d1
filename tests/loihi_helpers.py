"""Networks for a Loihi chip, which several test files share."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from converters.graph import LIF, Activation, Affine, AvgPool2d, Conv2d, Gate, Graph, Input, Readout
from converters.loihi_blocks import Load
from snn_anml.errors import MissingExtraError
from tests.helpers import scalar

SMALL = Load(compartments=40, axons_in=700, axons_out=150, synapse_bits=60_000)
"""Limits of a core that divide small layers, too."""


def require_loihi():
    from converters.loihi_chip import import_nengo_loihi

    try:
        import_nengo_loihi()
    except MissingExtraError as error:
        pytest.skip(str(error))


def net(kernel, stride, padding, beta=1.0, pool=False, groups=1, seed=0, encoding="constant"):
    """A convolution on the host, one on the chip with the given geometry, and a dense layer, on pictures of 9 x 7."""
    rng = np.random.default_rng(seed)

    def weights(*shape):
        return (rng.standard_normal(shape) * 0.5).astype(np.float32)

    def neuron(name, source):
        return LIF(name, (source,), scalar(beta), scalar(1.0), "zero", bool(rng.integers(2)))

    nodes = [
        Input("input", (), (1, 9, 7), encoding),
        Conv2d("conv1", ("input",), weights(4, 1, 3, 3) + np.float32(0.1), weights(4), (1, 1), (1, 1)),
        neuron("lif1", "conv1"),
        AvgPool2d("pool", ("lif1",), (2, 2), (2, 2)),
        Conv2d("conv2", ("pool",), weights(6, 4 // groups, *kernel), weights(6), stride, padding, groups=groups),
        neuron("lif2", "conv2"),
    ]
    if not pool:
        nodes[4] = replace(nodes[4], inputs=("lif1",))
        del nodes[3]
    size = Graph((*nodes, Readout("out", ("lif2",))), 1).size("lif2")
    nodes += [Affine("fc1", ("lif2",), weights(5, size), weights(5)), neuron("lif3", "fc1")]
    nodes += [Affine("fc2", ("lif3",), weights(3, 5), weights(3)), Readout("out", ("fc2",))]
    return Graph(tuple(nodes), 6)


def pictures(samples=3, seed=0):
    return np.random.default_rng(seed).random((samples, 1, 9, 7)).astype(np.float32)


def conv_net(seed=0, steps=8):
    """Two convolutions and a dense layer with gates that are one a channel and one a neuron, on 12 x 12."""
    rng = np.random.default_rng(seed)

    def weights(*shape):
        return (rng.standard_normal(shape) * 1.5 / np.sqrt(np.prod(shape[1:]))).astype(np.float32)

    def bias(n):
        return (rng.standard_normal(n) * 0.1).astype(np.float32)

    def neuron(name, source):
        return LIF(name, (source,), scalar(0.9), scalar(1.0), "zero")

    nodes = (
        Input("input", (), (1, 12, 12)),
        Conv2d("nm.conv", ("input",), weights(2, 1, 3, 3), bias(2), (2, 2), (1, 1)),
        Activation("nm.relu", ("nm.conv",), "relu"),
        Affine("nm.fc1", ("nm.relu",), weights(8, 72), bias(8)),
        Activation("nm.gate1", ("nm.fc1",), "sigmoid"),
        Affine("nm.fc2", ("nm.relu",), weights(40, 72), bias(40)),
        Activation("nm.gate2", ("nm.fc2",), "sigmoid"),
        Conv2d("conv1", ("input",), weights(8, 1, 3, 3), bias(8) + np.float32(0.3), (2, 2), (1, 1)),
        neuron("lif1", "conv1"),
        Conv2d("conv2", ("lif1",), weights(8, 8, 3, 3) * np.float32(2), bias(8) + np.float32(0.2), (2, 2), (1, 1)),
        Gate("gate2", ("conv2", "nm.gate1")),
        neuron("lif2", "gate2"),
        Affine("fc", ("lif2",), weights(40, 72) * np.float32(2), bias(40) + np.float32(0.2)),
        Gate("gate3", ("fc", "nm.gate2")),
        neuron("lif3", "gate3"),
        Affine("head", ("lif3",), weights(5, 40), bias(5)),
        Readout("out", ("head",)),
    )
    return Graph(nodes, steps), rng.random((10, 1, 12, 12)).astype(np.float32)


def changed(name, **fields):
    """`conv_net` with one node changed."""
    graph, _ = conv_net()
    return Graph(tuple(replace(n, **fields) if n.name == name else n for n in graph.nodes), graph.steps)


def driven(weight, threshold=1.0, beta=1.0, bias=0.0, gates=(), steps=8):
    """A dense layer on the chip, lif2, behind inputs that spike at every step where the sample is 1, and gates."""
    n, m = weight.shape[::-1]
    nodes = [
        Input("input", (), (n,)),
        Affine("fc1", ("input",), np.eye(n, dtype=np.float32), np.zeros(n, np.float32)),
        LIF("lif1", ("fc1",), scalar(0), scalar(0.5), "zero"),
        Affine("fc2", ("lif1",), weight.astype(np.float32), np.array(np.broadcast_to(bias, m), np.float32)),
    ]
    for i, gate in enumerate(gates):
        nodes.append(Affine(f"value{i}", ("input",), np.zeros((m, n), np.float32), np.array(gate, np.float32)))
        nodes.append(Gate(f"gate{i}", (f"gate{i - 1}" if i else "fc2", f"value{i}")))
    neuron = LIF("lif2", (nodes[-1].name,), scalar(beta), np.array(threshold, np.float32), "zero")
    return Graph((*nodes, neuron, Readout("out", ("lif2",))), steps)
