"""Networks and learned heads as files."""

import re
from dataclasses import asdict

import numpy as np
import pytest
import torch

import snn_anml
from snn_anml import checkpoint
from snn_anml.config import NetworkConfig
from snn_anml.errors import UserError
from snn_anml.meta.heads import LinearHead
from snn_anml.meta.sequential import Learned
from snn_anml.model_io import load, load_head, save_heads, save_model, with_head
from snn_anml.networks import ANML, PublishedANML

CONFIG = NetworkConfig(widths=(4, 6), nm_widths=(3, 3), steps=3)


def network(config=CONFIG, seed=0):
    """An untrained network whose running statistics are not those it starts with."""
    model = ANML(config, 7, 12, seed)
    model(torch.rand(16, 1, 12, 12, generator=torch.Generator().manual_seed(1)))
    return model.eval()


def save_network_file(path, tensors=None, **changes):
    model = network()
    header = {"network": asdict(CONFIG), "classes": 7, "size": 12} | changes
    checkpoint.save(path, "model", model.state_dict() if tensors is None else tensors, header)


@pytest.mark.parametrize(
    "config", [CONFIG, NetworkConfig(neuron="relu", widths=(4, 6), nm_widths=(3, 3), modulation="none")]
)
def test_a_saved_network_gives_the_same_outputs(tmp_path, config):
    model = network(config)
    save_model(tmp_path / "model.safetensors", model)
    x = torch.rand(3, 1, 12, 12, generator=torch.Generator().manual_seed(2))
    for given in (tmp_path, str(tmp_path), tmp_path / "model.safetensors"):
        loaded = load(given)
        assert not loaded.training
        assert loaded.config == config
        assert torch.equal(loaded(x), model(x))


@pytest.mark.parametrize("options", [{}, {"channels": 3}, {"conv_bias": True}])
def test_published_networks_come_back_with_their_channels_and_biases(tmp_path, options):
    model = PublishedANML(4, 4, 5, 22, **options)
    save_model(tmp_path / "model.safetensors", model)
    loaded = load(tmp_path)
    assert loaded.config == model.config
    assert loaded.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in loaded.state_dict().items())


def test_names_of_the_package_are_those_of_its_modules():
    assert snn_anml.load is load
    assert snn_anml.load_head is load_head
    assert snn_anml.with_head is with_head
    assert snn_anml.ANML is ANML
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        snn_anml.lode  # noqa: B018


def test_a_missing_network_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no trained network at .*model\.safetensors; train it first"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"network": {"widths": [4, 6], "colour": 3}}, "colour"),
        ({"network": 3}, "int"),
        ({"network": asdict(CONFIG) | {"steps": 0}}, "network.steps = 0; it must be at least 1"),
        ({"network": asdict(CONFIG) | {"widths": [4, 8]}}, "state_dict"),
        ({"classes": 8}, "state_dict"),
        ({"tensors": {"a": torch.zeros(1)}}, "state_dict"),
    ],
)
def test_a_file_that_describes_no_network_is_refused(tmp_path, changes, reason):
    save_network_file(tmp_path / "model.safetensors", **changes)
    with pytest.raises(UserError, match=re.escape(str(tmp_path)) + f".*{re.escape(reason)}.*train again"):
        load(tmp_path)


def learned(classes, features=5):
    weight = torch.arange(float(classes * features)).view(classes, features)
    return Learned(LinearHead(weight, torch.ones(classes), None), np.arange(classes) + 100, 0.25)


def test_saved_heads_come_back(tmp_path):
    heads = {("adam", 2): learned(2), ("class-mean", 4): learned(4)}
    save_heads(tmp_path / "heads.safetensors", heads)
    for (name, classes), expected in heads.items():
        found = load_head(tmp_path, name, classes)
        assert torch.equal(found.head.weight, expected.head.weight)
        assert torch.equal(found.head.bias, expected.head.bias)
        np.testing.assert_array_equal(found.classes, expected.classes)
        assert found.learning_rate == 0.25


def test_an_unknown_head_is_answered_with_those_there_are(tmp_path):
    save_heads(tmp_path / "heads.safetensors", {("adam", 2): learned(2), ("sgd", 4): learned(4)})
    with pytest.raises(UserError, match=r"no head 'adam' of 4 classes; it holds adam\.2, sgd\.4"):
        load_head(tmp_path, "adam", 4)


def test_missing_and_incomplete_heads_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="run the meta-test first"):
        load_head(tmp_path, "adam", 2)
    header = {"adam.2": {"classes": [1, 2], "learning_rate": 0.1}}
    checkpoint.save(tmp_path / "heads.safetensors", "heads", {"adam.2.weight": torch.ones(2, 3)}, header)
    with pytest.raises(UserError, match=r"lacks a part of its head adam\.2"):
        load_head(tmp_path, "adam", 2)


def test_a_learned_head_replaces_that_of_meta_training():
    model = network()
    head = LinearHead(
        torch.randn(3, model.feature_count, generator=torch.Generator().manual_seed(3)), torch.ones(3), None
    )
    replaced = with_head(model, head)
    x = torch.rand(2, 1, 12, 12, generator=torch.Generator().manual_seed(2))
    expected = model.activity(x).features @ head.weight.T + head.bias
    torch.testing.assert_close(replaced(x), expected)
    assert (replaced.classes, model.classes) == (3, 7)
    assert model(x).shape == (2, 7)
