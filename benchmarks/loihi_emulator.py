"""How far a network is from itself on an emulated Loihi chip and in Nengo's own neurons, layer by layer.

    python -m benchmarks.loihi_emulator [--widths 8 16 16] [--steps 8] [--reset zero|subtract] [--samples N] [--save]

The network is ANML, its gates one value an inference, trained for some seconds to tell twenty classes of Omniglot
apart; the drawings compared are others of the same classes. Reference is the interpreter on the same graph. With
`--reset subtract` both targets run the graph with resets to zero instead, and the deviation holds that, too.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from importlib import metadata
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks import machine
from converters import compare, from_torch, simulate, zero_reset
from converters.graph import Graph
from converters.loihi import NAME, report_of
from snn_anml.config import NetworkConfig
from snn_anml.data import load_dataset
from snn_anml.data.tasks import pictures
from snn_anml.networks import ANML

CLASSES, TRAINED_ON = 20, 15  # of the 20 drawings of a class


def train(model: ANML, x: Tensor, labels: Tensor, iterations: int, seed: int) -> None:
    """Cross-entropy on random batches."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(iterations):
        batch = torch.randint(len(x), (32,), generator=generator)
        loss = F.cross_entropy(model(x[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def arguments(description: str) -> argparse.ArgumentParser:
    """The options that say which network and which drawings."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--widths", type=int, nargs=3, default=[8, 16, 16], help="channels of the convolutions")
    parser.add_argument("--steps", type=int, default=8, help="time steps an inference")
    parser.add_argument("--reset", choices=("zero", "subtract"), default="zero")
    parser.add_argument("--samples", type=int, default=40, help="drawings compared, at most 100")
    parser.add_argument("--iterations", type=int, default=150, help="batches of training; 0 for random weights")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save", action="store_true", help="write the results into benchmarks/results")
    return parser


def trained(options: argparse.Namespace) -> tuple[Graph, Tensor, np.ndarray]:
    """The graph of the trained network, and drawings with their labels, (B, 1, 28, 28) and (B,)."""
    torch.set_num_threads(1)
    config = NetworkConfig(
        steps=options.steps, reset=options.reset, widths=tuple(options.widths), nm_widths=(8, 8, 8), slope=2.0
    )
    model = ANML(config, CLASSES, seed=options.seed)
    data = load_dataset("omniglot")
    drawing, label = np.divmod(np.arange(CLASSES * 20), CLASSES)
    x, labels = pictures(torch.from_numpy(data.images), label, drawing), torch.from_numpy(label)
    split = CLASSES * TRAINED_ON
    train(model, x[:split], labels[:split], options.iterations, options.seed)
    part = slice(split, split + options.samples)
    return from_torch(model.eval()), x[part], label[part]


def main() -> None:
    options = arguments("Deviation on an emulated Loihi chip and in plain Nengo.").parse_args()
    graph, x, label = trained(options)
    reference = simulate(graph, x)
    plain = zero_reset(graph)
    console, saved = Console(), {}
    for backend in ("nengo-native", NAME):
        start = time.perf_counter()
        fidelity = compare(simulate(plain, x, backend), reference, label)
        rows = report_of(plain, fidelity) if backend == NAME else ()
        cores = {row.layer: row for row in rows}
        table = Table("layer", "spikes", "mismatch", "correlation", "cores", "largest load", title=backend)
        layers: dict[str, Any] = {}
        for name, layer in fidelity.layers.items():
            row = cores.get(name)
            layers[name] = {
                "slots": layer.slots,
                "spiking": float(reference.spikes[name].mean()),
                "mismatch": layer.mismatches / layer.slots,
                "correlation": layer.correlation,
                "cores": row.cores if row else None,
                "load": row.load._asdict() if row and row.load else None,
            }
            table.add_row(
                name,
                f"{layers[name]['spiking']:.2%}",
                f"{layers[name]['mismatch']:.3%}",
                "-" if layer.correlation is None else f"{layer.correlation:.4f}",
                str(row.cores) if row else "",
                ", ".join(map(str, row.load)) if row and row.load else "",
            )
        console.print(table)
        console.print(
            f"accuracy {fidelity.accuracy:.1%}, of the reference {fidelity.reference_accuracy:.1%}; same class "
            f"{fidelity.argmax_agreement:.1%}; {time.perf_counter() - start:.0f} s"
        )
        saved[backend] = {
            "layers": layers,
            "accuracy": fidelity.accuracy,
            "reference_accuracy": fidelity.reference_accuracy,
            "argmax_agreement": fidelity.argmax_agreement,
        }
    if options.save:
        command = f"python -m benchmarks.loihi_emulator {shlex.join(sys.argv[1:])}"
        versions = {"nengo-loihi": metadata.version("nengo-loihi")}
        console.print(machine.save("loihi_emulator", {"command": command, "versions": versions, **saved}))


if __name__ == "__main__":
    main()
