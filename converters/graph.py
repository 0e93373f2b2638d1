"""The neutral graph: what a trained network *is*, once torch is left behind.

A graph is a list of frozen nodes in the order in which they are computed, for `steps` time steps. All
arithmetic is float32. Shapes are per sample and per step, channels first, flattened in C order wherever a
vector is wanted. `converters.interpreter` is the one definition of what each node computes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Literal, get_args

import numpy as np

from snn_anml.errors import UserError

SCHEMA_VERSION = 3

Encoding = Literal["constant", "rate", "latency", "spikes"]
Reset = Literal["subtract", "zero", "none"]
Function = Literal["relu", "sigmoid", "hard_sigmoid"]
Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Node:
    """One step of the computation; `inputs` are names of earlier nodes."""

    name: str
    inputs: tuple[str, ...]

    def infer_shape(self, shapes: list[Shape]) -> Shape:
        """Shape of the output for the given input shapes, or `UserError`."""
        return shapes[0]


def _positions(
    name: str, shape: Shape, window: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]
) -> tuple[int, int]:
    """How often a window fits, (down, across)."""
    down, across = ((shape[1 + i] + 2 * padding[i] - window[i]) // stride[i] + 1 for i in (0, 1))
    if min(down, across) < 1:
        raise UserError(f"{name}: a {window[0]}x{window[1]} kernel does not fit an input of shape {shape}.")
    return down, across


@dataclass(frozen=True, eq=False)
class Input(Node):
    """The encoded sample. `constant`: the same current at every step; otherwise spikes that change with t.

    `spikes`: a sample is its own spike trains, (T, *shape), see `converters.events`.

    A sample of shape (channels, length) is a picture one pixel high to all other nodes, (channels, 1, length).
    """

    shape: Shape
    encoding: Encoding = "constant"

    def infer_shape(self, shapes: list[Shape]) -> Shape:
        return (self.shape[0], 1, self.shape[1]) if len(self.shape) == 2 else self.shape


@dataclass(frozen=True, eq=False)
class Conv2d(Node):
    """`y = weight * x + bias` (cross-correlation, zero padding).

    weight (out, in / groups, kernel_h, kernel_w), bias (out,); stride, padding and dilation (height, width). The
    outputs, in as many parts of equal size as there are groups, see the inputs of the part of the same place.
    """

    weight: np.ndarray
    bias: np.ndarray
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    @property
    def extent(self) -> tuple[int, int]:
        """Height and width that the dilated kernel spans."""
        height, width = (d * (k - 1) + 1 for d, k in zip(self.dilation, self.weight.shape[2:], strict=True))
        return height, width

    def infer_shape(self, shapes: list[Shape]) -> Shape:
        (shape,) = shapes
        out, channels = len(self.weight), self.weight.shape[1] * self.groups
        if len(shape) != 3 or shape[0] != channels:
            raise UserError(f"{self.name}: expects ({channels}, height, width), but its input has shape {shape}.")
        if out % self.groups:
            raise UserError(f"{self.name}: {out} outputs cannot be divided into {self.groups} groups.")
        return (out, *_positions(self.name, shape, self.extent, self.stride, self.padding))


@dataclass(frozen=True, eq=False)
class Affine(Node):
    """`y = weight @ x + bias` on the flattened input. weight (out, in), bias (out,)."""

    weight: np.ndarray
    bias: np.ndarray

    def infer_shape(self, shapes: list[Shape]) -> Shape:
        (shape,) = shapes
        if int(np.prod(shape)) != self.weight.shape[1]:
            raise UserError(f"{self.name}: expects {self.weight.shape[1]} inputs, but its input has shape {shape}.")
        return (self.weight.shape[0],)


@dataclass(frozen=True, eq=False)
class AvgPool2d(Node):
    """Mean over windows of `kernel` (height, width), moved by `stride`; no padding, incomplete windows dropped."""

    kernel: tuple[int, int]
    stride: tuple[int, int]

    def infer_shape(self, shapes: list[Shape]) -> Shape:
        (shape,) = shapes
        if len(shape) != 3:
            raise UserError(f"{self.name}: expects (channels, height, width), but its input has shape {shape}.")
        return (shape[0], *_positions(self.name, shape, self.kernel, self.stride, (0, 0)))


@dataclass(frozen=True, eq=False)
class MaxPool2d(Node):
    """Maximum over windows of `kernel` (height, width), moved by `stride`; incomplete windows dropped.

    `padding` (height, width) is -infinity around the picture, at most half of the kernel, so that every window holds
    a value.
    """

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int] = (0, 0)

    def infer_shape(self, shapes: list[Shape]) -> Shape:
        (shape,) = shapes
        if len(shape) != 3:
            raise UserError(f"{self.name}: expects (channels, height, width), but its input has shape {shape}.")
        if any(2 * pad > size for pad, size in zip(self.padding, self.kernel, strict=True)):
            raise UserError(f"{self.name}: a padding of {self.padding} is more than half of the kernel {self.kernel}.")
        return (shape[0], *_positions(self.name, shape, self.kernel, self.stride, self.padding))


@dataclass(frozen=True, eq=False)
class Activation(Node):
    """`relu(x) = max(x, 0)`, `sigmoid(x) = 1 / (1 + exp(-x))`, `hard_sigmoid(x) = min(max(x / 4 + 1 / 2, 0), 1)`."""

    function: Function


@dataclass(frozen=True, eq=False)
class Quantize(Node):
    """`y = step * min(max(rint(x / step), 0), levels)`: the nearest of `levels + 1` values from 0 on, ties to even.

    `step` is rounded to float32, as all arithmetic is.
    """

    step: float
    levels: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "step", float(np.float32(self.step)))

    def infer_shape(self, shapes: list[Shape]) -> Shape:
        if not (0 < self.step < np.inf and 1 <= self.levels <= 2**24):
            raise UserError(
                f"{self.name}: step = {self.step} and levels = {self.levels}, but a positive float32 and a number "
                "from 1 to 2^24 are needed."
            )
        return shapes[0]


@dataclass(frozen=True, eq=False)
class Gate(Node):
    """`y = current * gate`; inputs (current, gate). The gate has one value a neuron, or one a channel."""

    def infer_shape(self, shapes: list[Shape]) -> Shape:
        current, gate = shapes
        if int(np.prod(gate)) not in (int(np.prod(current)), current[0]):
            raise UserError(
                f"{self.name}: a gate of shape {gate} fits neither the neurons nor the channels of a current "
                f"of shape {current}."
            )
        return current


@dataclass(frozen=True, eq=False)
class LIF(Node):
    """Leaky integrate-and-fire, in the order of operations of `snntorch.Leaky`; v starts at 0.

        r_t = [v_{t-1} > threshold]
        subtract:  v_t = (beta * v_{t-1} + x_t) - r_t * threshold
        zero:      v_t = beta * ((1 - r_t) * v_{t-1}) + x_t
        none:      v_t = beta * v_{t-1} + x_t
        s_t = [v_t > threshold]

    Without `reset_delay` the reset of step t is made in step t, after the spike, as snnTorch does it:
    v_t loses (s_t - r_t) * threshold (subtract) or (s_t - r_t) * v_t (zero); the recorded membrane is what remains.
    beta and threshold are scalars, shape (), or one value a neuron, shape (n,).
    """

    beta: np.ndarray
    threshold: np.ndarray
    reset: Reset = "subtract"
    reset_delay: bool = True


@dataclass(frozen=True, eq=False)
class Integrator(Node):
    """Leaky integrator without spikes: `v_t = beta * v_{t-1} + x_t`, v starts at 0; its output is v_t."""

    beta: np.ndarray


@dataclass(frozen=True, eq=False)
class Readout(Node):
    """Mean of the input over all steps, `y = (x_1 + ... + x_T) / T`: the output of the graph."""


NODE_TYPES: dict[str, type[Node]] = {
    cls.__name__: cls
    for cls in (Input, Conv2d, Affine, AvgPool2d, MaxPool2d, Activation, Quantize, Gate, LIF, Integrator, Readout)
}
STATEFUL = (LIF, Integrator)
SYNAPSES = (Conv2d, Affine)
_WORDS = {"encoding": get_args(Encoding), "reset": get_args(Reset), "function": get_args(Function)}


@dataclass(frozen=True, eq=False)
class Graph:
    """Nodes in the order of computation, run for `steps` steps. The last node is the one `Readout`.

    Raises `UserError` for a node that names an unknown or later input, for shapes that do not fit, for a name
    used twice, for a field that is not what its node says, for steps that are no whole number from 1 on, and for a
    graph without exactly one `Input` (the first node) and one `Readout` (the last).
    """

    nodes: tuple[Node, ...]
    steps: int

    def __post_init__(self) -> None:
        if not isinstance(self.steps, (int, np.integer)) or self.steps < 1:
            raise UserError(f"steps = {self.steps}; a graph runs for a whole number of steps, at least one.")
        kinds = [type(node) for node in self.nodes]
        if kinds.count(Input) != 1 or kinds.count(Readout) != 1 or kinds[0] is not Input or kinds[-1] is not Readout:
            raise UserError("A graph begins with its one Input and ends with its one Readout.")
        for node, _ in self.walk():
            _check_fields(node)
        for node in self.nodes:
            _check_sizes(node, self.size(node.name))

    def walk(self) -> Iterator[tuple[Node, tuple[Node, ...]]]:
        """Every node with the nodes that feed it, in the order of computation."""
        known: dict[str, Node] = {}
        for node in self.nodes:
            missing = [name for name in node.inputs if name not in known]
            if missing:
                raise UserError(f"{node.name} reads {missing[0]!r}, which is no earlier node of the graph.")
            if node.name in known:
                raise UserError(f"Two nodes of the graph are called {node.name!r}.")
            yield node, tuple(known[name] for name in node.inputs)
            known[node.name] = node

    @cached_property
    def shapes(self) -> dict[str, Shape]:
        """Output shape of every node, per sample and step."""
        shapes: dict[str, Shape] = {}
        for node in self.nodes:
            shapes[node.name] = node.infer_shape([shapes[name] for name in node.inputs])
        return shapes

    @cached_property
    def static(self) -> frozenset[str]:
        """Names of the nodes whose output is the same at every step, so that it is computed once."""
        static: set[str] = set()
        for node in self.nodes:
            if isinstance(node, Input):
                constant = node.encoding == "constant"
            else:
                constant = not isinstance(node, STATEFUL) and all(name in static for name in node.inputs)
            if constant:
                static.add(node.name)
        return frozenset(static)

    def size(self, name: str) -> int:
        """Number of values of a node, per sample and step."""
        return int(np.prod(self.shapes[name]))

    def of_type(self, *types: type[Node]) -> tuple[Node, ...]:
        """The nodes of the given types, in order."""
        return tuple(node for node in self.nodes if isinstance(node, types))

    def __getitem__(self, name: str) -> Node:
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(name)


def _check_fields(node: Node) -> None:
    """Refuses arrays that are none or not finite float32, and words that mean nothing."""
    for f in fields(node):
        value = getattr(node, f.name)
        if f.type in ("np.ndarray", np.ndarray) and not isinstance(value, np.ndarray):
            raise UserError(f"{node.name}.{f.name} is {value!s}; it must be np.array(value, np.float32).")
        if isinstance(value, np.ndarray) and (value.dtype != np.float32 or not np.isfinite(value).all()):
            raise UserError(f"{node.name}.{f.name} must be finite float32, but is {value.dtype}.")
        if f.name in _WORDS and value not in _WORDS[f.name]:
            raise UserError(f"{node.name}.{f.name} is {value!r}; known are {', '.join(_WORDS[f.name])}.")


def _check_sizes(node: Node, size: int) -> None:
    """Refuses biases other than one an output, and parameters of neurons other than one, or one a neuron."""
    for name in ("bias", "beta", "threshold"):
        value = getattr(node, name, None)
        if value is not None:
            wanted = [(len(node.weight),)] if isinstance(node, SYNAPSES) else [(), (1,), (size,)]
            if value.shape not in wanted:
                raise UserError(f"{node.name}.{name} has shape {value.shape}, but must have {wanted[-1]}.")


def part(name: str) -> str:
    """The network a node belongs to: what stands before the first dot (`pln.lif1` is of `pln`), or the name."""
    return name.split(".", 1)[0]


def gate_index(graph: Graph, gate: Gate) -> np.ndarray:
    """For every neuron of the gated current, (n,) int64, the index of its value in the flattened gate."""
    current, values = (graph.shapes[name] for name in gate.inputs)
    n, m = int(np.prod(current)), int(np.prod(values))
    return np.arange(n) if m == n else np.repeat(np.arange(m), n // m)
