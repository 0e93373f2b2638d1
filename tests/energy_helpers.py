"""Small graphs and made-up recordings: counting needs what nodes send on, not how it came about."""

from __future__ import annotations

from itertools import product

import numpy as np

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
    Node,
    Readout,
)
from converters.recording import Recording


def normal(rng: np.random.Generator, shape: tuple[int, ...], density: float = 1.0) -> np.ndarray:
    """Normal float32 values of which a share `density` is not zero."""
    return (rng.normal(size=shape) * (rng.random(shape) < density)).astype(np.float32)


def scalar(value: float) -> np.ndarray:
    return np.array(value, np.float32)


def lif(name: str, source: str) -> LIF:
    return LIF(name, (source,), beta=scalar(0.9), threshold=scalar(1.0))


def recording_of(
    graph: Graph, samples: int, rng: np.random.Generator, density: float = 0.4, backend: str = "made up"
) -> Recording:
    """Random outputs of the nodes: spikes of `LIF` and coded inputs, analogue values of others."""
    spikes, membrane, values = {}, {}, {}
    for node in graph.nodes[:-1]:
        shape = (samples, 1 if node.name in graph.static else graph.steps, graph.size(node.name))
        if isinstance(node, LIF):
            spikes[node.name] = rng.random(shape) < density
            membrane[node.name] = np.zeros(shape, np.float32)
        elif isinstance(node, Input) and node.encoding != "constant":
            values[node.name] = (rng.random(shape) < density).astype(np.float32)
        elif isinstance(node, Activation):
            values[node.name] = np.abs(normal(rng, shape, density))
        else:
            values[node.name] = normal(rng, shape, density)
    return Recording(
        backend, np.zeros((samples, graph.size(graph.nodes[-1].name)), np.float32), spikes, membrane, values
    )


def anml_like(rng: np.random.Generator, steps: int = 4, encoding: str = "constant") -> Graph:
    """A gated prediction network, its neuromodulatory network without spikes, a head; sparse weights."""
    nodes: tuple[Node, ...] = (
        Input("input", (), shape=(2, 7, 6), encoding=encoding),
        Conv2d("nm.conv1", ("input",), normal(rng, (2, 2, 3, 3), 0.6), normal(rng, (2,)), (2, 2), (1, 1)),
        Activation("nm.relu1", ("nm.conv1",), "relu"),
        Affine("nm.fc", ("nm.relu1",), normal(rng, (3, 24), 0.7), normal(rng, (3,), 0.5)),
        Activation("nm.gate", ("nm.fc",), "sigmoid"),
        Conv2d("pln.conv1", ("input",), normal(rng, (3, 2, 3, 3), 0.8), normal(rng, (3,), 0.5), (1, 1), (1, 1)),
        lif("pln.lif1", "pln.conv1"),
        AvgPool2d("pln.pool1", ("pln.lif1",), (2, 2), (2, 2)),
        Conv2d("pln.conv2", ("pln.pool1",), normal(rng, (3, 3, 2, 2), 0.8), normal(rng, (3,)), (1, 1), (0, 0)),
        Gate("pln.gated", ("pln.conv2", "nm.gate")),
        lif("pln.lif2", "pln.gated"),
        Affine("head", ("pln.lif2",), normal(rng, (5, 12), 0.9), np.zeros(5, np.float32)),
        Integrator("head.membrane", ("head",), beta=scalar(0.9)),
        Readout("output", ("head.membrane",)),
    )
    return Graph(nodes, steps)


def connections_by_loops(node, shape, out):
    """Every connection of a layer as (index of its input, its weight or None), output by output."""
    if isinstance(node, Affine):
        return [(i, node.weight[o, i]) for o, i in np.ndindex(*node.weight.shape)]
    pool = isinstance(node, AvgPool2d)
    kernel, padding, dilation, groups = (
        (node.kernel, (0, 0), (1, 1), shape[0])
        if pool
        else (node.weight.shape[2:], node.padding, node.dilation, node.groups)
    )
    found = []
    for o, p, q, c, i, j in product(*(range(n) for n in (*out, shape[0], *kernel))):
        y = p * node.stride[0] + i * dilation[0] - padding[0]
        x = q * node.stride[1] + j * dilation[1] - padding[1]
        if not (0 <= y < shape[1] and 0 <= x < shape[2]) or o * groups // out[0] != c * groups // shape[0]:
            continue
        weight = None if pool else node.weight[o, c % node.weight.shape[1], i, j]
        found.append(((c * shape[1] + y) * shape[2] + x, weight))
    return found


def operations_by_loops(connections, x):
    """For every sample, over all steps, connections whose input and weight are not zero."""
    return [sum(1 for step in sample for i, weight in connections if step[i] != 0 and weight != 0) for sample in x]
