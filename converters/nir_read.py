"""NIR files: those of `save_nir` exactly, and those of others as far as a graph says the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np

from converters.graph import SCHEMA_VERSION, Encoding, Graph, Reset
from converters.graph_io import FORMAT, put_together
from converters.nir_foreign import Told, read_foreign
from converters.nir_nodes import KEY, import_nir, node_key, to_nir
from snn_anml.errors import UserError


def load_nir(
    path: str | Path,
    *,
    steps: int | None = None,
    dt: float | None = None,
    reset: Reset | None = None,
    reset_delay: bool | None = None,
    encoding: Encoding | None = None,
) -> Graph:
    """Reads a NIR file.

    A file of `save_nir` gives the graph that was saved, bit for bit; all that follows is for files of other
    programs, which do not say it. They are read as NIR's differential equations under forward Euler, parameters are
    rounded to float32, and the readout is the mean of the output over the steps. See docs/nir.md for the nodes.

    Args:
        path: the file.
        steps: T, number of time steps.
        dt: time step of the time constants, s: 1e-4 for files of snnTorch. Norse 1.1 writes dt tau for tau, so that
            its files need the square of its dt, 1e-6.
        reset: what neurons do after a spike. NIR's own reset, to v_reset = 0, is `zero`; but snnTorch writes the same
            for a reset that subtracts the threshold.
        reset_delay: whether the reset waits for the next step, as it does in snnTorch by default. Only a reset by
            subtraction depends on it; otherwise it is False if left out.
        encoding: how a sample enters, `spikes` for spike trains; `constant` if left out.

    Raises:
        UserError: a file that is missing, damaged, or changed since `save_nir` wrote it; a node that a graph cannot
            say exactly, by its name and type; something that the file does not say and that was not given.
        MissingExtraError: nir is not installed.
    """
    made = _read(path)
    told = {"steps": steps, "dt": dt, "reset": reset, "reset_delay": reset_delay, "encoding": encoding}
    if not isinstance(made.metadata, dict) or KEY not in made.metadata:
        return read_foreign(made, str(path), Told(**told))
    given = [name for name, value in told.items() if value is not None]
    if given:
        raise UserError(f"{path} is a file of save_nir and says {', '.join(given)} itself; leave it out.")
    return _read_own(made, path)


def _read(path: str | Path) -> Any:
    nir = import_nir()
    try:
        Path(path).open("rb").close()
    except OSError as error:
        raise UserError(f"Cannot read the NIR file {path}: {error.strerror}.") from None
    try:
        made = nir.read(path, type_check=False)
    except Exception as error:  # HDF5 and nir answer damage with almost any exception
        raise UserError(f"{path} is damaged or no NIR file ({type(error).__name__}).") from None
    if not isinstance(made, nir.NIRGraph):
        raise UserError(f"{path} holds a single {type(made).__name__}, but a graph is needed.")
    return made


def _read_own(made: Any, path: str | Path) -> Graph:
    """The graph of the metadata with the weights of the nodes, if the file is what is written for that graph."""
    try:
        ours = made.metadata[KEY]
        if ours["format"] != FORMAT:
            raise KeyError("format")
        schema = int(ours["schema"])
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{path} is damaged: its metadata say nothing of a graph.") from None
    if not 1 <= schema <= SCHEMA_VERSION:
        raise UserError(
            f"{path} has schema version {schema}, but this program reads 1 to {SCHEMA_VERSION}; "
            "export the network again."
        )
    try:
        description = json.loads(ours["graph"])
        # nir leaves out an empty group.
        tensors = {unquote(key): np.asarray(value) for key, value in ours.get("tensors", {}).items()}
        for node in description["nodes"]:
            if node["type"] in ("Affine", "Conv2d"):
                written = made.nodes.get(node_key(node["name"]))
                for field in ("weight", "bias") if written is not None else ():
                    tensors.setdefault(f"{node['name']}.{field}", _as_conv2d(getattr(written, field), node, field))
        graph = put_together(description, tensors)
        # The hash is a part of what is written.
        whole = _same(made.to_dict(), to_nir(graph, float(ours["dt"])).to_dict())
    except Exception as error:  # whatever a changed description leads to
        raise UserError(f"{path} is damaged: its metadata do not describe a graph ({type(error).__name__}).") from None
    if not whole:
        raise UserError(
            f"{path} was changed since save_nir wrote it; write it anew, or take {KEY!r} out of its metadata to read "
            "it as a file of another program."
        )
    return graph


def _as_conv2d(value: np.ndarray, node: dict[str, Any], field: str) -> np.ndarray:
    """The kernel of a Conv1d is one pixel high."""
    return value[:, :, None] if (node["type"], field, value.ndim) == ("Conv2d", "weight", 3) else value


def _same(ours: Any, theirs: Any) -> bool:
    """Whether two files say the same, whichever way HDF5 gives it back."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return ours.keys() == theirs.keys() and all(_same(ours[key], theirs[key]) for key in ours)
    return np.array_equal(np.asarray(ours), np.asarray(theirs))
