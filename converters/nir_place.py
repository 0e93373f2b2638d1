"""One node of another program's NIR file while it is read: checked parameters, refusals, and nodes of the graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from converters.graph import LIF, Encoding, Integrator, Node, Reset, Shape
from converters.graph_builder import GraphBuilder, Wire
from snn_anml.errors import UserError

ROUNDING = 1e-6
"""A weight of the current this close to 1 is 1: programs write it as a quotient of float32 numbers."""


@dataclass(frozen=True)
class Told:
    """What the caller says of a file; None for what was left out. See `converters.nir_read.load_nir`."""

    steps: int | None
    dt: float | None
    reset: Reset | None
    reset_delay: bool | None
    encoding: Encoding | None


def refuse(path: str, name: str, node: Any, reason: str) -> NoReturn:
    """Raises a `UserError` that names a node and its type."""
    raise UserError(f"Cannot read node {name!r} ({type(node).__name__}) of {path}: it {reason}.")


@dataclass(frozen=True)
class Place:
    """A node of the file, the graph as far as it is built, and what the caller said."""

    path: str
    name: str
    node: Any
    builder: GraphBuilder
    told: Told

    @property
    def kind(self) -> str:
        """Type of the node."""
        return type(self.node).__name__

    def refuse(self, reason: str) -> NoReturn:
        """Raises a `UserError` that names the node and its type."""
        refuse(self.path, self.name, self.node, reason)

    def add(self, kind: type[Node], source: Wire, **fields: Any) -> Wire:
        """Adds a node of the graph under the name of this one."""
        return self.builder.add(kind, source, name=self.name, **fields)

    def need_shape(self, source: Wire, form: str) -> None:
        """Refuses a value whose shape has another number of dimensions than `form` names."""
        if len(source.shape) != form.count(",") + 1:
            self.refuse(f"needs an input ({form}), but is fed with shape {source.shape}")

    def numbers(self, value: Any, count: int, least: int = 1) -> tuple[int, ...]:
        """An option of `count` dimensions, of which a single number is meant for all."""
        found = np.ravel(value)
        numbers = tuple(int(n) for n in (np.repeat(found, count) if found.size == 1 else found))
        if len(numbers) != count or not np.array_equal(numbers, np.broadcast_to(found, count)) or min(numbers) < least:
            self.refuse(f"has an option {value}, where {count} whole numbers of at least {least} are needed")
        return numbers

    def parameter(self, name: str, shape: Shape) -> np.ndarray:
        """A parameter of the present neuron, (n,) float64."""
        value = np.asarray(getattr(self.node, name), np.float64)
        fits = value.size == 1 or (value.ndim == len(shape) and _stretches(value.shape, shape))
        if not fits:
            self.refuse(f"has a {name} of shape {value.shape}, but is fed with shape {shape}")
        if not np.isfinite(value).all():
            self.refuse(f"has a {name} that is not finite")
        return np.broadcast_to(value.reshape(()) if value.size == 1 else value, shape).reshape(-1)

    def at_rest(self, name: str) -> None:
        """Refuses a potential other than 0, where membranes of a graph start and are reset to."""
        if np.any(getattr(self.node, name)):
            self.refuse(f"has a {name} other than 0")

    def decay(self, tau: str, weight: str, shape: Shape) -> tuple[np.ndarray, np.ndarray]:
        """beta = 1 - dt / tau, and the weight of the current, such as r dt / tau; each (n,) float64."""
        constant = self.parameter(tau, shape)
        rate = self._dt() / np.where(constant > 0, constant, np.nan)
        if not (rate <= 1 + ROUNDING).all():
            self.refuse(f"has a {tau} that is not positive, or below dt = {self._dt()} s; check dt")
        return np.maximum(1 - rate, 0), self._weight(self.parameter(weight, shape) * rate)

    def undecayed(self, shape: Shape) -> tuple[np.ndarray, np.ndarray]:
        """The same of IF and I: 1 and r dt."""
        weight = self._weight(self.parameter("r", shape) * self._dt())
        return np.ones_like(weight), weight

    def spiking(self, source: Wire, beta: np.ndarray, weight: np.ndarray) -> Wire:
        """Neurons with the threshold and the reset of the present node."""
        self.at_rest("v_reset")
        if self.told.reset is None:
            raise UserError(
                f"{self.path} has spiking neurons ({self.name!r}), whose reset a file does not tell for certain; give "
                "load_nir reset='zero' (as NIR says), 'subtract' (as many files of snnTorch mean) or 'none'."
            )
        if self.told.reset == "subtract" and self.told.reset_delay is None:
            raise UserError(
                f"{self.path} does not say whether a reset by subtraction follows in the step of the spike or in the "
                "next; give load_nir reset_delay=True (the default of snnTorch) or False."
            )
        threshold = self.parameter("v_threshold", source.shape) / weight
        return self.lif(source, beta, threshold, self.told.reset, bool(self.told.reset_delay))

    def lif(self, source: Wire, beta: np.ndarray, threshold: np.ndarray, reset: Reset, delay: bool) -> Wire:
        parameters = {"beta": _compact(beta), "threshold": _compact(threshold)}
        return self.add(LIF, source, reset=reset, reset_delay=delay, **parameters)

    def integrator(self, source: Wire, beta: np.ndarray, name: str) -> Wire:
        return self.builder.add(Integrator, source, name=name, beta=_compact(beta))

    def _dt(self) -> float:
        dt = self.told.dt
        if dt is None:
            raise UserError(
                f"{self.path} has time constants ({self.name!r}), but does not say the time step; give load_nir dt=, "
                "in s (1e-4 for files of snnTorch)."
            )
        if not (np.isfinite(dt) and dt > 0):
            raise UserError(f"dt = {dt}; a time step is a positive number of seconds.")
        return float(dt)

    def _weight(self, value: np.ndarray) -> np.ndarray:
        if not (value > 0).all():
            self.refuse("gives its current a weight that is not positive; check r")
        return np.where(np.abs(value - 1) < ROUNDING, 1.0, value)


def _stretches(shape: Shape, onto: Shape) -> bool:
    return all(a in (1, b) for a, b in zip(shape, onto, strict=True))


def _compact(values: np.ndarray) -> np.ndarray:
    """(n,) as float32, or () where all are the same."""
    values = values.astype(np.float32)
    return np.array(values[0]) if (values == values[0]).all() else values
