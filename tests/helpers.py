"""Graphs that several test files share."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from converters import Recording
from converters.graph import (
    LIF,
    Activation,
    Affine,
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

BACKENDS = ("interpreter", "torch", "nengo", "nengo-dl")

MAXIMA = ("pln.maximum1", "pln.maximum2")
"""Of `gated_graph`, those that are not on the way to a gate."""


def require(backend: str) -> None:
    """Skips the test, with the reason, where the packages of a backend are not installed."""
    try:
        if backend == "nengo":
            from converters.nengo_network import import_nengo

            import_nengo()
        elif backend == "nengo-dl":
            from converters.nengo_dl import import_nengo_dl

            import_nengo_dl()
    except MissingExtraError as error:
        pytest.skip(str(error))


def dyadic(rng: np.random.Generator, *shape: int, bits: int = 6, limit: int = 32) -> np.ndarray:
    """Multiples of 2**-bits, of which sums of products are exact in float32; limit in units of 2**-bits."""
    return (rng.integers(-limit, limit + 1, shape) / 2**bits).astype(np.float32)


def weights(rng: np.random.Generator, exact: bool, *shape: int) -> np.ndarray:
    """Weights, dyadic or random floats, of about the same size."""
    return dyadic(rng, *shape) if exact else (rng.standard_normal(shape) * 0.3).astype(np.float32)


def scalar(value: float) -> np.ndarray:
    return np.array(value, np.float32)


def gated_graph(
    seed: int = 0, reset="subtract", reset_delay: bool = True, steps: int = 5, exact: bool = True, encoding="constant"
) -> Graph:
    """A small network with everything a graph can hold: two convolutions with strides and padding, a pool, maxima of
    spikes and of currents that do and do not change, gates that are static (one a channel), change with every step
    (one a neuron), are a sigmoid or have few bits, and three neurons' parameters. With `exact`, every number is dyadic
    and the sigmoid is left out."""
    rng = np.random.default_rng(seed)

    def conv(name, source, out, channels, kernel, stride, padding):
        return Conv2d(
            name,
            (source,),
            weights(rng, exact, out, channels, *kernel),
            weights(rng, exact, out),
            stride,
            padding,
        )

    def affine(name, source, out, n, bits=6, limit=32):
        # The analogue path needs fewer bits a weight, so that its sums stay exact as well.
        weight = dyadic(rng, out, n, bits=bits, limit=limit) if exact else weights(rng, exact, out, n)
        return Affine(name, (source,), weight, weights(rng, exact, out))

    def per_neuron(n):
        if exact:
            beta, threshold = rng.choice([0.25, 0.5, 0.75], n), rng.choice([0.125, 0.25, 0.5], n)
            return beta.astype(np.float32), threshold.astype(np.float32)
        return rng.uniform(0.2, 0.95, n).astype(np.float32), rng.uniform(0.4, 1, n).astype(np.float32)

    beta = scalar(0.5 if exact else 0.9)
    neuron = {"reset": reset, "reset_delay": reset_delay}
    return Graph(
        (
            Input("input", (), (2, 8, 8), encoding),
            conv("nm.conv", "input", 3, 2, (3, 3), (2, 2), (1, 1)),
            MaxPool2d("nm.maximum", ("nm.conv",), (3, 3), (1, 1), (1, 1)),
            Activation("nm.relu", ("nm.maximum",), "relu"),
            affine("nm.channel", "nm.relu", 4, 48, bits=3, limit=2),
            Activation("nm.channel_value", ("nm.channel",), "hard_sigmoid" if exact else "sigmoid"),
            Quantize("nm.channel_gate", ("nm.channel_value",), 2**-4, 2**4),
            affine("nm.neuron", "nm.relu", 12, 48, bits=3, limit=2),
            Integrator("nm.membrane", ("nm.neuron",), scalar(0.5)),
            Activation("nm.neuron_gate", ("nm.membrane",), "hard_sigmoid"),
            conv("pln.conv1", "input", 4, 2, (5, 3), (2, 1), (2, 1)),
            Gate("pln.gate1", ("pln.conv1", "nm.channel_gate")),
            LIF("pln.lif1", ("pln.gate1",), beta, scalar(0.25), **neuron),
            MaxPool2d("pln.maximum1", ("pln.lif1",), (1, 3), (1, 1), (0, 1)),
            AvgPool2d("pln.pool", ("pln.maximum1",), (2, 2), (2, 2)),
            conv("pln.conv2", "pln.pool", 3, 4, (1, 2), (1, 2), (0, 1)),
            MaxPool2d("pln.maximum2", ("pln.conv2",), (1, 3), (1, 1), (0, 1)),
            LIF("pln.lif2", ("pln.maximum2",), *per_neuron(18), **neuron),
            affine("pln.fc1", "pln.lif2", 12, 18),
            Gate("pln.gate2", ("pln.fc1", "nm.neuron_gate")),
            LIF("pln.lif3", ("pln.gate2",), *per_neuron(12), **neuron),
            affine("pln.fc2", "pln.lif3", 5, 12),
            Readout("readout", ("pln.fc2",)),
        ),
        steps,
    )


def without(graph: Graph, *names: str) -> Graph:
    """The graph without some nodes; what read them reads what they read first."""
    nodes, source = [], {}
    for node in graph.nodes:
        node = replace(node, inputs=tuple(source.get(name, name) for name in node.inputs))
        if node.name in names:
            source[node.name] = node.inputs[0]
        else:
            nodes.append(node)
    return Graph(tuple(nodes), graph.steps)


def inputs(seed: int = 0, samples: int = 3, exact: bool = True) -> np.ndarray:
    """Samples for `gated_graph`, (samples, 2, 8, 8), in [0, 1]."""
    rng = np.random.default_rng(seed + 1000)
    x = rng.random((samples, 2, 8, 8))
    return (np.round(x * 256) / 256 if exact else x).astype(np.float32)


def assert_identical(recording: Recording, reference: Recording) -> None:
    """Spikes, membranes, values and outputs agree in every bit (0 and -0 are equal)."""
    for kind in ("spikes", "membrane", "values"):
        ours, theirs = getattr(recording, kind), getattr(reference, kind)
        assert list(ours) == list(theirs)
        for name in theirs:
            np.testing.assert_array_equal(ours[name], theirs[name], err_msg=f"{kind} of {name}")
            assert ours[name].dtype == theirs[name].dtype
    np.testing.assert_array_equal(recording.output, reference.output)
