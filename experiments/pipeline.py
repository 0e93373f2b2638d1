"""The stages of a run, from data to files. Each reads what the one before it left in the run folder."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from rich.console import Console

import converters
from converters import energy
from experiments.csv_files import read_csv, write_csv
from experiments.progress import StageBar, TrainingBar
from experiments.run_data import Data, held_out_drawings, training_classes
from experiments.run_folder import RunFolder, open_run, training_hash
from snn_anml.config import RunConfig
from snn_anml.data import with_rotations
from snn_anml.data.tasks import PIXEL_SCALE
from snn_anml.errors import MissingExtraError, UserError
from snn_anml.files import write_text
from snn_anml.group import ALONE, Group
from snn_anml.meta import Learner, Outcome, Stage, extract_features, meta_test, train
from snn_anml.model_io import load, load_head, save_heads, save_model, with_head
from snn_anml.networks import ANML, Network, make_network


def check_runs(config: RunConfig) -> None:
    """Refuses a name that is no simulator, and a simulator that cannot run such a network, whatever its weights."""
    check_targets(config.export.backends)
    model = make_network(config.network, config.export.classes, config.data.size, config.seed)
    if isinstance(model, ANML):
        graph = to_graph(model.eval())
        for backend in config.export.backends:
            try:
                converters.check(graph, backend)
            except UserError as refusal:
                raise UserError(f"export.backends names {backend}, which cannot run this network: {refusal}") from None
            if not config.export.optional:  # that its packages are there shows when it is built
                converters.open_simulator(graph, backend, 1).close()


def check_targets(names: Iterable[str]) -> None:
    """Raises `UserError` for a name that is no simulator."""
    for name in names:
        if name not in converters.backends():
            raise UserError(f"There is no simulator {name!r}; choose from {', '.join(converters.backends())}.")


def twin_config(config: RunConfig) -> RunConfig:
    """The conventional twin: the same layers and training, with ReLU for LIF and a conventional NM network."""
    modulation = "none" if config.network.modulation == "none" else "conventional"
    network = replace(config.network, neuron="relu", modulation=modulation, encoding="constant")
    return replace(config, network=network, twin=False)


def run_training(
    config: RunConfig,
    folder: RunFolder,
    data: Data,
    resume: bool,
    device: str,
    console: Console,
    group: Group = ALONE,
) -> Network:
    """Trains into `folder`, and returns the network. A finished training is loaded, not repeated.

    Args:
        config: of the run.
        folder: of the run, which process 0 of `group` writes.
        data: of the run, on this process's device.
        resume: go on with the run that is there.
        device: of this process.
        console: where progress is shown.
        group: the processes that train together.

    Raises:
        UserError: a folder of another run, or a configuration that cannot be trained, or not by so many processes.
    """
    images, classes = training_classes(config, data)
    # Both before the folder is touched, so that a mistake in the configuration leaves no half run behind.
    model = make_network(config.network, len(classes), config.data.size, config.seed)
    group.share(config.meta.trajectories, "meta.trajectories")
    if config.train.warm_steps:
        group.share(config.train.warm_batch, "train.warm_batch")
    summary_writer = _summary_writer() if config.train.tensorboard and group.rank == 0 else None

    def finished() -> Network | None:
        open_run(folder, config, data.dataset.sha256, device, resume, group.size)
        return load(folder.path) if folder.model.exists() else None

    if (trained := group.from_first(finished)) is not None:
        return trained.to(data.images.device)
    learner = Learner(model, config.meta, config.train.freeze_nm).to(data.images.device)
    stage = Stage(images, classes, config.train, config.meta, config.seed, group, config.export.classes)
    writer = summary_writer(str(folder.path / "tensorboard")) if summary_writer else None
    title = "spiking" if config.network.neuron == "lif" else "conventional"
    with TrainingBar(f"training ({title})", console) as bar:
        for metrics in train(learner, stage, folder.path, training_hash(config, data.dataset.sha256), resume, bar):
            if writer is not None:
                for name in ("loss", "accuracy", "spikes_per_neuron", "learning_rate", "inner_lr"):
                    writer.add_scalar(name, getattr(metrics, name), metrics.step)
    if writer is not None:
        writer.close()
    if group.rank == 0:
        save_model(folder.model, model)
    return model.eval()


def _summary_writer() -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise MissingExtraError("train.tensorboard", "tensorboard") from None
    return SummaryWriter


def run_meta_test(
    config: RunConfig,
    folder: RunFolder,
    data: Data,
    device: str,
    console: Console,
    protocols: Sequence[str] = (),
    workers: int | None = None,
) -> list[Outcome]:
    """Meta-tests the trained network of `folder`; writes meta_test.csv, heads.safetensors, activity.json.

    Args:
        config: of the run.
        folder: of the run.
        data: of the run.
        device: of the network; heads learn on the CPU.
        console: where progress is shown.
        protocols: instead of those of the configuration; what meta_test.csv has of others is kept, and the learned
            heads where the first protocol of the configuration is not among them.
        workers: processes that share the work, by default one for each core.

    Raises:
        UserError: the run is not trained, or its network has fallen silent.
    """
    settings = replace(config.meta_test, protocols=tuple(protocols)) if protocols else config.meta_test
    kept = _outcomes_of_others(folder, settings.protocols) if protocols else []
    model = load(folder.path, device)
    start = time.perf_counter()
    with StageBar.show("meta-test", console) as bar:
        bar("features", 0.0)
        features, spikes = extract_features(model, data.images, data.split.meta_test, config.seed)
        selection = selection_features(model, data, config.seed)
        shots = config.meta_test.shots
        check_spikes(folder, features[:, :shots], selection[:, :shots])
        extracted = time.perf_counter()
        workers = meta_test_workers(config, workers)
        outcomes, learned = meta_test(features, selection, data.split.meta_test, settings, config.seed, bar, workers)
    if settings.protocols[0] == config.meta_test.protocols[0] or not folder.heads.exists():
        save_heads(folder.heads, learned)
    seconds = {"features": extracted - start, "heads": time.perf_counter() - extracted}
    write_text(folder.activity, json.dumps({"spikes_per_neuron": spikes, "seconds": seconds}, indent=2) + "\n")
    write_csv(folder.meta_test, Outcome._fields, [*kept, *(outcome._asdict() for outcome in outcomes)])
    return outcomes


def meta_test_workers(config: RunConfig, workers: int | None = None) -> int:
    """Processes that a meta-test is worth: one below some hundred classes, over before a second has started."""
    return (workers or os.cpu_count() or 1) if config.meta_test.milestones[-1] > 100 else 1


def _outcomes_of_others(folder: RunFolder, protocols: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of meta_test.csv that are of none of these protocols."""
    return [row for row in read_csv(folder.meta_test) if row["protocol"] not in protocols]


def selection_features(model: Network, data: Data, seed: int) -> torch.Tensor:
    """Features (classes, drawings, F) on which learning rates are picked: the selection classes, and these turned."""
    turned = torch.from_numpy(with_rotations(data.dataset.images[data.split.selection])).to(data.images.device)
    return extract_features(model, turned, np.arange(len(turned)), seed)[0]


def check_spikes(folder: RunFolder, *features: torch.Tensor, form: str = "") -> None:
    """Raises `UserError` where features of the network of `folder`, in a form such as `with 8 bits`, are all zero."""
    if not all(one.any() for one in features):
        raise UserError(
            f"The network of {folder.path}{form and ' ' + form} answers no drawing with a single spike, so that there "
            "is nothing to learn from; train longer, or lower train.spike_weight or network.threshold."
        )


def exported(config: RunConfig, folder: RunFolder) -> tuple[ANML, np.ndarray]:
    """The network of a run with its learned output head, and the classes of its outputs.

    Raises:
        UserError: published layers, which have no form on a simulator, or a run without that head.
    """
    learned = load_head(folder.path, config.export.head, config.export.classes)
    return cast(ANML, with_head(load_anml(folder), learned.head)), learned.classes


def load_anml(folder: RunFolder) -> ANML:
    """The network of a run; `UserError` for published layers, which have no form on a simulator."""
    model = load(folder.path)
    if not isinstance(model, ANML):
        raise UserError(
            f"{folder.path} has published layers, whose norm depends on each picture, so that it has no form on a "
            "simulator; export a run with network.layers: strided."
        )
    return model


def to_graph(model: ANML) -> converters.Graph:
    """The graph of a network, with weights on grids where that makes every sum of it exact."""
    return converters.snap(converters.from_torch(model), PIXEL_SCALE.bit_length() - 1).graph


def run_energy(config: RunConfig, folder: RunFolder, data: Data) -> list[dict[str, Any]]:
    """Counts and joules of the exported network and of its twin, on every device; writes energy.csv."""
    rows: list[dict[str, Any]] = []
    for name, where in (("spiking", folder), ("conventional twin", folder.twin)):
        if where is not folder and not where.heads.exists():
            continue
        its_config = where.require()
        if its_config.network.neuron == "relu":
            name = "conventional twin"
        rows += energy_rows(count_operations(its_config, where, data)[1], name)
    write_csv(folder.energy, energy.CSV_COLUMNS, rows)
    return rows


def count_operations(config: RunConfig, folder: RunFolder, data: Data) -> tuple[converters.Graph, energy.Counts]:
    """The graph of the exported network of a run; its counts on as many held-out drawings as `export.samples` says."""
    model, classes = exported(config, folder)
    graph = to_graph(model)
    x, _ = held_out_drawings(config, data, classes, config.export.samples)
    return graph, energy.count(graph, converters.simulate(graph, x, seed=config.seed))


def energy_rows(counts: energy.Counts, network: str) -> list[dict[str, Any]]:
    """Rows of energy.csv: every device by our counts, and chips by the convention of KerasSpiking too."""
    rows: list[dict[str, Any]] = []
    for device in energy.DEVICES:
        rows += energy.csv_rows(energy.estimate(counts, device), network)
    for device in (name for name, one in energy.DEVICES.items() if one.kind == "chip"):
        rows += energy.csv_rows(energy.estimate(counts, device, convention="keras-spiking"), network)
    return rows
