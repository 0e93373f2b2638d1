"""Runs of the conventional ANML in the published layers, from the command line to the page."""

import csv

import pytest

from experiments.run_folder import RunFolder
from snn_anml.model_io import load, load_head, with_head
from snn_anml.networks import PublishedANML
from tests.cli_helpers import TINY, refused, snn_anml, write_yaml

pytest.importorskip("matplotlib", reason="the extra report is not installed")

PUBLISHED = TINY | {
    "data": TINY["data"] | {"size": 22},
    "network": {"neuron": "relu", "layers": "published", "widths": [6, 6, 6], "nm_widths": [4, 4, 4]},
}
WHOLE = {
    **{"classes": 1, "shots": 4, "queries": 0, "remember": 6, "head": "meta", "adapt": "pln", "order": "first"},
    **{"inner_lr": 0.1, "learn_inner_lr": False},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run whose inner loop learned the whole prediction network."""
    folder = tmp_path_factory.mktemp("published")
    config = write_yaml(folder / "config.yaml", PUBLISHED | {"meta": WHOLE})
    said = snn_anml("run", "--config", config, "--out", folder / "run")
    assert said.code == 0, said.err
    assert "Published layers have no form on a simulator" in said.out
    return RunFolder(folder / "run")


def test_a_run_is_trained_tested_and_reported(run):
    with run.meta_test.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["protocol"] for row in rows} == {"strict", "paper"}
    assert {row["head"] for row in rows} == {"adam", "sgd", "class-mean"}
    page = run.report.read_text(encoding="utf-8")
    assert "of the published layers" in page
    assert "no energy estimate, since published layers have no form on a simulator" in page
    assert "conventional twin" not in page.replace("energy, twin", "")
    assert not run.graph.exists()
    assert not run.energy.exists()


def test_the_network_and_its_learned_head_load(run):
    model = load(run.path)
    assert isinstance(model, PublishedANML)
    assert (model.pln_width, model.nm_width) == (6, 4)
    learned = load_head(run.path, "class-mean", 5)
    whole = with_head(model, learned.head)
    assert whole.classes == len(whole.head.weight) == 5
    assert model.classes != 5


@pytest.mark.parametrize("command", ["export", "energy"])
def test_what_a_simulator_cannot_do_is_refused(run, command):
    assert "has published layers, whose norm depends on each picture" in refused(command, run.path)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"data": {"size": 21}}, "data.size = 21; it must be at least 22 pixels for the published layers"),
        ({"network": {"widths": [6, 8, 6]}}, "it must be one number three times"),
        ({"network": {"neuron": "lif"}}, "network.neuron = 'lif'; it must be relu, in the published layers"),
        ({"network": {"layers": "strided"}, "meta": WHOLE}, "adapts in the published layers only"),
        ({"meta": WHOLE | {"head": "zero", "remember": 0}}, "beside adapt: pln"),
        ({"meta": WHOLE | {"order": "none"}}, "meta.redraw = 'fast'; it must be meta, beside order: none"),
        ({"network": {"modulation": "none"}, "train": {"freeze_nm": True}}, "leaves no NM network to freeze"),
    ],
)
def test_configurations_that_make_no_sense(tmp_path, change, sentence):
    config = {key: PUBLISHED[key] | change.get(key, {}) for key in PUBLISHED}
    assert sentence in refused("train", "--config", write_yaml(tmp_path / "c.yaml", config), "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()
