"""The report of a comparison: what it reads, what it says, and that every piece of it is there."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="the extra report is not installed")
pytest.importorskip("tabulate", reason="the extra report is not installed")

import pandas as pd

from experiments.compare.claims import Equivalence, Verdict, family, points
from experiments.compare.figures_accuracy import curves
from experiments.compare.figures_energy import front
from experiments.compare.figures_rows import spikes
from experiments.compare.folder import CompareFolder
from experiments.compare.joule_rows import (
    ARITHMETIC,
    MEMORY_AWARE,
    energy,
    headline_ratios,
    ratio_sentence,
    ratios,
    sources,
)
from experiments.compare.look import look
from experiments.compare.page import write_comparison
from experiments.compare.results import read_results
from experiments.compare.table_files import ResultTable, html_text, latex, latex_text, markdown_text
from experiments.compare.tables_accuracy import milestones, spikes_per_neuron
from experiments.compare.tables_energy import summary_ratios
from snn_anml.errors import UserError
from tests.compare_report_helpers import ARMS, CLASSES, HEADS, TITLES, make_comparison
from tests.test_report import Page


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> CompareFolder:
    return make_comparison(tmp_path_factory.mktemp("compare") / "out")


@pytest.fixture(scope="module")
def html(folder) -> str:
    return write_comparison(folder).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(html) -> Page:
    return Page(html)


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
    assert ratio_sentence(like).endswith("less wherever the constants lie in their ranges.")
    assert ratio_sentence(found[spiking, "cmos45-fp32", "int8"]).endswith(
        "more wherever the constants lie in their ranges."
    )
    assert ratio_sentence(found[spiking, "memory-exact", "float32"]).endswith(
        "the constants do not decide which takes less."
    )


def test_the_summary_sets_arms_against_the_twin_in_float32(results):
    table = summary_ratios(results)
    assert table.columns == ("arm", "cmos45-fp32", "memory-exact", "loihi, twin on arm")
    expected = ("0.200 [0.100, 0.400]", "0.900 [0.450, 1.80]", "0.0100 [0.00500, 0.0200]")
    assert table.rows == tuple((TITLES[name], *expected) for name in ("spiking", "no_nm"))
    assert list(table.values["ratio"]) == [0.2, 0.9, 0.01] * 2


def test_quantised_arms_stand_beside_quantised_comparators(results):
    def spoken_of(results):
        return [(r.arm.form, r.device, r.comparator.form, r.comparator_device) for r in headline_ratios(results)]

    floats = [("cmos45-fp32", "cmos45-fp32"), ("loihi", "arm"), ("memory-exact", "memory-exact")]
    floats = [("float32", one, "float32", other) for one, other in floats]
    integers = [("int8", one, "int8", "cmos45-int8") for one in ("cmos45-int8", "cmos45-int32")]
    assert spoken_of(results) == floats + integers
    rows = results.tables["sensitivity"]
    without = replace(results, tables={**results.tables, "sensitivity": rows[rows.form == "float32"]})
    others = [("int8", "cmos45-int8"), ("int3", "cmos45-int3-extrapolated")]
    others = [("float32", "cmos45-fp32", form, device) for form, device in others]
    assert spoken_of(without) == [floats[0], *others, *floats[1:]]


def test_front_is_what_nothing_beats_in_both():
    points = [(1.0, 0.5), (2.0, 0.4), (3.0, 0.9), (3.0, 0.8), (0.5, 0.1), (9.0, 0.9)]
    beaten = {i for i, (x, y) in enumerate(points) for a, b in points if a <= x and b >= y and (a, b) != (x, y)}
    assert front(points) == [4, 0, 2] == sorted(set(range(6)) - beaten, key=lambda i: points[i])


def test_claims_say_what_is_true(results, page):
    found = {(one.first.label, one.second.label, one.head): one for one in family(results, "strict")}
    spiking, no_nm = TITLES["spiking"], TITLES["no_nm"]
    for head in HEADS:
        assert found[spiking, no_nm, head].verdict is Verdict.ABOVE
        assert found[no_nm, "conventional twin", head].verdict is Verdict.BELOW
        assert found[spiking, "conventional twin, int3", head].verdict is Verdict.ABOVE
        assert (f"{spiking}, int8", "conventional twin, int8", head) in found
    assert len(found) == len(HEADS) * 7
    (others,) = (rows for title, rows in page.tables.items() if "gainst the other arms" in title and "strict" in title)
    ((_, _, _, verdict, difference, *_),) = (row for row in others if row[1] == no_nm)
    best = max(HEADS, key=lambda head: found[spiking, no_nm, head].first_mean)
    assert (verdict, difference) == ("above", points(found[spiking, no_nm, best].difference))
    (twin,) = (rows for title, rows in page.tables.items() if "gainst the twin in the same form" in title)
    assert twin[0][4] == "within 2 points"
    pairs = ((spiking, "conventional twin"), (f"{spiking}, int8", "conventional twin, int8"))
    assert {tuple(row[:3]) for row in twin[1:]} == {(*pair, head) for pair in pairs for head in HEADS}
    assert {row[4] for row in twin[1:]} <= {one.value for one in Equivalence}
    assert "takes 0.200 [0.100, 0.400] times the modelled energy of “conventional twin” on cmos45-fp32" in page.words


def test_a_network_is_never_tested_against_itself(results):
    twin_first = replace(results, arms=results.arms[2:] + results.arms[:2])
    assert twin_first.main == twin_first.twin
    found = family(twin_first, "strict")
    assert found
    assert all(one.first != one.second for one in found)


def test_no_two_arms_look_alike(results):
    looks = [(look(results, arm).of_line, look(results, arm).of_marker) for arm in results.arms]
    for which in (0, 1):
        assert len({tuple(map(str, one[which].values())) for one in looks}) == len(results.arms)


def of_two(results, spiking, twin):
    """Results with these accuracies (seeds, draws) of two arms, and nothing else."""
    rows = [
        {
            "arm": name,
            "form": "float32",
            "seed": seed,
            "protocol": "strict",
            "head": "sgd",
            "classes": 600,
            "draw": draw,
        }
        | {"test_accuracy": values[seed, draw]}
        for name, values in (("spiking", spiking), ("twin", twin))
        for seed, draw in np.ndindex(values.shape)
    ]
    arms = (results.main, results.twin)
    return replace(results, arms=arms, tables={"accuracy": pd.DataFrame(rows)})


def test_arms_that_are_alike_are_seldom_told_apart(results):
    rng = np.random.default_rng(6)
    claimed = 0
    for _ in range(150):
        arms = (0.7 + rng.normal(0, 0.02, (3, 1)) + rng.normal(0, 0.005, (3, 10)) for _ in range(2))
        (one,) = family(of_two(results, *arms), "strict")
        claimed += one.verdict in (Verdict.ABOVE, Verdict.BELOW)
    assert claimed / 150 <= 0.09  # 0.05 is promised; this is two standard errors above


def test_draws_that_agree_are_one_value(results):
    means = np.array([0.70, 0.71, 0.73])
    spiking, twin = (np.repeat(x[:, None], 10, axis=1) for x in (means + np.array((0.05, 0.06, 0.055)), means))
    (one,) = family(of_two(results, spiking, twin), "strict")
    assert (one.difference.seeds, one.difference.values) == (3, 3)
    assert one.wilcoxon == 0.25
    assert one.p == one.seeds_p < 0.01
    assert one.verdict is Verdict.ABOVE
    (alone,) = family(of_two(results, spiking[:1], twin[:1]), "strict")
    assert alone.verdict is Verdict.UNDECIDED


def test_networks_that_differ_do_not_make_a_claim_on_training(results):
    rng = np.random.default_rng(7)
    twin = 0.7 + rng.normal(0, 0.01, (3, 10))
    spiking = twin + np.array([[0.09], [0.05], [-0.01]]) + rng.normal(0, 0.002, (3, 10))
    (one,) = family(of_two(results, spiking, twin), "strict")
    assert one.wilcoxon_holm < 0.01
    assert one.difference.low > 0 or one.seed_interval[0] < 0
    assert one.verdict is Verdict.UNDECIDED


def test_page_is_well_formed_and_loads_nothing(page, html):
    ids = Counter(value for _, name, value in page.attributes if name == "id")
    assert [name for name, count in ids.items() if count > 1] == []
    loads = [
        v for _, name, v in page.attributes if name in ("src", "href", "data") and not v.startswith(("#", "data:"))
    ]
    assert loads == []
    assert "<script" not in html
    assert "http:" not in html.replace("http://www.w3.org", "")
    assert "A made-up <comparison> & more" in page.words
    assert "<comparison>" not in html
    assert TITLES["no_nm"].replace("&", "&amp;") in html


def test_every_joule_names_its_source_and_what_it_leaves_out(results, page):
    rows = page.tables["Devices, sources, and what the prices leave out"]
    told = " ".join(" ".join(row) for row in rows)
    for table in ("energy", "memory", "learning", "training"):
        for name in set(results.tables[table]["device"]):
            assert name in told
    assert all(cell not in ("", "\u2013") for row in sources(results) for cell in row)


def test_measured_joules_stand_by_themselves(page):
    rows = page.tables["Measured energy (never beside modelled)"]
    assert len(rows) == 1 + 9
    assert all("no meter on this machine" in row for row in rows[1:])
    assert "No joule was measured" in page.words
    assert all("measured energy" not in rows[0] for title, rows in page.tables.items() if "Measured" not in title)


def test_protocols_stand_apart(page):
    assert {"accuracy-strict", "accuracy-paper"} <= {v for tag, name, v in page.attributes if name == "id"}
    for title, rows in page.tables.items():
        assert not ("strict" in title and "paper" in title), rows[0]


@pytest.mark.parametrize("kind", ["html", "csv", "md", "tex"])
def test_every_table_is_written_in_every_format(html, folder, kind):
    names = {path.stem for path in folder.tables.iterdir()}
    assert {path.stem for path in folder.tables.glob(f"*.{kind}")} == names
    for protocol in ("strict", "paper"):
        for head in HEADS:
            assert {f"accuracy_{protocol}_{head}", f"forgetting_{protocol}_{head}", f"tests_{protocol}"} <= names
    others = {"summary_energy", "summary_ratios", "energy", "neuromodulation", "ratios", "break_even", "learning"}
    others |= {"against_twin", "against_others_strict", "against_others_paper", "headline_ratios"}
    others |= {"training", "measured", "traceability", "sources", "sweep_lambda", "summary_accuracy_strict"}
    assert others <= names


def test_figures_are_files_too(html, folder):
    svg, pdf = ({p.stem for p in folder.figures.glob(f"*.{kind}")} for kind in ("svg", "pdf"))
    assert svg == pdf
    expected = {"spikes", "break_even_float32", "learning_loihi", "pareto_45-nm-arithmetic", "pareto_memory-aware"}
    expected |= {"sweep_lambda_accuracy", "sweep_lambda_energy", "accuracy_strict_sgd", "forgetting_paper_class-mean"}
    expected |= {"layers_spiking_float32_45-nm-arithmetic", "layers_twin_float32_memory-aware"}
    assert expected <= svg
    assert any(name.startswith("sensitivity_float32_loihi") for name in svg)
    content = (folder.figures / "spikes.pdf").read_bytes()
    assert content.startswith(b"%PDF")
    assert b"/FontFile2" in content
    assert b"CreationDate" not in content
    outlines = (folder.figures / "spikes.svg").read_text()
    assert "<text" not in outlines
    assert "<dc:date>" not in outlines


def test_published_numbers_stand_under_the_head_that_learned_alike_and_only_on_omniglot(results, tmp_path):
    for dataset, there in (("omniglot", True), ("glyphs", False)):
        figure = curves(replace(results, dataset=dataset), "strict", "sgd", "test_accuracy", tmp_path)
        assert ("63.9 % at 600" in figure.caption) is there
        assert ("published" in figure.svg) is there


def test_files_are_equal_for_equal_input(html, results, folder, tmp_path):
    spikes(results, tmp_path)
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (folder.figures / path.name).read_bytes()
    assert len(list(tmp_path.iterdir())) == 2


HARD = ResultTable(
    "hard_name",
    "50 % of a_b & <c>",
    ("arm & {x}", "J_per #1 (%)"),
    ((r"a|b_c \ ~^$", "1.0 [0.9, 1.1] \u00b5J \u00b1 \u2013"), ("[x]", "<b>*y*</b>")),
    pd.DataFrame({"x": [1]}),
)


def test_latex_is_sound():
    text = latex_text(HARD)
    assert text.isascii()
    for rule in (r"\toprule", r"\midrule", r"\bottomrule", r"\begin{tabular}{lr}", r"\caption{50 \% of a\_b \& "):
        assert text.count(rule) == 1
    assert len(re.findall(r"(?<!\\)\{", text)) == len(re.findall(r"(?<!\\)\}", text))
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len(rows) == 3
    for row in rows:
        assert len(re.findall(r"(?<!\\)&", row)) == 1
        assert not row.startswith("[")
        assert not re.search(r"(?<!\\)[%#_]", row)
    assert latex("a\u2264b 5 %") == r"a$\leq$b 5 \%"
    assert latex("\u201ctwin\u201d") == "``twin''"


def test_every_latex_file_is_sound(html, folder):
    for path in folder.tables.glob("*.tex"):
        text = path.read_text()
        assert text.isascii(), path.name
        body = text[text.index(r"\begin{tabular}") : text.index(r"\end{tabular}")]
        columns = len(re.search(r"\\begin\{tabular\}\{([lr]+)\}", body)[1])
        rows = [line for line in body.splitlines() if line.endswith(r"\\")]
        assert rows, path.name
        assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {columns - 1}, path.name


def test_markdown_and_html_are_escaped():
    lines = markdown_text(HARD).splitlines()
    assert [len(re.findall(r"(?<!\\)\|", line)) for line in lines[2:]] == [3] * 4
    assert r"a\|b\_c" in lines[4]
    assert "<b>" not in html_text(HARD)
    assert "<caption>50 % of a_b &amp; &lt;c&gt;</caption>" in html_text(HARD)
    Page(
        html_text(HARD)
        .replace("<table", '<div role="region" aria-label="x"><table')
        .replace("</table>", "</table></div>")
    )


def test_one_seed_says_nothing_of_training(tmp_path):
    one = make_comparison(tmp_path / "one", seeds=(4,), sweep=False)
    results = read_results(one)
    assert all(found.seed_interval is None for found in family(results, "strict"))
    assert energy(results, results.main, "loihi").bounds is None
    shutil.rmtree(one.results / "x", ignore_errors=True)
    for name in ("energy", "memory", "learning", "sensitivity", "break_even"):
        one.table(name).unlink()
    words = Page(write_comparison(one).read_text(encoding="utf-8")).words
    assert "of these two trained networks" in words
    assert "needs more seeds" in words
    assert "One seed: nothing can be said about other trainings of the same kind." in words
    assert "About the variance of training nothing can be said." in words
    assert "No energy yet" in words
    assert "This comparison has no sweeps." in words


def test_what_is_missing_is_said(tmp_path):
    few = make_comparison(tmp_path / "few", draws=2, sweep=False)
    rows = pd.read_csv(few.table("accuracy"))
    rows = rows[~((rows.arm == "no_nm") & (rows.seed == 2)) & (rows.form != "int8") & (rows["head"] == "sgd")]
    rows[rows.classes == 10].to_csv(few.table("accuracy"), index=False)
    for path in few.results.iterdir():
        if path.stem != "accuracy":
            path.unlink()
    words = Page(write_comparison(few).read_text(encoding="utf-8")).words
    for said in (
        f"Missing: accuracy of seed 2 of “{TITLES['no_nm']}”.",
        "Missing: accuracy of any seed of “spiking, spiking NM, int8”, “conventional twin, int8”.",
        "Missing: results/energy.csv.",
        "Accuracy and energy are both needed here",
        "No costs of learning yet.",
        "No spikes were counted yet.",
        "Nothing was measured.",
        "No list of runs yet.",
    ):
        assert said in words


def test_nothing_but_a_plan_has_a_page(tmp_path):
    bare = make_comparison(tmp_path / "bare", draws=1)
    shutil.rmtree(bare.results)
    assert "Nothing to compare yet" in Page(write_comparison(bare).read_text(encoding="utf-8")).words


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
    assert isinstance(results.folder.path, Path)
    assert np.isfinite(results.tables["accuracy"]["test_accuracy"]).all()
