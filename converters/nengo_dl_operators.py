"""Operators of a built network, rewritten for TensorFlow: the same numbers without slow copies and repetition.

Imports NengoDL and TensorFlow: use through `converters.nengo_dl`. `plan` is a planner as NengoDL knows them:

    padded convolution      the copy into a larger signal, and the convolution of that, are one operator
    parts of a signal       what reads a part that is a copy reads the original
    repeated values         a value a channel, copied to all its neurons, is not looked up for each
    constant operators      run in the first step, as on the other backends

Operators are not merged: merged signals share one array, and every partial write would copy all of it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from copy import copy
from typing import Any

import numpy as np
import tensorflow as tf
from nengo.builder.neurons import SimNeurons
from nengo.builder.operator import Copy, DotInc, ElementwiseInc, Operator, Reset
from nengo.builder.signal import Signal
from nengo.builder.transforms import SparseDotInc
from nengo_dl.builder import Builder, OpBuilder
from nengo_dl.graph_optimizer import noop_planner
from nengo_dl.op_builders import DotSet, ElementwiseSet, ResetInc, SparseDotSet
from nengo_dl.transform_builders import ConvSet

from converters.nengo_nodes import SimMaxPool

Padding = tuple[tuple[int, int], tuple[int, int]]


def plan(operators: Sequence[Any], changing: str | None) -> list[tuple[Any, ...]]:
    """The operators in an order in which they can run, each alone.

    Args:
        operators: of the whole network.
        changing: name of the one input signal that may differ from step to step, or None.
    """
    operators = repeated_values(joined_parts(padded_convolutions(operators)))
    return noop_planner(computed_once(operators, changing))


class Uses:
    """Which operators write and read each base signal."""

    def __init__(self, operators: Sequence[Any]) -> None:
        self.writers: dict[Signal, list[Any]] = defaultdict(list)
        self.readers: dict[Signal, list[Any]] = defaultdict(list)
        for op in operators:
            for signal in {s.base: None for s in (*op.sets, *op.incs, *op.updates)}:
                self.writers[signal].append(op)
            for signal in {s.base: None for s in op.reads}:
                self.readers[signal].append(op)

    def copies_into(self, signal: Signal) -> list[Any]:
        """The copies of whole signals that alone fill a base signal of zeros; none if others write into it."""
        writers = self.writers.get(signal, [])
        resets = [op for op in writers if type(op) is Reset and op.dst is signal and not np.any(op.value)]
        copies = [op for op in writers if type(op) is Copy and op.inc and op.src_slice is None]
        return copies if len(resets) == 1 and len(copies) == len(writers) - 1 else []


class PaddedConvolution(Operator):
    """A two-dimensional convolution, channels first, of a signal with a border of zeros around it."""

    def __init__(self, op: Any, source: Signal, padding: Padding) -> None:
        super().__init__(tag=op.tag)
        self.conv, self.padding = op.conv, padding
        self.sets, self.incs, self.reads, self.updates = [op.Y], [], [op.W, source], []


@Builder.register(PaddedConvolution)
class PaddedConvolutionBuilder(OpBuilder):
    """On the CPU, TensorFlow convolves with channels last alone."""

    def build_step(self, signals):
        """Sets the currents."""
        (op,) = self.ops
        channels, height, width = op.conv.input_shape.shape
        shape = (channels, height - sum(op.padding[0]), width - sum(op.padding[1]))
        weight, x = signals.gather(signals[op.reads[0]]), signals.gather(signals[op.reads[1]].reshape(shape))
        around: Any = ((0, 0), *op.padding, (0, 0))  # TensorFlow's annotation knows names alone
        y = tf.nn.conv2d(tf.transpose(x, (0, 2, 3, 1)), weight, op.conv.strides, around)
        signals.scatter(signals[op.sets[0]], tf.transpose(y, (0, 3, 1, 2)))


def padded_convolutions(operators: Sequence[Any]) -> list[Any]:
    """The same operators, with convolutions that read what was copied into a larger signal."""
    uses, made, dropped = Uses(operators), [], set()
    for op in operators:
        conv: Any = op.conv if type(op) is ConvSet else None
        if conv is None or conv.channels_last or conv.dimensions != 2 or conv.padding != "valid":
            made.append(op)
            continue
        source, padding = op.X, ((0, 0), (0, 0))
        copies = uses.copies_into(source)
        if len(copies) == 1 and uses.readers[source] == [op]:
            inside = border(copies[0].dst_slice, conv.input_shape.shape)
            if inside is not None:
                dropped |= set(uses.writers[source])
                source, padding = copies[0].src, inside
        made.append(PaddedConvolution(op, source, padding))
    return [op for op in made if op not in dropped]


def border(indices: Sequence[int] | None, shape: tuple[int, int, int]) -> Padding | None:
    """Rows and columns before and after a box, given the flat indices of the box in (channels, height, width).

    None if they are no box of all channels.
    """
    if indices is None:
        return None
    (_, top, left), (_, bottom, right) = (np.unravel_index(indices[i], shape) for i in (0, -1))
    box = np.arange(np.prod(shape)).reshape(shape)[:, top : bottom + 1, left : right + 1]
    if not np.array_equal(box.ravel(), indices):
        return None
    return (int(top), int(shape[1] - 1 - bottom)), (int(left), int(shape[2] - 1 - right))


def joined_parts(operators: Sequence[Any]) -> list[Any]:
    """The same operators, without signals that are written and read in the same parts: a gate and its current."""
    uses, dropped, instead = Uses(operators), set(), {}
    for signal, writers in uses.writers.items():
        copies = uses.copies_into(signal)
        parts = {extent(op.dst): op.src for op in copies if op.dst_slice is None}
        reads = [s for op in uses.readers[signal] for s in op.reads if s.base is signal]
        if copies and disjoint(copies) and all(extent(s) in parts for s in reads):
            dropped |= set(writers)
            instead |= {s: parts[extent(s)] for s in reads}
    made = []
    for op in operators:
        if op not in dropped and any(s in instead for s in op.reads):
            op = copy(op)
            op.reads = [instead.get(s, s) for s in op.reads]
        made.append(op)
    return [op for op in made if op not in dropped]


def extent(signal: Signal) -> tuple[Any, ...]:
    """Where a view lies in its base."""
    return signal.elemoffset, signal.shape, signal.elemstrides


def disjoint(copies: Sequence[Any]) -> bool:
    """Whether no two of them write into one place."""
    return not any(a.dst.may_share_memory(b.dst) for i, a in enumerate(copies) for b in copies[:i])


class Repeat(Operator):
    """Sets one signal to each value of another, `times` in a row."""

    def __init__(self, op: Any, times: int) -> None:
        super().__init__(tag=op.tag)
        self.times = times
        self.sets, self.incs, self.reads, self.updates = [op.dst], [], [op.src], []


@Builder.register(Repeat)
class RepeatBuilder(OpBuilder):
    """A copy by indices takes several times as long."""

    def build_step(self, signals):
        """Sets the values."""
        (op,) = self.ops
        x = signals.gather(signals[op.reads[0]])
        signals.scatter(signals[op.sets[0]], tf.broadcast_to(x[:, :, None], (*x.shape, op.times)))


def repeated_values(operators: Sequence[Any]) -> list[Any]:
    """The same operators, with copies that repeat every value of a signal."""

    def times(op: Any) -> int:
        if type(op) is not Copy or op.inc or op.src_slice is None or op.dst_slice is not None:
            return 0
        n = op.src.size
        m = len(op.src_slice) // n
        return m if np.array_equal(op.src_slice, np.repeat(np.arange(n), m)) else 0

    return [Repeat(op, times(op)) if times(op) else op for op in operators]


STATELESS = (
    *(Copy, Repeat, Reset, ResetInc, SimMaxPool, PaddedConvolution, ConvSet),
    *(DotInc, DotSet, SparseDotInc, SparseDotSet, ElementwiseInc, ElementwiseSet),
)


class Once(Operator):
    """Operators that run in the first step alone; what others read of them stays."""

    def __init__(self, operators: Sequence[Any], step: Signal, kept: Sequence[Signal]) -> None:
        super().__init__(tag="constant")
        self.operators, self.step = [op for (op,) in noop_planner(operators)], step  # in an order that can run
        written = dict.fromkeys(s for op in operators for s in (*op.sets, *op.incs))
        read = dict.fromkeys(s for op in operators for s in op.reads if s not in written)
        # NengoDL carries from step to step what is incremented, but not what is set.
        self.sets, self.incs = [s for s in written if s not in kept], list(kept)
        self.reads, self.updates = [step, *read], []


@Builder.register(Once)
class OnceBuilder(OpBuilder):
    """The builders of the operators, behind a condition."""

    def build_pre(self, signals, config):
        """What the operators prepare."""
        super().build_pre(signals, config)
        self.builders = [Builder.builders[type(op)]((op,)) for op in self.ops[0].operators]
        for builder in self.builders:
            builder.build_pre(signals, config)

    def build_step(self, signals):
        """Sets the values, or leaves them."""
        (op,) = self.ops
        before, keys = dict(signals.bases), [signals[s].key for s in op.incs]

        def compute():
            for builder in self.builders:
                builder.build_step(signals)
            return [signals.bases[key] for key in keys]

        first = tf.equal(signals.gather(signals[op.step].reshape(())), 1)
        values = tf.cond(first, compute, lambda: [before[key] for key in keys])
        # Tensors made inside the condition do not exist outside.
        signals.bases = before | dict(zip(keys, values, strict=True))


def computed_once(operators: Sequence[Any], changing: str | None) -> list[Any]:
    """The same operators, with those that depend on constants and constant inputs alone in one `Once`."""
    uses = Uses(operators)

    def constant(op: Any) -> bool:
        stateless = type(op) in STATELESS or (type(op) is SimNeurons and not op.state)
        return stateless and not any(s.is_view or s.name == changing for s in op.all_signals)

    chosen = {op: None for op in operators if constant(op)}
    while varying := [op for op in chosen if any(w not in chosen for s in op.all_signals for w in uses.writers[s])]:
        for op in varying:
            del chosen[op]
    written = dict.fromkeys(s for op in chosen for s in (*op.sets, *op.incs))
    kept = [s for s in written if any(op not in chosen for op in uses.readers[s])]
    if not kept:
        return list(operators)
    step = next(s for op in operators for s in op.sets if s.name == "step")
    return [*(op for op in operators if op not in chosen), Once(list(chosen), step, kept)]
