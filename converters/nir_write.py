"""Writing a graph as a NIR file, and saying what other readers will not do with it."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import numpy as np

from converters.gates import constant_gate
from converters.graph import LIF, Activation, Conv2d, Gate, Graph, Input, Integrator, MaxPool2d, Node, Quantize
from converters.nir_nodes import fused_synapses, import_nir, is_long, to_nir
from snn_anml.errors import UserError
from snn_anml.files import write_whole

DT = 1e-4
"""Time step, s: the one that snnTorch takes for granted."""


class LossyExportWarning(UserWarning):
    """What readers other than `load_nir` will not do as the graph does it."""


def save_nir(graph: Graph, path: str | Path, dt: float = DT) -> list[str]:
    """Writes a graph as a NIR file, atomically. `load_nir` gives back the same graph, bit for bit.

    Args:
        graph: any graph, gates and all.
        path: usually `*.nir`.
        dt: time step of the neurons' time constants, s. snnTorch reads files with 1e-4; tell other readers.

    Returns:
        One sentence for everything that other readers will not do as the graph does it, with the names of the nodes;
        each is also given as a `LossyExportWarning`.

    Raises:
        UserError: a dt that is no positive number.
        MissingExtraError: nir is not installed.
    """
    nir = import_nir()
    if not (math.isfinite(dt) and dt > 0):
        raise UserError(f"dt = {dt}; a time step is a positive number of seconds, such as {DT}.")
    made = to_nir(graph, dt)
    write_whole(Path(path), lambda temporary: nir.write(temporary, made))
    lossy = losses(graph)
    for sentence in lossy:
        warnings.warn(sentence, LossyExportWarning, stacklevel=2)
    return lossy


def losses(graph: Graph) -> list[str]:
    """One sentence for everything in a graph that readers of NIR other than `load_nir` do otherwise."""
    fused = fused_synapses(graph)
    lifs = [node for node in graph.nodes if isinstance(node, LIF)]
    convolutions = [node for node in graph.nodes if isinstance(node, Conv2d)]
    conv1d = is_long(graph)
    readout = graph.nodes[-1]
    found: list[tuple[list[Node], str]] = [
        (
            [n for n in graph.nodes if isinstance(n, Input) and n.encoding not in ("constant", "spikes")],
            "samples enter as spikes by an encoding that other readers do not know; feed them the spikes",
        ),
        (
            [n for n in lifs if n.reset == "subtract"],
            "the reset subtracts the threshold, and NIR has only the reset to v_reset, here 0",
        ),
        (
            [n for n in lifs if n.reset == "zero" and n.reset_delay],
            "the reset follows one step after the spike, and in other readers at once: the spikes are the same, but "
            "their membrane after a spike is 0",
        ),
        (
            [n for n in lifs if n.reset == "none"] + [n for n in graph.of_type(Integrator) if n.name not in fused],
            "neurons without reset, or without spikes, are LI and Threshold, which snnTorch and Norse do not import",
        ),
        (
            [n for n in graph.nodes if isinstance(n, (LIF, Integrator)) and (np.abs(n.beta - 0.5) > 0.5).any()],
            "a decay below 0 or above 1 has no time constant that other readers would take",
        ),
        (
            [n for n in graph.nodes if isinstance(n, Gate) and constant_gate(graph, n) is None],
            "NIR has no product of two signals, so that other readers do not gate: they scale by 1; see lower_gates",
        ),
        (
            list(graph.of_type(MaxPool2d)),
            "NIR has no maximum, so that other readers take the mean of every window",
        ),
        (
            list(graph.of_type(Activation, Quantize)),
            "NIR has no such function, so that other readers pass the value on: they scale by 1",
        ),
        (
            [n for n in convolutions if n.groups > 1 or (not conv1d and n.weight.shape[2] != n.weight.shape[3])],
            "nir gets the shapes of groups, and of kernels that are not square, wrong: read the file with "
            "nir.read(path, type_check=False)",
        ),
        (
            [] if readout.name in graph.static else [readout],
            f"the mean over the T = {graph.steps} steps is left to the reader: Output is the value at each step",
        ),
    ]
    return [f"{', '.join(node.name for node in nodes)}: {text}." for nodes, text in found if nodes]
