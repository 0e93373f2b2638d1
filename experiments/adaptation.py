"""The meta-test on a simulator: does a network still learn when its features are a target's spikes?

Every drawing of some meta-test classes goes through the graph of a run on the target. The heads learn from what comes
out, and once more from torch's features of the same drawings: same orders of classes, same drawings learned from, under
protocol `strict`. For both, learning rates are picked on torch's features of the selection classes, since it is the
host that picks them.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

import converters
from converters.quantize import quantize_weights
from converters.simulate import default_minibatch
from experiments import pipeline
from experiments.csv_files import write_csv
from experiments.progress import StageBar
from experiments.run_data import Data, load_data_of
from experiments.run_folder import RunFolder
from snn_anml import checkpoint
from snn_anml.config import RunConfig
from snn_anml.data.tasks import pictures
from snn_anml.errors import UserError
from snn_anml.files import write_text
from snn_anml.meta import Outcome, extract_features, meta_test
from snn_anml.model_io import load

DEFAULT_CLASSES = 50
TORCH = "torch"
"""What stands in column `features` for those of the network itself."""

SAVE_SECONDS = 30.0
"""Between two writes of the features so far."""


@dataclass(frozen=True)
class Request:
    """Where to meta-test, and on how much.

    Attributes:
        target: of `converters.backends()`.
        classes: number of meta-test classes.
        weight_bits: bits that the weights of the graph are rounded to, or None.
    """

    target: str
    classes: int
    weight_bits: int | None = None

    @property
    def name(self) -> str:
        """In file names, and in column `features`."""
        return self.target if self.weight_bits is None else f"{self.target}_w{self.weight_bits}"

    def check(self, config: RunConfig) -> None:
        """Raises `UserError` for an unknown target, or too few or too many classes."""
        pipeline.check_targets((self.target,))
        if self.name == TORCH:
            raise UserError("--target torch is what a target is compared with; choose another, or add --weight-bits.")
        if self.classes < 2:
            raise UserError(f"--classes = {self.classes}; it must be at least 2.")
        if self.classes > config.data.meta_test_classes:
            raise UserError(
                f"--classes = {self.classes}, but the run has {config.data.meta_test_classes} meta-test classes; "
                "lower it."
            )

    def csv(self, folder: RunFolder) -> Path:
        """The outcomes: the columns of meta_test.csv, and `features`."""
        return folder.path / f"meta_test_{self.name}.csv"

    def facts(self, folder: RunFolder) -> Path:
        """The classes, the graph, how far features are apart, and seconds, as JSON."""
        return folder.path / f"meta_test_{self.name}.json"

    def features(self, folder: RunFolder) -> Path:
        """The features so far of a simulation that goes on; removed at the end."""
        return folder.path / f"meta_test_{self.name}.safetensors"


def run_adaptation(
    config: RunConfig, folder: RunFolder, request: Request, device: str, console: Console
) -> dict[str, list[Outcome]]:
    """Meta-tests the trained network of `folder` on a target; writes the files that `request` names.

    An interrupted simulation goes on where it was; what it had is kept by graph, target and classes.

    Returns:
        the outcomes from the features of `TORCH`, and from those of `request.name`.

    Raises:
        FileNotFoundError: the run is not trained.
        UserError: see `Request.check`, or a network that the target refuses, or one that has fallen silent.
        MissingExtraError: the target's packages are not installed.
    """
    request.check(config)
    graph = _graph(config, folder, request.weight_bits)
    data = load_data_of(folder, device)
    chosen = choose(data.split.meta_test, request.classes, config.seed)
    settings = replace(
        config.meta_test, milestones=milestones(config.meta_test.milestones, request.classes), protocols=("strict",)
    )
    simulator = converters.open_simulator(graph, request.target, default_minibatch(graph, data.dataset.drawings))
    with simulator, StageBar.show(f"meta-test on {request.target}", console) as bar:
        bar(f"{TORCH}'s features", 0.0)
        model = load(folder.path, device)
        selection = pipeline.selection_features(model, data, config.seed)
        if request.classes < len(data.split.meta_test):
            # No more than are learned: beside outputs of classes that never come, other learning rates are best.
            selection = selection[: request.classes]
        seeds = [_seed(config.seed, c) for c in chosen.tolist()]
        found = [
            extract_features(model, data.images, chosen[i : i + 1], seed, batch=data.dataset.drawings)[0]
            for i, seed in enumerate(seeds)
        ]
        features = {TORCH: torch.cat(found)}
        pipeline.check_spikes(folder, features[TORCH], selection)
        features[request.name], seconds = _simulated(simulator, data, chosen, seeds, request.features(folder), bar)
    start = time.perf_counter()
    outcomes = {}
    workers = (os.cpu_count() or 1) if request.classes > 100 else 1
    for name, values in features.items():
        with StageBar.show(f"heads from {name}", console) as bar:
            outcomes[name], _ = meta_test(values, selection, chosen, settings, config.seed, bar, workers)
    rows = [one._asdict() | {"features": name} for name, those in outcomes.items() for one in those]
    write_csv(request.csv(folder), (*Outcome._fields, "features"), rows)
    facts = {
        "target": request.target,
        "weight_bits": request.weight_bits,
        "graph": converters.graph_hash(graph),
        "classes": chosen.tolist(),
        "drawings": len(chosen) * data.dataset.drawings,
        "mean_feature": {name: values.mean().item() for name, values in features.items()},
        "mean_feature_difference": (features[request.name] - features[TORCH]).abs().mean().item(),
        "seconds": {
            "build": simulator.build_seconds,
            "simulation": seconds,
            "heads": time.perf_counter() - start,
        },
    }
    write_text(request.facts(folder), json.dumps(facts, indent=2) + "\n")
    request.features(folder).unlink(missing_ok=True)
    return outcomes


def choose(classes: np.ndarray, count: int, seed: int) -> np.ndarray:
    """The first `count` of a permutation of classes (n,), in index order: (count,)."""
    return np.sort(np.random.default_rng((seed, 4)).permutation(classes)[:count])


def milestones(configured: Sequence[int], classes: int) -> tuple[int, ...]:
    """Those configured below `classes`, and `classes`."""
    return (*(m for m in configured if m < classes), classes)


def _seed(seed: int, c: int) -> int:
    """Of the spikes of a rate encoding of class c, for the target and for torch alike."""
    return int(np.random.SeedSequence((seed, c)).generate_state(1)[0])


def _graph(config: RunConfig, folder: RunFolder, weight_bits: int | None) -> converters.Graph:
    """The graph that is exported, or where no head has been learned yet, with that of meta-training."""
    model = pipeline.exported(config, folder)[0] if folder.heads.exists() else pipeline.load_anml(folder)
    graph = pipeline.to_graph(model)
    return graph if weight_bits is None else quantize_weights(graph, weight_bits)


def _simulated(
    simulator: converters.Simulator,
    data: Data,
    classes: np.ndarray,
    seeds: Sequence[int],
    path: Path,
    bar: Callable[[str, float], None],
) -> tuple[torch.Tensor, float]:
    """Features on a simulator, one class after another, and seconds; `path` holds those so far.

    Returns:
        (classes, drawings, F) float32: the mean over the steps of what the head reads.
    """
    graph, drawings = simulator.graph, data.dataset.drawings
    source = graph[graph.nodes[-1].inputs[0]].inputs[0]
    key = {"graph": converters.graph_hash(graph), "target": simulator.backend, "classes": classes.tolist()}
    done, seconds = _resumed(path, key)
    saved = time.monotonic()

    def save() -> None:
        if done:
            checkpoint.save(path, "features", {"features": torch.stack(done)}, {"of": key, "seconds": seconds})

    try:
        for i in range(len(done), len(classes)):
            bar(f"class {i + 1} of {len(classes)}", i / len(classes))
            x = pictures(data.images, np.full(drawings, classes[i]), np.arange(drawings))
            parts = []
            for part in simulator.stream(x, seeds[i]):
                parts.append(torch.from_numpy(part.source(source).mean(1)))
                seconds += part.run_seconds
            done.append(torch.cat(parts))
            if time.monotonic() - saved > SAVE_SECONDS:
                save()
                saved = time.monotonic()
    finally:  # also where it is interrupted
        save()
    return torch.stack(done), seconds


def _resumed(path: Path, key: Mapping[str, Any]) -> tuple[list[torch.Tensor], float]:
    """The features (drawings, F) of the first classes, and the seconds they took; none where there are no such."""
    with suppress(FileNotFoundError, UserError):  # a damaged file is no loss but of time
        tensors, header = checkpoint.load(path, "features")
        if header["of"] == key:
            return list(tensors["features"]), header["seconds"]
    return [], 0.0


class Difference(NamedTuple):
    """Held-out accuracy of a head after `classes` classes, mean over draws: from torch's features and from a target's.

    error: standard error over draws of target minus torch, draw by draw; None of a single draw.
    """

    head: str
    classes: int
    torch: float
    target: float
    error: float | None


def differences(torch_outcomes: Sequence[Outcome], target_outcomes: Sequence[Outcome]) -> list[Difference]:
    """Every head and number of classes, in the order of the outcomes, which are of the same draws."""
    pairs: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for ours, theirs in zip(torch_outcomes, target_outcomes, strict=True):
        if ours[:5] != theirs[:5]:
            raise ValueError(f"{ours} and {theirs} are of different heads, classes or draws.")
        pairs.setdefault((ours.head, ours.classes), []).append((ours.test_accuracy, theirs.test_accuracy))
    found = []
    for (head, classes), values in pairs.items():
        apart = [theirs - ours for ours, theirs in values]
        error = stdev(apart) / math.sqrt(len(apart)) if len(apart) > 1 else None
        found.append(Difference(head, classes, fmean(v[0] for v in values), fmean(v[1] for v in values), error))
    return found


def show(outcomes: Mapping[str, list[Outcome]], request: Request, console: Console) -> None:
    """Prints the accuracies from torch's features and from the target's."""
    table = Table(
        "classes",
        "head",
        f"from {TORCH}",
        f"from {request.name}",
        "difference",
        title="held-out accuracy, strict, mean of the draws",
        caption="difference -+ its standard error over draws, which are orders of the same classes; "
        f"learning rates picked on {TORCH}'s features for both",
    )
    for one in differences(outcomes[TORCH], outcomes[request.name]):
        error = "" if one.error is None else f" -+ {one.error:.3f}"
        table.add_row(
            str(one.classes), one.head, f"{one.torch:.3f}", f"{one.target:.3f}", f"{one.target - one.torch:+.3f}{error}"
        )
    console.print(table)
