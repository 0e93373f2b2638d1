"""The report of a comparison: what it reads, what it says, and that every piece of it is there."""

from __future__ import annotations

import re
import shutil
from collections import Counter

import pytest

pytest.importorskip("matplotlib", reason="the extra report is not installed")
pytest.importorskip("tabulate", reason="the extra report is not installed")

import pandas as pd

from experiments.compare.cells import percent
from experiments.compare.claims import Equivalence, Verdict, family, points
from experiments.compare.figures_rows import spikes
from experiments.compare.folder import CompareFolder
from experiments.compare.joule_rows import energy, sources
from experiments.compare.page import write_comparison
from experiments.compare.results import read_results
from tests.compare_report_helpers import HEADS, TITLES, make_comparison
from tests.page_reader import Page


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
    assert (verdict, difference) == ("above", points(found[spiking, no_nm, results.head].difference))
    assert {row[2] for row in others[1:]} == {results.head}
    (twin,) = (rows for title, rows in page.tables.items() if "gainst the twin in the same form" in title)
    assert twin[0][4] == "within 2 points, uncorrected"
    pairs = ((spiking, "conventional twin"), (f"{spiking}, int8", "conventional twin, int8"))
    assert {tuple(row[:3]) for row in twin[1:]} == {(*pair, head) for pair in pairs for head in HEADS}
    assert {row[4] for row in twin[1:]} <= {one.value for one in Equivalence}
    (ratios,) = (rows for title, rows in page.tables.items() if "over the twin: ratio of modelled energies" in title)
    like = [spiking, "cmos45-fp32", "conventional twin", "cmos45-fp32", "\u2013", "less", "0.200 [0.100, 0.400]"]
    assert [*like, "0.180 to 0.220"] in ratios
    assert [row[4:6] for row in ratios if row[0].endswith("int8")] == [["lower", "undecided"], ["upper", "undecided"]]


def test_the_summary_has_every_arm_under_every_head(results, page):
    (title,) = (title for title in page.tables if "by head" in title)
    assert title == "Held-out accuracy (%) after 600 classes, protocol strict, by head"
    columns, *rows = page.tables[title]
    assert columns == ["arm", *HEADS]
    assert [row[0] for row in rows] == [arm.label for arm in results.arms]
    where = {"protocol": "strict", "classes": 600}
    for arm, row in zip(results.arms, rows, strict=True):
        found = [results.interval("accuracy", arm, "test_accuracy", **where, head=head) for head in HEADS]
        assert row[1:] == [percent(i) for i in found]


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


def test_exports_differ_where_the_certificates_say(page, results):
    columns, *rows = page.tables["Exported networks against torch, all seeds together"]
    assert columns[3:] == ["spike slots that differ", "largest output difference", "same class (%)"]
    seeds = results.tables["fidelity"]["seed"].nunique()
    trained = ["snn_anml", "torch", f"{3 * seeds} of {1000 * seeds:,}", "0.25", "99.5 [99.5, 99.5]"]
    exact = ["interpreter", "torch", f"0 of {1000 * seeds:,}", "0", "100.0 [100.0, 100.0]"]
    assert rows == [[TITLES[arm], *row] for arm in ("spiking", "no_nm") for row in (trained, exact)]


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
    others |= {"training", "measured", "fidelity", "traceability", "sources", "sweep_lambda", "summary_accuracy_strict"}
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


def test_files_are_equal_for_equal_input(html, results, folder, tmp_path):
    spikes(results, tmp_path)
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (folder.figures / path.name).read_bytes()
    assert len(list(tmp_path.iterdir())) == 2


def test_every_latex_file_is_sound(html, folder):
    for path in folder.tables.glob("*.tex"):
        text = path.read_text()
        assert text.isascii(), path.name
        body = text[text.index(r"\begin{tabular}") : text.index(r"\end{tabular}")]
        columns = len(re.search(r"\\begin\{tabular\}\{([lr]+)\}", body)[1])
        rows = [line for line in body.splitlines() if line.endswith(r"\\")]
        assert rows, path.name
        assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {columns - 1}, path.name


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
    assert "One seed: nothing can be said about other trainings of the same kind, nor about other drawings." in words
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
        f"Missing: energy of any seed of “{TITLES['spiking']}”, “{TITLES['twin']}”, “conventional twin, int3”.",
        f"Missing: energy of seed 0, 1 of “{TITLES['no_nm']}”.",
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
