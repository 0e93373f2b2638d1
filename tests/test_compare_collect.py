"""The long tables that `snn-anml compare` leaves are those of its runs."""

import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from converters.certificate import load_certificate
from converters.energy.sensitivity import Bill
from experiments.compare import collect, command
from experiments.compare.costs import run_costs
from experiments.compare.folder import CompareFolder
from experiments.compare.plan_file import read_comparison
from experiments.compare.shares import SHARES
from experiments.csv_files import read_csv
from experiments.measure import NO_METER
from experiments.quantised import quantised_folder
from experiments.run_data import load_data
from experiments.run_folder import RunFolder
from snn_anml.errors import UserError

for package in command.OF_REPORT:
    pytest.importorskip(package, reason="the extra report is not installed")


def rows(out, table):
    return read_csv(CompareFolder(out).table(table))


def test_every_table_has_its_rows(compared):
    assert {path.stem for path in (compared / "results").iterdir()} == {
        *("accuracy", "energy", "memory", "learning", "training", "activity", "fidelity"),
        *("sensitivity", "break_even", "measured", "runs"),
    }
    floats = [("spiking", "float32"), ("twin", "float32")]
    forms = [floats[0], ("spiking", "int8"), floats[1], ("twin", "int8"), ("twin", "int2")]
    for table in ("accuracy", "energy", "memory"):
        assert list(dict.fromkeys((row["arm"], row["form"]) for row in rows(compared, table))) == forms
    for table in ("learning", "training", "measured"):
        assert list(dict.fromkeys((row["arm"], row["form"]) for row in rows(compared, table))) == floats
    accuracy = rows(compared, "accuracy")
    keys = {(row["arm"], row["form"], row["head"], row["classes"], row["draw"]) for row in accuracy}
    assert len(keys) == len(accuracy) == 5 * 2 * 3 * 2


def test_rows_are_those_of_the_runs(compared):
    for arm in ("spiking", "twin"):
        folder = CompareFolder(compared).run(arm, 0)
        own = [row for row in rows(compared, "accuracy") if (row["arm"], row["form"]) == (arm, "float32")]
        there = [{k: v for k, v in row.items() if k != "seed"} for row in read_csv(folder.meta_test)]
        assert [{k: v for k, v in row.items() if k not in ("arm", "form", "seed")} for row in own] == there
        energy = [row for row in rows(compared, "energy") if (row["arm"], row["form"]) == (arm, "float32")]
        assert [row["joules"] for row in energy] == [row["joules"] for row in read_csv(folder.energy)]
    assert (CompareFolder(compared).run("spiking", 0).certificate).exists()
    assert not (CompareFolder(compared).run("twin", 0).certificate).exists()


def test_fidelity_is_that_of_the_certificates(compared):
    found = rows(compared, "fidelity")
    assert {(row["arm"], row["form"], row["seed"]) for row in found} == {("spiking", "float32", "0")}
    certificate = load_certificate(CompareFolder(compared).run("spiking", 0).certificate)
    there = [(one.backend, str(one.slots), str(one.mismatches)) for one in certificate.comparisons]
    assert [(row["backend"], row["slots"], row["mismatches"]) for row in found if row["layer"] == "all"] == there
    assert len(found) == sum(1 + len(one.layers) for one in certificate.comparisons)


def test_spikes_are_those_of_spiking_layers(compared):
    found = rows(compared, "activity")
    assert {(row["arm"], row["part"]) for row in found} == {("spiking", "pln")}
    for form in ("float32", "int8"):
        neurons = [int(row["neurons"]) for row in found if row["form"] == form]
        assert neurons == [6 * 7 * 7, 8 * 4 * 4]
    for row in found:
        assert float(row["spikes_per_neuron"]) == float(row["spikes"]) / int(row["neurons"])


def total(found, arm, form, device):
    return sum(
        float(row["joules"])
        for row in found
        if (row["arm"], row["form"], row["device"], row["convention"]) == (arm, form, device, "exact")
    )


@pytest.mark.parametrize(
    ("own", "device", "form", "other"),
    [
        ("float32", "loihi", "float32", "loihi"),
        ("float32", "loihi", "float32", "arm"),
        ("float32", "cmos45-fp32", "int8", "cmos45-int8"),
        ("int8", "cmos45-int8", "int8", "cmos45-int8"),
        ("int8", "cmos45-int32", "int2", "cmos45-int2-extrapolated"),
    ],
)
def test_ratios_and_break_even_rates_are_those_of_the_energies(compared, own, device, form, other):
    energy = rows(compared, "energy")
    spiking, twin = total(energy, "spiking", own, device), total(energy, "twin", form, other)
    forms, keys = (own, form), ("form", "reference_form")
    ratios = {
        float(row["ratio"])
        for row in rows(compared, "sensitivity")
        if (row["device"], row["reference_device"], *(row[key] for key in keys)) == (device, other, *forms)
    }
    assert len(ratios) == 1
    assert ratios.pop() == pytest.approx(spiking / twin, rel=1e-9)
    label = device if device == other else f"{device} / {other}"
    its = (row for row in rows(compared, "break_even") if tuple(row[key] for key in keys) == forms)
    (even,) = (row for row in its if row["device"] == label)
    activity = [row for row in rows(compared, "activity") if row["form"] == own]
    rate = sum(float(row["spikes"]) for row in activity) / sum(int(row["neurons"]) for row in activity)
    assert float(even["spike_rate"]) == pytest.approx(rate)
    if even["break_even_rate"]:
        # A spiking network cheaper than its rival has fewer spikes than break even.
        assert (float(even["break_even_rate"]) > rate) == (spiking < twin)


def test_ratios_are_over_the_seeds_that_both_have(monkeypatch):
    joules = {"spiking": {0: 1.0, 1: 3.0, 2: 50.0}, "twin": {0: 4.0, 1: 4.0, 3: 70.0}, "begun": {0: None}}
    forms = [collect.Form(arm, "float32", seed, RunFolder(Path(arm))) for arm in joules for seed in joules[arm]]

    def bills(folder):
        found = joules[folder.path.name][next(seeds[folder.path.name])]
        return {} if found is None else {"loihi": Bill("loihi", {"spike": 1.0}, {"spike": found})}

    seeds = {arm: iter(its) for arm, its in joules.items()}
    monkeypatch.setattr(collect, "read_bills", bills)
    comparison = SimpleNamespace(reference="twin", arms=[SimpleNamespace(name=arm) for arm in joules])
    first, *_ = found = list(collect._sensitivity(forms, comparison))
    assert {row["arm"] for row in found} == {"spiking"}
    assert (first["ratio"], first["seeds"], first["seed_low"], first["seed_high"]) == (0.5, 2, 0.25, 0.75)


def test_a_run_of_another_version_is_named(compared, tmp_path):
    out = CompareFolder(Path(shutil.copytree(compared, tmp_path / "out")))
    for run, delete in (
        (out.run("twin", 0), "energy.csv"),
        (quantised_folder(out.run("twin", 0), 8), ""),
    ):
        text = run.energy.read_text()
        run.energy.write_text(text.replace("joules_gates", "gates_joules", 1))
        said = f"{run.energy} has no column 'joules_gates': another version made it; delete {run.path / delete} and"
        with pytest.raises(UserError, match=re.escape(said)):
            collect.collect(out, read_comparison([out.comparison]))
        run.energy.write_text(text)


def test_a_seed_without_a_device_is_named(compared, tmp_path):
    out = CompareFolder(Path(shutil.copytree(compared, tmp_path / "out")))
    first = out.run("spiking", 0)
    second = RunFolder(Path(shutil.copytree(first.path, out.run("spiking", 1).path)))
    lines = (first.path / SHARES).read_text().splitlines(keepends=True)
    (second.path / SHARES).write_text("".join(line for line in lines if not line.startswith("memory-exact,")))
    forms = [collect.Form("spiking", "float32", seed, run) for seed, run in ((0, first), (1, second))]
    with pytest.raises(UserError, match=f"{second.path}.*no constants of memory-exact as the first seed has.*energy"):
        list(collect._sensitivity(forms, read_comparison([out.comparison])))


def test_integers_stand_beside_integers_and_are_bounded_by_32_bits(compared):
    ratios = {
        (row["form"], row["device"], row["reference_form"], row["reference_device"]): float(row["ratio"])
        for row in rows(compared, "sensitivity")
    }
    for one, bound, other in (
        ("cmos45-int8", "cmos45-int32", "cmos45-int8"),
        ("memory-exact", "memory-exact-int32", "memory-exact"),
        ("memory-lemaire", "memory-lemaire-int32", "memory-lemaire"),
    ):
        assert ratios["int8", one, "int8", other] < ratios["int8", bound, "int8", other]
    own = {device for form, device, reference_form, _ in ratios if (form, reference_form) == ("float32", "int8")}
    assert own == {"cmos45-fp32", "memory-exact", "memory-lemaire"}
    assert not any((form, reference_form) == ("int8", "float32") for form, _, reference_form, _ in ratios)


def test_every_run_can_be_traced(compared):
    found = rows(compared, "runs")
    assert [(row["arm"], row["seed"], row["trained_steps"]) for row in found] == [
        ("spiking", "0", "40"),
        ("twin", "0", "40"),
    ]
    for row in found:
        kept = yaml.safe_load((compared / row["folder"] / "config.yaml").read_text())["provenance"]
        assert (row["data_sha256"], row["git_commit"]) == (kept["data_sha256"], kept["git_commit"])
        assert kept["threads"] == 1
    assert len({row["config_sha256"] for row in found}) == 2
    resolved = yaml.safe_load((compared / "comparison.yaml").read_text())
    assert resolved["provenance"]["data_sha256"] == found[0]["data_sha256"]


def test_modelled_joules_of_training_and_none_measured_without_a_meter(compared):
    for row in rows(compared, "training"):
        assert (row["steps"], row["drawings"]) == ("40", str(20 * 8 + 20 * 4 * 3))
        assert float(row["joules"]) > 0
        assert float(row["seconds"]) > 0
    for row in rows(compared, "measured"):
        assert row["note"].startswith(NO_METER) == (not row["joules"])


def test_learning_has_an_output_for_every_class_to_come_and_pays_for_the_traffic_of_the_network(compared):
    """Traffic: that of every drawing's inference without its head, by the memory-aware model with exact counts."""
    found = [row for row in rows(compared, "learning") if row["form"] == "float32"]
    assert {(row["known"], row["outputs"]) for row in found} == {("1", "10"), ("4", "10"), ("9", "10")}
    for row in found:
        if (row["device"], row["item"]) == ("cmos45-fp32", "features"):
            accesses = sum(
                float(layer["joules_memory"])
                for layer in rows(compared, "memory")
                if all(layer[key] == row[key] for key in ("arm", "form", "seed"))
                and layer["accounting"] == "exact"
                and layer["part"] != "head"
            )
            assert float(row["joules_memory"]) == pytest.approx(int(row["shots"]) * accesses) != 0


def test_each_run_has_its_log(compared):
    said = (compared / "runs" / "spiking" / "seed-0" / "job.log").read_text()
    assert [line.split(": ")[-1] for line in said.splitlines() if "spiking, seed 0: " in line] == [
        *("training", "meta-test", "export", "costs", "8 bits", "done")
    ]


def test_a_class_is_learned_beside_all_that_the_meta_test_has(run):
    """Its softmax is over every output of the meta-test, also where the milestones end before."""
    folder = RunFolder(run)
    config = folder.require()
    shorter = replace(config, meta_test=replace(config.meta_test, milestones=config.meta_test.milestones[:-1]))
    assert shorter.meta_test.milestones[-1] < config.data.meta_test_classes
    run_costs(shorter, folder, load_data(config))
    assert {int(row["outputs"]) for row in read_csv(folder.learning)} == {config.data.meta_test_classes}
