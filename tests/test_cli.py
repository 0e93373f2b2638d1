"""The command line, as somebody uses it who makes every mistake: one sentence, exit code 2, nothing lost."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import converters
from experiments.csv_files import read_csv
from experiments.run_folder import RunFolder
from tests.cli_helpers import TINY, refused, snn_anml, write_yaml

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.usefixtures("cache")


# --- help


LEVELS = (
    [],
    ["run"],
    ["train"],
    ["meta-test"],
    ["export"],
    ["energy"],
    ["compare"],
    ["report"],
    ["data"],
    ["data", "list"],
    ["data", "fetch"],
)


@pytest.mark.parametrize("command", LEVELS, ids=" ".join)
def test_help_on_every_level(command):
    said = snn_anml(*command, "--help")
    assert said.code == 0
    assert said.err == ""
    assert said.out.startswith(" ".join(["usage: snn-anml", *command]))
    for inner in ("<class", "typing.", "Literal[", "null", "CONFIG", "[options]", "==SUPPRESS=="):
        assert inner not in said.out
    described = said.out.split("\n\n")[1]
    assert described.rstrip().endswith(".")


def test_help_names_commands_targets_and_datasets():
    overview = snn_anml("--help").out
    assert all(f" {command[0]} " in overview or f" {command[0]}\n" in overview for command in LEVELS if command)
    export = snn_anml("export", "--help").out
    assert all(name in export for name in converters.backends())
    assert "glyphs, omniglot" in snn_anml("data", "fetch", "--help").out


def test_help_shows_every_setting_with_its_default():
    said = " ".join(snn_anml("run", "--help").out.split())
    for option in ("--config FILE", "--out DIR", "--resume", "--seed", "--device cpu|cuda"):
        assert option in said
    assert "--train.learning_rate LEARNING_RATE peak learning rate of Adam. (default: 0.003)" in said
    assert "--provenance" not in said


def test_the_version():
    assert snn_anml("--version").out.startswith("snn-anml ")


def test_help_does_not_wait_for_torch():
    code = (
        "import sys; from experiments.cli import main\n"
        "try: main(['train', '--help'])\n"
        "finally: sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


# --- commands and options


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "No command was given; --help names those there are."),
        (
            ["tran"],
            "There is no command 'tran'; choose from run, train, meta-test, export, energy, compare, report, data.",
        ),
        (["data"], "No command was given; --help names those there are."),
        (["data", "get"], "There is no command 'get'; choose from list, fetch."),
        (["data", "fetch"], "NAME must be given; --help says how."),
        (["data", "fetch", "mnist"], "There is no dataset 'mnist'; known are glyphs, omniglot."),
        (["meta-test"], "RUN must be given; --help says how."),
        (["report"], "RUN must be given; --help says how."),
        (["train", "--epochs", "3"], "Unknown option --epochs 3; --help names all of them."),
        (["train", "--train.epochs", "3"], "Unknown option --train.epochs 3; --help names all of them."),
        (["train", "--seed", "one"], "seed = one; it must be a whole number."),
        (["train", "--seed", "null"], "seed = None; it must be a whole number."),
        (["train", "--data", "{size: null}"], "data.size is empty; give it a value, or leave it out."),
        (["train", "--seed", "-1"], "seed = -1; it must be in [0, 2^31)."),
        (["train", "--twin", "perhaps"], "twin = perhaps; it must be true or false."),
        (["train", "--train.learning_rate", "fast"], "train.learning_rate = fast; it must be a number."),
        (["train", "--network.neuron", "alif"], "network.neuron = alif; it must be one of lif, relu."),
        (["train", "--network.widths", "32"], "network.widths = 32; it must be a list, such as [a, b]."),
        (["train", "--network.widths", "[a]"], "network.widths = a; it must be a whole number."),
        (["train", "--network.beta", "2"], "network.beta = 2.0; it must be in [0, 1]."),
        (
            ["train", "--meta_test.heads", "[knn]"],
            "meta_test.heads = knn; it must be one of adam, sgd, unit-sgd, class-mean, cosine, gaussian.",
        ),
        (["train", "--data", "glyphs"], "data is a section of settings; give single ones, as --data.KEY VALUE."),
        (["train", "--data.name", "mnist"], "There is no dataset 'mnist'; known are glyphs, omniglot."),
        (["train", "--device", "tpu"], "Unknown device 'tpu'; use cpu or cuda."),
        (["meta-test", "x", "--protocols", "mine"], "protocols = mine; it must be one of strict, paper, iid."),
        (["compare", "--seeds", "0", "one"], "seeds = one; it must be a whole number."),
        (["compare", "--jobs", "two"], "jobs = two; it must be a whole number."),
        (
            ["compare", "absent.yaml", "--out", "out"],
            "There is no configuration file absent.yaml; name another.",
        ),
        (["export", "x", "--check", "all"], "check = all; it must be a whole number."),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_in_commands_and_options(tmp_path, monkeypatch, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    assert refused(*arguments) == sentence
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
@pytest.mark.parametrize("command", ["run", "train"])
def test_a_gpu_asked_for_where_there_is_none(tmp_path, tiny, command):
    sentence = refused(command, "--config", tiny, "--out", tmp_path / "run", "--device", "cuda")
    assert sentence == "Device cuda was asked for, but torch sees no GPU here; use --device cpu."
    assert not (tmp_path / "run").exists()


def test_a_meta_test_on_a_gpu_where_there_is_none(run, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "torch sees no GPU here" in refused("meta-test", run, "--device", "cuda")


# --- configuration files


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("train:\n  foo: 1\n", ": unknown key train.foo; train takes warm_steps, warm_batch, "),
        ("foo: 1\n", ": unknown key foo; the top level takes seed, twin, data, "),
        ("1: 1\n", ": unknown key 1; the top level takes seed, "),
        ("network:\n  steps: four\n", ": network.steps = four; it must be a whole number."),
        ("network: {steps: 2.5}\n", ": network.steps = 2.5; it must be a whole number."),
        ("network: {steps: }\n", ": network.steps is empty; give it a value, or leave it out."),
        ("network: {widths: [8, x]}\n", ": network.widths = x; it must be a whole number."),
        ("network: {neuron: lfi}\n", ": network.neuron = lfi; it must be one of lif, relu."),
        ("seed: true\n", ": seed = True; it must be a whole number."),
        ("network: 3\n", ": network = 3; it must be a section of settings (KEY: VALUE)."),
        ("network:\n", ": network is empty; give it a value, or leave it out."),
        ("seed: null\n", ": seed is empty; give it a value, or leave it out."),
        ("seed: 1\ntrain: {}\nseed: 2\n", ", line 3, column 1: no YAML, the key seed stands there twice; correct it."),
        ("{a: 1}: 2\n", ", line 1, column 1: no YAML, found unhashable key; correct it."),
        ("title: x\narms: {}\n", " is a comparison; give it to snn-anml compare."),
        ("- seed\n- 1\n", " holds a list where settings (KEY: VALUE) must be, such as seed: 0."),
        ("seed\n", " holds a str where settings (KEY: VALUE) must be, such as seed: 0."),
        ("", " is empty where settings (KEY: VALUE) must be, such as seed: 0."),
        ("data:\n\tname: glyphs\n", ", line 2, column 1: no YAML, found character '\\t' that cannot start any token"),
        ("data: {name: glyphs\n", ", line 2, column 1: no YAML, expected ',' or '}'"),
        ("a: *b\n", ", line 1, column 4: no YAML, found undefined alias 'b'; correct it."),
        ("seed: !!python/object/apply:os.mkdir [made]\n", ", line 1, column 7: no YAML, could not determine a con"),
        (b"\x89PNG\r\n\x1a\n\x00\xff\xfe", " is no text in UTF-8; a configuration is a YAML file."),
        (b"\x00\x01\x02", " holds characters that YAML does not allow; a configuration is a YAML file."),
    ],
    ids=repr,
)
def test_mistakes_in_a_configuration_file(tmp_path, monkeypatch, content, sentence):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "mine.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    said = refused("train", "--config", path, "--out", tmp_path / "run")
    assert said.startswith(f"{path}{sentence}")
    assert list(tmp_path.iterdir()) == [path]


def test_a_configuration_file_that_is_none(tmp_path):
    absent = tmp_path / "absent.yaml"
    assert refused("train", "--config", absent) == (
        f"There is no configuration file {absent}; name one, or leave --config out."
    )
    assert f"The configuration file {tmp_path} cannot be read" in refused("train", "--config", tmp_path)


def test_options_override_the_file_and_may_mend_it(tmp_path):
    path = write_yaml(tmp_path / "c.yaml", TINY | {"train": {"warm_steps": -1, "meta_steps": 0, "warm_batch": 4}})
    out = tmp_path / "run"
    assert refused("train", "--config", path, "--out", out) == "train.warm_steps = -1; it must be 0 or more."
    assert snn_anml("train", "--config", path, "--train.warm_steps", "1", "--seed", "5", "--out", out).code == 0
    config = RunFolder(out).require()
    assert (config.train.warm_steps, config.train.warm_batch, config.seed) == (1, 4, 5)


def test_the_configuration_of_a_finished_run_makes_another(run, tmp_path):
    again = tmp_path / "again"
    assert snn_anml("train", "--config", run / "config.yaml", "--out", again).code == 0
    assert RunFolder(again).require() == RunFolder(run).require()
    assert (again / "model.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()


def test_the_default_folder_is_named_after_dataset_and_neuron(tmp_path, monkeypatch, tiny):
    monkeypatch.chdir(tmp_path)
    short = ["--train.warm_steps", "0", "--train.meta_steps", "0"]
    assert snn_anml("train", "--config", tiny, "--network.neuron", "relu", *short).code == 0
    assert (tmp_path / "runs" / "glyphs_relu" / "model.safetensors").is_file()


# --- more than there is: refused before anything is trained or written


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--data.glyph_classes", "20"], "10 meta-test classes were asked for, but glyphs has 8 evaluation classes"),
        (["--data.selection_classes", "50"], "50 selection classes were asked for"),
        (["--meta.classes", "37"], "meta.classes = 37, but there are only 36 meta-training classes; lower it."),
        (["--meta.shots", "20"], "meta.shots + meta.queries = 21, but a class has 20 drawings; lower one."),
        (["--meta_test.shots", "20"], "meta_test.shots = 20, but a class of glyphs has 20 drawings"),
        (
            ["--meta_test.milestones", "[5, 11]"],
            "meta_test.milestones ends at 11 classes, but data.meta_test_classes = 10",
        ),
        (["--export.samples", "26"], "26 drawings were asked for, but 5 classes have 25 held-out drawings"),
        (
            ["--export.backends", "[nengo, spinnaker]"],
            "There is no simulator 'spinnaker'; choose from interpreter, torch, ",
        ),
        (["--network.surrogate", "step"], "Unknown surrogate 'step'; known are fast_sigmoid, "),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_configuration_that_asks_for_too_much(tmp_path, tiny, options, sentence):
    out = tmp_path / "run"
    assert sentence in refused("run", "--config", tiny, "--out", out, *options)
    assert not out.exists()


# --- the commands themselves


def test_a_protocol_beside_those_of_the_configuration(run):
    before, heads = read_csv(run / "meta_test.csv"), (run / "heads.safetensors").read_bytes()
    assert snn_anml("meta-test", run, "--protocols", "iid").code == 0
    after = read_csv(run / "meta_test.csv")
    assert after[: len(before)] == before
    assert {row["protocol"] for row in after[len(before) :]} == {"iid"}
    assert (run / "heads.safetensors").read_bytes() == heads
    assert snn_anml("meta-test", run, "--protocols", "iid").code == 0
    assert read_csv(run / "meta_test.csv") == after
    assert "--protocols is for the meta-test of the network itself" in refused(
        "meta-test", run, "--protocols", "iid", "--target", "interpreter"
    )


def test_an_empty_world_size_is_one_process(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "")
    assert snn_anml("data", "list").code == 0


def test_data_list_and_fetch_of_what_is_made_on_the_spot():
    listed = snn_anml("data", "list")
    assert listed.code == 0
    assert "glyphs" in listed.out
    assert snn_anml("data", "fetch", "glyphs") == (0, "Nothing to download: it is made on the spot.\n", "")
