"""The report: its statistics, its tables, and a page that needs nothing but itself."""

from __future__ import annotations

import csv
import re
import shutil
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

pytest.importorskip("matplotlib", reason="the extra report is not installed")
pytest.importorskip("jinja2", reason="the extra report is not installed")

from experiments.report import published, write_report
from experiments.report.blocks import Figures, Note, Table
from experiments.report.energy import break_even, find, spike_rate, totals
from experiments.report.figures_energy import joules
from experiments.report.figures_learning import Series, accuracy_panel
from experiments.report.runs import read_run, read_runs
from experiments.report.sections_learning import accuracy, forgetting, summary
from experiments.report.sections_machine import accuracy_energy, inside
from snn_anml.errors import MissingExtraError, UserError
from tests.page_reader import Page
from tests.report_helpers import CONFIG, make_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SNN_ANML_CACHE", str(folder / "cache"))
        yield make_run(folder / "a run & <more>")


@pytest.fixture(scope="module")
def html(run):
    return write_report([run.path], run.report).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_page_is_well_formed_and_ids_are_unique(page):
    ids = Counter(value for _, name, value in page.attributes if name == "id")
    assert [name for name, count in ids.items() if count > 1] == []
    references = {v[1:] for _, name, v in page.attributes if name == "href" and v.startswith("#")}
    for _, _, value in page.attributes:
        references |= set(re.findall(r"url\(#([^)]+)\)", value))
    references |= {i for _, name, v in page.attributes if name == "aria-labelledby" for i in v.split()}
    assert len(references) > 20
    assert references <= set(ids)


def test_page_loads_nothing(page, html):
    loads = [
        (tag, name, value[:60])
        for tag, name, value in page.attributes
        if name in ("src", "href", "xlink:href", "data", "action", "srcset", "poster")
        and not value.startswith(("#", "data:"))
    ]
    assert loads == []
    assert "http:" not in html
    assert "https:" not in html
    assert "@import" not in html
    assert "<script" not in html
    assert re.findall(r"url\((?!#)", html) == []


def test_every_figure_has_a_name_and_a_description(html):
    figures = re.findall(r"<svg [^>]*>", html)
    assert len(figures) == len(re.findall("<figure>", html)) >= 15
    assert all('role="img"' in svg and "aria-labelledby" in svg for svg in figures)
    described = re.findall(r"<svg [^>]*><title [^>]*>([^<]+)</title><desc [^>]*>([^<]+)</desc>", html)
    assert len(described) == len(figures)


def test_page_is_the_same_twice(run, html, tmp_path):
    assert write_report([run.path], tmp_path / "again.html").read_text(encoding="utf-8") == html


def test_names_are_escaped(page, html):
    assert "a run & <more>" in page.words
    assert "a run & <more>" not in html


def test_accuracy_csv_and_page_are_the_means_of_the_meta_test(run, page):
    cells = {}
    for network, folder in (("spiking", run), ("conventional twin", run.twin)):
        for row in rows_of(folder.meta_test):
            key = network, row["protocol"], row["head"], int(row["classes"])
            cells.setdefault(key, []).append([float(row["test_accuracy"]), float(row["first_test_accuracy"])])
    written = rows_of(run.path / "tables" / "accuracy.csv")
    forgetting = rows_of(run.path / "tables" / "forgetting.csv")
    assert len(written) == len(forgetting) == len(cells) == 36
    for row, first in zip(written, forgetting, strict=True):
        key = row["network"], row["protocol"], row["head"], int(row["classes"])
        values = np.array(cells[key])
        n = len(values)
        assert int(row["draws"]) == n == (4 if row["protocol"] == "strict" else 1)
        assert float(row["test_accuracy"]) == pytest.approx(values[:, 0].mean())
        assert float(first["first_test_accuracy"]) == pytest.approx(values[:, 1].mean())
        printed = f"{100 * float(row['test_accuracy']):.1f}"
        if n > 1:
            half = stats.t.ppf(0.975, n - 1) * values[:, 0].std(ddof=1) / n**0.5
            assert float(row["test_half_width"]) == pytest.approx(half)
            printed += f" \u00b1 {100 * half:.1f}"
        else:
            assert row["test_half_width"] == ""
        table = page.tables[f"Held-out accuracy, protocol {row['protocol']} (%), by number of classes"]
        column = table[0].index(row["classes"])
        (found,) = [r for r in table if r[:2] == [row["network"], row["head"]]]
        assert found[column] == printed


def test_energy_csv_and_page_are_the_sums_of_the_layers(run, page):
    written = rows_of(run.path / "tables" / "energy.csv")
    assert len(written) == 20
    layers = rows_of(run.energy)
    for row in written:
        its = [r for r in layers if all(r[k] == row[k] for k in ("network", "device", "convention"))]
        assert float(row["joules"]) == pytest.approx(sum(float(r["joules"]) for r in its))
        assert float(row["joules_gates"]) == pytest.approx(sum(float(r["joules_gates"]) for r in its))
        nm = sum(float(r["joules"]) for r in its if r["part"] == "nm")
        assert float(row["joules_nm"]) == pytest.approx(nm)
        if row["convention"] == "exact":
            table = page.tables["Modelled energy, with shares of PLN, NM, gates and head"]
            (found,) = [r for r in table if r[:2] == [row["device"], row["network"]]]
            assert found[2] == joules(float(row["joules"]))
            assert found[4] == f"{100 * nm / float(row['joules']):.1f}"


def test_fidelity_csv_and_page_hold_the_certificate(run, page):
    written = rows_of(run.path / "tables" / "fidelity.csv")
    certificate = read_run(run.path, "x").certificate
    for one in certificate.comparisons:
        mine = {row["layer"]: row for row in written if row["backend"] == one.backend}
        assert mine.keys() == {"all", *one.layers}
        assert int(mine["all"]["slots"]) == one.slots
        assert int(mine["all"]["mismatches"]) == one.mismatches
        (found,) = [r for r in page.tables["By backend"] if r[0] == one.backend]
        assert found[1:3] == [f"{one.slots:,}", f"{one.mismatches:,}"]
    diverged = [row for row in written if row["first_margin"]]
    assert [(r["backend"], r["first_step"], float(r["first_margin"])) for r in diverged] == [("nengo", "2", 1e-7)]
    assert "sample 1, step 2, neuron 3; margin 1e-07" in page.words
    assert certificate.graph in page.words


def test_summary_states_the_key_numbers(run, page):
    strict = page.tables["Held-out accuracy under protocol strict (%)"]
    every = page.tables["Held-out accuracy, protocol strict (%), by number of classes"]
    assert [row[2] for row in strict[1:]] == [row[-1] for row in every[1:]]
    facts = dict(page.tables["Spikes, fidelity, energy"][1:])
    total = find(totals(read_run(run.path, "x").energy), "spiking", "loihi")
    assert facts["energy, spiking on Loihi"] == f"{joules(total.joules)} (modelled)"
    assert facts["spikes per neuron and inference (PLN)"] == "0.250"


def test_break_even_rate_makes_both_networks_cost_the_same(run):
    rows = read_run(run.path, "x").energy
    spiking, twin = (find(totals(rows), n, "cmos45-fp32") for n in ("spiking", "conventional twin"))
    rate = spike_rate(rows, "spiking")
    even = break_even(spiking, twin, rate)
    scaled = spiking.joules + spiking.spike_joules * (even / rate - 1)
    assert scaled == pytest.approx(twin.joules)
    assert break_even(find(totals(rows), "spiking", "gpu"), twin, rate) is None


def test_silent_layers_count_in_the_spike_rate_and_files_without_kinds_are_read(run):
    rows = [dict(row) for row in read_run(run.path, "x").energy if row["network"] == "spiking"]
    rate, total = spike_rate(rows, "spiking"), find(totals(rows), "spiking", "cmos45-fp32")
    neurons = [
        row for row in rows if row["kind"] == "LIF" and row["device"] == "loihi" and row["convention"] == "exact"
    ]
    assert rate == pytest.approx(sum(row["spikes"] for row in neurons) / sum(row["neurons"] for row in neurons))
    silent = [row | {"spikes": row["spikes"] * (row["layer"] == neurons[0]["layer"])} for row in rows]
    assert spike_rate(silent, "spiking") == pytest.approx(neurons[0]["spikes"] / sum(row["neurons"] for row in neurons))
    old = [{name: value for name, value in row.items() if name not in ("kind", "spikes_of")} for row in rows]
    assert spike_rate(old, "spiking") == rate
    assert find(totals(old), "spiking", "cmos45-fp32").spike_joules <= total.spike_joules


def test_published_curves_only_stand_behind_omniglot(run):
    loaded = read_run(run.path, "x")
    glyphs = next(b for b in accuracy([loaded]).blocks if isinstance(b, Figures)).panels
    assert all("(published, paper)" not in panel.svg for panel in glyphs)
    series = [Series("sgd", "#0072b2", False, [s for s in loaded.network.summaries if s.head == "sgd"][:3])]
    names = {"strict": "ANML (published, paper)", "paper": "OML (published, paper)", "iid": "i.i.d. oracle (published)"}
    for protocol, name in names.items():
        assert name in accuracy_panel(series, protocol, "", True).svg
    assert published.envelope("ANML") == ([10, 50, 100, 200, 600], [84, 84, 81, 77, 64], [90, 89, 85, 80, 66])


@pytest.mark.parametrize(
    "parts",
    [
        {
            "metrics.jsonl": "no metrics.jsonl, so no curves",
            "energy.csv": "no energy estimate yet",
            "export/simulations.csv": "no simulation times yet",
        },
        {
            "meta_test.csv": "no meta-test of the spiking network yet",
            "export/certificate.json": "no fidelity certificate yet",
            "model.safetensors": "no trained network yet",
            "twin": "no conventional twin yet",
        },
    ],
    ids=["after training", "of training"],
)
def test_a_missing_part_is_said_in_its_place(run, tmp_path, page, parts):
    copy = tmp_path / "copy"
    shutil.copytree(run.path, copy)
    for part in parts:
        shutil.rmtree(copy / part) if part == "twin" else (copy / part).unlink()
    words = Page(write_report([copy], tmp_path / "r.html").read_text(encoding="utf-8")).words
    for said in parts.values():
        assert said not in page.words
        assert said in words


def test_a_run_that_has_just_begun_has_a_page(run, tmp_path):
    (tmp_path / "new").mkdir()
    shutil.copy(run.config, tmp_path / "new")
    page = Page(write_report([tmp_path / "new"], tmp_path / "r.html").read_text(encoding="utf-8"))
    assert "No meta-test yet" in page.words
    assert not (tmp_path / "new" / "tables").exists()


def test_data_that_are_gone_are_said(run, tmp_path, monkeypatch):
    text = run.config.read_text().replace("name: glyphs", "name: omniglot")
    (tmp_path / "config.yaml").write_text(text)
    shutil.copy(run.model, tmp_path)
    monkeypatch.setenv("SNN_ANML_DATA", str(tmp_path / "nowhere"))
    (note,) = inside(read_runs([tmp_path])).blocks
    assert note.missing
    assert "omniglot is not on this machine" in note.text


def test_other_data_than_those_of_the_run_are_said(run, tmp_path):
    text = run.config.read_text()
    (tmp_path / "config.yaml").write_text(re.sub("data_sha256: .*", f"data_sha256: {'0' * 64}", text))
    shutil.copy(run.model, tmp_path)
    assert "are not those of the run" in inside(read_runs([tmp_path])).blocks[0].text


def test_several_runs_stand_side_by_side(run, tmp_path):
    other = make_run(tmp_path / "other", seed=3, twin=False)
    page = Page(write_report([run.path, other.path], tmp_path / "r.html").read_text(encoding="utf-8"))
    table = page.tables["Held-out accuracy, protocol strict (%), by number of classes"]
    networks = {row[0] for row in table[1:]}
    assert networks == {"a run & <more>: spiking", "a run & <more>: conventional twin", "other: spiking"}
    assert {"a run & <more>", "other"} <= set(page.tables["Spikes, fidelity, energy"][0])
    assert (other.path / "tables" / "accuracy.csv").is_file()


@pytest.mark.parametrize("protocols", [("iid",), ("strict", "iid")])
def test_the_oracle_is_named_as_one_wherever_it_stands(run, page, protocols):
    loaded = read_run(run.path, "x")
    of_strict = [s for s in loaded.network.summaries if s.protocol == "strict"]
    network = replace(loaded.network, summaries=[s._replace(protocol=p) for p in protocols for s in of_strict])
    config = replace(loaded.config, meta_test=replace(loaded.config.meta_test, protocols=protocols))
    runs = [replace(loaded, config=config, networks=(network,))]
    blocks = [b for part in (summary, accuracy, forgetting, accuracy_energy) for b in part(runs).blocks]
    panels = [panel for b in blocks if isinstance(b, Figures) for panel in b.panels]
    said = " ".join([b.text for b in blocks if isinstance(b, Note)] + [f"{p.title}: {p.caption}" for p in panels])
    for text in ("an oracle, not continual learning", "Accuracy, protocol iid (oracle)", "a fall is not forgetting"):
        assert said.count(text) == 1
        assert text not in page.words
    titles = [b.title for b in blocks if isinstance(b, Table)]
    for field in ("Held-out accuracy", "Held-out accuracy on the first ten classes"):
        assert f"{field}, protocol iid (oracle) (%), by number of classes" in titles
    first = "strict" if "strict" in protocols else "iid (oracle)"
    assert f"Held-out accuracy under protocol {first} (%)" in titles
    assert f"Exported head: class-mean, after 30 classes, protocol {first};" in said


def test_labels_tell_runs_of_the_same_name_apart(run, tmp_path):
    for parent in ("x", "y"):
        (tmp_path / parent / "run").mkdir(parents=True)
        shutil.copy(run.config, tmp_path / parent / "run")
    labels = [r.label for r in read_runs([tmp_path / "x" / "run", tmp_path / "y" / "run"])]
    assert labels == ["x/run", "y/run"]


def test_an_unfinished_last_line_of_metrics_is_passed_over_but_a_damaged_one_is_not(run, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(run.path, copy)
    lines = (copy / "metrics.jsonl").read_text()
    (copy / "metrics.jsonl").write_text(lines + '{"step": 10')
    assert read_run(copy, "x").network.metrics == read_run(run.path, "x").network.metrics
    (copy / "metrics.jsonl").write_text("{broken\n" + lines)
    with pytest.raises(UserError, match="line 1"):
        read_run(copy, "x")


def test_mistakes_are_named(run, tmp_path):
    with pytest.raises(UserError, match="at least one run"):
        write_report([], tmp_path / "r.html")
    with pytest.raises(UserError, match="named twice"):
        write_report([run.path, run.path], tmp_path / "r.html")
    with pytest.raises(UserError, match=r"no config\.yaml"):
        write_report([tmp_path], tmp_path / "r.html")


def test_without_matplotlib_the_extra_is_named(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"snn-anml\[report\]"):
        write_report([run.path], tmp_path / "r.html")


def test_gates_and_rasters_are_of_the_network(html):
    assert "Spikes of one held-out drawing" in html
    assert html.count("Gates of layer") >= len(CONFIG.network.widths)
    assert "Mean correlation of gates within / between classes" in html
