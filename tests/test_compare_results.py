"""What the report of a comparison reads from the long tables, and what it makes of it."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="the extra report is not installed")
pytest.importorskip("tabulate", reason="the extra report is not installed")

import pandas as pd
import yaml

from experiments.compare import figures_rows
from experiments.compare.figures_accuracy import curves, sweep_panels
from experiments.compare.figures_energy import front, pareto
from experiments.compare.folder import CompareFolder
from experiments.compare.joule_rows import (
    ARITHMETIC,
    MEMORY_AWARE,
    energy,
    headline_ratios,
    ratios,
)
from experiments.compare.look import look
from experiments.compare.results import read_results
from experiments.compare.tables_accuracy import milestones, spikes_per_neuron
from experiments.compare.tables_energy import break_even, summary_ratios
from snn_anml.errors import UserError
from tests.compare_report_helpers import ARMS, CLASSES, TITLES, make_comparison


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> CompareFolder:
    return make_comparison(tmp_path_factory.mktemp("compare") / "out")


@pytest.fixture(scope="module")
def results(folder):
    return read_results(folder)


def arm(results, label):
    return next(one for one in results.arms if one.label == label)


def test_arms_are_those_of_the_plan_with_the_forms_of_the_reference(results):
    labels = ["spiking, spiking NM", "spiking, spiking NM, int8"]
    labels += ["conventional twin", "conventional twin, int8", "conventional twin, int3"]
    assert [one.label for one in results.arms] == [*labels, TITLES["no_nm"]]
    assert results.main.name == "spiking"
    assert results.twin.label == "conventional twin"
    assert [point.name for point in results.sweeps[0].points] == ["lambda=0", "lambda=0.03", "lambda=0.3"]
    assert results.missing == ()


@pytest.mark.parametrize(
    ("arm", "pointless"),
    [("spiking", ("sensitivity", "break_even")), ("twin", ("sensitivity", "break_even", "activity", "fidelity"))],
)
def test_tables_that_a_plan_cannot_have_are_not_missing(tmp_path, arm, pointless):
    alone = make_comparison(tmp_path / "alone", draws=2, sweep=False)
    plan = yaml.safe_load(alone.comparison.read_text())
    del plan["reference"]  # the first conventional arm is it then
    plan["arms"] = {arm: plan["arms"][arm]}
    alone.comparison.write_text(yaml.safe_dump(plan))
    for name in (*pointless, "memory"):
        alone.table(name).unlink()
    assert read_results(alone).missing == ("results/memory.csv",)


def test_table_of_accuracies_holds_the_means_over_seeds_and_draws(results):
    table = milestones(results, "strict", "sgd", "test_accuracy")
    raw = pd.read_csv(results.folder.table("accuracy"))
    assert len(table.values) == len(results.arms) * len(CLASSES)
    for row in table.values.to_dict("records"):
        its = raw[(raw.arm == row["arm"]) & (raw.form == row["form"]) & (raw.classes == row["classes"])]
        its = its[(its.protocol == "strict") & (its["head"] == "sgd")].test_accuracy
        assert row["test_accuracy"] == pytest.approx(its.mean())
        assert row["test_accuracy_low"] < its.mean() < row["test_accuracy_high"]
        assert (row["seeds"], row["values"]) == (3, len(its))
    i = results.interval("accuracy", "spiking", "test_accuracy", protocol="strict", head="sgd", classes=600)
    cell = f"{100 * i.mean:.1f} [{100 * i.low:.1f}, {100 * i.high:.1f}]"
    assert table.rows[0][-1] == cell


def test_energies_are_sums_of_layers_and_means_over_seeds(results):
    raw = pd.read_csv(results.folder.table("energy"))
    for label, device in (("spiking, spiking NM", "cmos45-fp32"), ("conventional twin, int8", "cmos45-int8")):
        one = arm(results, label)
        its = raw[(raw.arm == one.name) & (raw.form == one.form) & (raw.device == device)]
        assert energy(results, one, ARITHMETIC).mean == pytest.approx(its.groupby("seed").joules.sum().mean())
        assert energy(results, one, device) == energy(results, one, ARITHMETIC)
    memory = pd.read_csv(results.folder.table("memory"))
    float32 = memory[(memory.arm == "spiking") & (memory.form == "float32")]
    exact = float32[float32.accounting == "exact"]
    assert energy(results, results.main, MEMORY_AWARE).mean == pytest.approx(exact.groupby("seed").joules.sum().mean())
    assert energy(results, arm(results, "conventional twin, int8"), "loihi") is None


def test_spikes_per_neuron_are_of_all_neurons_together(results):
    raw = pd.read_csv(results.folder.table("activity"))
    its = raw[(raw.arm == "spiking") & (raw.form == "float32")].groupby("seed")
    expected = (its.spikes.sum() / its.neurons.sum()).mean()
    assert spikes_per_neuron(results, "spiking").mean == pytest.approx(expected)
    assert spikes_per_neuron(results, "twin") is None


def test_ratios_range_over_all_constants_together(results):
    found = {(r.arm.label, r.device, r.comparator.form): r for r in ratios(results)}
    spiking = TITLES["spiking"]
    like = found[spiking, "cmos45-fp32", "float32"]
    assert (like.value, like.low, like.high) == (0.2, 0.1, 0.4)
    assert (like.seeds, like.seed_low, like.seed_high) == (3, pytest.approx(0.18), pytest.approx(0.22))
    assert (like.verdict, like.bound) == ("less", "")
    assert found[spiking, "cmos45-fp32", "int8"].verdict == "more"
    assert found[spiking, "memory-exact", "float32"].verdict == "undecided"
    assert (spiking, "cmos45-int8", "float32") not in found  # nobody measured what float32 knows in integers


def test_a_bound_shows_one_side_only_and_a_seed_may_undo_it(results):
    integers = next(one for one in ratios(results) if one.arm.form == "int8" and one.device == "cmos45-int8")
    upper = integers._replace(device="cmos45-int32")
    memory = integers._replace(device="memory-lemaire-int32")
    assert (integers.bound, upper.bound, memory.bound) == ("lower", "upper", "upper")
    less, more = {"value": 0.3, "low": 0.2, "high": 0.6}, {"value": 3.0, "low": 2.0, "high": 6.0}
    less |= {"seed_low": 0.28, "seed_high": 0.32}
    more |= {"seed_low": 2.8, "seed_high": 3.2}
    assert [one._replace(**less).verdict for one in (integers, upper)] == ["undecided", "less"]
    assert [one._replace(**more).verdict for one in (integers, upper)] == ["more", "undecided"]
    floats = integers._replace(arm=results.main)
    assert floats.bound == ""
    assert [floats._replace(**one).verdict for one in (less, more)] == ["less", "more"]
    assert floats._replace(**{**less, "seed_high": 0.51}).verdict == "undecided"  # 1.02 at the worst constants
    assert floats._replace(**{**more, "seed_low": 1.49}).verdict == "undecided"


def test_a_head_that_is_not_linear_has_no_joules(results, tmp_path):
    renamed = results.tables["accuracy"].replace({"head": {"class-mean": "gaussian"}})
    other = replace(results, tables={**results.tables, "accuracy": renamed})
    (linear, without) = (pareto(one, "strict", ARITHMETIC, tmp_path) for one in (results, other))
    assert f"{TITLES['spiking']}, class-mean: " in linear.svg
    assert f"{TITLES['spiking']}, sgd: " in without.svg
    assert ", gaussian: " not in without.svg


def test_break_even_is_of_all_seeds_or_says_of_how_many(results, tmp_path):
    rows = results.tables["break_even"].copy()
    its = (rows["arm"] == "spiking") & (rows["form"] == "float32") & (rows["device"] == "cmos45-fp32")
    rows.loc[its & (rows["seed"] == 1), "break_even_rate"] = np.nan
    two = replace(results, tables={**results.tables, "break_even": rows})
    key, mark = (TITLES["spiking"], "twin, float32", "cmos45-fp32"), f"{TITLES['spiking']}, cmos45-fp32: "
    for one, end, drawn in ((results, "0.800 [0.800, 0.800]", True), (two, "(2 of 3 seeds)", False)):
        (row,) = (row for row in break_even(one).rows if row[:3] == key)
        assert row[-1].endswith(end)
        assert (mark in figures_rows.break_even(one, "float32", tmp_path).svg) is drawn


def test_the_summary_sets_arms_against_the_twin_in_float32(results):
    table = summary_ratios(results)
    assert table.columns == ("arm", "cmos45-fp32", "memory-exact", "loihi, twin on arm")
    expected = ("0.200 [0.100, 0.400]", "0.900 [0.450, 1.80]", "0.0100 [0.00500, 0.0200]")
    assert table.rows == tuple((TITLES[name], *expected) for name in ("spiking", "no_nm"))
    assert list(table.values["ratio"]) == [0.2, 0.9, 0.01] * 2


def test_quantised_comparators_stand_against_every_form(results):
    def spoken_of(results):
        return [(r.arm.form, r.device, r.comparator.form, r.comparator_device) for r in headline_ratios(results)]

    floats = [("cmos45-fp32", "cmos45-fp32"), ("loihi", "arm"), ("memory-exact", "memory-exact")]
    floats = [("float32", one, "float32", other) for one, other in floats]
    integers = [("int8", one, "int8", "cmos45-int8") for one in ("cmos45-int8", "cmos45-int32")]
    others = [("int8", "cmos45-int8"), ("int3", "cmos45-int3-extrapolated")]
    others = [("float32", "cmos45-fp32", form, device) for form, device in others]
    assert spoken_of(results) == [floats[0], *others, *floats[1:], *integers]


def test_front_is_what_nothing_beats_in_both():
    points = [(1.0, 0.5), (2.0, 0.4), (3.0, 0.9), (3.0, 0.8), (0.5, 0.1), (9.0, 0.9)]
    beaten = {i for i, (x, y) in enumerate(points) for a, b in points if a <= x and b >= y and (a, b) != (x, y)}
    assert front(points) == [4, 0, 2] == sorted(set(range(6)) - beaten, key=lambda i: points[i])


def test_no_two_arms_look_alike(results):
    looks = [(look(results, arm).of_line, look(results, arm).of_marker) for arm in results.arms]
    for which in (0, 1):
        assert len({tuple(map(str, one[which].values())) for one in looks}) == len(results.arms)


def test_a_head_that_only_another_version_knows_has_a_colour_of_its_own_in_a_sweep(results, tmp_path):
    accuracy = results.tables["accuracy"].replace({"head": {"sgd": "nearest"}})
    other = replace(results, tables={**results.tables, "accuracy": accuracy})
    known, unknown = (
        sweep_panels(its, its.sweeps[0], tmp_path / name)[0] for name, its in (("a", results), ("b", other))
    )
    assert "nearest" in unknown.svg
    assert "--brown" in unknown.svg
    assert "--brown" not in known.svg


def test_published_numbers_stand_under_the_head_that_learned_alike_and_only_on_omniglot(results, tmp_path):
    for dataset, there in (("omniglot", True), ("glyphs", False)):
        figure = curves(replace(results, dataset=dataset), "strict", "sgd", "test_accuracy", tmp_path)
        assert ("63.9 % at 600" in figure.caption) is there
        assert ("published" in figure.svg) is there


@pytest.mark.parametrize(
    ("table", "change", "said"),
    [
        (
            "accuracy",
            lambda t: t.replace("strict,sgd,10,0,0.01", "strict,sgd,ten,0,0.01", 1),
            "line 2: classes = 'ten'",
        ),
        ("accuracy", lambda t: t.replace("test_accuracy", "other"), "has no column 'test_accuracy'"),
        ("accuracy", lambda t: t + t.splitlines()[1] + "\n", "is there twice"),
        ("accuracy", lambda t: t.replace(",0.01,", ",0.01,1,2,3,", 1), "is no table"),
        ("energy", lambda t: t[: t.rindex(",")] + ",nan\n", "joules = 'nan' is no number"),
        ("memory", lambda t: "", "is no table"),
    ],
)
def test_a_damaged_table_is_named(folder, tmp_path, table, change, said):
    copy = CompareFolder(tmp_path / "copy")
    shutil.copytree(folder.results, copy.results)
    shutil.copy(folder.comparison, copy.comparison)
    copy.table(table).write_text(change(copy.table(table).read_text()))
    with pytest.raises(UserError, match=re.escape(said)) as refused:
        read_results(copy)
    assert f"{table}.csv" in str(refused.value)


def test_a_folder_without_a_comparison_is_named(tmp_path):
    with pytest.raises(UserError, match="holds no comparison"):
        read_results(CompareFolder(tmp_path))


def test_true_effects_of_the_helper_are_those_of_its_tables(results):
    for name, mean in ARMS.items():
        found = results.interval("accuracy", name, "test_accuracy", protocol="strict", head="sgd", classes=600)
        assert found.mean == pytest.approx(mean, abs=0.012)
