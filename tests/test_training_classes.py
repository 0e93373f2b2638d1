"""Which classes are trained on: those of the split, and these turned where the configuration says so."""

import json
from dataclasses import replace

import numpy as np
import torch

from experiments.run_data import load_data, training_classes
from snn_anml.config import DataConfig, ExportConfig, MetaConfig, MetaTestConfig, RunConfig
from tests.cli_helpers import snn_anml

CONFIG = RunConfig(
    data=DataConfig(size=14, meta_test_classes=6, selection_classes=4, glyph_classes=30),
    meta=MetaConfig(classes=3),
    meta_test=MetaTestConfig(milestones=(2, 6)),
    export=ExportConfig(classes=2, samples=4),
)


def test_turned_classes_are_further_meta_training_classes(cache):
    data = load_data(CONFIG)
    images, classes = training_classes(CONFIG, data)
    assert images is data.images
    assert classes is data.split.meta_train
    turned, all_classes = training_classes(replace(CONFIG, data=replace(CONFIG.data, rotations=True)), data)
    n = len(classes)
    np.testing.assert_array_equal(all_classes, np.arange(4 * n))
    for turns in range(4):
        expected = torch.rot90(images[torch.from_numpy(classes)], turns, (2, 3))
        assert torch.equal(turned[turns * n : (turns + 1) * n], expected)


def test_rotations_and_distortions_change_what_is_learned_and_are_the_same_for_a_seed(tmp_path, tiny, cache):
    more = ("--data.rotations", "true", "--train.distortion", "0.5", "--twin", "false")
    plain, one, two = (tmp_path / name for name in ("plain", "one", "two"))
    assert snn_anml("train", "--config", tiny, "--out", plain, "--twin", "false").code == 0
    for out in (one, two):
        assert snn_anml("train", "--config", tiny, "--out", out, *more).code == 0
    first, second = (run.joinpath("model.safetensors").read_bytes() for run in (one, two))
    assert first == second
    assert first != plain.joinpath("model.safetensors").read_bytes()


def test_spikes_of_the_last_layer_are_charged_for_the_exported_head(tmp_path, tiny, cache):
    synapse = ("--train.spike_cost", "synapse", "--train.spike_weight", "1", "--train.warm_steps", "1")
    short = ("--train.meta_steps", "0", "--train.log_every", "1", "--twin", "false")
    logs = []
    for classes in (5, 10):
        out = tmp_path / str(classes)
        said = snn_anml("train", "--config", tiny, "--out", out, "--export.classes", classes, *synapse, *short)
        assert said.code == 0, said
        logs.append(json.loads((out / "metrics.jsonl").read_text().splitlines()[0]))
    assert logs[0]["spikes_per_neuron"] == logs[1]["spikes_per_neuron"] > 0
    assert logs[0]["loss"] != logs[1]["loss"]
