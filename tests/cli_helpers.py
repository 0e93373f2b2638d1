"""The command line in process, and configurations small enough to run many times."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from experiments.cli import main

TINY: dict[str, Any] = {
    "data": {"name": "glyphs", "size": 14, "glyph_classes": 60, "meta_test_classes": 10, "selection_classes": 4},
    "network": {"widths": [6, 8], "nm_widths": [4, 4], "steps": 3, "gate": "hard_sigmoid"},
    "train": {"warm_steps": 20, "warm_batch": 8, "meta_steps": 20, "log_every": 5, "checkpoint_every": 8},
    "meta": {"classes": 4, "shots": 2},
    "meta_test": {"milestones": [2, 5, 10], "draws": 2, "paper_draws": 1, "selection_draws": 1},
    "export": {"samples": 12, "classes": 5},
}


class Said(NamedTuple):
    """Exit code of a command, and what it wrote."""

    code: int
    out: str
    err: str


def snn_anml(*arguments: object) -> Said:
    """`snn-anml` with these arguments."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as leaving:  # --help and --version
            code = int(leaving.code or 0)
    return Said(code, out.getvalue(), err.getvalue())


def refused(*arguments: object) -> str:
    """The one sentence with which a command refuses a user's mistake."""
    said = snn_anml(*arguments)
    assert said.code == 2, said
    assert said.err.startswith("snn-anml: "), said.err
    assert said.err.count("\n") == 1, said.err
    assert said.err.endswith((".\n", "'.\n")), said.err
    for inner in ("Traceback", "<class", "Parser key", "typing."):
        assert inner not in said.err
    return said.err.removeprefix("snn-anml: ").strip()


def write_yaml(path: Path, content: Any) -> Path:
    """Writes a configuration file."""
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by its path in it."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
