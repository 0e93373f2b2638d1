"""A run folder, read: whatever of it is there."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from converters import Certificate, load_certificate
from experiments.csv_files import read_csv
from experiments.export import TIMES
from experiments.report.statistics import Summary, summarise
from experiments.run_folder import RunFolder, read_provenance
from snn_anml.config import RunConfig
from snn_anml.errors import UserError
from snn_anml.meta import Outcome

SPIKING, TWIN = "spiking", "conventional twin"
CONVENTIONAL = "conventional"  # in published layers, which no spiking network has

MEASURED = ("learning_rate", "train_accuracy", "test_accuracy", "first_test_accuracy")
"""Columns of meta_test.csv that hold numbers, beside the whole ones."""


@dataclass(frozen=True, eq=False)
class Network:
    """One trained network: the run's own, or its conventional twin.

    Attributes:
        name: `spiking` or `conventional twin`, as in energy.csv; `conventional` in published layers.
        folder: where it lies.
        config: of its training.
        metrics: the lines of metrics.jsonl; empty without it.
        summaries: of its meta-test; empty without it.
        activity: of activity.json; empty without it.
    """

    name: str
    folder: RunFolder
    config: RunConfig
    metrics: list[dict[str, Any]]
    summaries: list[Summary]
    activity: dict[str, Any]

    def summary(self, protocol: str, head: str, classes: int) -> Summary | None:
        """The summary of that protocol, head and number of classes, if there is one."""
        wanted = protocol, head, classes
        return next((s for s in self.summaries if (s.protocol, s.head, s.classes) == wanted), None)


@dataclass(frozen=True, eq=False)
class Run:
    """One run folder.

    Attributes:
        label: its name on the page.
        networks: its own network, then the conventional twin if there is one.
        energy: rows of energy.csv, numbers as float; empty without it.
        certificate: of its export, or None.
        simulations: rows of export/simulations.csv; empty without it.
        provenance: versions, commit, data hash and device.
    """

    label: str
    folder: RunFolder
    config: RunConfig
    networks: tuple[Network, ...]
    energy: list[dict[str, Any]]
    certificate: Certificate | None
    simulations: list[dict[str, Any]]
    provenance: dict[str, Any]

    @property
    def network(self) -> Network:
        """The run's own network."""
        return self.networks[0]


def read_runs(paths: Sequence[Path]) -> list[Run]:
    """Reads run folders; labels are folder names, with as many parents as tell them apart.

    Raises:
        UserError: no folder, the same folder twice, a folder that holds no run, or a damaged file.
    """
    if not paths:
        raise UserError("A report needs at least one run folder; name one.")
    resolved = [Path(path).resolve() for path in paths]
    if len(set(resolved)) < len(resolved):
        raise UserError("A run folder was named twice; name each run once.")
    depth = 1
    while len({path.parts[-depth:] for path in resolved}) < len(resolved):
        depth += 1
    return [read_run(path, "/".join(path.parts[-depth:])) for path in resolved]


def read_run(path: Path, label: str) -> Run:
    """Reads one run folder; see `Run`."""
    folder = RunFolder(path)
    config = folder.require()
    networks = [_read_network(folder, config)]
    if folder.twin.config.is_file():
        networks.append(_read_network(folder.twin, folder.twin.require()))
    certificate = load_certificate(folder.certificate) if folder.certificate.is_file() else None
    return Run(
        label,
        folder,
        config,
        tuple(networks),
        _rows(folder.energy, ("joules", "joules_gates", "joules_synapses")),
        certificate,
        _rows(folder.simulations, TIMES),
        read_provenance(folder),
    )


def _name(config: RunConfig) -> str:
    if config.network.layers == "published":
        return CONVENTIONAL
    return SPIKING if config.network.neuron == "lif" else TWIN


def _read_network(folder: RunFolder, config: RunConfig) -> Network:
    try:
        outcomes = [Outcome(**row) for row in _rows(folder.meta_test, MEASURED, integers=("classes", "draw", "seed"))]
    except TypeError as error:
        raise UserError(f"{folder.meta_test} is no table of a meta-test ({error}); run the meta-test again.") from None
    return Network(
        _name(config),
        folder,
        config,
        _metrics(folder.metrics),
        summarise(outcomes),
        _json(folder.activity),
    )


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}); run the stage that wrote it again.") from None


def _metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl; a last line that a stopped training left unfinished is passed over."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            rows.append(json.loads(line))
        except ValueError:
            if number < len(lines):
                raise UserError(f"{path}, line {number}, is damaged; restore the file, or train again.") from None
    return rows


def _rows(path: Path, numbers: Sequence[str] = (), integers: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The rows of a CSV file, whatever is a number as float (`integers` as int); empty where there is no file."""
    return [
        {name: int(float(value)) if name in integers else _number(value) for name, value in row.items()}
        for row in read_csv(path, (*numbers, *integers))
    ]


def _number(text: str) -> Any:
    try:
        return float(text)
    except (TypeError, ValueError):
        return text
