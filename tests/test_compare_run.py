"""`snn-anml compare` as somebody runs it: in processes, interrupted, with a run that fails, on a cluster."""

import copy
import io
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from converters import energy
from experiments.compare import command, executors, run
from experiments.compare.child import Task
from experiments.compare.collect import collect
from experiments.compare.folder import CompareFolder
from experiments.compare.plan_file import read_comparison
from experiments.compare.run import Entry
from experiments.csv_files import read_csv
from tests.cli_helpers import contents, refused, snn_anml, write_yaml
from tests.compare_helpers import COMPARISON, DEVICE, SETTINGS, without_report

for package in command.OF_REPORT:
    pytest.importorskip(package, reason="the extra report is not installed")

ROOT = Path(__file__).parents[1]
TIMED = "training.csv"
"""The one long table that holds seconds of the clock."""


@pytest.fixture(scope="module", autouse=True)
def surroundings(cache):
    """Glyphs are drawn once, and no report is written."""
    with pytest.MonkeyPatch.context() as patch:
        without_report(patch)
        yield


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    return write_yaml(tmp_path_factory.mktemp("plan") / "small.yaml", COMPARISON)


@pytest.fixture
def copied(compared, tmp_path):
    return Path(shutil.copytree(compared, tmp_path / "out"))


def results(out):
    """The long tables, but for the seconds of training."""
    found = contents(out / "results")
    timed = found.pop(TIMED).decode()
    return found | {TIMED: [line.split(",")[:5] + line.split(",")[6:] for line in timed.splitlines()]}


def rows(out, table):
    return read_csv(CompareFolder(out).table(table))


# --- going on


def test_what_is_done_is_not_done_again(copied, plan, monkeypatch):
    monkeypatch.setattr(executors.Processes, "start", None)
    before = contents(copied / "runs")
    said = snn_anml("compare", "--out", copied)
    assert said.code == 0
    assert "2 runs, 0 to do" in said.out
    assert {name: one for name, one in contents(copied / "runs").items() if "measured" not in name} == {
        name: one for name, one in before.items() if "measured" not in name
    }


@pytest.mark.slow
def test_killed_in_the_middle_it_goes_on_and_ends_alike(compared, plan, tmp_path):
    out = tmp_path / "out"
    command_line = [sys.executable, "-m", "experiments.cli", "compare", str(plan), "--out", str(out), "--jobs", "1"]
    with subprocess.Popen(command_line, cwd=ROOT, stdout=subprocess.DEVNULL) as process:
        checkpoint = out / "runs" / "spiking" / "seed-0" / "training.safetensors"
        deadline = time.monotonic() + 300
        while not checkpoint.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        process.kill()
    assert checkpoint.exists()
    assert not (out / "runs" / "twin").exists()
    while "Another process" in (said := snn_anml("compare", plan, "--out", out, "--jobs", "1")).out:
        time.sleep(0.1)  # until the orphan has noticed
    assert said.code == 0, said
    assert results(out) == results(compared)
    for arm in ("spiking", "twin"):
        own, whole = (CompareFolder(one).run(arm, 0).model for one in (out, compared))
        assert own.read_bytes() == whole.read_bytes()


@pytest.mark.slow
def test_a_failure_stops_no_other_run_and_is_named(copied, plan):
    content = copy.deepcopy(COMPARISON)
    content["arms"]["silent"] = {"settings": {"network": {"threshold": 1e6}, "train": {"meta_steps": 0}}}
    shutil.rmtree(copied / "runs" / "spiking")
    said = snn_anml("compare", write_yaml(copied.parent / "plan.yaml", content), "--out", copied)
    assert said.code == 1
    last = "".join(said.out.split("Failed: ")[1:])
    assert last.startswith("silent, seed 0: The network of ")
    assert "answers no drawing with a single spike" in last
    assert said.out.endswith("What is there is kept; the same command does the rest.\n")
    assert (copied / "runs" / "spiking" / "seed-0" / "meta_test.csv").exists()
    assert {row["arm"] for row in rows(copied, "accuracy")} == {"spiking", "twin"}


def test_a_defect_is_named_by_its_last_line(tmp_path):
    log = tmp_path / "job.log"
    log.write_text("Traceback (most recent call last):\n  somewhere\nZeroDivisionError: division by zero\n\n")
    assert run._reason(1, log) == "ZeroDivisionError: division by zero"
    assert "signal 9" in run._reason(-signal.SIGKILL, log)
    assert run._reason(3, tmp_path / "none") == "it ended with code 3 and said nothing."


def test_a_terminal_shows_what_each_run_does(tmp_path):
    metrics, log = tmp_path / "metrics.jsonl", tmp_path / "job.log"
    metrics.write_text('{"step": 30, "steps_per_second": 2.0}\n{"step": 40, "steps_per_second": 0.5}\n{"step": 4')
    done = iter([None, 0])

    class Two:
        def start(self, task):
            return SimpleNamespace(code=lambda: next(done), stop=lambda: None, wait=lambda: None)

    task = Task(str(tmp_path), str(log), "cpu", 1, 1, "spiking")
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    entries = [Entry("spiking, seed 0", task, lambda: "training", 2000, metrics)]
    assert run.run_all(entries, Two(), 1, console) == []
    shown = console.file.getvalue()
    for cell in ("spiking, seed 0", "training", "40 of 2,000", "0.5", "1:05:20", "1 of 1 over, 0 waiting"):
        assert cell in shown


class Interrupted:
    """A task on its way when Ctrl-C is pressed."""

    stopped = waited = False

    def code(self):
        raise KeyboardInterrupt

    def stop(self):
        self.stopped = True

    def wait(self):
        assert self.stopped
        self.waited = True


def test_an_interruption_ends_the_runs_first(copied, plan, monkeypatch):
    started = []

    def start(self, task):
        started.append(Interrupted())
        return started[-1]

    monkeypatch.setattr(executors.Processes, "start", start)
    shutil.rmtree(copied / "runs")
    said = snn_anml("compare", plan, "--out", copied, "--jobs", "2")
    assert (said.code, said.err) == (130, "snn-anml: interrupted; the same command goes on where it stopped.\n")
    assert len(started) == 2
    assert all(one.waited for one in started)


def test_a_point_with_the_settings_of_a_run_has_its_numbers_and_no_run(copied, monkeypatch):
    monkeypatch.setattr(executors.Processes, "start", None)
    sweep = {"setting": "network.steps", "arm": "spiking", "values": [SETTINGS["network"]["steps"]], "seeds": [0]}
    plan = write_yaml(copied.parent / "plan.yaml", {**COMPARISON, "sweeps": {"T": sweep}})
    said = snn_anml("compare", plan, "--out", copied)
    assert (said.code, said.out.split(":")[0]) == (0, "2 runs, 0 to do, 0 at once")
    assert {path.name for path in (copied / "runs").iterdir()} == {"spiking", "twin"}
    for table in ("accuracy", "energy"):
        own, its = (
            [{**row, "arm": ""} for row in rows(copied, table) if (row["arm"], row["form"]) == (arm, "float32")]
            for arm in ("spiking", "T=3")
        )
        assert own == its != []
    assert {row["arm"]: row["folder"] for row in rows(copied, "runs")} == {
        "spiking": "runs/spiking/seed-0",
        "twin": "runs/twin/seed-0",
        "T=3": "runs/spiking/seed-0",
    }


def test_a_comparison_on_its_way_can_be_reported(copied, plan, monkeypatch):
    shutil.rmtree(copied / "runs" / "twin")
    (copied / "runs" / "spiking" / "seed-0" / "energy.csv").unlink()
    shutil.rmtree(copied / "runs" / "spiking" / "seed-0" / "quantised")
    monkeypatch.setattr(executors.Processes, "start", None)
    assert snn_anml("compare", "--out", copied, "--report-only").code == 0
    there = {path.stem for path in (copied / "results").iterdir()}
    assert {"accuracy", "memory", "runs"} <= there
    assert there.isdisjoint({"energy", "activity", "sensitivity", "break_even"})


def test_results_without_their_runs_stay_and_can_be_reported(copied, plan):
    """As they are published: without the run folders, whose weights are large."""
    before = contents(copied / "results")
    shutil.rmtree(copied / "runs")
    said = snn_anml("compare", "--out", copied, "--report-only")
    assert said.code == 0
    assert "Report: " in said.out
    assert contents(copied / "results") == before


def test_a_report_is_of_the_comparison_that_is_there(copied, plan, tmp_path):
    before = contents(copied / "results")
    said = refused("compare", "--out", copied, "--report-only", "--seeds", "1")
    assert said.startswith(f"{copied}/comparison.yaml is not the comparison asked for; name --out alone")
    assert contents(copied / "results") == before
    said = refused("compare", plan, "--out", tmp_path / "none", "--report-only")
    assert said == f"{tmp_path}/none holds no run of this comparison; run it first, without --report-only."


def test_a_changed_configuration_is_refused(copied):
    content = copy.deepcopy(COMPARISON)
    content["settings"]["train"]["meta_steps"] = 21
    before = contents(copied)
    path = write_yaml(copied.parent / "plan.yaml", content)
    assert refused("compare", path, "--out", copied) == (
        f"{copied}/runs/spiking/seed-0 holds a run of another configuration (train.meta_steps: 20 there, 21 here); "
        "choose another --out."
    )
    assert contents(copied) == before


def test_a_table_without_rows_is_no_file(tmp_path, plan):
    assert collect(CompareFolder(tmp_path), read_comparison([plan])) == []
    assert contents(tmp_path) == {}


def test_a_device_of_the_users_stands_beside_the_others(copied):
    path = write_yaml(copied.parent / "plan.yaml", {**COMPARISON, "devices": {"mine": DEVICE}})
    try:
        said = refused("compare", path, "--out", copied)
        counted = copied / "runs" / "spiking" / "seed-0" / "energy.csv"
        without = f"{counted} was written without the device mine of this source and these prices; delete it, and the"
        assert said.startswith(without)
        for arm in ("spiking", "twin"):
            (copied / "runs" / arm / "seed-0" / "energy.csv").unlink()
        assert snn_anml("compare", path, "--out", copied).code == 0
        energy.DEVICES.pop("mine")
        write_yaml(path, {**COMPARISON, "devices": {"mine": DEVICE | {"accumulate": 2e-12}}})
        assert refused("compare", path, "--out", copied).startswith(without)
    finally:
        energy.DEVICES.pop("mine", None)
    for table in ("energy", "learning", "sensitivity", "break_even"):
        found = [row for row in rows(copied, table) if row["device"] == "mine" and row["form"] == "float32"]
        assert {row["arm"] for row in found} >= {"spiking"}, table


# --- a cluster


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("srun") is not None, reason="there is a SLURM here")
def test_jobs_through_submitit_give_the_same(compared, copied, plan):
    """The local executor of submitit, which takes the place of a cluster's queue."""
    pytest.importorskip("submitit", reason="the extra cluster is not installed")
    shutil.rmtree(copied / "runs" / "spiking")
    parameters = "--executor", "submitit", "--slurm", "timeout_min=10", "partition=any"
    said = snn_anml("compare", plan, "--out", copied, *parameters)
    assert said.code == 0, said
    assert results(copied) == results(compared)
    assert any((copied / "submitit").iterdir())
    assert os.environ.get("SUBMITIT_EXECUTOR") is None
