"""A node of Nengo that multiplies two signals exactly. Imports Nengo: use through `nengo_network`."""

from __future__ import annotations

from typing import Any

import nengo
from nengo.builder import Builder, Model, Signal
from nengo.builder.operator import ElementwiseInc, Reset


class GateNode(nengo.Node):
    """Output n = input[:n] * input[n:], by one operator of Nengo's own (n products, float32).

    The callable computes the same; the builder below does not use it, but a backend that knows nothing of this
    class must not take the node for an identity.
    """

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
