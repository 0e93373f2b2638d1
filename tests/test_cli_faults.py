"""The command line where something goes wrong on the way: no spikes, an interruption, a defect, a full disk."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments import pipeline
from tests.cli_helpers import contents, refused, snn_anml

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.usefixtures("cache")


def test_a_silent_network_is_no_traceback(tmp_path, tiny):
    run = tmp_path / "run"
    options = "--network.threshold", "1e6", "--train.warm_steps", "1", "--train.meta_steps", "0"
    assert snn_anml("train", "--config", tiny, "--out", run, *options).code == 0
    assert "answers no drawing with a single spike" in refused("meta-test", run)


def test_ctrl_c_in_training_is_one_line_and_the_run_resumes(tmp_path, tiny, run):
    out = tmp_path / "interrupted"
    # A process started in the background inherits that SIGINT is ignored, as tests may be.
    heed = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)"
    command = [sys.executable, "-c", f"{heed}; from experiments.cli import main; sys.exit(main())"]
    command += ["train", "--config", str(tiny), "--out", str(out), "--twin", "false"]
    # So many steps that it is stopped on the way; the learning rate of every step depends on the number of steps.
    steps = "--train.meta_steps", "780"
    with subprocess.Popen(
        [*command, *steps], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + 120
        while not (out / "training.safetensors").exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        said, complained = process.communicate(timeout=60)
    assert process.returncode == 130, complained
    assert (said, complained) == ("", "snn-anml: interrupted; go on with --resume.\n")
    assert not (out / "model.safetensors").exists()
    arguments = "train", "--config", tiny, "--twin", "false", *steps
    assert snn_anml(*arguments, "--out", out, "--resume").code == 0
    assert snn_anml(*arguments, "--out", tmp_path / "whole").code == 0
    assert (out / "model.safetensors").read_bytes() == (tmp_path / "whole" / "model.safetensors").read_bytes()
    logged = [json.loads(line)["step"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert logged == list(range(5, 801, 5))


def test_ctrl_c_elsewhere_is_one_line(run, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "run_meta_test", interrupted)
    before = contents(run)
    said = snn_anml("meta-test", run)
    assert said == (130, "", "snn-anml: interrupted; run the command again.\n")
    assert contents(run) == before


@pytest.mark.parametrize(
    "defect",
    [
        RuntimeError("a defect"),
        ValueError("a defect"),
        TypeError("a defect"),
        KeyError("a defect"),
        FileNotFoundError(2, "No such file or directory", "inside"),
        OSError(5, "Input/output error"),
    ],
    ids=repr,
)
def test_a_defect_of_the_program_keeps_its_traceback(run, monkeypatch, defect):
    def broken(*_, **__):
        raise defect

    monkeypatch.setattr(pipeline, "run_meta_test", broken)
    with pytest.raises(type(defect)) as caught:
        snn_anml("meta-test", run)
    assert caught.value is defect


@pytest.mark.parametrize("number", [13, 28, 30])
def test_a_fault_of_the_place_is_one_sentence(run, monkeypatch, number):
    def denied(*_, **__):
        raise OSError(number, os.strerror(number), "metrics.jsonl")

    monkeypatch.setattr(pipeline, "run_meta_test", denied)
    assert refused("meta-test", run) == (
        f"metrics.jsonl: {os.strerror(number)}; choose another folder, or make room there."
    )
