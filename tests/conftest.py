"""Fixtures of several files: a small configuration, and a finished run of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.cli_helpers import TINY, snn_anml, write_yaml
from tests.compare_helpers import COMPARISON, without_report


def _own_cache(patch: pytest.MonkeyPatch, factory: pytest.TempPathFactory) -> None:
    patch.setenv("SNN_ANML_CACHE", str(factory.mktemp("cache")))
    patch.delenv("SNN_ANML_DATA", raising=False)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Glyphs are drawn once, and not into the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        _own_cache(patch, tmp_path_factory)
        yield


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The small configuration as a file."""
    return write_yaml(tmp_path_factory.mktemp("config") / "tiny.yaml", TINY)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny, cache):
    """A run that is trained, meta-tested and exported, to copy and not to touch."""
    run = tmp_path_factory.mktemp("finished") / "run"
    assert snn_anml("train", "--config", tiny, "--out", run, "--twin", "false").code == 0
    assert snn_anml("meta-test", run).code == 0
    assert snn_anml("export", run, "--target", "interpreter").code == 0
    return run


@pytest.fixture
def run(finished, tmp_path):
    """A copy of the finished run."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


@pytest.fixture
def untrained(run):
    """A run with its configuration alone."""
    for path in run.iterdir():
        if path.name != "config.yaml":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return run


@pytest.fixture(scope="session")
def compared(tmp_path_factory):
    """A finished comparison without its report, to copy and not to touch."""
    folder = tmp_path_factory.mktemp("compared")
    with pytest.MonkeyPatch.context() as patch:
        _own_cache(patch, tmp_path_factory)
        without_report(patch)
        plan = write_yaml(folder / "small.yaml", COMPARISON)
        said = snn_anml("compare", plan, "--out", folder / "out", "--jobs", "2")
    assert said.code == 0, said
    return folder / "out"
