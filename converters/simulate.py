"""One way to simulate a graph on any backend.

A backend is one module with `build(graph, minibatch) -> Engine`, and one line in the registry:

    register("mine", build)                        # a function, or
    register("mine", "package.module")             # a module that is imported when first used

An engine runs one minibatch of encoded samples from rest. Encoding, streaming, joining and timing happen here,
so every backend sees the same input.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import import_module
from typing import Protocol

import numpy as np
import torch

from converters.graph import Graph, Input
from converters.recorder import join
from converters.recording import Recording
from snn_anml.encoding import encode
from snn_anml.errors import UserError

# Bytes of recorded float32 values in one minibatch; a simulator holds a small multiple of this while it runs.
MINIBATCH_BYTES = 128 * 2**20


class Engine(Protocol):
    """A built simulator."""

    def run(self, encoded: np.ndarray) -> Recording:
        """Simulates from rest. encoded (T or 1, b, *shape) float32, b at most the minibatch it was built for."""
        ...

    def close(self) -> None:
        """Releases what it holds."""
        ...


Build = Callable[[Graph, int], Engine]

_BACKENDS: dict[str, Build | str] = {
    "interpreter": "converters.interpreter",
    "torch": "converters.torch_backend",
    "nengo": "converters.nengo_core",
    "nengo-dl": "converters.nengo_dl",
    "nengo-native": "converters.native_nengo",
    "loihi": "converters.loihi",
}


def register(name: str, build: Build | str) -> None:
    """Adds a backend: a function `build(graph, minibatch)`, or the name of a module that has one."""
    _BACKENDS[name] = build


def backends() -> tuple[str, ...]:
    """Names of the registered backends, installed or not."""
    return tuple(_BACKENDS)


def encode_inputs(graph: Graph, inputs: np.ndarray | torch.Tensor, seed: int = 0) -> np.ndarray:
    """What enters the graph: (T, B, *shape) float32, or (1, B, *shape) where every step is the same.

    Args:
        graph: its `Input` names the shape and the encoding.
        inputs: (B, *shape).
        seed: of the generator that draws rate-coded spikes.

    Raises:
        UserError: no samples, or samples of another shape.
    """
    node = graph.nodes[0]
    assert isinstance(node, Input)
    x = torch.as_tensor(inputs).detach().to("cpu", torch.float32)
    if tuple(x.shape[1:]) != node.shape or len(x) == 0:
        raise UserError(
            f"inputs have shape {tuple(x.shape)}, but the graph takes (samples, {', '.join(map(str, node.shape))})"
            " with at least one sample."
        )
    return encode(x, node.encoding, graph.steps, torch.Generator().manual_seed(seed)).numpy()


def default_minibatch(graph: Graph, samples: int) -> int:
    """Largest minibatch whose recorded values fit `MINIBATCH_BYTES`, at most `samples`."""
    values = sum(graph.size(node.name) * (1 if node.name in graph.static else graph.steps) for node in graph.nodes)
    return max(1, min(samples, MINIBATCH_BYTES // (4 * values)))


class Simulator:
    """A graph built for one backend: build once, run many times. A context manager.

    Attributes:
        graph: the graph.
        backend: name of the backend.
        minibatch: samples that are simulated together.
        build_seconds: time to build, s.
    """

    def __init__(self, graph: Graph, backend: str, minibatch: int) -> None:
        if backend not in _BACKENDS:
            raise UserError(f"Unknown backend {backend!r}; known are {', '.join(_BACKENDS)}.")
        if minibatch < 1:
            raise UserError(f"minibatch = {minibatch}; it must be at least 1.")
        self.graph, self.backend, self.minibatch = graph, backend, minibatch
        start = time.perf_counter()
        build = _BACKENDS[backend]
        if isinstance(build, str):
            build = import_module(build).build
        self._engine: Engine | None = build(graph, minibatch)
        self.build_seconds = time.perf_counter() - start

    def stream(self, inputs: np.ndarray | torch.Tensor, seed: int = 0) -> Iterator[Recording]:
        """One `Recording` a minibatch, so that memory does not grow with the number of samples."""
        encoded = encode_inputs(self.graph, inputs, seed)
        for i in range(0, encoded.shape[1], self.minibatch):
            if self._engine is None:
                raise UserError("The simulator is closed; open it again with open_simulator.")
            start = time.perf_counter()
            part = self._engine.run(encoded[:, i : i + self.minibatch])
            yield replace(
                part,
                backend=self.backend,
                build_seconds=self.build_seconds,
                run_seconds=time.perf_counter() - start,
            )

    def run(self, inputs: np.ndarray | torch.Tensor, seed: int = 0) -> Recording:
        """Simulates all samples from rest; see `simulate`."""
        return join(list(self.stream(inputs, seed)))

    def close(self) -> None:
        """Releases the engine."""
        if self._engine is not None:
            self._engine.close()
        self._engine = None

    def __enter__(self) -> Simulator:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_simulator(graph: Graph, backend: str = "interpreter", minibatch: int = 64) -> Simulator:
    """Builds a simulator to run many times, as a context manager.

    Args:
        graph: what to simulate.
        backend: one of `backends()`.
        minibatch: samples that are simulated together; memory grows with it.

    Raises:
        UserError: an unknown backend.
        MissingExtraError: the backend's packages are not installed.
    """
    return Simulator(graph, backend, minibatch)


def simulate(
    graph: Graph,
    inputs: np.ndarray | torch.Tensor,
    backend: str = "interpreter",
    seed: int = 0,
    minibatch: int | None = None,
) -> Recording:
    """Simulates samples from rest.

    Args:
        graph: what to simulate.
        inputs: (B, *shape), float, as the graph's `Input` takes them, intensities in [0, 1] where encoded as spikes.
        backend: one of `backends()`.
        seed: of the generator that draws rate-coded spikes; the same seed gives every backend the same spikes.
        minibatch: samples simulated together; None for as many as fit `MINIBATCH_BYTES`.

    Returns:
        Spikes, membranes and outputs of all B samples, with the time that building and running took.

    Raises:
        UserError: an unknown backend, or inputs that do not fit.
        MissingExtraError: the backend's packages are not installed.
    """
    minibatch = default_minibatch(graph, len(inputs)) if minibatch is None else minibatch
    with Simulator(graph, backend, minibatch) as simulator:
        return simulator.run(inputs, seed)
