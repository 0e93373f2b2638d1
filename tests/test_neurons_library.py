"""Building the compiled scans: found, kept, built anew when it must be, and done without when it cannot be."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from snn_anml.neurons import LIFParameters, lif, lif_eager
from snn_anml.neurons.cpu import library as building
from snn_anml.neurons.layout import layout_of
from tests.neuron_helpers import currents


@pytest.fixture
def anew():
    """`library()` looks again, before and after the test."""
    building.library.cache_clear()
    yield
    building.library.cache_clear()


def test_built_once_and_kept(tmp_path):
    first = building._build(building.compiler(), tmp_path)
    built = first.stat().st_mtime_ns
    assert building._build(building.compiler(), tmp_path) == first
    assert first.stat().st_mtime_ns == built
    assert [path.name for path in tmp_path.iterdir()] == [first.name]


def test_other_sources_flags_or_processor_are_built_anew(tmp_path, monkeypatch):
    names = set()
    monkeypatch.setattr(building.subprocess, "run", pretended)
    for change in ("", "FLAGS", "_processor"):
        with monkeypatch.context() as patch:
            if change == "FLAGS":
                patch.setattr(building, "FLAGS", ["-O0"])
            elif change:
                patch.setattr(building, "_processor", lambda: "another")
            names.add(building._build(["c++"], tmp_path).name)
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
    monkeypatch.setattr(building.shutil, "which", lambda name: None)
    x = currents((4, 3), 0)
    with pytest.warns(RuntimeWarning, match=rf"step by step.*{word}"):
        ours = lif(x, LIFParameters())
    assert torch.equal(ours[0], lif_eager(x, LIFParameters())[0])
    lif(x, LIFParameters())  # and says so once


def test_a_folder_that_cannot_be_written_is_passed_by(tmp_path, monkeypatch):
    monkeypatch.setattr(building.os, "access", lambda *_: False)
    monkeypatch.setattr(building.platformdirs, "user_cache_dir", lambda *_, **__: str(tmp_path))
    assert building._folder() == tmp_path / "compiled"


def test_importing_neurons_builds_nothing():
    code = "import sys, snn_anml.neurons; sys.exit('snn_anml.neurons.cpu.library' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_layouts_expand_as_torch_does():
    """An operand read through its pattern is the broadcast operand, for every shape that broadcasts."""
    x = currents((2, 2, 3, 4, 5), 0)[0:2].detach()
    for laid in (x, x.flatten(0, 1).to(memory_format=torch.channels_last).unflatten(0, (2, 2))):
        layout = layout_of(laid)
        assert torch.equal(layout.unflat(layout.flat(laid)), laid)
        for bits in range(16):
            shape = [size if bits >> d & 1 else 1 for d, size in enumerate(layout.shape)]
            operand = torch.rand(1, *shape)
            flat, (M, K, so, sm, sk) = layout.operand(operand)
            n = torch.arange(layout.neurons)
            read = flat[0][n // (M * K) * so + n // K % M * sm + n % K * sk]
            assert torch.equal(read, layout.flat(operand.expand(1, *layout.shape))[0])
