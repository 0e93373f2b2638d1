"""NIR files that others read, and that others wrote: their spikes against those of the interpreter.

    python -m benchmarks.nir_readers [--samples 200] [--save]

A network of two convolutions and a linear layer with LIF neurons and random weights looks at drawings of unseen
classes of Omniglot. It is written with each reset, and read by `snntorch.import_nir.import_from_nir` and by
`norse.torch.from_nir`. Norse comes with `pip install 'snn-anml[benchmarks]'`; without
it its rows are left out.

What is done to make them run, and what each reader does otherwise:

    both       a Flatten of NIR counts dimensions without the batch, and is read as one that counts it, so that a
               batch is flattened into one sample: `start_dim` is set to 1
    snnTorch   takes dt = 1e-4 and the reset to zero
    Norse      is told dt = 1e-4, and resets to zero; it leaves out r, so that the current is (1 - beta) times too
               small. `norse` is what it makes of the file; `norse, v_th` has its thresholds multiplied by 1 - beta

The last rows are files that the others wrote of two linear layers with their LIF neurons, read by `load_nir`: with
dt = 1e-4 of snnTorch, whose reset subtracts with a delay; with dt = 1e-6 of Norse, which writes dt tau for tau.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import tempfile
import warnings
from collections.abc import Callable, Iterator
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from benchmarks import machine
from converters import Fidelity, Recording, compare, load_nir, simulate
from converters.graph import LIF, Affine, Conv2d, Graph, Input, Readout, Reset
from converters.nir_nodes import import_nir
from converters.nir_write import DT, LossyExportWarning, save_nir
from snn_anml.data import load_dataset

BETA, THRESHOLD, BIAS, CHANNELS, HIDDEN, CLASSES, STEPS = 0.9, 1.0, 0.05, 16, 64, 20, 8
RESETS: tuple[tuple[Reset, bool], ...] = (("zero", False), ("zero", True), ("subtract", False), ("subtract", True))

Reader = Callable[[Path], nn.Module]
Writer = Callable[[Path], tuple[nn.Module, Graph]]


def network(reset: Reset, reset_delay: bool, steps: int = STEPS, seed: int = 0) -> Graph:
    """Two convolutions of stride 2 and a linear layer on 28 x 28 pixels, so scaled that all layers spike."""
    rng = np.random.default_rng(seed)

    def weights(gain: float, *shape: int) -> np.ndarray:
        return (rng.standard_normal(shape) * gain / np.sqrt(np.prod(shape[1:]))).astype(np.float32)

    def bias(n: int) -> np.ndarray:
        return np.full(n, BIAS, np.float32)

    beta, threshold = (np.array(value, np.float32) for value in (BETA, THRESHOLD))
    nodes = (
        Input("input", (), (1, 28, 28)),
        Conv2d("conv1", ("input",), weights(2, CHANNELS, 1, 3, 3), bias(CHANNELS), (2, 2), (1, 1)),
        LIF("lif1", ("conv1",), beta, threshold, reset, reset_delay),
        Conv2d("conv2", ("lif1",), weights(2, CHANNELS, CHANNELS, 3, 3), bias(CHANNELS), (2, 2), (1, 1)),
        LIF("lif2", ("conv2",), beta, threshold, reset, reset_delay),
        Affine("fc", ("lif2",), weights(2, CLASSES, CHANNELS * 49), bias(CLASSES)),
        LIF("lif3", ("fc",), beta, threshold, reset, reset_delay),
        Readout("readout", ("lif3",)),
    )
    return Graph(nodes, steps)


def drawings(samples: int) -> np.ndarray:
    """(samples, 1, 28, 28), the first drawing of each of the last classes, from 0 to 1, ink is 1."""
    return load_dataset("omniglot", size=28).images[-samples:, :1].astype(np.float32) / 255


def by_snntorch(path: Path) -> nn.Module:
    """The module that snnTorch makes of a file."""
    from snntorch.import_nir import import_from_nir

    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does
        return _batched(import_from_nir(import_nir().read(path)))


def by_norse(path: Path) -> nn.Module:
    """The module that Norse makes of a file."""
    from norse.torch import from_nir  # pyright: ignore[reportMissingImports]

    with _without_old_names():
        return _batched(from_nir(import_nir().read(path), ignore_warnings=True, dt=DT))


def by_norse_scaled(path: Path) -> nn.Module:
    """The same with thresholds in units of the current that Norse computes."""
    module = by_norse(path)
    for part in module.modules():
        if hasattr(part, "p"):
            part.p = part.p._replace(v_th=part.p.v_th * (DT * part.p.tau_mem_inv))
    return module


def of_snntorch(path: Path) -> tuple[nn.Module, Graph]:
    """A model of snnTorch and the graph of the file that snnTorch writes of it."""
    import snntorch
    from snntorch.export_nir import export_to_nir

    def neurons(n: int) -> nn.Module:
        return snntorch.Leaky(torch.full((n,), BETA), threshold=torch.full((n,), THRESHOLD), init_hidden=True)

    model = nn.Sequential(*_linear(0), neurons(HIDDEN), *_linear(1), neurons(CLASSES))
    with _without_old_names():
        import_nir().write(path, export_to_nir(model, torch.zeros(1, 784), ignore_dims=[0]))
    for neuron in model[1::2]:
        neuron.reset_mem()  # pyright: ignore[reportCallIssue]
    return model, load_nir(path, steps=STEPS, dt=DT, reset="subtract", reset_delay=True)


def of_norse(path: Path) -> tuple[nn.Module, Graph]:
    """The same of Norse."""
    from norse.torch import LIFBoxCell, LIFBoxParameters, SequentialState  # pyright: ignore[reportMissingImports]
    from norse.torch.utils.export_nir import to_nir  # pyright: ignore[reportMissingImports]

    dt = 1e-3

    def neurons(n: int) -> nn.Module:
        threshold = torch.full((n,), THRESHOLD * (1 - BETA))
        rates = torch.full((n,), (1 - BETA) / dt)
        return LIFBoxCell(LIFBoxParameters(tau_mem_inv=rates, v_th=threshold, v_leak=torch.zeros(n)), dt=dt)

    model = SequentialState(*_linear(0), neurons(HIDDEN), *_linear(1), neurons(CLASSES))
    with _without_old_names():
        import_nir().write(path, to_nir(model, torch.zeros(784), dt=dt))
    return model, load_nir(path, steps=STEPS, dt=dt**2, reset="zero")


def _linear(layer: int) -> list[nn.Module]:
    """A linear layer, in a list."""
    generator = torch.Generator().manual_seed(layer)
    inputs, outputs = ((784, HIDDEN), (HIDDEN, CLASSES))[layer]
    made = nn.Linear(inputs, outputs)
    made.weight.data = torch.randn(outputs, inputs, generator=generator) * 2 / inputs**0.5
    made.bias.data.fill_(BIAS)
    return [made]


@contextlib.contextmanager
def _without_old_names() -> Iterator[None]:
    """nirtorch warns of the names by which snnTorch and Norse call it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


def _batched(module: nn.Module) -> nn.Module:
    for part in module.modules():
        if isinstance(part, nn.Flatten):
            part.start_dim = 1
    return module


@torch.no_grad()
def spikes_of(module: nn.Module, graph: Graph, x: np.ndarray, stateful: bool = True) -> Recording:
    """Steps a module from rest; its LIF layers have the names of the graph's nodes. A stateful one takes a state."""
    spikes: dict[str, list[np.ndarray]] = {node.name: [] for node in graph.of_type(LIF)}
    hooks = []
    for name, rows in spikes.items():

        def keep(part: nn.Module, given: Any, result: Any, rows: list[np.ndarray] = rows) -> None:
            found = result[0] if isinstance(result, tuple) else result
            rows.append(found.flatten(1).numpy() > 0)

        hooks.append(module.get_submodule(name.replace(".", "_")).register_forward_hook(keep))
    outputs, state = [], None
    for _ in range(graph.steps):
        given = (torch.from_numpy(x), state) if stateful else (torch.from_numpy(x),)
        output = module(*given)
        if stateful:
            output, state = output
        outputs.append(output.numpy())
    for hook in hooks:
        hook.remove()
    stacked = {name: np.stack(rows, axis=1) for name, rows in spikes.items()}
    membrane = {name: np.zeros(rows.shape, np.float32) for name, rows in stacked.items()}
    return Recording("nir", np.mean(outputs, axis=0), stacked, membrane)


def _cell(reset: str, writer: str, reader: str, fidelity: Fidelity, reference: Recording) -> dict[str, Any]:
    spikes = int(sum(spikes.sum() for spikes in reference.spikes.values()))
    cell = {"reset": reset, "writer": writer, "reader": reader, "mismatches": fidelity.mismatches}
    return cell | {"slots": fidelity.slots, "spikes": spikes}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--save", action="store_true", help="keep the numbers in benchmarks/results/nir_readers.json")
    options = parser.parse_args()
    readers: dict[str, Reader] = {"snntorch": by_snntorch}
    writers: dict[str, Writer] = {"snntorch": of_snntorch}
    if find_spec("norse"):
        readers |= {"norse": by_norse, "norse, v_th": by_norse_scaled}
        writers |= {"norse": of_norse}
    x = drawings(options.samples)
    cells = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.nir"
        for reset, delay in RESETS:
            graph = network(reset, delay)
            reference = simulate(graph, x)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", LossyExportWarning)
                save_nir(graph, path)
            for name, read in readers.items():
                fidelity = compare(spikes_of(read(path), graph, x), reference)
                cells.append(_cell(f"{reset}{', delayed' if delay else ''}", "save_nir", name, fidelity, reference))
        flat = x.reshape(len(x), -1)
        for name, write in writers.items():
            model, graph = write(path)
            reference = spikes_of(model, graph, flat, stateful=name == "norse")
            fidelity = compare(simulate(graph, flat), reference)
            reset = "subtract, delayed" if name == "snntorch" else "zero"
            cells.append(_cell(reset, name, "load_nir", fidelity, reference))
    table = Table(*cells[0])
    for cell in cells:
        table.add_row(*map(str, cell.values()))
    Console(width=100).print(table)
    if options.save:
        command = f"python -m benchmarks.nir_readers --samples {options.samples}"
        read_by = {name: metadata.version(name) for name in ("nir", "nirtorch", "snntorch", "norse") if find_spec(name)}
        print(machine.save("nir_readers", {"command": command, "readers": read_by, "cells": cells}))


if __name__ == "__main__":
    main()
