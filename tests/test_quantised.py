"""Networks of few bits: what is rounded, what is measured, and what is left in the folder."""

import csv
import json
import math
import shutil
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
import torch
from rich.console import Console

from converters import from_torch, load_graph, open_simulator, quantize_weights, simulate
from converters.energy import CSV_COLUMNS, memory
from converters.energy.counts import count
from converters.graph import LIF, SYNAPSES, Activation, Quantize
from experiments import pipeline
from experiments.quantised import (
    CALIBRATION_DRAWINGS,
    _Features,
    calibration_drawings,
    packed,
    quantised_folder,
    rounded,
    run_quantised,
)
from experiments.run_data import Data, held_out_drawings, load_data_of
from experiments.run_folder import RunFolder
from snn_anml.config import NetworkConfig
from snn_anml.errors import UserError
from snn_anml.meta import extract_features
from snn_anml.meta.heads import GaussianHead, LinearHead
from snn_anml.model_io import load_head
from snn_anml.networks import ANML
from tests.cli_helpers import contents, snn_anml

CONSOLE = Console(quiet=True)


@pytest.fixture(scope="module")
def twin(tmp_path_factory, tiny, cache):
    """A trained and meta-tested run of a network without spikes, with its data."""
    folder = RunFolder(tmp_path_factory.mktemp("quantised") / "twin")
    assert snn_anml("train", "--config", tiny, "--network.neuron", "relu", "--out", folder.path).code == 0
    assert snn_anml("meta-test", folder.path).code == 0
    return folder, load_data_of(folder)


@pytest.fixture(scope="module")
def spiking(tmp_path_factory, finished):
    """The same of a spiking network."""
    folder = RunFolder(shutil.copytree(finished, tmp_path_factory.mktemp("quantised") / "spiking"))
    return folder, load_data_of(folder)


class Form(NamedTuple):
    """A quantised form, and the run that it is of."""

    folder: RunFolder
    data: Data
    bits: int
    place: RunFolder


@pytest.fixture(scope="module")
def quantised(twin, spiking):
    """The twin with 8 and with 3 bits, and a spiking network with 8."""
    runs = [(*twin, 8), (*twin, 3), (*spiking, 8)]
    return [
        Form(folder, data, bits, run_quantised(folder.require(), folder, data, bits, CONSOLE, 1))
        for folder, data, bits in runs
    ]


def rows(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def facts(place):
    return json.loads((place.path / "facts.json").read_text(encoding="utf-8"))


def test_all_weights_and_activations_have_these_bits(quantised):
    for folder, data, bits, place in quantised:
        x, _ = held_out_drawings(folder.require(), data, data.split.meta_test, 20)
        graph = load_graph(place.graph)
        for node in graph.of_type(*SYNAPSES):
            assert max(len(np.unique(row)) for row in node.weight) <= 2**bits - 1, node.name
        rounded = {node.inputs[0] for node in graph.of_type(Quantize)}  # gates are among them, spikes need no rounding
        assert rounded == {node.name for node in graph.of_type(Activation)} == set(facts(place)["steps"])
        values = simulate(graph, x).values
        for node in graph.of_type(Quantize):
            assert len(np.unique(values[node.name])) <= 2**bits
            assert node.step == facts(place)["steps"][node.inputs[0]] > 0
        for node in graph.of_type(*SYNAPSES):
            assert node.inputs[0] == "input" or isinstance(graph[node.inputs[0]], (Quantize, LIF))


def test_meta_tested_like_the_run_itself(quantised):
    for folder, _, bits, place in quantised:
        float32, found = rows(folder.meta_test), rows(place.meta_test)
        keys = ("protocol", "head", "classes", "draw", "seed")
        assert [[row[key] for key in keys] for row in found] == [[row[key] for key in keys] for row in float32]
        accuracies = [
            np.mean([float(row["test_accuracy"]) for row in some if row["head"] == "class-mean"])
            for some in (found, float32)
        ]
        assert accuracies[0] == pytest.approx(accuracies[1], abs=0.03 if bits == 8 else 0.25)
        assert found != float32


def test_the_network_that_is_counted_is_the_one_meta_tested(quantised):
    """On all held-out drawings of its classes: what the meta-test found in its first draw."""
    wanted = ("strict", "class-mean", "5", "0")
    for folder, data, _, place in quantised:
        config, classes = folder.require(), load_head(folder.path, "class-mean", 5).classes
        keys = ("protocol", "head", "classes", "draw")
        first = next(row for row in rows(place.meta_test) if tuple(row[key] for key in keys) == wanted)
        count_all = (data.dataset.drawings - config.meta_test.shots) * 5
        x, labels = held_out_drawings(config, data, classes, count_all)
        right = simulate(load_graph(place.graph), x, "torch").output.argmax(axis=1) == labels
        assert float(first["test_accuracy"]) == pytest.approx(right.mean(), abs=1e-6)


def test_a_linear_head_is_rounded_output_by_output():
    rival = torch.tensor([0.2, -0.5, 0.7])  # two weights and a bias
    head = LinearHead(torch.tensor([[1.0, 0.3], [-2.0, 1.6]]), torch.tensor([0.1, 0.4]), rival)
    found = rounded(head, 2)
    assert isinstance(found, LinearHead)
    assert torch.allclose(found.weight, torch.tensor([[1.0, 0.0], [-1.8, 1.8]]))
    assert torch.equal(found.bias, head.bias)
    assert found.rival is not None
    assert torch.equal(found.rival, torch.tensor([0.0, -0.5, 0.7]))
    gaussian = GaussianHead(torch.rand(2, 3), torch.rand(2, 3))
    assert rounded(gaussian, 2) is gaussian


def test_energy_of_integers(quantised):
    for folder, _, bits, place in quantised:
        found = rows(place.energy)
        assert tuple(found[0]) == CSV_COLUMNS
        assert {row["network"] for row in found} == {f"int{bits}"}
        devices = list(dict.fromkeys(row["device"] for row in found))
        spiking = folder.require().network.neuron == "lif"
        of_8_bits = ["cmos45-int8", "cmos45-int32"] if spiking else ["cmos45-int8"]
        assert devices == (of_8_bits if bits == 8 else ["cmos45-int8", "cmos45-int3-extrapolated"])
        graph = load_graph(place.graph)
        for row in found:
            if row["kind"] in ("Conv2d", "Affine"):
                node = graph[row["layer"]]
                stored = math.ceil(node.weight.size * bits / 8) + 4 * len(node.bias)
                assert int(row["parameter_bytes"]) == stored
        total = {name: sum(float(row["joules"]) for row in found if row["device"] == name) for name in devices}
        if spiking:
            assert 0 < total["cmos45-int8"] < total["cmos45-int32"]
        else:
            assert 0 < total[devices[-1]] <= total["cmos45-int8"]
        with_memory = rows(place.memory)
        assert tuple(with_memory[0]) == memory.CSV_COLUMNS
        assert list(dict.fromkeys(row["accounting"] for row in with_memory)) == ["exact", "lemaire"]
        assert {row["bits"] for row in with_memory} == {str(bits)}


def test_counts_change_by_what_is_rounded_to_zero_alone(twin):
    folder, data = twin
    graph = from_torch(pipeline.load_anml(folder))
    x, _ = held_out_drawings(folder.require(), data, data.split.meta_test, 4)
    rounded = quantize_weights(graph, 2)
    counts = [count(one, simulate(one, x)) for one in (graph, rounded)]
    small = packed(counts[1], rounded, 2)
    assert small.mean("connections_nonzero") < counts[0].mean("connections_nonzero")
    assert small.mean("dense") == counts[0].mean("dense")
    assert small.mean("effective_macs") == counts[1].mean("effective_macs")
    assert small.mean("parameter_bytes") < counts[1].mean("parameter_bytes") == counts[0].mean("parameter_bytes")


def test_drawings_of_the_meta_test_choose_nothing(twin):
    _, data = twin
    drawings = calibration_drawings(data, 3)
    assert len(drawings) == CALIBRATION_DRAWINGS
    assert drawings.flatten(1).any(1).all()
    images = data.images.clone()
    images[np.concatenate([data.split.meta_test, data.split.selection])] = 0
    assert torch.equal(calibration_drawings(replace(data, images=images), 3), drawings)
    assert not torch.equal(calibration_drawings(data, 4), drawings)


def test_features_of_a_graph_are_those_of_its_network(twin, spiking):
    for folder, data in (twin, spiking):
        model = pipeline.load_anml(folder)
        classes = data.split.meta_test[:3]
        expected, _ = extract_features(model, data.images, classes)
        with open_simulator(from_torch(model), "torch") as simulator:
            found, _ = extract_features(_Features(simulator), data.images, classes)
        torch.testing.assert_close(found, expected)


def test_spikes_of_a_rate_encoding_are_drawn_from_the_seed(spiking):
    _, data = spiking
    network = NetworkConfig(widths=(6, 8), encoding="rate", modulation="none", threshold=0.2)
    model, classes = ANML(network, 5, 14).eval(), data.split.meta_test[:2]
    with open_simulator(from_torch(model), "torch") as simulator:
        drawn = [extract_features(_Features(simulator), data.images, classes, seed)[0] for seed in (1, 1, 2)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_what_is_finished_stays(quantised):
    for folder, data, bits, place in quantised:
        before = contents(place.path)
        names = {"energy.csv", "export/graph.safetensors", "facts.json", "memory.csv", "meta_test.csv"}
        assert set(before) == names
        assert run_quantised(folder.require(), folder, data, bits, CONSOLE) == quantised_folder(folder, bits)
        assert contents(place.path) == before


def test_mistakes_are_named(twin):
    folder, data = twin
    for bits in (1, 9):
        with pytest.raises(UserError, match=f"bits = {bits}; .* from 2 to 8"):
            run_quantised(folder.require(), folder, data, bits, CONSOLE)
