"""What a trained network costs: an inference, one class more to learn, and the meta-training it had. All modelled."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

from torch import nn

import converters
from converters import energy
from converters.energy import head_counts, learning, memory, training
from experiments import pipeline
from experiments.compare import shares
from experiments.compare.shares import ACCOUNTINGS, BOUND
from experiments.csv_files import write_csv
from experiments.quantised import count_operations, prices, quantised_folder
from experiments.run_data import Data
from experiments.run_folder import RunFolder
from snn_anml.config import RunConfig
from snn_anml.meta import Learner, extract_features
from snn_anml.model_io import load

CLASSES_LEARNED = 20
"""Meta-test classes over which the counts of learning one class are means."""


def run_costs(config: RunConfig, folder: RunFolder, data: Data) -> None:
    """Counts the exported network of a run; writes memory.csv, learning.csv, training.csv, and last energy.csv.

    What sensitivities and break-even rates are computed from goes into the files of `experiments.compare.shares`.

    Raises:
        UserError: published layers, or a run without the learned head that is exported.
    """
    graph, counts = pipeline.count_operations(config, folder, data)
    network = "spiking" if config.network.neuron == "lif" else "conventional twin"
    memories = [memory.estimate_memory(graph, counts, accounting=accounting) for accounting in ACCOUNTINGS]
    rows = [row for one in memories for row in memory.csv_rows(one, network)]
    write_csv(folder.memory, memory.CSV_COLUMNS, rows)
    write_csv(folder.learning, learning.CSV_COLUMNS, _learning_rows(config, folder, data, counts, memories[0]))
    write_csv(folder.training, training.CSV_COLUMNS, _training_rows(config, folder, counts))
    models = _models(graph, energy.DEVICES.values())
    shares.write_shares(folder, counts, models)
    shares.write_spike_costs(folder, counts, models)
    write_csv(folder.energy, energy.CSV_COLUMNS, pipeline.energy_rows(counts, network))


def run_quantised_costs(config: RunConfig, folder: RunFolder, data: Data, bits: int) -> None:
    """Counts the quantised form of a run once more, for what sensitivities and break-even rates are computed from."""
    place = quantised_folder(folder, bits)
    graph = converters.load_graph(place.graph)
    _, classes = pipeline.exported(config, folder)
    counts = count_operations(graph, config, data, classes, bits)
    models = _models(graph, prices(config, bits), device=energy.integer(bits), bits=bits)
    if config.network.neuron == "lif":
        bounds = _models(graph, (), device=energy.integer(32), bits=32)
        models |= {name + BOUND: model for name, model in bounds.items()}
    shares.write_spike_costs(place, counts, models)
    shares.write_shares(place, counts, models)


def _models(graph: converters.Graph, devices: Iterable[energy.Device], **of_memory: Any) -> dict[str, Any]:
    """Devices, and the memory-aware model in both accountings."""
    found = {device.name: partial(energy.estimate, device=device) for device in devices}
    model = partial(memory.estimate_memory, graph, **of_memory)
    return found | {f"memory-{one}": partial(model, accounting=one) for one in ACCOUNTINGS}


def seconds_of_training(folder: RunFolder) -> float:
    """Seconds of the wall clock that the logged steps took, interruptions aside; 0 where nothing was logged."""
    seconds, before = 0.0, 0
    if folder.metrics.exists():
        for line in folder.metrics.read_text(encoding="utf-8").splitlines():
            metrics = json.loads(line)
            seconds += (metrics["step"] - before) / metrics["steps_per_second"]
            before = metrics["step"]
    return seconds


def known_classes(config: RunConfig) -> list[int]:
    """Numbers of classes known before the one learned: the last of the first and last milestone, and of the export."""
    milestones = config.meta_test.milestones
    return sorted({classes - 1 for classes in (milestones[0], config.export.classes, milestones[-1])})


def _learning_rows(
    config: RunConfig, folder: RunFolder, data: Data, counts: energy.Counts, traffic: memory.MemoryEstimate
) -> Iterator[dict[str, Any]]:
    classes = data.split.meta_test[:CLASSES_LEARNED]
    features, _ = extract_features(load(folder.path), data.images.cpu(), classes, config.seed)
    learned_from = features[:, : config.meta_test.shots].numpy()
    outputs = len(data.split.meta_test)  # one for every class to come, as in the meta-test
    for head in config.meta_test.heads:
        for known in known_classes(config):
            of_head = head_counts.count(head, learned_from, known=known, outputs=outputs)
            for device in energy.DEVICES:
                if device not in learning.UNSUITED:
                    found = learning.estimate(of_head, device, inference=counts, traffic=traffic)
                    yield from learning.csv_rows(found)


def _training_rows(config: RunConfig, folder: RunFolder, counts: energy.Counts) -> list[dict[str, Any]]:
    learner = Learner(pipeline.load_anml(folder), config.meta, config.train.freeze_nm)
    of_training = training.count(
        counts,
        config.train,
        config.meta,
        features=learner.model.feature_count,
        classes=learner.model.classes,
        parameters=_trained(learner),
        head=_trained(learner.model.head),
    )
    return training.csv_rows(of_training, seconds_of_training(folder))


def _trained(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
