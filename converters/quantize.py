"""Gates, activations and weights of few bits: what a target with less than float32 would make of a network.

All give a graph, so that every backend runs it, and `compare` says what the rounding changes. The conventional twin of
few bits, beside which a spiking network is fairly compared, is

    quantize_activations(quantize_weights(graph, bits), bits, samples)
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from converters.gates import unused
from converters.graph import SYNAPSES, Activation, Gate, Graph, Node, Quantize
from converters.simulate import Inputs, simulate
from snn_anml.errors import UserError

CANDIDATES = 50
"""Steps that `best_steps` tries."""


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


def quantize_activations(graph: Graph, bits: int, samples: Inputs, seed: int = 0) -> Graph:
    """The network with the values of every activation rounded to 2^bits ones from 0 on, by a `Quantize` node behind it.

    ReLUs and gates alike; each layer has the step of `best_steps` for what it sends for the samples. The input stays as
    it is: a picture has 8 bits, which low-bit networks usually leave to it. Nor is an activation rounded that
    `Quantize` nodes alone read, as `quantize_gates` leaves it. Quantise the weights first, so that steps fit what the
    layers then send.

    Args:
        graph: any graph.
        bits: 1 to 16, without a sign.
        samples: as `simulate` takes them; some hundred drawings that the network is not tested on.
        seed: of the spikes of a rate encoding.
    """
    _check_bits(bits, 1)
    taken = {node.name for node in graph.nodes}
    readers = {name: [node for node in graph.nodes if name in node.inputs] for name in taken}
    targets = [
        node.name
        for node in graph.of_type(Activation)
        if not all(isinstance(reader, Quantize) for reader in readers[node.name])
    ]
    # Values of gates are recorded, whatever else reads them.
    probes = {name: Gate(unused(f"{name}.probe", taken), (name, name)) for name in targets}
    recording = simulate(
        Graph((*graph.nodes[:-1], *probes.values(), graph.nodes[-1]), graph.steps), samples, "torch", seed
    )
    quantized: dict[str, str] = {}
    nodes: list[Node] = []
    for node in graph.nodes:
        nodes.append(replace(node, inputs=tuple(quantized.get(name, name) for name in node.inputs)))
        if node.name in probes:
            quantized[node.name] = name = unused(f"{node.name}.quantized", taken)
            levels = 2**bits - 1
            values = recording.values[node.name]
            step = float(best_steps(values[values > 0][None], levels)[0])  # what is 0 stays 0
            nodes.append(Quantize(name, (node.name,), step, levels))
    return Graph(tuple(nodes), graph.steps)


def best_steps(rows: np.ndarray, levels: int) -> np.ndarray:
    """Of the steps k / `CANDIDATES` * max(|row|) / levels, that with the least mean squared error of rounding each row.

    A smaller step than that of the largest value rounds the many small values more finely, and cuts off the few large
    ones.

    Args:
        rows: (R, n).
        levels: multiples of the step either side of 0, or above it where no value is negative.

    Returns:
        (R,), float64; 1 for a row of zeros.
    """
    rows = rows.astype(np.float64)
    whole = np.abs(rows).max(axis=1, initial=0.0) / levels
    whole[whole == 0] = 1
    best, least = whole, np.full(len(rows), np.inf)
    for k in range(1, CANDIDATES + 1):
        steps = whole * k / CANDIDATES
        error = _nearest(rows, steps, levels)
        error -= rows
        squares = np.einsum("ij,ij->i", error, error)
        best, least = np.where(squares < least, steps, best), np.minimum(squares, least)
    return np.where(rows.any(axis=1), best, 1.0)


def quantize_weights(graph: Graph, bits: int) -> Graph:
    """The network with the weights of every output at equal distances, at most 2^(bits - 1) - 1 steps either side of 0.

    Each output has the step of `best_steps`. Biases are left as they are: hardware adds them where it sums up products,
    in numbers of many more bits than a weight has. `snap` the result where simulators shall agree to the bit.

    Args:
        graph: any graph.
        bits: 2 to 16, with the sign.
    """
    return Graph(
        tuple(
            replace(node, weight=round_rows(node.weight, bits)) if isinstance(node, SYNAPSES) else node
            for node in graph.nodes
        ),
        graph.steps,
    )


def round_rows(weight: np.ndarray, bits: int) -> np.ndarray:
    """Weights (outputs, ...) as `quantize_weights` rounds them, float32."""
    _check_bits(bits, 2)
    rows = weight.reshape(len(weight), -1).astype(np.float64)
    levels = 2 ** (bits - 1) - 1
    return _nearest(rows, best_steps(rows, levels), levels).reshape(weight.shape).astype(np.float32)


def _nearest(rows: np.ndarray, steps: np.ndarray, levels: int) -> np.ndarray:
    """Rows (R, n) at multiples of their steps (R,), at most `levels` of them."""
    found = rows / steps[:, None]
    np.rint(found, out=found)
    np.clip(found, -levels, levels, out=found)
    found *= steps[:, None]
    return found


def _check_bits(bits: int, least: int) -> None:
    if bits not in range(least, 17):
        raise UserError(f"bits = {bits}; give a whole number from {least} to 16.")
