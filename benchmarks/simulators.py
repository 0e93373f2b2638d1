"""Drawings a second on every simulator, beside the trained network as torch runs it.

    OMP_NUM_THREADS=1 python -m benchmarks.simulators [--rounds N] [--save]

In one process with one thread for each of torch, numpy and TensorFlow, on the same drawings, each from rest:

    module          `snn_anml.networks.ANML` without gradients; it keeps nothing but its output
    module, kept    the same with the spikes and membranes of every layer kept (`record_anml`)
    torch ...       the graph on a backend; all keep spikes, membranes and what feeds synapses and gates

"Times" is the time of a drawing in those of the module. Building is timed apart, and so is the first run, in which
TensorFlow traces and optimises NengoDL's graph. A time is the median of the rounds after that, in which the
simulators take turns. Those that take one drawing after the other get fewer drawings, at most `FEW_ROUNDS` rounds,
and take turns among themselves, so that none of them stands between the others. The chip's emulator and Nengo's own
neurons know the reset to zero and gates that do not change, so those are what the first two networks have.

Weights are random, with norms scaled so that every layer spikes: but for the chip's emulator, times depend on the
sizes of the layers and hardly on the spikes.
"""

from __future__ import annotations

import argparse
import os
import shlex
import statistics
import sys
import time
from collections.abc import Callable
from importlib import metadata
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks import machine
from converters import from_torch, open_simulator, simulate
from converters.anml import record_anml
from converters.nengo_dl import import_nengo_dl
from experiments.allocator import keep_large_buffers
from snn_anml.config import NetworkConfig
from snn_anml.data import load_dataset
from snn_anml.data.tasks import pictures
from snn_anml.networks import ANML

CLASSES, DRAWINGS, FEW_ROUNDS = 20, 64, 3
BATCHED = ("torch", "interpreter", "nengo-dl")
MODULE = "module"

# Network, drawings for each of the simulators that take one after the other.
NETWORKS: dict[str, tuple[NetworkConfig, dict[str, int]]] = {
    "default widths": (NetworkConfig(reset="zero"), {"nengo": 16, "nengo-native": 8, "loihi": 16}),
    "256 channels": (
        NetworkConfig(reset="zero", widths=(256, 256, 256)),
        {"nengo": 8, "nengo-native": 4, "loihi": 1},
    ),
    "default widths, spiking NM, reset by subtraction": (
        NetworkConfig(modulation="spiking", gate="hard_sigmoid"),
        {"nengo": 16},
    ),
}


def one_thread() -> None:
    """One thread for torch and TensorFlow; numpy's are read from the environment when it is imported."""
    if os.environ.get("OMP_NUM_THREADS") != "1":
        raise SystemExit("Run it as OMP_NUM_THREADS=1 python -m benchmarks.simulators, so that all have one thread.")
    torch.set_num_threads(1)
    _, tf = import_nengo_dl()
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)


def network(config: NetworkConfig, x: Tensor) -> ANML:
    """An untrained network whose layers all spike on pictures x (B, 1, H, W)."""
    model = ANML(config, CLASSES)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model.head.weight.normal_(std=0.1)  # zeros would be left out by NengoDL, and with them all that leads there
        for conv in (*model.convs, *(model.modulation.convs if config.modulation == "spiking" else ())):
            conv.norm.weight.fill_(4.0)
        for _ in range(20):  # the norm's running statistics
            model.train()(x)
    return model.eval()


def measure(config: NetworkConfig, few: dict[str, int], x: Tensor, rounds: int) -> dict[str, Any]:
    """Seconds and rates of every way to run the network on x (B, 1, H, W)."""
    model = network(config, x)
    graph = from_torch(model)
    spiking = {name: float(spikes.mean()) for name, spikes in simulate(graph, x).spikes.items()}

    def run_module() -> None:
        with torch.no_grad():
            model(x)

    ways: dict[str, Callable[[], object]] = {MODULE: run_module, f"{MODULE}, kept": lambda: record_anml(model, x)}
    found = {name: {"drawings": len(x), "build_seconds": 0.0} for name in ways}
    simulators = []
    for name, drawings in {**dict.fromkeys(BATCHED, len(x)), **few}.items():
        simulator = open_simulator(graph, name, drawings)
        simulators.append(simulator)
        ways[name] = lambda simulator=simulator, drawings=drawings: simulator.run(x[:drawings])
        found[name] = {"drawings": drawings, "build_seconds": simulator.build_seconds}
    times: dict[str, list[float]] = {name: [] for name in ways}
    for group, turns in (([n for n in ways if n not in few], rounds), (list(few), min(rounds, FEW_ROUNDS))):
        for _ in range(turns + 1):
            for name in group:
                start = time.perf_counter()
                ways[name]()
                times[name].append(time.perf_counter() - start)
    for simulator in simulators:
        simulator.close()
    for name, (first, *rest) in times.items():
        row = found[name]
        row |= {"first_seconds": first, "rounds": len(rest), "seconds": statistics.median(rest)}
        row["drawings_a_second"] = row["drawings"] / row["seconds"]
    for row in found.values():
        row["times_module"] = found[MODULE]["drawings_a_second"] / row["drawings_a_second"]
    return {"steps": graph.steps, "spiking": spiking, "ways": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/simulators.json")
    options = parser.parse_args()
    one_thread()
    keep_large_buffers()
    images = torch.from_numpy(load_dataset("glyphs").images)
    x = pictures(images, np.arange(DRAWINGS), np.zeros(DRAWINGS, int))
    console, saved, start = Console(), {}, time.perf_counter()
    for title, (config, few) in NETWORKS.items():
        saved[title] = measure(config, few, x, options.rounds)
        table = Table(
            *("", "drawings", "build, s", "first, s", "ms each", "a second", "times"),
            title=f"{title}, T = {saved[title]['steps']}",
        )
        for name, row in saved[title]["ways"].items():
            table.add_row(
                name,
                str(row["drawings"]),
                f"{row['build_seconds']:.2f}",
                f"{row['first_seconds']:.2f}",
                f"{1000 / row['drawings_a_second']:.2f}",
                f"{row['drawings_a_second']:.1f}",
                f"{row['times_module']:.2f}",
            )
        console.print(table)
        console.print("spiking: " + ", ".join(f"{k} {v:.1%}" for k, v in saved[title]["spiking"].items()))
    console.print(machine.describe(), f"{time.perf_counter() - start:.0f} s")
    if options.save:
        command = f"OMP_NUM_THREADS=1 python -m benchmarks.simulators {shlex.join(sys.argv[1:])}"
        packages = {"nengo-loihi": metadata.version("nengo-loihi")}
        console.print(machine.save("simulators", {"command": command, "versions": packages, "networks": saved}))


if __name__ == "__main__":
    main()
