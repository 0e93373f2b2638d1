"""The export from the command line: targets, checks, certificates."""

import json
import sys
from dataclasses import replace

import pytest
import yaml

import converters
from converters.graph import LIF
from tests.cli_helpers import contents, refused, snn_anml, write_yaml
from tests.helpers import require

pytestmark = pytest.mark.usefixtures("cache")


@pytest.mark.parametrize("target", ["spinnaker", "lava", "Nengo"])
def test_a_target_that_is_not_there(run, target):
    before = contents(run)
    assert refused("export", run, "--target", "interpreter", target) == (
        f"There is no simulator {target!r}; choose from {', '.join(converters.backends())}."
    )
    assert contents(run) == before


@pytest.mark.parametrize(
    ("count", "sentence"),
    [
        ("26", "26 drawings were asked for, but 5 classes have 25 held-out drawings; lower export.samples (--check)."),
        ("0", "0 drawings were asked for; export.samples (--check) must be at least 1."),
        ("-3", "-3 drawings were asked for; export.samples (--check) must be at least 1."),
    ],
)
def test_a_check_of_too_many_or_too_few_drawings(run, count, sentence):
    before = contents(run)
    assert refused("export", run, "--check", count) == sentence
    assert contents(run) == before


def test_a_check_of_all_there_are(run):
    said = snn_anml("export", run, "--check", "25", "--target", "torch", "interpreter", "torch")
    assert said.code == 0
    certificate = json.loads((run / "export" / "certificate.json").read_text())
    assert [one["backend"] for one in certificate["comparisons"]] == ["snn_anml", "torch", "interpreter"]
    assert all(one["samples"] == 25 for one in certificate["comparisons"])


def test_a_nir_file_is_written_and_what_others_ignore_is_said(run):
    pytest.importorskip("nir", reason="needs the extra nir")
    said = snn_anml("export", run, "--target", "nir", "interpreter", "--check", "5")
    assert said.code == 0
    graph = converters.open_graph(run)
    assert converters.graph_hash(converters.load_nir(run / "export" / "graph.nir")) == converters.graph_hash(graph)
    certificate = converters.load_certificate(run / "export" / "certificate.json")
    of = {one.backend: one for one in certificate.comparisons}
    assert replace(of["nir"], backend="interpreter") == of["interpreter"]
    assert [line.startswith("pln.gate1, pln.gate2: NIR has no product") for line in certificate.lossy].count(True) == 1
    assert all(sentence in said.out for sentence in certificate.lossy)
    # what was checked before, and what is lost in that file, stays beside another target
    assert snn_anml("export", run, "--target", "torch", "--check", "5").code == 0
    assert converters.load_certificate(run / "export" / "certificate.json").lossy == certificate.lossy


def test_what_other_forms_of_the_gates_change_is_in_the_certificate(run):
    said = snn_anml("export", run, "--target", "interpreter", "--check", "25")
    assert "what other forms of the gates change" in said.out
    gates = converters.load_certificate(run / "export" / "certificate.json").gates
    assert list(gates) == ["thresholds", "8 bits", "6 bits", "4 bits"]
    assert all(one.samples == 25 and one.accuracy is not None for one in gates.values())


@pytest.mark.parametrize("target", ["nengo-native", "loihi"])
def test_a_simulator_that_cannot_run_the_network_is_refused_before_the_training(tmp_path, tiny, target):
    require("nengo")
    if target == "loihi":
        pytest.importorskip("nengo_loihi", reason="needs the extra loihi")
    out = tmp_path / "run"
    said = refused("train", "--config", tiny, "--out", out, "--export.backends", f"[{target}]")
    assert said.startswith(f"export.backends names {target}, which cannot run this network: pln.lif")
    assert not out.exists()


def test_a_target_that_cannot_run_the_network_leaves_the_export_as_it_was(run):
    require("nengo")
    before = contents(run)
    assert "pln.lif1 has reset 'subtract'" in refused("export", run, "--target", "interpreter", "nengo-native")
    assert contents(run) == before


def test_resets_to_zero_in_place_of_others_are_measured(run):
    require("nengo")
    assert snn_anml("export", run, "--target", "nengo-native", "torch", "--check", "5", "--approximate").code == 0
    certificate = converters.load_certificate(run / "export" / "certificate.json")
    of = {one.backend: one for one in certificate.comparisons}
    native, torch_too = of["nengo-native, resets to zero"], of["torch, resets to zero"]
    assert native.mismatches > 0  # beside the network as it is
    assert native.mismatches == torch_too.mismatches
    assert {lif.reset for lif in converters.open_graph(run).of_type(LIF)} == {"subtract"}


@pytest.mark.parametrize(("target", "package"), [("nengo", "nengo"), ("nengo-dl", "nengo_dl")])
def test_a_target_whose_packages_are_missing(run, monkeypatch, target, package):
    monkeypatch.setitem(sys.modules, package, None)  # any import of it fails
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    before = contents(run)["export/certificate.json"]
    said = refused("export", run, "--target", target)
    assert "needs packages that are not installed; install them with: pip install 'snn-anml[nengo]'" in said
    assert contents(run)["export/certificate.json"] == before


def test_backends_of_the_configuration_that_are_missing_are_left_out_and_named(run, monkeypatch):
    for package in ("nengo", "nengo_dl", "tensorflow"):
        monkeypatch.setitem(sys.modules, package, None)
    said = snn_anml("export", run)
    assert said.code == 0
    assert said.out.count("Left out: ") == 2
    certificate = json.loads((run / "export" / "certificate.json").read_text())
    assert [one["backend"] for one in certificate["comparisons"]] == ["snn_anml", "interpreter"]


def test_a_report_without_its_packages(run, monkeypatch):
    monkeypatch.setattr("experiments.report.find_spec", lambda package: None)
    before = contents(run)
    said = refused("report", run)
    assert (
        said == "The report needs packages that are not installed; install them with: pip install 'snn-anml[report]'."
    )
    assert contents(run) == before


def test_tensorboard_without_its_package(tmp_path, tiny, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    said = refused("train", "--config", tiny, "--out", tmp_path / "run", "--train.tensorboard", "true")
    assert "train.tensorboard needs packages that are not installed" in said
    assert not (tmp_path / "run").exists()


def test_an_export_that_fails_leaves_the_files_as_they_were(run, monkeypatch):
    before = contents(run)
    write_yaml(run / "config.yaml", yaml.safe_load((run / "config.yaml").read_text()) | {"seed": 1})
    config = (run / "config.yaml").read_bytes()

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(converters, "compare_gate_forms", interrupted)
    assert snn_anml("export", run, "--target", "interpreter").code == 130
    assert contents(run) == before | {"config.yaml": config}


def test_a_nir_file_of_another_graph_does_not_stay(run):
    pytest.importorskip("nir", reason="needs the extra nir")
    assert snn_anml("export", run, "--target", "nir", "--check", "2").code == 0
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["export"]["classes"] = 10
    write_yaml(run / "config.yaml", config)
    assert snn_anml("export", run, "--target", "interpreter", "--check", "2").code == 0
    assert not (run / "export" / "graph.nir").exists()
    assert converters.load_certificate(run / "export" / "certificate.json").lossy == ()


def test_what_was_checked_on_more_drawings_stays(run):
    assert snn_anml("export", run, "--target", "interpreter", "--check", "25").code == 0
    (run / "export" / "simulations.csv").unlink()
    assert snn_anml("export", run, "--target", "torch", "--check", "1").code == 0
    certificate = converters.load_certificate(run / "export" / "certificate.json")
    assert {one.backend: one.samples for one in certificate.comparisons} == {
        "snn_anml": 25,
        "torch": 1,
        "interpreter": 25,
    }
    assert {one.samples for one in certificate.gates.values()} == {25}


def test_a_certificate_that_cannot_be_read_is_refused_before_anything_is_simulated(run, monkeypatch):
    path = run / "export" / "certificate.json"
    path.write_text(path.read_text().replace('"certificate": 1', '"certificate": 99'))
    monkeypatch.setattr(converters, "simulate", None)
    assert str(path) in refused("export", run, "--target", "interpreter")


def test_damaged_times_are_refused_before_anything_is_simulated(run, monkeypatch):
    path = run / "export" / "simulations.csv"
    path.write_text(path.read_text() + "nengo,5\n")
    monkeypatch.setattr(converters, "simulate", None)
    assert f"{path}, line" in refused("export", run, "--target", "interpreter")


def test_packages_that_a_configuration_insists_on_are_asked_for_before_the_training(tmp_path, tiny, monkeypatch):
    for package in ("nengo", "nengo_dl", "tensorflow"):
        monkeypatch.setitem(sys.modules, package, None)
    options = "--export.backends", "[nengo]", "--export.optional", "false"
    assert "needs packages that are not installed" in refused(
        "train", "--config", tiny, "--out", tmp_path / "run", *options
    )
    assert not (tmp_path / "run").exists()
