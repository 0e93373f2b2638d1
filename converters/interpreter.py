"""The reference: what a graph means, in numpy and float32.

Every other backend is compared with this one. A product is a matrix product over im2col windows; static nodes
are computed once.
"""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from converters.dynamics import integrator_step, lif_step
from converters.graph import (
    LIF,
    Activation,
    Affine,
    AvgPool2d,
    Conv2d,
    Function,
    Gate,
    Graph,
    Input,
    Integrator,
    MaxPool2d,
    Node,
    Quantize,
    Readout,
    gate_index,
)
from converters.recorder import Recorder
from converters.recording import Recording
from snn_anml.errors import UserError

NAME = "interpreter"


def windows_of(x: np.ndarray, kernel: tuple[int, int]) -> np.ndarray:
    """Every window over the last two axes, (..., positions_h, positions_w, kernel_h, kernel_w), as a view."""
    axis: Any = (-2, -1)  # numpy's annotation knows one axis only
    return sliding_window_view(x, kernel, axis=axis)


def conv2d(x: np.ndarray, node: Conv2d) -> np.ndarray:
    """`weight * x + bias` for x (b, channels, height, width): first the sum of products, then the bias."""
    (pad_h, pad_w), (step_h, step_w), (apart_h, apart_w) = node.padding, node.stride, node.dilation
    padded = np.pad(x, ((0, 0), (0, 0), (pad_h, pad_h), (pad_w, pad_w)))
    windows = windows_of(padded, node.extent)[:, :, ::step_h, ::step_w, ::apart_h, ::apart_w]
    b, c, h, w, kh, kw = windows.shape
    groups, out = node.groups, len(node.weight)
    windows = windows.reshape(b, groups, c // groups, h, w, kh, kw).transpose(1, 0, 3, 4, 2, 5, 6)
    columns = windows.reshape(groups, b * h * w, -1)
    kernels = node.weight.reshape(groups, out // groups, -1).transpose(0, 2, 1)
    y = (columns @ kernels).transpose(1, 0, 2).reshape(b * h * w, out)
    return (y + node.bias).reshape(b, h, w, out).transpose(0, 3, 1, 2)


def affine(x: np.ndarray, node: Affine) -> np.ndarray:
    """`weight @ x + bias` for x (b, ...): first the sum of products, then the bias."""
    return x.reshape(len(x), -1) @ node.weight.T + node.bias


def avg_pool2d(x: np.ndarray, node: AvgPool2d) -> np.ndarray:
    """Sum of each window, then times `1 / (kernel_h * kernel_w)`, so that the mean of spikes is rounded once."""
    windows = windows_of(x, node.kernel)[:, :, :: node.stride[0], :: node.stride[1]]
    return windows.sum(axis=(4, 5), dtype=np.float32) * np.float32(1 / np.prod(node.kernel))


def max_pool2d(x: np.ndarray, node: MaxPool2d) -> np.ndarray:
    """Maximum of each window of x (b, channels, height, width), first down, then across: no order rounds anything."""
    (pad_h, pad_w), (height, width), (step_h, step_w) = node.padding, node.kernel, node.stride
    x = np.pad(x, ((0, 0), (0, 0), (pad_h, pad_h), (pad_w, pad_w)), constant_values=-np.inf)
    down, across = x.shape[2] - height + 1, x.shape[3] - width + 1  # where windows may start
    x = reduce(np.maximum, [x[:, :, i : i + down : step_h] for i in range(height)])
    return reduce(np.maximum, [x[..., j : j + across : step_w] for j in range(width)])


def activation(x: np.ndarray, function: Function) -> np.ndarray:
    """`relu`, `sigmoid` or `hard_sigmoid`, element by element."""
    if function == "relu":
        return np.maximum(x, np.float32(0))
    if function == "hard_sigmoid":
        return np.minimum(np.maximum(x * np.float32(0.25) + np.float32(0.5), np.float32(0)), np.float32(1))
    with np.errstate(over="ignore"):  # exp overflows to infinity, and the quotient to the right limit, zero
        return np.float32(1) / (np.float32(1) + np.exp(-x))


def quantize(x: np.ndarray, step: float, levels: int) -> np.ndarray:
    """`step * min(max(rint(x / step), 0), levels)`, in the precision of x."""
    kind = x.dtype.type
    return kind(step) * np.clip(np.rint(x / kind(step)), kind(0), kind(levels))


def gate(current: np.ndarray, values: np.ndarray, index: np.ndarray) -> np.ndarray:
    """`current * gate`, with `index` (n,) as `converters.graph.gate_index` gives it."""
    return current * values.reshape(len(values), -1)[:, index].reshape(current.shape)


class Interpreter:
    """Runs a graph step by step on one minibatch after the other."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.index = {node.name: gate_index(graph, node) for node in graph.nodes if isinstance(node, Gate)}

    def run(self, encoded: np.ndarray) -> Recording:
        """Runs from rest; encoded (T or 1, b, *shape) float32."""
        graph, samples = self.graph, encoded.shape[1]
        recorder = Recorder(graph, samples)
        outputs: dict[str, np.ndarray] = {}
        state = {
            node.name: np.zeros((samples, graph.size(node.name)), np.float32) for node in graph.of_type(LIF, Integrator)
        }
        for t in range(graph.steps):
            for node in graph.nodes:
                if t == 0 or node.name not in graph.static:
                    outputs[node.name] = self._compute(node, outputs, state, encoded[t % len(encoded)])
            recorder.step(t, outputs, state)
        return recorder.recording(NAME)

    def close(self) -> None:
        """Holds nothing."""

    def _compute(
        self, node: Node, outputs: dict[str, np.ndarray], state: dict[str, np.ndarray], encoded: np.ndarray
    ) -> np.ndarray:
        sources = [outputs[name] for name in node.inputs]
        if isinstance(node, Input):
            return encoded.reshape(len(encoded), *self.graph.shapes[node.name])
        if isinstance(node, Conv2d):
            return conv2d(sources[0], node)
        if isinstance(node, Affine):
            return affine(sources[0], node)
        if isinstance(node, AvgPool2d):
            return avg_pool2d(sources[0], node)
        if isinstance(node, MaxPool2d):
            return max_pool2d(sources[0], node)
        if isinstance(node, Activation):
            return activation(sources[0], node.function)
        if isinstance(node, Quantize):
            return quantize(sources[0], node.step, node.levels)
        if isinstance(node, Gate):
            return gate(sources[0], sources[1], self.index[node.name])
        if isinstance(node, LIF):
            spikes, state[node.name] = lif_step(
                state[node.name],
                sources[0].reshape(len(encoded), -1),
                node.beta,
                node.threshold,
                node.reset,
                node.reset_delay,
                lambda truth: truth.astype(np.float32),
            )
            return spikes.reshape(sources[0].shape)
        if isinstance(node, Integrator):
            x = sources[0].reshape(len(encoded), -1)
            state[node.name] = integrator_step(state[node.name], x, node.beta)
            return state[node.name].reshape(sources[0].shape)
        if isinstance(node, Readout):
            return sources[0]
        raise UserError(f"{node.name} is a {type(node).__name__}, which the interpreter does not know.")


def build(graph: Graph, minibatch: int) -> Interpreter:
    """The engine of backend `interpreter`; any minibatch will do."""
    return Interpreter(graph)
