"""Whole runs: glyphs on a small network, and real Omniglot where it is at hand."""

import csv
import json
import os
from collections import defaultdict
from importlib.util import find_spec
from pathlib import Path
from statistics import fmean

import pytest
import torch
import yaml

from converters import energy, graph_hash, load_certificate, load_graph
from experiments import export, pipeline
from experiments.run_folder import git_commit
from snn_anml.config import RunConfig
from snn_anml.data import load_dataset
from snn_anml.model_io import load, load_head
from tests.cli_helpers import TINY, contents, refused, snn_anml, write_yaml

pytest.importorskip("matplotlib", reason="the extra report is not installed")

try:
    from tests.test_report_browser import FIGURES, browser
except pytest.skip.Exception as skipped:
    FIGURES, missing = "", str(skipped)

    @pytest.fixture
    def browser():
        pytest.skip(missing)


FILES = {
    "config.yaml",
    "model.safetensors",
    "training.safetensors",
    "heads.safetensors",
    "metrics.jsonl",
    "meta_test.csv",
    "activity.json",
}
EXPORTED = {"export/graph.safetensors", "export/certificate.json", "export/simulations.csv", "energy.csv"}
REPORTED = {"report.html", *(f"tables/{name}.csv" for name in ("accuracy", "energy", "fidelity", "forgetting"))}
COLUMNS = [
    "protocol",
    "head",
    "classes",
    "draw",
    "seed",
    "train_accuracy",
    "test_accuracy",
    "learning_rate",
    "first_test_accuracy",
]
REPRODUCIBLE = (
    "model.safetensors",
    "training.safetensors",
    "heads.safetensors",
    "meta_test.csv",
    "export/graph.safetensors",
)

OMNIGLOT = {
    "data": {"name": "omniglot", "meta_test_classes": 40, "selection_classes": 20},
    "train": {"warm_steps": 40, "meta_steps": 40},
    "meta_test": {
        "milestones": [5, 20],
        "heads": ["sgd", "class-mean"],
        "draws": 2,
        "paper_draws": 1,
        "selection_draws": 1,
    },
    "export": {"samples": 10, "classes": 20},
}


def has(package):
    return find_spec(package) is not None


INSTALLED = ["interpreter", *(name for name in ("nengo", "nengo-dl") if has(name.replace("-", "_")))]


def rows(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def whole_run(folder, config, name="run"):
    path = write_yaml(folder / "config.yaml", config)
    said = snn_anml("run", "--config", path, "--out", folder / name)
    assert said.code == 0, said
    return path, folder / name, said


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SNN_ANML_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def glyphs(tmp_path_factory):
    """The configuration file, the folder of a whole run, and what was said."""
    return whole_run(tmp_path_factory.mktemp("glyphs"), TINY)


@pytest.fixture(scope="module")
def omniglot(tmp_path_factory):
    """The same on Omniglot, or a skip where it is not at hand; nothing is downloaded."""
    chosen = os.environ.get("SNN_ANML_DATA")
    if not chosen or not (Path(chosen) / "omniglot").is_dir():
        pytest.skip("Omniglot is not here; set SNN_ANML_DATA to a folder with omniglot/images_background.zip")
    return whole_run(tmp_path_factory.mktemp("omniglot"), OMNIGLOT)


# --- glyphs


def test_a_run_leaves_every_file_of_its_contract_and_no_other(glyphs):
    _, run, _ = glyphs
    twin = {f"twin/{name}" for name in FILES}
    assert set(contents(run)) == FILES | EXPORTED | REPORTED | twin


def test_the_configuration_is_kept_with_what_it_depended_on(glyphs):
    _, run, _ = glyphs
    kept = yaml.safe_load((run / "config.yaml").read_text())
    for section, values in TINY.items():
        assert {key: kept[section][key] for key in values} == values
    assert kept["seed"] == 0
    assert set(kept) == {*RunConfig.__dataclass_fields__, "provenance"}
    provenance = kept["provenance"]
    assert provenance["versions"]["torch"] == torch.__version__
    assert provenance["git_commit"] == git_commit()
    assert provenance["data_sha256"] == load_dataset("glyphs", size=14, classes=60).sha256
    twin = yaml.safe_load((run / "twin" / "config.yaml").read_text())
    assert (kept["network"]["neuron"], twin["network"]["neuron"]) == ("lif", "relu")


def test_training_is_logged(glyphs):
    _, run, _ = glyphs
    for where in (run, run / "twin"):
        lines = [json.loads(line) for line in (where / "metrics.jsonl").read_text().splitlines()]
        assert [line["step"] for line in lines] == list(range(5, 41, 5))
        assert [line["stage"] for line in lines] == ["warm"] * 4 + ["meta"] * 4
        assert all(line["loss"] > 0 for line in lines)
        assert all((line["spikes_per_neuron"] > 0) == (where == run) for line in lines)


def test_the_meta_test_has_a_row_for_every_protocol_head_milestone_and_draw(glyphs):
    _, run, _ = glyphs
    found = rows(run / "meta_test.csv")
    assert list(found[0]) == COLUMNS
    expected = {
        (protocol, head, classes, draw)
        for protocol, draws in (("strict", 2), ("paper", 1))
        for head in ("adam", "sgd", "class-mean")
        for classes in (2, 5, 10)
        for draw in range(draws)
    }
    assert {(row["protocol"], row["head"], int(row["classes"]), int(row["draw"])) for row in found} == expected
    assert len(found) == len(expected)
    for row in found:
        assert all(0 <= float(row[name]) <= 1 for name in COLUMNS if name.endswith("accuracy"))
        assert (float(row["learning_rate"]) == 0) == (row["head"] == "class-mean")
        held_out = float(row["test_accuracy"]) * int(row["classes"]) * 5  # 20 drawings less 15 shots
        assert held_out == pytest.approx(round(held_out), abs=1e-6)


def test_the_saved_heads_and_network_are_those_of_the_table(glyphs):
    _, run, _ = glyphs
    model, learned = load(run), load_head(run, "class-mean", 5)
    assert learned.head.weight.shape == (5, model.feature_count)
    data = load_dataset("glyphs", size=14, classes=60)
    x = torch.from_numpy(data.images[learned.classes, 15:]).flatten(0, 1)[:, None] / 256
    with torch.no_grad():
        logits = model.activity(x).features @ learned.head.weight.T + learned.head.bias
    accuracy = (logits.argmax(1) == torch.arange(5).repeat_interleave(5)).float().mean().item()
    row = next(
        row
        for row in rows(run / "meta_test.csv")
        if (row["protocol"], row["head"], row["classes"], row["draw"]) == ("strict", "class-mean", "5", "0")
    )
    assert accuracy == pytest.approx(float(row["test_accuracy"]), abs=0.041)  # one drawing of 25


def assert_exact(run, samples):
    """The certificate is of the exported graph, and no simulator differs from torch in any spike."""
    certificate = load_certificate(run / "export" / "certificate.json")
    assert certificate.graph == graph_hash(load_graph(run / "export" / "graph.safetensors"))
    assert [one.backend for one in certificate.comparisons] == ["snn_anml", *INSTALLED]
    for one in certificate.comparisons:
        assert one.samples == samples
        assert one.slots > 0
        if one.backend != "snn_anml":  # which has weights that are not on a grid
            assert one.mismatches == 0, one.backend
    assert [row["backend"] for row in rows(run / "export" / "simulations.csv")] == ["torch", *INSTALLED]


def test_simulators_agree_in_every_spike(glyphs):
    _, run, said = glyphs
    assert_exact(run, 12)
    assert said.out.count("Left out: ") == 3 - len(INSTALLED)


def test_energy_has_a_row_for_every_network_layer_and_device(glyphs):
    _, run, _ = glyphs
    found = rows(run / "energy.csv")
    assert {"network", "layer", "device", "source", "joules"} <= set(found[0])
    exact = [row for row in found if row["convention"] == "exact"]
    layers = defaultdict(set)
    for row in exact:
        layers[row["network"], row["device"]].add(row["layer"])
        assert row["source"]
        assert float(row["joules"]) >= 0
    assert set(layers) == {(n, d) for n in ("spiking", "conventional twin") for d in energy.DEVICES}
    assert len({frozenset(names) for names in layers.values()}) <= 2  # one set a network
    assert {row["convention"] for row in found} == {"exact", "keras-spiking"}


def test_the_report_is_one_page(glyphs):
    _, run, said = glyphs
    page = (run / "report.html").read_text(encoding="utf-8")
    assert page.lower().startswith("<!doctype html>")
    assert "<svg" in page
    assert "conventional twin" in page
    assert str(run / "report.html") in said.out.replace("\n", "")


def test_what_is_said_at_the_end_is_the_table(glyphs):
    _, run, said = glyphs
    found = [row for row in rows(run / "meta_test.csv") if (row["protocol"], row["head"]) == ("strict", "sgd")]
    mean = fmean(float(row["test_accuracy"]) for row in found if row["classes"] == "10")
    heads = list(dict.fromkeys((row["protocol"], row["head"]) for row in rows(run / "meta_test.csv")))
    line = next(line for line in said.out.splitlines() if line.startswith("\u2502 10 "))
    cells = [cell.strip() for cell in line.strip("\u2502").split("\u2502")]
    assert cells[1 + heads.index(("strict", "sgd"))] == f"{mean:.3f}"


def test_a_second_run_is_refused_and_loses_nothing(glyphs):
    path, run, _ = glyphs
    before = contents(run)
    assert "already holds a run; go on with --resume" in refused("run", "--config", path, "--out", run)
    assert contents(run) == before


def test_resuming_a_finished_run_repeats_no_stage_and_changes_no_result(glyphs, monkeypatch):
    path, run, said = glyphs
    for module, stage in ((pipeline, "train"), (pipeline, "meta_test"), (export, "run_export")):

        def repeated(*_, **__):
            pytest.fail("a finished stage was repeated")

        monkeypatch.setattr(module, stage, repeated)
    before = contents(run)
    again = snn_anml("run", "--config", path, "--out", run, "--resume")
    assert again.code == 0
    after = contents(run)
    assert set(after) == set(before)
    for name in set(before) - {"report.html"}:
        assert after[name] == before[name], name
    assert "".join(again.out.split()).endswith("".join(said.out.split())[-200:])


def test_equal_seeds_give_equal_results_and_stages_can_be_run_one_by_one(glyphs, tmp_path):
    """Byte for byte, but for times of the clock."""
    path, run, _ = glyphs
    again = tmp_path / "again"
    assert snn_anml("train", "--config", path, "--out", again).code == 0
    assert snn_anml("meta-test", again).code == 0
    assert snn_anml("export", again, "--target", "interpreter").code == 0
    assert snn_anml("energy", again).code == 0
    first, second = contents(run), contents(again)
    for name in REPRODUCIBLE:
        assert first[name] == second[name], name
    logged = [
        [{k: v for k, v in json.loads(line).items() if k != "steps_per_second"} for line in one.splitlines()]
        for one in (first["metrics.jsonl"], second["metrics.jsonl"])
    ]
    assert logged[0] == logged[1]
    spiking = [row for row in rows(run / "energy.csv") if row["network"] == "spiking"]
    assert rows(again / "energy.csv") == spiking  # no twin was trained


def test_another_seed_gives_another_result(glyphs, tmp_path):
    path, run, _ = glyphs
    assert snn_anml("train", "--config", path, "--out", tmp_path / "run", "--seed", "1").code == 0
    assert snn_anml("meta-test", tmp_path / "run").code == 0
    for name in ("model.safetensors", "meta_test.csv", "heads.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() != (run / name).read_bytes(), name


# --- Omniglot


@pytest.mark.slow
def test_omniglot_is_learned_well_above_chance(omniglot):
    _, run, _ = omniglot
    for where in (run, run / "twin"):
        accuracy = defaultdict(list)
        for row in rows(where / "meta_test.csv"):
            accuracy[row["protocol"], row["head"], int(row["classes"])].append(float(row["test_accuracy"]))
        assert len(accuracy["strict", "class-mean", 20]) == 2
        for classes in (5, 20):  # 80 steps of training; chance is 1 / classes
            assert fmean(accuracy["strict", "class-mean", classes]) > 2 / classes
        assert fmean(accuracy["strict", "class-mean", 20]) > 0.15


@pytest.mark.slow
def test_omniglot_runs_alike_on_every_simulator(omniglot):
    _, run, _ = omniglot
    assert_exact(run, 10)
    provenance = yaml.safe_load((run / "config.yaml").read_text())["provenance"]
    assert provenance["data_sha256"] == load_dataset("omniglot").sha256
    assert set(contents(run)) == FILES | EXPORTED | REPORTED | {f"twin/{name}" for name in FILES}


@pytest.mark.slow
def test_the_report_of_omniglot_shows_in_a_browser(omniglot, browser):
    _, run, _ = omniglot
    screen = {"width": 1280, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    browser.get((run / "report.html").as_uri())
    figures = browser.execute_script(FIGURES)
    assert len(figures) >= 10
    for figure in figures:
        assert figure["ink"] > 0, figure["name"]
        assert figure["texts"], figure["name"]
        assert figure["outside"] == [], figure["name"]
    assert browser.get_log("browser") == []
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 1280
    text = browser.execute_script("return document.body.innerText")
    assert "omniglot" in text.lower()
