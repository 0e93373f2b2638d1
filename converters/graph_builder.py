"""Building a graph from modules: a registry of what is known, and a refusal, by name, of everything else.

Each module class has one function that adds its nodes:

    @lowering(MyLayer)
    def _my_layer(builder, module, source):
        return builder.add(Affine, source, weight=builder.array(module.weight), bias=builder.array(module.bias))

The class must match exactly, since a subclass may compute something else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor, nn

from converters.graph import Encoding, Input, Node, Shape
from snn_anml.errors import UserError


@dataclass(frozen=True)
class Wire:
    """The output of a node while a graph is built.

    Attributes:
        name: the node.
        shape: shape of the value in torch, per sample. After a `Flatten` it differs from the node's own.
    """

    name: str
    shape: Shape


Lowering = Callable[["GraphBuilder", Any, Wire], Wire]
_LOWERINGS: dict[type[nn.Module], Lowering] = {}


def lowering(*kinds: type[nn.Module]) -> Callable[[Lowering], Lowering]:
    """Registers a function `(builder, module, source) -> Wire` for module classes."""

    def register(function: Lowering) -> Lowering:
        _LOWERINGS.update(dict.fromkeys(kinds, function))
        return function

    return register


def supported() -> tuple[str, ...]:
    """Names of the module classes that can be converted, sorted."""
    return tuple(sorted(_class_name(kind) for kind in _LOWERINGS))


class GraphBuilder:
    """Collects the nodes of a graph while a module is walked.

    Attributes:
        nodes: name to node, in the order of computation.
        place: dotted path of the module that is being converted; nodes are named after it.
    """

    def __init__(self, encoding: Encoding, shape: Shape) -> None:
        self.nodes: dict[str, Node] = {}
        self.shapes: dict[str, Shape] = {}
        self.place = ""
        self.input = self.add(Input, name="input", shape=shape, encoding=encoding)
        self._stateful: set[int] = set()

    def add(self, kind: type[Node], *sources: Wire, name: str | None = None, **fields: Any) -> Wire:
        """Adds a node, named after the module that is converted unless a name is given, and infers its shape."""
        base = name or self.place or kind.__name__.lower()
        name, count = base, 1
        while name in self.nodes:
            count += 1
            name = f"{base}_{count}"
        node = kind(name, tuple(source.name for source in sources), **fields)
        self.nodes[name] = node
        self.shapes[name] = node.infer_shape([self.shapes[source.name] for source in sources])
        return Wire(name, self.shapes[name])

    def change(self, source: Wire, **fields: Any) -> Wire:
        """Replaces fields of a node in place, as folding a normalisation does."""
        self.nodes[source.name] = replace(self.nodes[source.name], **fields)
        return source

    def read_by(self, source: Wire) -> list[str]:
        """Names of the nodes that read a node."""
        return [node.name for node in self.nodes.values() if source.name in node.inputs]

    def lower(self, module: nn.Module, source: Wire, name: str = "") -> Wire:
        """Converts a module, called `name` inside the one that is being converted, fed by `source`."""
        with self.inside(name):
            function = _LOWERINGS.get(type(module))
            if function is None:
                self.refuse(module, f"is not supported; supported are {', '.join(supported())}")
            return function(self, module, source)

    def once(self, module: nn.Module) -> None:
        """Refuses a module with a state that stands at a second place, since both would share the state."""
        if id(module) in self._stateful:
            self.refuse(module, "appears twice and would share its state; use one instance a layer")
        self._stateful.add(id(module))

    def refuse(self, module: nn.Module, reason: str) -> NoReturn:
        """Raises a `UserError` that names the class of the module and its place."""
        place = f"module {self.place!r}" if self.place else "the module"
        raise UserError(f"Cannot convert {place} ({_class_name(type(module))}): it {reason}.")

    def array(self, value: Tensor) -> np.ndarray:
        """A float32 copy of a parameter."""
        return np.array(value.detach().to("cpu", torch.float32).numpy(), np.float32)

    @contextmanager
    def inside(self, name: str) -> Iterator[None]:
        """Nodes that are added inside are named after `name`, below the present place."""
        outside = self.place
        self.place = ".".join(part for part in (outside, name) if part)
        try:
            yield
        finally:
            self.place = outside


def _class_name(kind: type) -> str:
    """`torch.nn.Conv2d` rather than `torch.nn.modules.conv.Conv2d`."""
    package = kind.__module__.split(".")[0]
    return f"torch.nn.{kind.__name__}" if kind.__module__.startswith("torch.nn") else f"{package}.{kind.__name__}"
