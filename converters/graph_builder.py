"""Building a graph from modules: a registry of what is known, and a refusal, by name, of everything else.

Each module class has one function that adds its nodes:

    @lowering(MyLayer)
    def _my_layer(builder, module, source):
        return builder.add(Affine, source, weight=builder.array(module.weight), bias=builder.array(module.bias))

The class must match exactly, since a subclass may compute something else. A module without such a function can say
by itself which modules it runs one after the other, in `forward_order`: see `GraphBuilder.lower_in_order`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NoReturn, cast

import numpy as np
import torch
from torch import Tensor, nn

from converters.gates import constant, nothing
from converters.graph import Affine, Encoding, Gate, Input, Node, Shape
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
_REASONS: dict[type[nn.Module], str] = {}


def lowering(*kinds: type[nn.Module]) -> Callable[[Lowering], Lowering]:
    """Registers a function `(builder, module, source) -> Wire` for module classes."""

    def register(function: Lowering) -> Lowering:
        _LOWERINGS.update(dict.fromkeys(kinds, function))
        return function

    return register


def impossible(reason: str, *kinds: type[nn.Module]) -> None:
    """Says why module classes cannot be converted, as the end of a sentence that begins with 'it'."""
    _REASONS.update(dict.fromkeys(kinds, reason))


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
        self.input = Wire(self.add(Input, name="input", shape=shape, encoding=encoding).name, shape)
        self._nothing: Wire | None = None
        self._stateful: set[int] = set()

    def add(self, kind: type[Node], *sources: Wire, name: str | None = None, **fields: Any) -> Wire:
        """Adds a node, named after the module that is converted unless a name is given, and infers its shape.

        Where that is the shape of the node of the first source, the value keeps the source's shape in torch as well.
        """
        base = name or self.place or kind.__name__.lower()
        name, count = base, 1
        while name in self.nodes:
            count += 1
            name = f"{base}_{count}"
        node = kind(name, tuple(source.name for source in sources), **fields)
        before = [self.shapes[source.name] for source in sources]
        self.nodes[name] = node
        self.shapes[name] = shape = node.infer_shape(before)
        return Wire(name, sources[0].shape if shape in before[:1] else shape)

    def change(self, source: Wire, **fields: Any) -> Wire:
        """Replaces fields of a node in place, as folding a normalisation does."""
        self.nodes[source.name] = replace(self.nodes[source.name], **fields)
        return source

    def scaled(self, source: Wire, factor: np.ndarray, name: str) -> Wire:
        """The value times constants, (n,), as a gate of this name; one a channel where that is enough."""
        factor = factor.astype(np.float32)
        if (factor == 1).all():
            return source
        if self._nothing is None:
            size = int(np.prod(self.input.shape))
            self._nothing = self.add(Affine, self.input, name="nothing", **nothing(size))
        rows = factor.reshape(self.shapes[source.name][0], -1)
        values = rows[:, 0] if (rows == rows[:, :1]).all() else factor
        gate = self.add(Affine, self._nothing, name=f"{name}.values", **constant(values))
        return self.add(Gate, source, gate, name=name)

    def read_by(self, source: Wire) -> list[str]:
        """Names of the nodes that read a node."""
        return [node.name for node in self.nodes.values() if source.name in node.inputs]

    def lower(self, module: nn.Module, source: Wire, name: str = "") -> Wire:
        """Converts a module, called `name` inside the one that is being converted, fed by `source`."""
        with self.inside(name):
            function = _LOWERINGS.get(type(module))
            if function is not None:
                return function(self, module, source)
            order = getattr(module, "forward_order", None)
            if order is not None:
                return self.lower_in_order(module, cast(Any, order() if callable(order) else order), source)
            known = f"supported are {', '.join(supported())}, and modules with a stated order"
            self.refuse(module, _REASONS.get(type(module)) or f"is not supported; {known}")

    def lower_as(self, kind: type[nn.Module], module: nn.Module, source: Wire) -> Wire:
        """Converts a module as one of another class, which it is once it is fed by `source`."""
        return _LOWERINGS[kind](self, module, source)

    def lower_in_order(self, module: nn.Module, order: Sequence[str | nn.Module], source: Wire) -> Wire:
        """Converts the modules that a module runs one after the other.

        Args:
            module: whatever its class.
            order: dotted names of modules inside it, or modules themselves for what its forward does by functions
                (`nn.Flatten()` for a `view`). Every module inside must be named, by itself or by one that holds it.
            source: what feeds it.
        """
        inside = {name: child for name, child in module.named_modules(remove_duplicate=False) if name}
        run: set[int] = set()
        for i, item in enumerate(order):
            if isinstance(item, nn.Module):
                child, name = item, f"order{i}"
            elif item in inside:
                child, name = inside[item], item
            else:
                self.refuse(module, f"has no module {item!r}, which its order names; it has {', '.join(inside)}")
            source = self.lower(child, source, name)
            run |= {id(part) for part in child.modules()}
        left = [name for name, child in inside.items() if id(child) not in run and not list(child.children())]
        if left:
            self.refuse(module, f"holds {', '.join(left)}, which its order leaves out; name all that its forward runs")
        return source

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
