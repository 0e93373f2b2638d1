"""Changes of a graph that make it fit a purpose."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from converters.graph import LIF, SYNAPSES, Affine, Conv2d, Graph, Input, MaxPool2d, Node, Quantize
from converters.recording import check_layer
from snn_anml.errors import UserError

SIGNIFICAND_BITS = 24
"""Of a float32: every integer up to 2^24 is exact."""

COARSE = 0.01
"""Weights that would move by more than this share of themselves are not put on a grid: that is another network."""


class Snapped(NamedTuple):
    """A graph with snapped weights, the names of the synapses whose sums are now exact, and of those left alone."""

    graph: Graph
    exact: tuple[str, ...]
    inexact: tuple[str, ...]


def snap(graph: Graph, input_bits: int) -> Snapped:
    """Rounds weights to dyadic grids, so fine that they hardly change and so coarse that every sum is exact.

    A synaptic sum of float32 numbers depends on the order of its adds, and every simulator has its own. But where
    inputs are multiples of 2^-p (spikes: p = 0) of at most 1, and weights and bias of an output are multiples of
    2^-q with (sum of |weights| + |bias|) 2^(p + q) <= 2^24, no partial sum is ever rounded, in whatever order. All
    that is left of a LIF network are operations on single numbers, which IEEE 754 fixes; so every simulator gets the
    same spikes by construction and not by luck. Each output gets its own q, the largest that fits: weights move by
    at most 2^-(q + 1), which for spikes is about the rounding of a float32 sum, for inputs of p bits 2^p times that.

    Synapses fed by a spiking layer, by the input, by maxima of such, or by a `Quantize` whose values are such multiples
    are snapped. Others (fed by a ReLU or an average) are left as they are, and so are those that would change by more
    than `COARSE` of the weights and bias of an output: inputs of many bits leave few to the weights of wide layers.

    Args:
        graph: the network.
        input_bits: p of a constant input: its values are multiples of 2^-p in [0, 1].
    """
    nodes: list[Node] = []
    exact: list[str] = []
    inexact: list[str] = []
    for node in graph.nodes:
        if isinstance(node, SYNAPSES):
            bits = _fraction_bits(graph, graph[node.inputs[0]], input_bits)
            snapped = None if bits is None else _snap_node(node, bits)
            if snapped is None or _change(node, snapped) > COARSE:
                inexact.append(node.name)
            else:
                exact.append(node.name)
                node = snapped
        nodes.append(node)
    return Snapped(Graph(tuple(nodes), graph.steps), tuple(exact), tuple(inexact))


def plain(node: Conv2d) -> Conv2d:
    """The same convolution without groups and dilation: zeros towards the channels of other groups, and between taps.

    For simulators that know neither. A product with zero adds nothing to a sum, whatever the order.
    """
    groups, (apart_h, apart_w) = node.groups, node.dilation
    out, channels, *kernel = node.weight.shape
    weight = np.zeros((groups, out // groups, groups, channels, *node.extent), np.float32)
    each = np.arange(groups)
    weight[each, :, each, :, ::apart_h, ::apart_w] = node.weight.reshape(groups, out // groups, channels, *kernel)
    weight = weight.reshape(out, groups * channels, *node.extent)
    return replace(node, weight=weight, groups=1, dilation=(1, 1))


def drive_by_spikes(graph: Graph, steps: int | None = None, layer: str | None = None) -> Graph:
    """The graph with spike trains as samples, in place of what its input encodes: recorded ones, or those of hardware.

    Args:
        graph: of whatever encoding.
        steps: T; that of the graph if left out.
        layer: name of a `LIF` node whose spikes drive what lies behind it. The node becomes the input, and what the
            output does not need is left out. The graph's own input if left out.

    Raises:
        UserError: a layer that sends no spikes, or that others lead around, as gates do that see the sample; steps
            that are no whole number from 1 on.
    """
    nodes = graph.nodes
    if layer is not None:
        check_layer(layer, [node.name for node in graph.of_type(LIF)])
        needed = {nodes[-1].name}
        for node in reversed(nodes):
            if node.name in needed and node.name != layer:
                needed.update(node.inputs)
        if nodes[0].name in needed:
            raise UserError(
                f"{layer} alone cannot drive the graph: its output also needs {nodes[0].name} by a way around it."
            )
        nodes = (Input(layer, (), graph.shapes[layer]), *(n for n in nodes if n.name in needed and n.name != layer))
    first = nodes[0]
    assert isinstance(first, Input)
    return Graph((replace(first, encoding="spikes"), *nodes[1:]), graph.steps if steps is None else steps)


def _fraction_bits(graph: Graph, source: Node, input_bits: int) -> int | None:
    """p, where the source sends multiples of 2^-p of at most 1; None where it does not."""
    while isinstance(source, MaxPool2d):  # sends what it is sent
        source = graph[source.inputs[0]]
    if isinstance(source, Quantize):
        half, exponent = math.frexp(source.step)
        return 1 - exponent if half == 0.5 and source.step * source.levels <= 1 else None
    if isinstance(source, LIF):
        return 0
    if isinstance(source, Input):
        return input_bits if source.encoding == "constant" else 0
    return None


def _snap_node(node: Conv2d | Affine, input_bits: int) -> Conv2d | Affine:
    weight, bias = node.weight.astype(np.float64), node.bias.astype(np.float64)
    rows = weight.reshape(len(weight), -1)
    bound = np.abs(rows).sum(1) + np.abs(bias)
    bits = np.full(len(rows), SIGNIFICAND_BITS - input_bits)
    positive = bound > 0
    bits[positive] -= np.ceil(np.log2(bound[positive])).astype(int)
    while True:
        scale = np.exp2(bits)
        snapped, offset = np.rint(rows * scale[:, None]), np.rint(bias * scale)
        over = (np.abs(snapped).sum(1) + np.abs(offset)) * 2.0**input_bits > 2.0**SIGNIFICAND_BITS
        if not over.any():
            break
        bits[over] -= 1
    weight = (snapped / scale[:, None]).reshape(weight.shape).astype(np.float32)
    return replace(node, weight=weight, bias=(offset / scale).astype(np.float32))


def _change(node: Conv2d | Affine, snapped: Conv2d | Affine) -> float:
    """Largest change of what an output sums, relative to it: |x' - x| / |x|, x its weights and its bias."""
    before, after = (
        np.column_stack([one.weight.reshape(len(one.weight), -1), one.bias]).astype(np.float64)
        for one in (node, snapped)
    )
    norm, change = np.linalg.norm(before, axis=1), np.linalg.norm(after - before, axis=1)
    return float(np.max(change[norm > 0] / norm[norm > 0], initial=0.0))
