"""The meta-test on a simulator: whose features, on what, learned how, and what an interruption costs."""

from __future__ import annotations

import csv
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import converters
from converters.quantize import quantize_weights
from experiments import adaptation, pipeline
from experiments.adaptation import Request, choose, differences, milestones
from experiments.run_data import load_data_of
from experiments.run_folder import RunFolder
from snn_anml import checkpoint
from snn_anml.config import NetworkConfig
from snn_anml.meta import Outcome, extract_features
from snn_anml.model_io import load, save_model
from snn_anml.networks import make_network
from tests.cli_helpers import TINY, contents, refused, snn_anml, write_yaml
from tests.test_loihi import require_loihi

ON_A_CHIP = {"reset": "zero", "modulation": "conventional"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory, cache):
    """Makes a trained run with changes of the network, once each, to copy and not to touch."""
    made = {}

    def train(**network):
        key = json.dumps(network, sort_keys=True)
        if key not in made:
            folder = tmp_path_factory.mktemp("trained")
            config = write_yaml(folder / "config.yaml", TINY | {"network": TINY["network"] | network})
            options = "--twin", "false", "--export.backends", "[torch]"
            assert snn_anml("train", "--config", config, "--out", folder / "run", *options).code == 0
            made[key] = folder / "run"
        return made[key]

    return train


@pytest.fixture
def run(trained, tmp_path):
    """A copy of a run of a spiking network."""
    return Path(shutil.copytree(trained(), tmp_path / "run"))


@pytest.fixture
def learned_from(monkeypatch):
    """The features that heads are learned from, in the order in which they are: torch's, then the target's."""
    seen = []
    learn = adaptation.meta_test

    def spy(features, *rest):
        seen.append(features)
        return learn(features, *rest)

    monkeypatch.setattr(adaptation, "meta_test", spy)
    return seen


def rows(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def by_features(path):
    """The rows of each kind of features, without the name of it."""
    found = {}
    for row in rows(path):
        found.setdefault(row.pop("features"), []).append(row)
    return found


@pytest.mark.parametrize(
    ("network", "rounding"),  # of the weights, and in a spiking network only where a spike hangs by it
    [({}, 0), ({"encoding": "rate"}, 0), ({"neuron": "relu", "modulation": "none"}, 1e-3)],
    ids=str,
)
def test_exact_targets_give_the_features_and_accuracies_of_torch(trained, tmp_path, learned_from, network, rounding):
    run = Path(shutil.copytree(trained(**network), tmp_path / "run"))
    said = snn_anml("meta-test", run, "--target", "interpreter", "--classes", "4")
    assert said.code == 0, said
    ours, theirs = learned_from
    data = load_data_of(RunFolder(run))
    assert ours.shape == theirs.shape == (4, data.dataset.drawings, load(run).feature_count)
    torch.testing.assert_close(theirs, ours, rtol=1e-6, atol=rounding)
    found = by_features(run / "meta_test_interpreter.csv")
    assert list(found) == ["torch", "interpreter"]
    assert found["torch"] == found["interpreter"]
    assert {(row["protocol"], row["classes"]) for row in found["torch"]} == {("strict", "2"), ("strict", "4")}
    facts = json.loads((run / "meta_test_interpreter.json").read_text())
    assert facts["mean_feature_difference"] <= rounding < facts["mean_feature"]["torch"]
    assert facts["drawings"] == 4 * data.dataset.drawings
    whole, _ = extract_features(load(run), data.images, np.array(facts["classes"]))
    assert torch.allclose(ours, whole) == (network != {"encoding": "rate"})  # whose spikes are drawn class by class


def test_of_all_classes_torch_s_part_is_the_run_s_own_meta_test(run):
    assert snn_anml("meta-test", run).code == 0
    assert snn_anml("export", run, "--target", "torch").code == 0
    assert snn_anml("meta-test", run, "--target", "interpreter").code == 0  # there are fewer than 50
    strict = [row for row in rows(run / "meta_test.csv") if row["protocol"] == "strict"]
    assert by_features(run / "meta_test_interpreter.csv")["torch"] == strict
    graph = converters.load_graph(run / "export" / "graph.safetensors")
    facts = json.loads((run / "meta_test_interpreter.json").read_text())
    assert facts["graph"] == converters.graph_hash(graph)


def test_heads_learn_from_what_the_chip_s_neurons_send(trained, tmp_path, learned_from):
    require_loihi()
    run = Path(shutil.copytree(trained(**ON_A_CHIP), tmp_path / "run"))
    said = snn_anml("meta-test", run, "--target", "loihi", "--classes", "3")
    assert said.code == 0, said
    assert "from loihi" in said.out
    ours, theirs = learned_from
    assert not torch.equal(ours, theirs)  # its weights have 8 bits
    assert (ours - theirs).abs().mean() < 0.2 * ours.mean()
    facts = json.loads((run / "meta_test_loihi.json").read_text())
    graph = pipeline.to_graph(load(run))
    data = load_data_of(RunFolder(run))
    x = torch.from_numpy(data.images.numpy()[facts["classes"][1]]).float()[:, None] / 256
    recording = converters.simulate(graph, x, "loihi")
    np.testing.assert_allclose(theirs[1], recording.spikes["pln.lif2"].sum(1) / graph.steps, rtol=1e-6)
    assert len(rows(run / "meta_test_loihi.csv")) == 2 * 3 * 2 * 2  # kinds of features, heads, milestones, draws


def test_an_interrupted_simulation_goes_on(run, tmp_path, monkeypatch):
    whole = Path(shutil.copytree(run, tmp_path / "whole"))
    command = "meta-test", run, "--target", "interpreter", "--classes", "5"
    assert snn_anml("meta-test", whole, *command[2:]).code == 0
    simulated = []
    stream = converters.Simulator.stream

    def until(stop):
        def interrupted(self, inputs, seed=0):
            if len(simulated) == stop:
                raise KeyboardInterrupt
            simulated.append(seed)
            return stream(self, inputs, seed)

        monkeypatch.setattr(converters.Simulator, "stream", interrupted)

    until(2)
    assert snn_anml(*command) == (130, "", "snn-anml: interrupted; run the command again.\n")
    kept = run / "meta_test_interpreter.safetensors"
    assert len(checkpoint.load(kept, "features")[0]["features"]) == 2
    assert not (run / "meta_test_interpreter.csv").exists()
    until(None)
    content = kept.read_bytes()
    assert snn_anml(*command).code == 0
    assert len(simulated) == len(set(simulated)) == 5
    assert contents(run)["meta_test_interpreter.csv"] == contents(whole)["meta_test_interpreter.csv"]
    assert not kept.exists()
    for other in (content, content[:-3]):  # of other classes, and damaged
        kept.write_bytes(other)
        simulated.clear()
        assert snn_anml(*command[:-1], "4" if other is content else "5").code == 0
        assert len(simulated) == (4 if other is content else 5)


def test_features_are_written_on_the_way(run, monkeypatch):
    """A process that is killed has no time to write them."""
    monkeypatch.setattr(adaptation, "SAVE_SECONDS", 0.0)
    written = []
    save = checkpoint.save
    monkeypatch.setattr(checkpoint, "save", lambda path, kind, *rest: (written.append(kind), save(path, kind, *rest)))
    assert snn_anml("meta-test", run, "--target", "interpreter", "--classes", "3").code == 0
    assert written == ["features"] * 4


def test_classes_and_milestones():
    classes = np.arange(100, 140)
    few, more = choose(classes, 10, 3), choose(classes, 20, 3)
    assert list(few) == sorted(set(few.tolist()))
    assert set(few) < set(more) < set(classes)
    assert set(few) != set(choose(classes, 10, 4))
    np.testing.assert_array_equal(choose(classes, 40, 3), classes)
    assert milestones((10, 50, 75), 60) == (10, 50, 60)
    assert milestones((10, 50, 75), 50) == (10, 50)
    assert milestones((10,), 4) == (4,)


def outcome(draw, accuracy, head="sgd", classes=5):
    return Outcome("strict", head, classes, draw, 0, 1.0, accuracy, 0.1, accuracy)


def test_differences_are_taken_draw_by_draw():
    rng = np.random.default_rng(0)
    ours, theirs = rng.random(4), rng.random(4)
    means = [outcome(0, 0.75, "class-mean")], [outcome(0, 0.5, "class-mean")]
    one, two = differences([*map(outcome, range(4), ours), *means[0]], [*map(outcome, range(4), theirs), *means[1]])
    assert (one.head, one.classes) == ("sgd", 5)
    assert (one.torch, one.target) == pytest.approx((ours.mean(), theirs.mean()))
    apart = theirs - ours
    assert one.error == pytest.approx(math.sqrt(((apart - apart.mean()) ** 2).sum() / 3 / 4))
    assert two == ("class-mean", 5, 0.75, 0.5, None)
    with pytest.raises(ValueError, match="different heads, classes or draws"):
        differences([outcome(0, 1.0)], [outcome(1, 1.0)])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--target", "spinnaker"], "There is no simulator 'spinnaker'; choose from interpreter, torch, "),
        (["--target", "torch"], "--target torch is what a target is compared with; choose another, or add "),
        (["--target", "loihi", "--classes", "11"], "--classes = 11, but the run has 10 meta-test classes; lower it."),
        (["--target", "loihi", "--classes", "1"], "--classes = 1; it must be at least 2."),
        (["--target", "loihi", "--classes", "all"], "classes = all; it must be a whole number."),
        (["--target", "loihi", "--weight-bits", "1"], "bits = 1; give a whole number from 2 to 16."),
        (["--target", "nengo-native"], "pln.lif1 has reset 'subtract', and "),
        (["--classes", "5"], "--classes = 5 is for the meta-test on a simulator; name one with --target."),
        (["--weight-bits", "8"], "--weight-bits = 8 is for the meta-test on a simulator; name one with --target."),
    ],
    ids=" ".join,
)
def test_mistakes_are_found_before_anything_is_computed(run, monkeypatch, arguments, sentence):
    monkeypatch.setattr(adaptation, "extract_features", None)
    monkeypatch.setattr(pipeline, "extract_features", None)
    before = contents(run)
    assert sentence in refused("meta-test", run, *arguments)
    assert contents(run) == before


def test_published_layers_have_no_form_on_a_simulator(run):
    published = NetworkConfig(
        layers="published",
        neuron="relu",
        modulation="conventional",
        gate="sigmoid",
        widths=(4, 4, 4),
        nm_widths=(3, 3, 3),
    )
    save_model(run / "model.safetensors", make_network(published, 5, 22))
    assert f"{run} has published layers" in refused("meta-test", run, "--target", "interpreter")


@pytest.mark.parametrize(("bits", "least", "most"), [(2, 0.05, math.inf), (12, 0, 0.05)])
def test_few_bits_a_weight_leave_another_network_and_many_nearly_the_same(run, learned_from, bits, least, most):
    said = snn_anml("meta-test", run, "--target", "interpreter", "--classes", "2", "--weight-bits", bits)
    assert said.code == 0, said
    ours, theirs = learned_from
    assert least <= (ours - theirs).abs().mean() / ours.mean() < most
    graph = quantize_weights(pipeline.to_graph(load(run)), bits)
    facts = json.loads((run / f"meta_test_interpreter_w{bits}.json").read_text())
    assert (facts["graph"], facts["weight_bits"]) == (converters.graph_hash(graph), bits)
    assert list(by_features(run / f"meta_test_interpreter_w{bits}.csv")) == ["torch", f"interpreter_w{bits}"]


def test_a_run_that_is_not_trained(run):
    (run / "model.safetensors").unlink()
    assert "There is no trained network" in refused("meta-test", run, "--target", "interpreter")


def test_names_of_files():
    assert Request("loihi", 50).name == "loihi"
    assert Request("interpreter", 50, 8).name == "interpreter_w8"
