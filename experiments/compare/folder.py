"""The folder of a comparison: what lies in it, and where."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from experiments.run_folder import RunFolder

FLOAT = "float32"
"""The form of a network as it was trained; others are `int8` and the like."""
KEYS = ("arm", "form", "seed")
"""Columns that every long table has of its runs."""


@dataclass(frozen=True)
class CompareFolder:
    """Paths of one comparison. Every arm and seed has a run folder of its own below `runs`."""

    path: Path

    @property
    def comparison(self) -> Path:
        """The plan with everything resolved, itself a comparison file, and its provenance."""
        return self.path / "comparison.yaml"

    @property
    def results(self) -> Path:
        """The folder of the long tables."""
        return self.path / "results"

    @property
    def tables(self) -> Path:
        """The folder of the report's tables."""
        return self.path / "tables"

    @property
    def figures(self) -> Path:
        """The folder of the report's figures."""
        return self.path / "figures"

    @property
    def report(self) -> Path:
        """The page."""
        return self.path / "report.html"

    @property
    def cluster(self) -> Path:
        """What submitit writes of its jobs."""
        return self.path / "submitit"

    def run(self, arm: str, seed: int) -> RunFolder:
        """The run of an arm."""
        return RunFolder(self.path / "runs" / arm / f"seed-{seed}")

    def table(self, name: str) -> Path:
        """A long table, such as `accuracy`."""
        return self.results / f"{name}.csv"
