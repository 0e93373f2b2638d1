"""A graph from wherever a network lies: a module, a run folder, a file of `save_graph`, a NIR file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import signature
from pathlib import Path
from typing import Any

from torch import nn

from converters.from_torch import from_torch
from converters.graph import Graph
from converters.graph_io import load_graph
from converters.nir_read import load_nir
from snn_anml.errors import UserError

EXPORTED = Path("export", "graph.safetensors")
"""In a run folder: the graph that `snn-anml export` leaves, its head learned in the meta-test."""


def open_graph(source: nn.Module | str | Path, **options: Any) -> Graph:
    """The graph of a network.

    Args:
        source: a torch module; a run folder that was exported; a NIR file, `*.nir`; or a file of `save_graph`.
        options: of `from_torch` for a module, of `load_nir` for a NIR file.

    Raises:
        UserError: nothing there, a run that was not exported, options that there are not, or what `from_torch`,
            `load_nir` and `load_graph` refuse.
    """
    if isinstance(source, nn.Module):
        _check_options(from_torch, options)
        return from_torch(source, **options)
    path = Path(source)
    if path.suffix == ".nir":
        _check_options(load_nir, options)
        return load_nir(path, **options)
    if options:
        raise UserError(f"{path} says {', '.join(options)} itself; leave it out.")
    if path.is_dir():
        if not (path / EXPORTED).is_file():
            raise UserError(f"{path} holds no exported graph ({EXPORTED}); make it with snn-anml export {path}.")
        path = path / EXPORTED
    return load_graph(path)


def _check_options(reader: Callable[..., Graph], options: Mapping[str, Any]) -> None:
    known = [p.name for p in signature(reader).parameters.values() if p.kind is p.KEYWORD_ONLY]
    unknown = [name for name in options if name not in known]
    if unknown:
        raise UserError(f"{reader.__name__} has no option {', '.join(unknown)}; it has {', '.join(known)}.")
