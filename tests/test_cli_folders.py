"""Data and run folders from the command line: missing, damaged, foreign, in use."""

import io
import pickle
import shutil

import pytest
import yaml
from rich.console import Console

from converters import load_graph
from experiments.cli import show_accuracy
from experiments.csv_files import write_csv
from experiments.run_folder import RunFolder, sole_writer
from snn_anml import checkpoint
from snn_anml.errors import UserError
from snn_anml.meta.heads import HEADS
from snn_anml.meta.sequential import Outcome
from snn_anml.model_io import load, load_head
from tests.cli_helpers import contents, refused, snn_anml, write_yaml
from tests.test_checkpoint import Bomb

TENSOR_FILES = ("model", "training", "heads", "export/graph")
pytestmark = pytest.mark.usefixtures("cache")


# --- data


def omniglot(monkeypatch, path):
    monkeypatch.setenv("SNN_ANML_DATA", str(path))
    return "train", "--data.name", "omniglot", "--out", path.parent / "run"


def test_a_data_folder_that_is_not_there(tmp_path, monkeypatch):
    nowhere = tmp_path / "nowhere"
    assert refused(*omniglot(monkeypatch, nowhere)) == (
        f"SNN_ANML_DATA names {nowhere}, which is no folder; correct it or unset it."
    )
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv("COLUMNS", "500")
    listed = snn_anml("data", "list")
    assert listed.code == 0
    assert f" {nowhere / 'omniglot'} " in listed.out


def test_damaged_data(tmp_path, monkeypatch):
    for half in ("images_background", "images_evaluation"):
        path = tmp_path / "omniglot" / f"{half}.zip"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"PK\x03\x04 cut short")
    sentence = refused(*omniglot(monkeypatch, tmp_path))
    assert "images_background.zip cannot be read (File is not a zip file); delete it" in sentence
    assert not (tmp_path.parent / "run").exists()


def test_data_in_another_layout(tmp_path, monkeypatch):
    for half in ("images_background", "images_evaluation"):
        (tmp_path / "omniglot" / half / "Greek").mkdir(parents=True)
        (tmp_path / "omniglot" / half / "Greek" / "alpha.png").write_bytes(b"")
    assert "which is not of the form ALPHABET/characterNN/CCCC_DD.png" in refused(*omniglot(monkeypatch, tmp_path))


def test_data_other_than_the_run_was_trained_on(run):
    path = run / "config.yaml"
    config = yaml.safe_load(path.read_text())
    config["provenance"]["data_sha256"] = "0" * 64
    write_yaml(path, config)
    before = contents(run)
    for command in (["meta-test", run], ["export", run], ["energy", run]):
        assert f"{run} was trained on other data" in refused(*command)
    assert contents(run) == before


# --- run folders


def test_a_folder_that_holds_a_run_is_not_written_over(run, tiny):
    before = contents(run)
    for command in ("run", "train"):
        assert refused(command, "--config", tiny, "--out", run) == (
            f"{run} already holds a run; go on with --resume, or choose another --out."
        )
    assert contents(run) == before


def test_a_run_of_another_configuration_is_not_resumed(run, tiny):
    before = contents(run)
    arguments = "--config", tiny, "--out", run, "--twin", "false", "--resume", "--train.meta_steps", "21"
    for command in ("run", "train"):
        assert refused(command, *arguments) == (
            f"{run} holds a run of another configuration (train.meta_steps: 20 there, 21 here); choose another --out."
        )
    assert contents(run) == before


def test_a_folder_with_something_else_is_left_alone(tmp_path, tiny):
    (tmp_path / "thesis.tex").write_text("years of work")
    for more in ([], ["--resume"]):
        said = refused("run", "--config", tiny, "--out", tmp_path, *more)
        assert said == f"{tmp_path} is not empty and holds no run; choose another --out."
    assert contents(tmp_path) == {"thesis.tex": b"years of work"}


def test_a_folder_in_use_by_another_process(run, tiny, tmp_path):
    for folder, commands in (
        (run, (["meta-test", run], ["export", run], ["energy", run])),
        (tmp_path / "new", (["train", "--config", tiny, "--out", tmp_path / "new"],)),
    ):
        with sole_writer(RunFolder(folder)):
            before = contents(folder)
            for command in commands:
                assert f"Another process is writing into {folder}" in refused(*command)
            assert contents(folder) == before


def test_a_folder_that_cannot_be_written(tmp_path, tiny, monkeypatch):
    file = tmp_path / "file"
    file.write_text("kept")
    assert refused("train", "--config", tiny, "--out", file) == f"{file} is a file; choose another --out."
    assert "cannot be made or opened" in refused("train", "--config", tiny, "--out", file / "run")

    def denied(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("snn_anml.files.tempfile.mkstemp", denied)
    said = refused("train", "--config", tiny, "--out", tmp_path / "run")
    assert said.endswith("config.yaml cannot be written (Permission denied); make room or choose another folder.")
    assert file.read_text() == "kept"


@pytest.mark.parametrize("command", ["meta-test", "export", "energy", "report"])
def test_a_folder_without_a_run(tmp_path, command):
    for folder in (tmp_path, tmp_path / "nowhere"):
        assert refused(command, folder) == (
            f"{folder} holds no run (no config.yaml); name a run folder, or make one with snn-anml run."
        )
    assert contents(tmp_path) == {}


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("meta-test", "There is no trained network at {}/model.safetensors; train it first, or name another run."),
        ("export", "There are no learned heads at {}/heads.safetensors; run the meta-test first, or name another run."),
        ("energy", "There are no learned heads at {}/heads.safetensors; run the meta-test first, or name another run."),
    ],
)
def test_a_run_that_is_not_trained_yet(untrained, command, sentence):
    assert refused(command, untrained) == sentence.format(untrained)
    assert set(contents(untrained)) == {"config.yaml"}


def test_a_head_that_was_not_learned(run):
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["meta_test"]["milestones"], config["export"]["classes"] = [3], 3
    write_yaml(run / "config.yaml", config)
    said = refused("export", run)
    assert "heads.safetensors holds no head 'class-mean' of 3 classes; it holds adam.10, " in said


# --- damaged checkpoints


def reading(name, run):
    """A sentence about a damaged file of a run, from the command that reads it (the graph has the library alone)."""
    if name == "model":
        return refused("meta-test", run)
    if name == "heads":
        return refused("export", run)
    if name == "training":
        (run / "model.safetensors").unlink()
        return refused("train", "--config", run / "config.yaml", "--out", run, "--resume")
    with pytest.raises(UserError) as caught:
        load_graph(run / "export" / "graph.safetensors")
    return str(caught.value)


@pytest.mark.parametrize("name", TENSOR_FILES)
@pytest.mark.parametrize("kept", [0, 200, -1])
def test_a_file_cut_short(run, name, kept):
    path = run / f"{name}.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    assert str(path) in reading(name, run)
    assert path.stat().st_size < 10**6  # nothing has replaced it


@pytest.mark.parametrize("name", TENSOR_FILES)
def test_a_file_with_a_changed_number(run, name):
    path = run / f"{name}.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-2] + bytes([content[-2] ^ 64]) + content[-1:])
    said = reading(name, run)
    assert str(path) in said
    assert "damaged" in said


@pytest.mark.parametrize("name", TENSOR_FILES)
def test_a_pickle_under_the_name_of_a_checkpoint_is_not_run(run, name, tmp_path):
    path = run / f"{name}.safetensors"
    path.write_bytes(pickle.dumps(Bomb(tmp_path / "exploded")))
    assert str(path) in reading(name, run)
    assert not (tmp_path / "exploded").exists()
    pickle.loads(path.read_bytes())
    assert (tmp_path / "exploded").exists()  # it would have


@pytest.mark.parametrize("name", ["model", "training", "heads"])
def test_a_checkpoint_of_another_version(run, name, monkeypatch):
    path = run / f"{name}.safetensors"
    tensors, header = checkpoint.load(path, name)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "VERSION", 2)
        checkpoint.save(path, name, tensors, header)
    assert reading(name, run) == (
        f"{path} is of checkpoint version 2, this program reads version 1; "
        "use the release that wrote it, or train again."
    )


@pytest.mark.parametrize(("name", "other"), [("model", "heads"), ("heads", "training"), ("training", "model")])
def test_a_checkpoint_of_another_kind(run, name, other):
    shutil.copy(run / f"{other}.safetensors", run / f"{name}.safetensors")
    assert f"{name}.safetensors is no snn-anml {name}; it says format 'snn-anml', kind '{other}'" in reading(name, run)


def test_the_library_says_the_same(run):
    assert load(run).classes == 36
    assert load_head(run, "class-mean", 5).head.weight.shape[0] == 5
    (run / "model.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match="cut short or damaged"):
        load(run)


@pytest.mark.parametrize("name", ["meta_test.csv", "activity.json", "metrics.jsonl", "export/certificate.json"])
def test_a_report_of_a_damaged_run(run, name):
    pytest.importorskip("matplotlib", reason="the extra report is not installed")
    (run / name).write_text("{]\n{]\n")
    refused("report", run)
    assert not (run / "report.html").exists()


# --- what is printed


def test_accuracies_of_all_heads_and_protocols_fit_80_columns(tmp_path):
    outcomes = [
        Outcome(protocol, head, classes, draw, 0, 1.0, 0.25 + draw / 4, 0.1, 1.0)
        for protocol in ("strict", "paper", "iid")
        for head in HEADS
        for classes in (10, 600)
        for draw in (0, 1)
    ]
    folder = RunFolder(tmp_path)
    write_csv(folder.meta_test, Outcome._fields, [outcome._asdict() for outcome in outcomes])
    console = Console(file=io.StringIO(), width=80)
    show_accuracy(folder, console)
    said = console.file.getvalue()
    assert all(said.count(word) == 3 for word in (*(f" {head} " for head in HEADS), " 600 "))
    assert said.count("0.375") == 3 * len(HEADS) * 2
