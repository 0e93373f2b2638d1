"""Gates and weights of few bits: what a target with less than float32 would make of a network.

Both give a graph, so that every backend runs it, and `compare` says what the rounding changes.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from converters.gates import unused
from converters.graph import SYNAPSES, Activation, Affine, Conv2d, Gate, Graph, Node, Quantize
from snn_anml.errors import UserError


def quantize_gates(graph: Graph, bits: int) -> Graph:
    """The network with every gate rounded to a multiple of 2^-bits, by a `Quantize` node behind what drives it.

    Args:
        graph: its gates lie in [0, 1], and become one of 2^bits + 1 values.
        bits: 1 to 16.

    Raises:
        UserError: gates that are driven by anything but a sigmoid or hard_sigmoid, and so could exceed 1.
    """
    _check_bits(bits, 1)
    drivers: set[str] = set()
    for node, sources in graph.walk():
        if isinstance(node, Gate):
            driver = sources[1]
            if not (isinstance(driver, Activation) and driver.function in ("sigmoid", "hard_sigmoid")):
                raise UserError(
                    f"{node.name} is driven by {driver.name} ({type(driver).__name__}), whose values could exceed 1; "
                    "only gates of a sigmoid or hard_sigmoid can be quantised."
                )
            drivers.add(driver.name)
    taken = {node.name for node in graph.nodes}
    quantized: dict[str, str] = {}
    nodes: list[Node] = []
    for node in graph.nodes:
        if isinstance(node, Gate):
            node = replace(node, inputs=(node.inputs[0], quantized[node.inputs[1]]))
        nodes.append(node)
        if node.name in drivers:
            quantized[node.name] = name = unused(f"{node.name}.quantized", taken)
            nodes.append(Quantize(name, (node.name,), step=2.0**-bits, levels=2**bits))
    return Graph(tuple(nodes), graph.steps)


def quantize_weights(graph: Graph, bits: int) -> Graph:
    """The network with the weights of every output at equal distances, at most 2^(bits - 1) - 1 steps either side of 0.

    The largest weight of an output stays and gives its step. Biases are left as they are: hardware adds them where it
    sums up products, in numbers of many more bits than a weight has. `snap` the result where simulators shall agree to
    the bit.

    Args:
        graph: any graph.
        bits: 2 to 16, with the sign.
    """
    _check_bits(bits, 2)
    return Graph(
        tuple(_rounded(node, 2 ** (bits - 1) - 1) if isinstance(node, SYNAPSES) else node for node in graph.nodes),
        graph.steps,
    )


def _rounded(node: Conv2d | Affine, most: int) -> Conv2d | Affine:
    rows = node.weight.reshape(len(node.weight), -1).astype(np.float64)
    step = np.abs(rows).max(axis=1, keepdims=True) / most
    step[step == 0] = 1  # an output without weights
    return replace(node, weight=(np.rint(rows / step) * step).reshape(node.weight.shape).astype(np.float32))


def _check_bits(bits: int, least: int) -> None:
    if bits not in range(least, 17):
        raise UserError(f"bits = {bits}; give a whole number from {least} to 16.")
