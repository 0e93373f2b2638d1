"""Backend `nengo-dl`: a whole minibatch at once on TensorFlow, float32."""

from __future__ import annotations

import logging
import os
import subprocess
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import ModuleType

import numpy as np

from converters.graph import Graph
from converters.nengo_core import all_probes, kept, to_recording
from converters.nengo_network import DT, export, single_precision
from converters.recording import Recording
from snn_anml.errors import MissingExtraError

NAME = "nengo-dl"

# On a GPU, TensorFlow may round products to fewer bits (TF32) and order sums as it likes.
DEVICE = "/cpu:0"


def import_nengo_dl() -> tuple[ModuleType, ModuleType]:
    """NengoDL and TensorFlow, quietly, or `MissingExtraError`."""
    try:
        with warnings.catch_warnings(), _quiet_start():
            # Imports of TensorFlow 2.12 and NengoDL 3.6 use what newer Pythons and numpys deprecate.
            warnings.simplefilter("ignore", DeprecationWarning)
            import tensorflow as tf  # noqa: I001  (NengoDL sets TensorFlow's log level when it is imported)
            import nengo_dl
    except ImportError:
        raise MissingExtraError("The NengoDL backend", "nengo") from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from converters import nengo_dl_neurons  # noqa: F401  registers the TensorFlow builders
    return nengo_dl, tf


@contextmanager
def _quiet_start() -> Iterator[None]:
    """TensorFlow prints what its CPU can do when it is loaded. The log level is read from the environment."""
    key = "TF_CPP_MIN_LOG_LEVEL"
    before = os.environ.get(key)
    os.environ[key] = "3" if before is None else before
    # NengoDL looks for a GPU in a child process, and sets a level for it that prints warnings.
    call = subprocess.call
    subprocess.call = partial(call, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        subprocess.call = call
        if before is None:
            os.environ.pop(key, None)
        else:
            os.environ[key] = before


@contextmanager
def exact_arithmetic(tf: ModuleType) -> Iterator[None]:
    """TensorFlow keeps the order of additions inside; outside, the options are as they were."""
    before = tf.config.optimizer.get_experimental_options().get("arithmetic_optimization", True)
    tf.config.optimizer.set_experimental_options({"arithmetic_optimization": False})
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options({"arithmetic_optimization": before})


@contextmanager
def errors_alone_logged() -> Iterator[None]:
    """Silences TensorFlow's log below an error."""
    logger = logging.getLogger("tensorflow")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


class NengoDLEngine:
    """One NengoDL simulator for minibatches of one size; a smaller one is filled up with zeros."""

    def __init__(self, graph: Graph, minibatch: int) -> None:
        nengo_dl, self.tf = import_nengo_dl()
        from converters.nengo_dl_operators import plan

        self.graph, self.minibatch = graph, minibatch
        self.made = export(graph)
        changing = None if graph.nodes[0].name in graph.static else f"{self.made.input}.out"
        with self.made.network as network:
            # Every run starts from rest, and nothing is trained.
            nengo_dl.configure_settings(
                stateful=False, inference_only=True, keep_history=True, planner=partial(plan, changing=changing)
            )
            for name, probe in (self.made.values | {graph.nodes[-1].name: self.made.output}).items():
                network.config[probe].keep_history = name not in graph.static
        with single_precision(), exact_arithmetic(self.tf), errors_alone_logged():
            self.simulator = nengo_dl.Simulator(
                self.made.network, dt=DT, seed=0, minibatch_size=minibatch, device=DEVICE, progress_bar=False
            )

    def run(self, encoded: np.ndarray) -> Recording:
        """Runs from rest; encoded (T or 1, b, *shape) float32, b at most the minibatch."""
        graph, samples = self.graph, encoded.shape[1]
        steps = np.arange(graph.steps) % len(encoded)
        x = np.zeros((self.minibatch, graph.steps, graph.size(graph.nodes[0].name)), np.float32)
        x[:samples] = encoded.reshape(len(encoded), samples, -1)[steps].swapaxes(0, 1)
        with exact_arithmetic(self.tf), errors_alone_logged():
            data = self.simulator.predict_on_batch({self.made.input: x}, n_steps=graph.steps)
        probes = all_probes(self.made)
        rows = {key: kept(graph, key, data[probe][:samples]) for key, probe in probes.items()}
        return to_recording(graph, NAME, rows)

    def close(self) -> None:
        """Closes the simulator."""
        self.simulator.close()


def build(graph: Graph, minibatch: int) -> NengoDLEngine:
    """The engine of backend `nengo-dl`."""
    return NengoDLEngine(graph, minibatch)
