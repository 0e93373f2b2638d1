"""Nodes of Nengo for exact products and maxima. Imports Nengo: use through `nengo_network`.

Each also has a callable that computes the same. The builders below do not use it, but a backend that knows nothing of
these classes must not take a node for an identity.
"""

from __future__ import annotations

from typing import Any, cast

import nengo
import numpy as np
from nengo.builder import Builder, Model, Signal
from nengo.builder.operator import ElementwiseInc, Operator, Reset

from converters.graph import MaxPool2d, Shape
from converters.interpreter import max_pool2d


class GateNode(nengo.Node):
    """Output n = input[:n] * input[n:], by one operator of Nengo's own (n products, float32)."""

    def __init__(self, n: int, label: str) -> None:
        options: dict[str, Any] = {"size_in": 2 * n, "size_out": n, "label": label}
        options["output"] = lambda t, x: x[:n] * x[n:]
        super().__init__(**options)


@Builder.register(GateNode)
def build_gate_node(model: Model, node: GateNode) -> None:
    """Builds the product as an operator, which both Nengo and NengoDL simulate without calling Python."""
    n: Any = node.size_out
    both = Signal(shape=2 * n, name=f"{node}.in")
    product = Signal(shape=n, name=f"{node}.out")
    model.add_op(Reset(both))
    model.add_op(Reset(product))
    model.add_op(ElementwiseInc(both[:n], both[n:], product, tag=str(node.label)))
    model.sig[node]["in"] = both
    model.sig[node]["out"] = product
    model.params[node] = None


class MaxPoolNode(nengo.Node):
    """`converters.graph.MaxPool2d` of a picture of the given shape, (channels, height, width)."""

    def __init__(self, pool: MaxPool2d, shape: Shape) -> None:
        self.pool, self.shape = pool, shape
        options: dict[str, Any] = {"size_in": int(np.prod(shape)), "size_out": int(np.prod(pool.infer_shape([shape])))}
        options |= {"output": lambda t, x: max_pool2d(x.reshape(1, *shape), pool).ravel(), "label": pool.name}
        super().__init__(**options)


class SimMaxPool(Operator):
    """Sets one signal to the maxima of another; NengoDL has a builder of its own for it."""

    def __init__(self, source: Signal, maxima: Signal, node: MaxPoolNode) -> None:
        super().__init__(tag=str(node.label))
        self.pool, self.shape = node.pool, node.shape
        self.sets, self.reads, self.incs, self.updates = [maxima], [source], [], []

    def make_step(self, signals: Any, dt: float, rng: Any) -> Any:
        """One step of Nengo's own simulator."""
        (source,), (maxima,) = cast(Any, (self.reads, self.sets))
        x, y = signals[source].reshape(1, *self.shape), signals[maxima]

        def step() -> None:
            y[...] = max_pool2d(x, self.pool).ravel()

        return step


@Builder.register(MaxPoolNode)
def build_max_pool_node(model: Model, node: MaxPoolNode) -> None:
    """Builds the maxima as an operator."""
    source, maxima = (
        Signal(shape=n, name=f"{node}.{end}") for n, end in ((node.size_in, "in"), (node.size_out, "out"))
    )
    model.add_op(Reset(source))
    model.add_op(SimMaxPool(source, maxima, node))
    model.sig[node]["in"] = source
    model.sig[node]["out"] = maxima
    model.params[node] = None
