"""Backend `nir`: the interpreter on the graph that a NIR file gives back, so that the file is what is compared."""

from __future__ import annotations

import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

from converters.graph import Graph
from converters.interpreter import Interpreter
from converters.nir_read import load_nir
from converters.nir_write import LossyExportWarning, save_nir

NAME = "nir"


def build(graph: Graph, minibatch: int) -> Interpreter:
    """The engine of backend `nir`; any minibatch will do."""
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", LossyExportWarning)  # of other readers than load_nir
        path = Path(folder) / "graph.nir"
        save_nir(graph, path)
        return Interpreter(load_nir(path))
