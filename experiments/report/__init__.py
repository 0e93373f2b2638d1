"""One self-contained page of figures and tables for one run, or for several side by side."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from snn_anml.errors import MissingExtraError

__all__ = ["write_report"]


def write_report(runs: Sequence[Path], out: Path) -> Path:
    """Writes the report, and the numbers behind it as `tables/*.csv` into every run folder.

    Args:
        runs: run folders, at least one. Parts of a run that are not there yet are named in their place.
        out: the page, an HTML file that loads nothing from anywhere.

    Returns:
        `out`.

    Raises:
        MissingExtraError: matplotlib or Jinja2 is not installed.
        UserError: no folder given, a folder that holds no run, or a damaged file in it.
    """
    if any(find_spec(package) is None for package in ("matplotlib", "jinja2")):
        raise MissingExtraError("The report", "report")
    from experiments.report.page import write_page

    return write_page(runs, out)
