"""Compiled C++: built, kept, built anew when it must be, and done without when it cannot be."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from snn_anml import compiled
from snn_anml.meta.softmax_layer import SoftmaxLayer
from snn_anml.neurons import LIFParameters, lif, lif_eager
from snn_anml.neurons.cpu import SOURCE
from tests.neuron_helpers import currents


@pytest.fixture
def anew():
    """`library()` looks again, before and after the test."""
    compiled.library.cache_clear()
    yield
    compiled.library.cache_clear()


def test_built_once_and_kept(tmp_path):
    first = compiled._build(SOURCE, compiled.compiler(), tmp_path)
    built = first.stat().st_mtime_ns
    assert compiled._build(SOURCE, compiled.compiler(), tmp_path) == first
    assert first.stat().st_mtime_ns == built
    assert [path.name for path in tmp_path.iterdir()] == [first.name]


def test_other_sources_flags_or_processor_are_built_anew(tmp_path, monkeypatch):
    names = set()
    monkeypatch.setattr(compiled.subprocess, "run", pretended)
    for change in ("", "FLAGS", "_processor"):
        with monkeypatch.context() as patch:
            if change == "FLAGS":
                patch.setattr(compiled, "FLAGS", ["-O0"])
            elif change:
                patch.setattr(compiled, "_processor", lambda: "another")
            names.add(compiled._build(SOURCE, ["c++"], tmp_path).name)
    assert len(names) == 3


def pretended(command, **_):
    """A compiler that says its version and writes an empty file."""
    if "-o" in command:
        Path(command[command.index("-o") + 1]).touch()
    return subprocess.CompletedProcess(command, 0, stdout="1.0")


@pytest.mark.parametrize(
    ("command", "word"), [("", "no C\\+\\+ compiler"), ("no-such-compiler", "no-such-compiler"), ("false", "non-zero")]
)
def test_without_a_compiler_the_definition_runs_and_says_so(command, word, anew, monkeypatch):
    monkeypatch.setenv("CXX", command)
    monkeypatch.setattr(compiled.shutil, "which", lambda name: None)
    x = currents((4, 3), 0)
    with pytest.warns(RuntimeWarning, match=rf"step by step.*{word}"):
        ours = lif(x, LIFParameters())
    assert torch.equal(ours[0], lif_eager(x, LIFParameters())[0])
    lif(x, LIFParameters())  # and says so once


def test_heads_learn_without_a_compiler_and_say_so(anew, monkeypatch):
    inputs, own = torch.rand(3, 4), torch.tensor([0, 1, 1])
    layers = [SoftmaxLayer(torch.zeros(2, 4), 0.1, adam=True) for _ in range(2)]
    layers[0].learn(slice(None), inputs, own)
    compiled.library.cache_clear()
    monkeypatch.setattr(compiled, "compiler", lambda: None)
    with pytest.warns(RuntimeWarning, match=r"Heads learn step by step.*softmax_layer\.cpp.*no C\+\+ compiler"):
        layers[1].learn(slice(None), inputs, own)
    torch.testing.assert_close(layers[1].weights, layers[0].weights)


def test_a_folder_that_cannot_be_written_is_passed_by(tmp_path, monkeypatch):
    monkeypatch.setattr(compiled.os, "access", lambda *_: False)
    monkeypatch.setattr(compiled.platformdirs, "user_cache_dir", lambda *_, **__: str(tmp_path))
    assert compiled._folder(SOURCE) == tmp_path / "compiled"


@pytest.mark.parametrize("module", ["neurons", "meta"])
def test_importing_builds_nothing(module):
    code = f"import snn_anml.{module}; from snn_anml import compiled; exit(compiled.library.cache_info().currsize)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
