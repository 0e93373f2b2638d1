"""What of a graph runs on a Loihi chip, as layers, and what stays on the host.

The host makes the spikes of every layer whose current never changes (a picture as a current), those of an encoded
input, and everything behind the last layer of neurons, by the reference interpreter, exactly. The chip has the other
`LIF` nodes:

    spikes of one source  ->  linear nodes  ->  gate, constant over T  ->  LIF with reset "zero"

A spike takes one step from layer to layer, so a layer of depth d is d steps late.

All weights of a core are rounded to the steps of the largest. A neuron whose weights, bias, threshold and membrane
are all multiplied by the same number spikes alike, so every neuron (every channel of a convolution) is given weights
as large as the layer's largest.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from converters.graph import LIF, Affine, AvgPool2d, Conv2d, Gate, Graph, Input, Node, Shape
from converters.interpreter import affine, avg_pool2d, conv2d
from converters.passes import plain
from converters.plain_lif import check_gates, check_plain
from snn_anml.errors import UserError

TARGET = "the Loihi chip"


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
        neuron: its `LIF` node.
        gate: name of the `Gate` node before it, or None.
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
    neuron: LIF
    gate: str | None
    kernel: np.ndarray | None
    stride: tuple[int, int] = (1, 1)
    before: tuple[int, int] = (0, 0)
    matrix: np.ndarray | None = None


def host_layers(graph: Graph) -> tuple[str, ...]:
    """Names of the `LIF` nodes whose spikes the host makes."""
    return tuple(node.name for node in graph.of_type(LIF) if node.inputs[0] in graph.static)


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
        raise UserError("No layer of this graph is fed by spikes, so nothing of it would run on the Loihi chip.")
    return tuple(layers)


def _layer(graph: Graph, nodes: dict[str, Node], node: LIF, depth: dict[str, int]) -> ChipLayer:
    check_plain(node, TARGET)
    before = nodes[node.inputs[0]]
    gate = before.name if isinstance(before, Gate) else None
    if gate is not None:
        before = nodes[before.inputs[0]]
    chain: list[Conv2d | Affine | AvgPool2d] = []
    while not isinstance(before, (LIF, Input)):
        if not isinstance(before, (Conv2d, Affine, AvgPool2d)):
            raise UserError(
                f"{before.name} ({type(before).__name__}) stands before the neurons {node.name}, where {TARGET} can "
                "have convolutions, linear layers, averages and, last, a gate."
            )
        chain.insert(0, before)
        before = nodes[before.inputs[0]]
    shape, source_shape = graph.shapes[node.name], graph.shapes[before.name]
    bias = _apply(chain, np.zeros((1, *source_shape), np.float32)).ravel()
    first = chain[0] if len(chain) == 1 else None
    kernel = _shared(first, source_shape, shape) if isinstance(first, Conv2d) else None
    matrix = None
    if kernel is not None:
        largest = np.repeat(np.abs(kernel).max(axis=(0, 1, 2)), len(bias) // shape[0])
    else:
        matrix = first.weight if isinstance(first, Affine) else _matrix(chain, source_shape)
        largest = np.abs(matrix).max(axis=1)
    largest = np.maximum(largest, np.abs(bias))
    scale = np.divide(largest.max(), largest, out=np.ones_like(largest), where=largest > 0)
    return ChipLayer(
        name=node.name,
        source=before.name,
        depth=depth[before.name] + 1,
        shape=shape,
        source_shape=source_shape,
        neuron=node,
        gate=gate,
        scale=scale,
        bias=bias * scale,
        kernel=None if kernel is None else kernel * scale[:: len(bias) // shape[0]],
        stride=first.stride if isinstance(first, Conv2d) else (1, 1),
        before=first.padding if isinstance(first, Conv2d) else (0, 0),
        matrix=None if matrix is None else matrix * scale[:, None],
    )


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
