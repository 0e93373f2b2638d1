"""The run folder: nothing in it is lost, and nobody else's run is taken for one's own."""

import os
import subprocess
import sys
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest
import yaml

from experiments import run_folder
from experiments.run_folder import (
    RunFolder,
    check_data,
    first_difference,
    git_commit,
    open_run,
    read_provenance,
    sole_writer,
    to_plain,
    training_hash,
    versions,
)
from snn_anml.config import MetaTestConfig, RunConfig, TrainConfig
from snn_anml.errors import UserError
from tests.cli_helpers import contents

CONFIG = RunConfig(seed=3, meta_test=MetaTestConfig(draws=4))
HASH = "a" * 64
ROOT = Path(__file__).parents[1]


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path / "run")


def opened(folder, config=CONFIG, data_hash=HASH, resume=False):
    open_run(folder, config, data_hash, "cpu", resume)
    return folder


def test_a_new_run_records_what_it_depends_on(folder):
    opened(folder)
    assert folder.require() == CONFIG
    provenance = read_provenance(folder)
    assert provenance["data_sha256"] == HASH
    assert provenance["device"] == "cpu"
    assert provenance["git_commit"] == git_commit()
    assert provenance["versions"] == versions()
    assert provenance["machine"]
    assert set(contents(folder.path)) == {"config.yaml"}


def test_versions_are_those_installed():
    found = versions()
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    for package in ("torch", "numpy"):
        assert found[package] == metadata.version(package)


def test_the_commit_is_that_of_git_and_says_when_the_tree_was_edited(monkeypatch):
    def answering(status):
        def run(command, **_):
            return subprocess.CompletedProcess(command, 0, status if "status" in command else "0123abcd\n", "")

        return run

    monkeypatch.setattr(subprocess, "run", answering(""))
    assert git_commit() == "0123abcd"
    monkeypatch.setattr(subprocess, "run", answering(" M file.py\n"))
    assert git_commit() == "0123abcd+changes"


def test_installed_beside_another_project_the_commit_is_unknown(tmp_path, monkeypatch):
    """As in the ignored .venv of a repository, whose commit says nothing of this package."""
    author = "-c", "user.name=name", "-c", "user.email=mail"
    for command in (["init", "-q"], [*author, "commit", "-q", "--allow-empty", "-m", "first"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    monkeypatch.setattr(run_folder, "__file__", str(tmp_path / "run_folder.py"))
    assert git_commit() == "unknown"


def test_without_git_the_commit_is_unknown(monkeypatch):
    def absent(*_, **__):
        raise FileNotFoundError("git")

    monkeypatch.setattr(subprocess, "run", absent)
    assert git_commit() == "unknown"


def test_a_second_run_is_refused_and_loses_nothing(folder):
    before = contents(opened(folder).path)
    with pytest.raises(UserError, match=r"run already holds a run; go on with --resume, or choose another --out\.$"):
        opened(folder)
    assert contents(folder.path) == before


def test_the_same_run_resumes(folder):
    before = contents(opened(folder).path)
    opened(folder, resume=True)
    assert contents(folder.path) == before


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (replace(CONFIG, seed=4), r"\(seed: 3 there, 4 here\)"),
        (replace(CONFIG, train=TrainConfig(meta_steps=7)), r"\(train\.meta_steps: 1000 there, 7 here\)"),
        (
            replace(CONFIG, meta_test=replace(CONFIG.meta_test, milestones=(10, 200))),
            r"\(meta_test\.milestones: \[10, 50, .*\] there, \[10, 200\] here\)",
        ),
    ],
)
def test_a_run_of_another_configuration_does_not_resume(folder, changed, message):
    before = contents(opened(folder).path)
    with pytest.raises(UserError, match=message):
        opened(folder, changed, resume=True)
    assert contents(folder.path) == before


def test_a_run_on_other_data_does_not_resume(folder):
    opened(folder)
    with pytest.raises(
        UserError, match=r"trained on other data \(sha256 aaaaaaaaaaaa\.\.\. there, bbbbbbbbbbbb\.\.\. here"
    ):
        opened(folder, data_hash="b" * 64, resume=True)
    check_data(folder, HASH)


def test_a_run_without_provenance_is_of_any_data(folder):
    opened(folder)
    folder.config.write_text(yaml.safe_dump(to_plain(CONFIG) | {"provenance": None}))
    assert read_provenance(folder) == {}
    check_data(folder, "b" * 64)


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_with_other_things_is_left_alone(folder, resume):
    folder.path.mkdir()
    (folder.path / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="not empty and holds no run; choose another --out"):
        opened(folder, resume=resume)
    assert contents(folder.path) == {"thesis.tex": b"years of work"}


def test_an_empty_folder_will_do(folder):
    folder.path.mkdir()
    assert opened(folder).require() == CONFIG


def test_resuming_what_is_not_there_starts_it(folder):
    assert opened(folder, resume=True).require() == CONFIG


def test_a_file_is_no_folder(folder):
    folder.path.write_text("a file")
    with pytest.raises(UserError):
        opened(folder)
    assert folder.path.read_text() == "a file"


def test_a_folder_without_a_run_is_named(folder):
    with pytest.raises(UserError, match=r"run holds no run \(no config\.yaml\); name a run folder"):
        folder.require()
    folder.path.mkdir(exist_ok=True)
    (folder.path / "comparison.yaml").touch()
    with pytest.raises(UserError, match="run holds a comparison; use snn-anml compare --out "):
        folder.require()


@pytest.mark.parametrize("content", [b"", b"\x00\xff\xfe", b"seed: [1", b"- 1\n", b"sead: 1\n", b"seed: x\n"])
def test_a_damaged_configuration_is_named(folder, content):
    opened(folder).config.write_bytes(content)
    with pytest.raises(UserError, match=r"config\.yaml"):
        folder.require()


def test_first_difference_names_the_setting_in_full():
    assert first_difference({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}}) == ("a.c", 2, 3)
    assert first_difference({"a": 1}, {"a": 1}) is None
    assert first_difference({}, {"a": 0}) == ("a", None, 0)


def test_the_training_hash_follows_what_the_weights_depend_on():
    base = training_hash(CONFIG, HASH)
    assert training_hash(RunConfig(**{k: getattr(CONFIG, k) for k in CONFIG.__dataclass_fields__}), HASH) == base
    same = [
        replace(CONFIG, train=TrainConfig(log_every=1, checkpoint_every=3, tensorboard=True)),
        replace(CONFIG, twin=False),
        replace(CONFIG, meta_test=MetaTestConfig(draws=1)),
        replace(CONFIG, export=replace(CONFIG.export, samples=1, classes=100)),
    ]
    by_synapse = replace(CONFIG, train=TrainConfig(spike_cost="synapse"))
    other = [
        replace(CONFIG, seed=4),
        replace(CONFIG, train=TrainConfig(meta_steps=7)),
        replace(CONFIG, train=TrainConfig(precision="bfloat16")),
        replace(CONFIG, network=replace(CONFIG.network, beta=0.8)),
        replace(CONFIG, meta=replace(CONFIG.meta, shots=1)),
        replace(CONFIG, data=replace(CONFIG.data, size=20)),
        by_synapse,
        replace(CONFIG, train=TrainConfig(spike_schedule="linear")),
        replace(by_synapse, export=replace(CONFIG.export, classes=100)),
    ]
    assert {training_hash(config, HASH) for config in same} == {base}
    hashes = {training_hash(config, HASH) for config in other} | {training_hash(CONFIG, "b" * 64)}
    assert len(hashes) == len(other) + 1
    assert base not in hashes


def test_a_folder_that_stayed_empty_is_removed_again(folder):
    with sole_writer(folder):
        assert folder.path.is_dir()
    assert not folder.path.exists()
    with pytest.raises(ZeroDivisionError), sole_writer(folder):
        raise ZeroDivisionError
    assert not folder.path.exists()
    with sole_writer(folder):
        opened(folder)
    assert folder.require() == CONFIG


@pytest.mark.skipif(sys.platform == "win32", reason="no such locks on Windows")
def test_only_one_process_writes_into_a_folder(folder):
    hold = (
        "import sys; from pathlib import Path\n"
        "from experiments.run_folder import RunFolder, sole_writer\n"
        "with sole_writer(RunFolder(Path(sys.argv[1]))):\n"
        "    print('held', flush=True); sys.stdin.readline(); import os; os._exit(9)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(folder.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=r"Another process is writing into .*; wait for it"), sole_writer(folder):
            pytest.fail("two processes hold the folder")
        other.stdin.write("\n")
    assert other.returncode == 9  # gone without a farewell, and the lock with it
    with sole_writer(folder):
        pass


def test_where_there_are_no_locks_it_goes_on_without(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with sole_writer(folder):
        opened(folder)
    assert folder.require() == CONFIG


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("kept")
    with (
        pytest.raises(UserError, match=r"file is a file; choose another --out"),
        sole_writer(RunFolder(tmp_path / "file")),
    ):
        pass
    inside = RunFolder(tmp_path / "file" / "run")
    with pytest.raises(UserError, match=r"file/run cannot be made or opened \(.+\); choose"), sole_writer(inside):
        pass
    assert (tmp_path / "file").read_text() == "kept"


def test_a_folder_without_permission_is_named(folder, monkeypatch):
    def denied(*_, **__):
        raise PermissionError(13, "Permission denied", str(folder.path))

    monkeypatch.setattr(run_folder.os, "open", denied)
    with pytest.raises(UserError, match=r"run cannot be made or opened \(Permission denied\)"), sole_writer(folder):
        pass


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="this user may write everywhere")
def test_a_read_only_folder_is_named(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(UserError, match="Permission denied"), sole_writer(RunFolder(tmp_path / "run")):
            pass
    finally:
        tmp_path.chmod(0o700)
