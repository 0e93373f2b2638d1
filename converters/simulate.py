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

from converters.events import Binned, EventInput, check_binary, slots_of, spikes_in
from converters.graph import Graph, Input, Shape
from converters.recorder import join
from converters.recording import Recording
from snn_anml.encoding import encode
from snn_anml.errors import UserError

# Bytes of recorded float32 values in one minibatch; a simulator holds a small multiple of this while it runs.
MINIBATCH_BYTES = 128 * 2**20


class Engine(Protocol):
    """A built simulator. It may have the attributes `host` and `cores`; see `Recording`."""

    def run(self, encoded: np.ndarray) -> Recording:
        """Simulates from rest. encoded (T or 1, b, *shape) float32, b at most the minibatch it was built for."""
        ...

    def close(self) -> None:
        """Releases what it holds."""
        ...


Build = Callable[[Graph, int], Engine]
Inputs = np.ndarray | torch.Tensor | EventInput
"""Samples, as `simulate` takes them."""

_BACKENDS: dict[str, Build | str] = {
    "interpreter": "converters.interpreter",
    "torch": "converters.torch_backend",
    "nengo": "converters.nengo_core",
    "nengo-dl": "converters.nengo_dl",
    "nengo-native": "converters.native_engine",
    "loihi": "converters.loihi",
    "nir": "converters.nir_backend",
}


def register(name: str, build: Build | str) -> None:
    """Adds a backend: a function `build(graph, minibatch)`, or the name of a module that has one."""
    _BACKENDS[name] = build


def backends() -> tuple[str, ...]:
    """Names of the registered backends, installed or not."""
    return tuple(_BACKENDS)


def _build_of(backend: str) -> Build | str:
    if backend not in _BACKENDS:
        raise UserError(f"Unknown backend {backend!r}; known are {', '.join(_BACKENDS)}.")
    return _BACKENDS[backend]


def check(graph: Graph, backend: str) -> None:
    """Refuses a graph that a backend cannot compute, without building or running it.

    A backend that computes only some graphs says so in a function `check(graph)` of its module; others take all.

    Raises:
        UserError: an unknown backend, or what of the graph it cannot compute.
    """
    build = _build_of(backend)
    if isinstance(build, str):
        getattr(import_module(build), "check", lambda graph: None)(graph)


def sample_shape(graph: Graph) -> Shape:
    """Of one sample, where it is an array: (*shape), or (T, *shape) for spike trains."""
    node = graph.nodes[0]
    assert isinstance(node, Input)
    return (graph.steps, *node.shape) if node.encoding == "spikes" else node.shape


def sample_count(inputs: Inputs) -> int:
    """B, the number of samples."""
    return inputs.samples if isinstance(inputs, EventInput) else len(inputs)


def encode_inputs(graph: Graph, inputs: Inputs, seed: int = 0) -> np.ndarray:
    """What enters the graph: (T, B, *shape) float32, or (1, B, *shape) where every step is the same.

    Args:
        graph: its `Input` names the shape and the encoding.
        inputs: (B, *shape); where the encoding is `spikes`, (B, T, *shape) or `EventInput`.
        seed: of the generator that draws rate-coded spikes.

    Raises:
        UserError: no samples, samples of another shape, values that are not finite, or spikes and events that are
            none; see `spikes_of`.
    """
    return next(_encode_parts(graph, inputs, seed, sample_count(inputs)))


def _encode_parts(graph: Graph, inputs: Inputs, seed: int, minibatch: int) -> Iterator[np.ndarray]:
    """`encode_inputs` for one minibatch after the other. All is checked before the first."""
    if not isinstance(inputs, EventInput):
        encoded = _encode_array(graph, inputs, seed)
        for i in range(0, encoded.shape[1], minibatch):
            yield encoded[:, i : i + minibatch]
        return
    node, samples = graph.nodes[0], inputs.samples
    assert isinstance(node, Input)
    if node.encoding != "spikes":
        raise UserError(
            f"The graph encodes its samples by {node.encoding!r}; let events in with drive_by_spikes(graph)."
        )
    if samples < 1:
        raise UserError(f"samples = {samples}; there must be at least one.")
    slots = slots_of(inputs.events, samples, graph.steps, graph.size(node.name))
    for i in range(0, samples, minibatch):
        spikes = spikes_in(slots, i, min(minibatch, samples - i), graph.steps, node.shape)
        yield np.ascontiguousarray(spikes.swapaxes(0, 1))


def _encode_array(graph: Graph, inputs: np.ndarray | torch.Tensor, seed: int) -> np.ndarray:
    node, shape = graph.nodes[0], sample_shape(graph)
    assert isinstance(node, Input)
    if isinstance(inputs, Binned) or (isinstance(inputs, np.ndarray) and inputs.dtype.names):
        raise UserError(
            "A list of events alone does not say how many samples there are; give EventInput(events, samples)."
        )
    if isinstance(inputs, np.ndarray):  # torch takes neither views that run backwards nor the other byte order
        inputs = np.ascontiguousarray(inputs, inputs.dtype.newbyteorder("="))
    x = torch.as_tensor(inputs).detach().to("cpu", torch.float32)
    if tuple(x.shape[1:]) != shape or len(x) == 0:
        trains = " Spike trains are (samples, steps, ...); for other T see drive_by_spikes(graph, steps=T)."
        raise UserError(
            f"inputs have shape {tuple(x.shape)}, but the graph takes (samples, {', '.join(map(str, shape))})"
            f" with at least one sample.{trains if node.encoding == 'spikes' else ''}"
        )
    wrong = x.numel() - int(x.isfinite().sum())
    if wrong:
        raise UserError(
            f"Of {x.numel()} values of the inputs {wrong} are NaN or infinite as float32; give numbers in their place, "
            "or leave their samples out."
        )
    if node.encoding == "spikes":
        check_binary(x.numpy())
        return x.transpose(0, 1).contiguous().numpy()
    if node.encoding != "constant" and (x.min() < 0 or x.max() > 1):
        raise UserError(
            f"Inputs reach from {x.min():g} to {x.max():g}, but {node.encoding} encoding takes intensities in [0, 1]; "
            "scale them, as pictures of 0 to 255 by 1/255."
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
        build = _build_of(backend)
        if minibatch < 1:
            raise UserError(f"minibatch = {minibatch}; it must be at least 1.")
        self.graph, self.backend, self.minibatch = graph, backend, minibatch
        start = time.perf_counter()
        build = import_module(build).build if isinstance(build, str) else build
        self._engine: Engine | None = build(graph, minibatch)
        self.build_seconds = time.perf_counter() - start

    def stream(self, inputs: Inputs, seed: int = 0) -> Iterator[Recording]:
        """One `Recording` a minibatch, so that recordings take no more memory for more samples.

        Arrays are encoded before: `rate` and `latency` hold T values for each of theirs. With `rate` the spikes of a
        sample depend on the seed and on all samples of the call.
        """
        for encoded in _encode_parts(self.graph, inputs, seed, self.minibatch):
            if self._engine is None:
                raise UserError("The simulator is closed; open it again with open_simulator.")
            start = time.perf_counter()
            part = self._engine.run(encoded)
            yield replace(
                part,
                backend=self.backend,
                build_seconds=self.build_seconds,
                run_seconds=time.perf_counter() - start,
                host=getattr(self._engine, "host", ()),
                cores=getattr(self._engine, "cores", {}),
            )

    def run(self, inputs: Inputs, seed: int = 0) -> Recording:
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
    inputs: Inputs,
    backend: str = "interpreter",
    seed: int = 0,
    minibatch: int | None = None,
) -> Recording:
    """Simulates samples from rest.

    Args:
        graph: what to simulate.
        inputs: (B, *shape), float, as the graph's `Input` takes them, intensities in [0, 1] where encoded as spikes.
            Where its encoding is `spikes`, they are spike trains: (B, T, *shape) of 0 and 1, samples first (snnTorch
            has steps first: `x.transpose(0, 1)`), or `EventInput(events, samples)`.
        backend: one of `backends()`.
        seed: of the generator that draws rate-coded spikes; the same seed gives every backend the same spikes.
        minibatch: samples simulated together; None for as many as fit `MINIBATCH_BYTES`.

    Returns:
        Spikes, membranes and outputs of all B samples, with the time that building and running took.

    Raises:
        UserError: an unknown backend, or inputs that do not fit.
        MissingExtraError: the backend's packages are not installed.
    """
    minibatch = default_minibatch(graph, sample_count(inputs)) if minibatch is None else minibatch
    with Simulator(graph, backend, minibatch) as simulator:
        return simulator.run(inputs, seed)
