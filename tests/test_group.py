"""Two processes do what one does with twice the trajectories, to rounding."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from snn_anml import checkpoint
from snn_anml.config import MetaConfig, NetworkConfig, TrainConfig
from snn_anml.errors import UserError
from snn_anml.group import ALONE, Group, joined
from snn_anml.meta.outer import train
from snn_anml.meta.stage import Learner, Loss, Stage
from snn_anml.networks import make_network
from tests.group_worker import CASES, gradients

ROOT = Path(__file__).parents[1]


TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
TINY = [
    *("--data.glyph_classes", "40", "--data.meta_test_classes", "8", "--data.selection_classes", "4"),
    *("--data.size", "22", "--network.layers", "published", "--network.neuron", "relu"),
    *("--network.widths", "[4,4,4]", "--network.nm_widths", "[3,3,3]", "--train.warm_steps", "2"),
    *("--train.meta_steps", "4", "--train.warm_batch", "8", "--train.checkpoint_every", "3", "--train.log_every", "1"),
    *("--meta.classes", "4", "--meta.trajectories", "2", "--meta_test.milestones", "[8]"),
    *("--export.classes", "8", "--export.samples", "4"),
]


def run(command, tmp_path, **more):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "SNN_ANML_CACHE": str(tmp_path / "cache")}
    return subprocess.run(
        command, env=environment, cwd=ROOT, timeout=300, capture_output=True, text=True, check=False, **more
    )


def test_gradients_and_statistics_are_those_of_one_process(tmp_path):
    done = run([*TORCHRUN, "-m", "tests.group_worker", str(tmp_path / "left.safetensors")], tmp_path)
    assert done.returncode == 0, done.stderr
    together = load_file(tmp_path / "left.safetensors")
    alone = {name: value for case in CASES for name, value in gradients(case, ALONE).items()}
    assert alone.keys() == together.keys()
    for name, value in alone.items():
        error = (together[name] - value).abs().max() / value.abs().max().clamp(min=1e-3)
        assert error < 2e-5, name


def test_the_command_line_trains_and_resumes_in_two_processes(tmp_path):
    """The weights differ from those of one process by what Adam makes of rounding."""
    train = ["-m", "experiments.cli", "train", *TINY]
    done = run([sys.executable, *train, "--out", str(tmp_path / "one")], tmp_path)
    assert done.returncode == 0, done.stderr
    done = run([*TORCHRUN, *train, "--out", str(tmp_path / "two")], tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Model:") == 1
    (tmp_path / "two" / "model.safetensors").rename(tmp_path / "first.safetensors")
    done = run([*TORCHRUN, *train, "--out", str(tmp_path / "two"), "--resume"], tmp_path)
    assert done.returncode == 0, done.stderr
    one, two, first = (
        checkpoint.load(path, "model")[0]
        for path in (
            tmp_path / "one/model.safetensors",
            tmp_path / "two/model.safetensors",
            tmp_path / "first.safetensors",
        )
    )
    logs = [(tmp_path / folder / "metrics.jsonl").read_text().splitlines() for folder in ("one", "two")]
    losses = [[json.loads(line)["loss"] for line in log] for log in logs]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-3, atol=1e-4)
        assert torch.equal(two[name], first[name])


def test_what_cannot_be_shared_out_is_refused_before_a_folder_is_made(tmp_path):
    command = [*TORCHRUN, "-m", "experiments.cli", "train", *TINY, "--meta.trajectories", "3"]
    done = run([*command, "--out", str(tmp_path / "run")], tmp_path)
    assert done.returncode != 0
    assert "meta.trajectories = 3 cannot be shared out evenly among 2 processes." in done.stderr
    assert not (tmp_path / "run").exists()


def test_processes_encode_their_drawings_apart():
    images, config = torch.zeros(4, 5, 12, 12, dtype=torch.uint8), TrainConfig()
    stages = [
        Stage(images, np.arange(4), config, MetaConfig(), 5, group) for group in (Group(0, 2), Group(1, 2), ALONE)
    ]
    drawn = [torch.rand(3, generator=stage.generators(7)[1]) for stage in stages]
    assert not torch.equal(drawn[0], drawn[1])
    assert torch.equal(drawn[0], drawn[2])


@pytest.mark.filterwarnings("default")
def test_a_group_without_torchrun_is_one_sentence(monkeypatch):
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="WORLD_SIZE is set, but this is no process of torchrun"), joined("cpu"):
        pass


def test_a_loss_that_is_not_finite_stops_before_the_checkpoint(tmp_path, monkeypatch):
    """Also where it is not logged: a checkpoint of it would be the end of the run."""
    learner = Learner(make_network(NetworkConfig(widths=(4,), nm_widths=(3,)), 4, 12), MetaConfig())
    config = TrainConfig(warm_steps=3, meta_steps=0, warm_batch=4, log_every=9, checkpoint_every=1)
    stage = Stage(torch.zeros(4, 5, 12, 12, dtype=torch.uint8), np.arange(4), config, MetaConfig(), 5)
    monkeypatch.setattr("snn_anml.meta.outer.add_gradient", lambda *_: Loss(*torch.full((3,), torch.nan)))
    with pytest.raises(UserError, match="The loss is nan at step 1"):
        list(train(learner, stage, tmp_path, "hash"))
    assert not (tmp_path / "training.safetensors").exists()


def test_shares_cover_everything_once():
    parts = [Group(rank, 3).share(6, "x") for rank in range(3)]
    assert [i for part in parts for i in range(6)[part]] == list(range(6))
    with pytest.raises(UserError, match="x = 7 cannot be shared out evenly among 3 processes"):
        Group(0, 3).share(7, "x")


def test_without_torchrun_a_process_is_alone(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with joined("cpu") as (group, device):
        assert (group, device) == (ALONE, "cpu")
        assert group.from_first(lambda: 3) == 3


def test_other_commands_want_one_process(monkeypatch, capsys):
    from experiments.cli import main

    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["data", "list"]) == 2
    assert "run snn-anml data in one process" in capsys.readouterr().err
