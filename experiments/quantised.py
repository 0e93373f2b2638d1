"""Networks with weights and activations of few bits: the conventional twin, as the fair rival of a spiking network, and
a spiking network of 8 bits, as a fair partner of that rival.

Rounded after training, with steps chosen on drawings of meta-training classes, and then meta-tested like any other
network: its accuracy is measured and not assumed. Drawings of the meta-test choose nothing.

A head learns in float32, and its weights are rounded like the rest when it answers (but for `gaussian`, which is not
linear): meta_test.csv and energy.csv are of the same network.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import cast, get_args

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

import converters
from converters import Graph, energy
from converters.energy import memory
from converters.energy.devices import integer
from converters.energy.traffic import Accounting
from converters.graph import SYNAPSES, Affine, Quantize
from converters.quantize import round_rows
from experiments import pipeline
from experiments.csv_files import write_csv
from experiments.progress import StageBar
from experiments.run_data import Data, held_out_drawings
from experiments.run_folder import RunFolder
from snn_anml.config import RunConfig
from snn_anml.data.tasks import pictures
from snn_anml.errors import UserError
from snn_anml.files import write_text
from snn_anml.meta import Learned, Outcome, extract_features, meta_test
from snn_anml.meta.heads import Head, LinearHead
from snn_anml.networks import Activity, Network

CALIBRATION_DRAWINGS = 200
"""On which the steps of activations are chosen."""


def quantised_folder(folder: RunFolder, bits: int) -> RunFolder:
    """Where the quantised form of a run lies: meta_test, energy and memory.csv, facts.json, its graph in export."""
    return RunFolder(folder.path / "quantised" / str(bits))


def run_quantised(
    config: RunConfig,
    folder: RunFolder,
    data: Data,
    bits: int,
    console: Console,
    workers: int | None = None,
) -> RunFolder:
    """Quantises the trained network of `folder`, meta-tests it, and counts its operations; nothing where that is done.

    Every weight of the graph has `bits` bits, and so has every activation and gate. The picture keeps its 8 bits, and
    biases are float32, as sums and membranes are. So are the weights of a head while it learns; it answers with rounded
    ones.

    Args:
        config: of the run.
        folder: of the run.
        data: of the run.
        bits: 2 to 8.
        console: where progress is shown.
        workers: processes that share the meta-test, by default one for each core.

    Returns:
        the folder that holds the files.

    Raises:
        FileNotFoundError: the run is not trained.
        UserError: published layers, other bits, or features that are all zero.
    """
    if bits not in range(2, 9):
        raise UserError(f"bits = {bits}; a network is quantised to a whole number from 2 to 8.")
    place = quantised_folder(folder, bits)
    if (place.path / "facts.json").exists():
        return place
    start = time.perf_counter()
    drawings = calibration_drawings(data, config.seed)
    graph = converters.quantize_weights(pipeline.to_graph(pipeline.load_anml(folder)), bits)
    graph = converters.quantize_activations(graph, bits, drawings, config.seed)
    with StageBar.show(f"meta-test with {bits} bits", console) as bar:
        features, selection = _features(graph, config, data, bar)
        pipeline.check_spikes(folder, features, selection, form=f"with {bits} bits")
        workers = pipeline.meta_test_workers(config, workers)
        classes = data.split.meta_test
        deployed = partial(rounded, bits=bits)
        outcomes, learned = meta_test(
            features, selection, classes, config.meta_test, config.seed, bar, workers, deployed
        )
    head = learned[config.export.head, config.export.classes]
    graph = _with_head(graph, head)
    converters.save_graph(graph, place.graph)
    _write_energy(place, graph, config, data, head.classes, bits)
    write_csv(place.meta_test, Outcome._fields, [outcome._asdict() for outcome in outcomes])
    facts = {
        "bits": bits,
        "weights": "of every output at equal distances on both sides of 0, with the least mean squared error",
        "activations": "of every layer at equal distances from 0 on, with the least mean squared error",
        "steps": {node.inputs[0]: node.step for node in graph.nodes if isinstance(node, Quantize)},
        "calibration_drawings": len(drawings),
        "graph": converters.graph_hash(graph),
        "data_sha256": data.dataset.sha256,
        "seconds": time.perf_counter() - start,
    }
    write_text(place.path / "facts.json", json.dumps(facts, indent=2) + "\n")
    return place


def calibration_drawings(data: Data, seed: int) -> Tensor:
    """Drawings of meta-training classes, (CALIBRATION_DRAWINGS, 1, H, W)."""
    rng = np.random.default_rng((seed, 5))
    classes = rng.choice(data.split.meta_train, CALIBRATION_DRAWINGS)
    return pictures(data.images, classes, rng.integers(data.dataset.drawings, size=CALIBRATION_DRAWINGS))


class _Features:
    """A graph as `extract_features` sees a network."""

    def __init__(self, simulator: converters.Simulator) -> None:
        graph = simulator.graph
        self._simulator = simulator
        self._name = graph[graph.nodes[-1].inputs[0]].inputs[0]

    def eval(self) -> None:
        """As it always is."""

    def activity(self, x: Tensor, generator: torch.Generator) -> Activity:
        """What the head reads."""
        seed = int(torch.randint(2**31, (), generator=generator))  # of a rate encoding
        features = self._simulator.run(x, seed).source(self._name).mean(1)
        return Activity(torch.from_numpy(features), [], [], [])


def _features(graph: Graph, config: RunConfig, data: Data, bar: Callable[[str, float], None]) -> tuple[Tensor, Tensor]:
    """As of the run itself: features of the meta-test classes, and of those on which learning rates are picked."""
    bar("features", 0.0)
    with converters.open_simulator(graph, "torch") as simulator:
        model = cast(Network, _Features(simulator))
        features, _ = extract_features(model, data.images, data.split.meta_test, config.seed)
        selection = pipeline.selection_features(model, data, config.seed)
    return features, selection


def rounded(head: Head, bits: int) -> Head:
    """A linear head with the weights of every output rounded to `bits` bits, 2 to 16; biases stay."""
    if not isinstance(head, LinearHead):
        return head
    rival = head.rival
    if rival is not None:
        rival = torch.cat([torch.from_numpy(round_rows(rival[None, :-1].numpy(), bits))[0], rival[-1:]])
    return LinearHead(torch.from_numpy(round_rows(head.weight.numpy(), bits)), head.bias, rival)


def _with_head(graph: Graph, learned: Learned) -> Graph:
    """The graph with a learned head in place of its own."""
    own = graph[graph.nodes[-1].inputs[0]]
    assert isinstance(own, Affine)
    head = replace(own, weight=learned.head.weight.numpy(), bias=learned.head.bias.numpy())
    return Graph(tuple(head if node is own else node for node in graph.nodes), graph.steps)


def _write_energy(
    place: RunFolder, graph: Graph, config: RunConfig, data: Data, classes: np.ndarray, bits: int
) -> None:
    """energy.csv and memory.csv of as many held-out drawings as `export.samples` says."""
    counts = count_operations(graph, config, data, classes, bits)
    form = f"int{bits}"
    rows = [row for device in prices(config, bits) for row in energy.csv_rows(energy.estimate(counts, device), form)]
    write_csv(place.energy, energy.CSV_COLUMNS, rows)
    with_memory = [
        memory.estimate_memory(graph, counts, accounting=accounting, device=integer(bits), bits=bits)
        for accounting in sorted(get_args(Accounting))  # `exact` first
    ]
    rows = [row for one in with_memory for row in memory.csv_rows(one, form)]
    write_csv(place.memory, memory.CSV_COLUMNS, rows)


def prices(config: RunConfig, bits: int) -> list[energy.Device]:
    """Devices on which a network of `bits` bits is priced.

    Below 8 bits no price is published: that of 8 bounds it from above. Membranes need more bits than weights: a
    spiking network of which everything has 32 bounds it from above.
    """
    spiking = config.network.neuron == "lif"
    return list(dict.fromkeys((integer(8), integer(bits), *([integer(32)] if spiking else []))))


def count_operations(graph: Graph, config: RunConfig, data: Data, classes: np.ndarray, bits: int) -> energy.Counts:
    """The counts of a quantised graph on as many held-out drawings of `classes` as `export.samples` says."""
    x, _ = held_out_drawings(config, data, classes, config.export.samples)
    return packed(energy.count(graph, converters.simulate(graph, x, "torch", config.seed)), graph, bits)


def packed(counts: energy.Counts, graph: Graph, bits: int) -> energy.Counts:
    """The counts with `parameter_bytes` of weights that take `bits` bits each, and biases of 32."""

    def size(row: energy.LayerCount) -> int:
        node = graph[row.layer]
        return (
            -(-node.weight.size * bits // 8) + node.bias.nbytes if isinstance(node, SYNAPSES) else row.parameter_bytes
        )

    return replace(counts, layers=tuple(replace(row, parameter_bytes=size(row)) for row in counts.layers))
