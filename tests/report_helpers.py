"""A run folder made up in a moment: random numbers in the formats of a run, and a small untrained network."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np

import converters
from converters import energy
from experiments.run_folder import RunFolder, open_run
from snn_anml.config import DataConfig, ExportConfig, MetaTestConfig, NetworkConfig, RunConfig, TrainConfig
from snn_anml.data import load_dataset
from snn_anml.meta import Outcome
from snn_anml.model_io import save_model
from snn_anml.networks import ANML
from tests.helpers import gated_graph, inputs

CONFIG = RunConfig(
    data=DataConfig(size=14, meta_test_classes=30, selection_classes=6, glyph_classes=80),
    network=NetworkConfig(widths=(4, 6), nm_widths=(4, 4), steps=3),
    train=TrainConfig(warm_steps=40, meta_steps=60),
    meta_test=MetaTestConfig(milestones=(5, 10, 30), draws=4, paper_draws=1),
    export=ExportConfig(head="class-mean", classes=30, samples=4),
)
BACKENDS = ("interpreter", "nengo")


def make_run(path: Path, seed: int = 0, twin: bool = True) -> RunFolder:
    """Writes a whole run, with its twin, as the pipeline would leave it."""
    folder = RunFolder(path)
    rng = np.random.default_rng(seed)
    data_hash = load_dataset("glyphs", size=14, classes=80).sha256
    relu = replace(CONFIG.network, neuron="relu")
    runs = [(CONFIG, folder), (replace(CONFIG, network=relu, twin=False), folder.twin)]
    for config, where in runs[: 2 if twin else 1]:
        open_run(where, config, data_hash, "cpu", resume=False)
        save_model(where.model, ANML(config.network, 44, config.data.size, seed))
        where.metrics.write_text("".join(json.dumps(row) + "\n" for row in _metrics(rng, config)))
        _write(where.meta_test, [outcome._asdict() for outcome in _outcomes(rng, config)])
        where.activity.write_text(json.dumps({"spikes_per_neuron": 0.25, "seconds": {"features": 1.0, "heads": 2.0}}))
    folder.graph.parent.mkdir()
    graph, x = gated_graph(seed), inputs(seed)
    converters.save_graph(graph, folder.graph)
    reference = converters.simulate(graph, x, backend="torch")
    comparisons = [
        replace(converters.compare(reference, reference, [0, 1, 2]), backend=backend) for backend in BACKENDS
    ]
    layers = comparisons[1].layers
    name = next(iter(layers))
    first = converters.fidelity.Divergence(1, 2, 3, 1e-7)
    comparisons[1] = replace(comparisons[1], layers=layers | {name: replace(layers[name], mismatches=1, first=first)})
    converters.save_certificate(converters.certify(graph, comparisons), folder.certificate)
    _write(
        folder.simulations,
        [{"backend": b, "samples": 3, "build_seconds": 0.5, "run_seconds": 1.5} for b in ("torch", *BACKENDS)],
    )
    rows = []
    for i, network in enumerate(("spiking", "conventional twin")[: 2 if twin else 1]):
        counts = energy.count(gated_graph(seed + i), converters.simulate(gated_graph(seed + i), x))
        for device in energy.DEVICES:
            rows += energy.csv_rows(energy.estimate(counts, device), network)
        rows += energy.csv_rows(energy.estimate(counts, "loihi", convention="keras-spiking"), network)
    _write(folder.energy, rows)
    return folder


def _outcomes(rng: np.random.Generator, config: RunConfig) -> list[Outcome]:
    test = config.meta_test
    draws = {"strict": test.draws, "paper": test.paper_draws}
    return [
        Outcome(protocol, head, classes, draw, 0, *rng.uniform(0.3, 1, 2).tolist(), 0.1, float(rng.uniform(0.3, 1)))
        for protocol in test.protocols
        for head in test.heads
        for draw in range(draws[protocol])
        for classes in test.milestones
    ]


def _metrics(rng: np.random.Generator, config: RunConfig) -> list[dict]:
    total = config.train.warm_steps + config.train.meta_steps
    return [
        {
            "step": step,
            "stage": "warm" if step <= config.train.warm_steps else "meta",
            "loss": 5 / step + float(rng.uniform(0, 0.1)),
            "accuracy": step / total,
            "spikes_per_neuron": 0.2 if config.network.neuron == "lif" else 0.0,
            "learning_rate": 1e-3,
            "inner_lr": 0.02,
            "steps_per_second": 10.0,
        }
        for step in range(5, total + 1, 5)
    ]


def _write(path: Path, rows: list[dict]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
