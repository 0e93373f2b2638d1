"""What of a graph runs on a Loihi chip, as layers, and what stays on the host.

The host makes the spikes of every layer whose current never changes (a picture as a current), those of an encoded
input, and everything behind the last layer of neurons, by the reference interpreter, exactly. The chip has the other
`LIF` nodes:

    spikes of one source  ->  linear nodes  ->  gates, constant over T  ->  LIF with reset "zero"

A spike takes one step from layer to layer, so a layer of depth d is d steps late.

All weights of a core are rounded to the steps of the largest. A neuron whose weights, bias, threshold and membrane
are all multiplied by the same number spikes alike, so every neuron (every channel of a convolution) is given weights
as large as the layer's largest; but for a bias that is far larger than they are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from converters.graph import LIF, Affine, AvgPool2d, Conv2d, Gate, Graph, Input, Node, Shape
from converters.interpreter import affine, avg_pool2d, conv2d
from converters.passes import plain
from converters.plain_lif import check_gates, check_plain
from snn_anml.errors import UserError

TARGET = "the Loihi chip"

# All relative to the largest weight of a core, which is 255 times 64 units of its membranes, or a power of two less.
THRESHOLD_LIMIT = 2**23 / (255 * 64)  # a membrane has 23 bits and a sign
CURRENT_LIMIT = 2**21 / (255 * 64)  # what arrives in a step has 21
HALVINGS = 7  # of those units, by nengo-loihi; the first costs no bits of the weights
BIAS_LIMIT = 16  # a bias has 12 bits and up to 7 more behind them, which is 32
GATE_LIMIT = 1 / 16  # thresholds over gates of less may be out of range, where the neuron is silent


@dataclass(frozen=True, eq=False)
class ChipLayer:
    """One layer of neurons on the chip.

    Attributes:
        name: of its `LIF` node.
        source: name of the node whose spikes it receives.
        depth: steps by which it is late.
        shape: of its neurons, (channels, height, width) or (n,).
        source_shape: of the neurons of the source.
        scale: what weights, bias, threshold and membrane of every neuron are multiplied by, (n,).
        bias: (n,) float32, scaled.
        span: the largest threshold, scaled, that the core has to hold.
        neuron: its `LIF` node.
        gates: names of the `Gate` nodes before it.
        nodes: names of all nodes that are in it.
        kernel: where the chip can share weights, (kernel_h, kernel_w, in, out) float32, scaled; otherwise None.
        stride: of the kernel.
        before: rows and columns of zeros above and left of the source, that is, where the kernel starts.
        matrix: otherwise, (n, source neurons) float32, scaled.
    """

    name: str
    source: str
    depth: int
    shape: Shape
    source_shape: Shape
    scale: np.ndarray
    bias: np.ndarray
    span: float
    neuron: LIF
    gates: tuple[str, ...]
    nodes: tuple[str, ...]
    kernel: np.ndarray | None
    stride: tuple[int, int] = (1, 1)
    before: tuple[int, int] = (0, 0)
    matrix: np.ndarray | None = None


class Rows(NamedTuple):
    """What every neuron receives, (n,) each: its largest weight, and the sums of the positive and negative ones."""

    largest: np.ndarray
    up: np.ndarray
    down: np.ndarray

    @classmethod
    def of(cls, weights: np.ndarray, n: int) -> Rows:
        """Of n neurons with the same weights in turn, (outputs, inputs)."""
        values = np.abs(weights).max(axis=1), np.maximum(weights, 0).sum(axis=1), np.maximum(-weights, 0).sum(axis=1)
        return cls(*(np.repeat(value, n // len(weights)) for value in values))


def host_layers(graph: Graph) -> tuple[str, ...]:
    """Names of the `LIF` nodes whose spikes the host makes."""
    return tuple(node.name for node in graph.of_type(LIF) if node.inputs[0] in graph.static)


def host_nodes(graph: Graph, layers: tuple[ChipLayer, ...]) -> tuple[str, ...]:
    """Names of the nodes that are not on the chip, or that the host needs as well, in the order of computation."""
    neurons = {layer.name for layer in layers}
    inside = {name for layer in layers for name in layer.nodes}
    host: list[str] = []
    for node in reversed(graph.nodes):
        readers = (reader.name for reader in graph.nodes if node.name in reader.inputs)
        if node.name not in inside or (node.name not in neurons and any(name in host for name in readers)):
            host.insert(0, node.name)
    return tuple(host)


def chip_layers(graph: Graph) -> tuple[ChipLayer, ...]:
    """The layers on the chip, in the order of computation.

    Raises:
        UserError: what the chip cannot compute: gates that change from step to step, a reset by subtraction,
            anything but linear nodes between neurons; or nothing is left for the chip.
    """
    check_gates(graph, TARGET)
    nodes = {node.name: node for node in graph.nodes}
    depth = dict.fromkeys(host_layers(graph), 0)
    if graph.nodes[0].name not in graph.static:
        depth[graph.nodes[0].name] = 0
    layers = []
    for node in graph.of_type(LIF):
        if isinstance(node, LIF) and node.name not in depth:
            layer = _layer(graph, nodes, node, depth)
            depth[node.name] = layer.depth
            layers.append(layer)
    if not layers:
        raise UserError(
            f"No layer of this graph is fed by spikes, so nothing of it would run on {TARGET}; train with two or more "
            "layers of LIF neurons, or with spikes as input (encoding 'rate' or 'latency')."
        )
    return tuple(layers)


def _layer(graph: Graph, nodes: dict[str, Node], node: LIF, depth: dict[str, int]) -> ChipLayer:
    check_plain(node, TARGET)
    before = nodes[node.inputs[0]]
    gates: list[str] = []
    while isinstance(before, Gate):
        gates.append(before.name)
        before = nodes[before.inputs[0]]
    chain: list[Conv2d | Affine | AvgPool2d] = []
    while not isinstance(before, (LIF, Input)):
        if not isinstance(before, (Conv2d, Affine, AvgPool2d)):
            raise UserError(
                f"{before.name} ({type(before).__name__}) stands before the neurons {node.name}, where {TARGET} can "
                "have convolutions, linear layers, averages and, last, gates; the backends interpreter, torch, nengo "
                "and nengo-dl can have it."
            )
        chain.insert(0, before)
        before = nodes[before.inputs[0]]
    shape, source_shape = graph.shapes[node.name], graph.shapes[before.name]
    bias = _apply(chain, np.zeros((1, *source_shape), np.float32)).ravel()
    first = chain[0] if len(chain) == 1 else None
    kernel = _shared(first, source_shape, shape) if isinstance(first, Conv2d) else None
    matrix = None
    if kernel is not None:
        rows = Rows.of(kernel.reshape(-1, shape[0]).T, len(bias))
    else:
        matrix = first.weight if isinstance(first, Affine) else _matrix(chain, source_shape)
        rows = Rows.of(matrix, len(bias))
    largest = np.maximum(rows.largest, np.abs(bias) / BIAS_LIMIT)
    scale = np.divide(largest.max(), largest, out=np.ones_like(largest), where=largest > 0)
    rows = Rows(*(value * scale for value in rows))
    thresholds = scale * node.threshold / (GATE_LIMIT if gates else 1)
    return ChipLayer(
        name=node.name,
        source=before.name,
        depth=depth[before.name] + 1,
        shape=shape,
        source_shape=source_shape,
        span=_span(node, graph.steps, thresholds, rows, bias * scale),
        neuron=node,
        gates=tuple(gates),
        nodes=(*(n.name for n in chain), *gates, node.name),
        scale=scale,
        bias=bias * scale,
        kernel=None if kernel is None else kernel * scale[:: len(bias) // shape[0]],
        stride=first.stride if isinstance(first, Conv2d) else (1, 1),
        before=first.padding if isinstance(first, Conv2d) else (0, 0),
        matrix=None if matrix is None else matrix * scale[:, None],
    )


def _span(node: LIF, steps: int, thresholds: np.ndarray, rows: Rows, bias: np.ndarray) -> float:
    """The largest of the thresholds (n,) that is within reach, or more, where else currents might exceed their bits."""
    beta = node.beta.astype(np.float64)
    steps_held = np.where(beta < 1, (1 - beta**steps) / np.where(beta < 1, 1 - beta, 1), steps)
    span = float(np.minimum(thresholds, (rows.up + np.maximum(bias, 0)) * steps_held).max())
    largest = float(rows.largest.max()) or 1.0
    limit = THRESHOLD_LIMIT * 2**HALVINGS
    if span > limit * largest:
        raise UserError(
            f"{node.name} has a threshold of {span / largest:.0f} times its largest weight, and {TARGET} has at most "
            f"{limit:.0f}; train with larger weights or a lower threshold."
        )
    crowded = max(rows.up.max(), rows.down.max()) > CURRENT_LIMIT * largest
    return max(span, (1.5 * THRESHOLD_LIMIT if crowded else 1) * largest)


def _shared(node: Conv2d, source: Shape, shape: Shape) -> np.ndarray | None:
    """The kernel as Nengo's padding "same" or "valid" places it, (h, w, in, out); None where neither does.

    "same" splits the rows that are missing in two, the smaller half above. A kernel with rows of zeros below it makes
    that half the padding that is wanted.
    """
    node = plain(node)
    kernel = node.weight.transpose(2, 3, 1, 0)
    if node.padding == (0, 0):
        return kernel
    grow = []
    for axis in (0, 1):
        size, out, stride = source[1 + axis], shape[1 + axis], node.stride[axis]
        if out != -(-size // stride):
            return None
        grow.append(size - (out - 1) * stride + 2 * node.padding[axis] - kernel.shape[axis])
    return np.pad(kernel, ((0, grow[0]), (0, grow[1]), (0, 0), (0, 0)))


def _apply(chain: list[Conv2d | Affine | AvgPool2d], x: np.ndarray) -> np.ndarray:
    """The nodes one after the other on x (b, *shape), float32."""
    for node in chain:
        if isinstance(node, Conv2d):
            x = conv2d(x, node)
        elif isinstance(node, Affine):
            x = affine(x, node)
        else:
            x = avg_pool2d(x, node)
    return x


def _matrix(chain: list[Conv2d | Affine | AvgPool2d], source: Shape) -> np.ndarray:
    """(n, source neurons): what one spike of every source neuron makes, without biases."""
    chain = [node if isinstance(node, AvgPool2d) else replace(node, bias=np.zeros_like(node.bias)) for node in chain]
    n = int(np.prod(source))
    parts = []
    for i in range(0, n, 256):
        spikes = np.zeros((min(256, n - i), n), np.float32)
        spikes[:, i : i + 256] = np.eye(len(spikes), dtype=np.float32)
        parts.append(_apply(chain, spikes.reshape(-1, *source)).reshape(len(spikes), -1))
    return np.concatenate(parts).T
