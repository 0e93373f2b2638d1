"""Tables of the page, and the same numbers as CSV files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from converters import Certificate
from converters.energy import DEVICES
from experiments.csv_files import write_csv
from experiments.report import published
from experiments.report.blocks import Table
from experiments.report.energy import EXACT, PARTS, Total, totals
from experiments.report.figures_energy import joules
from experiments.report.runs import Network, Run
from experiments.report.statistics import Mean, Summary

DASH = "\u2013"
FIDELITY_COLUMNS = (
    "backend",
    "reference",
    "layer",
    "samples",
    "steps",
    "slots",
    "mismatches",
    "max_membrane_difference",
    "first_sample",
    "first_step",
    "first_neuron",
    "first_margin",
    "max_output_difference",
    "argmax_agreement",
    "accuracy",
    "accuracy_delta",
)


def percent(mean: Mean) -> str:
    """`80.1 ± 0.6` in %, or without the interval where there is none."""
    half = "" if mean.half_width is None else f" \u00b1 {100 * mean.half_width:.1f}"
    return f"{100 * mean.mean:.1f}{half}"


def small(value: float | None) -> str:
    """A number that may be tiny or missing."""
    return DASH if value is None else "0" if value == 0 else f"{value:.2g}"


def accuracy_table(named: Sequence[tuple[str, Network]], protocol: str, field: str, title: str) -> Table | None:
    """`train`, `test` or `first` by head and number of classes; networks as (label, network). None without numbers."""
    chosen = [(label, s) for label, n in named for s in n.summaries if s.protocol == protocol]
    if not chosen:
        return None
    classes = sorted({s.classes for _, s in chosen})
    cells: dict[tuple[str, str], dict[int, Summary]] = {}
    for label, s in chosen:
        cells.setdefault((label, s.head), {})[s.classes] = s
    rows = tuple(
        (label, head, *(percent(getattr(row[c], field)) if c in row else DASH for c in classes))
        for (label, head), row in cells.items()
    )
    return Table(title, ("network", "head", *(f"{c:,}" for c in classes)), rows, 2)


def published_table() -> Table:
    """Everything of `published`."""
    every = (*published.CURVES, *published.POINTS)
    classes = sorted({c for one in every for c in one.accuracy})
    rows = tuple(
        (one.source, *(f"{one.accuracy[c]:.1f}" if c in one.accuracy else DASH for c in classes)) for one in every
    )
    columns = ("source", *(str(c) for c in classes))
    return Table("Published held-out accuracy on Omniglot (%), by number of classes", columns, rows, 1, closed=True)


def energy_table(every: Sequence[Total], convention: str, title: str) -> Table:
    """Totals and shares of parts."""
    rows = tuple(
        (
            t.device,
            t.network,
            joules(t.joules),
            *(f"{100 * t.share(p):.1f}" for p in PARTS),
        )
        for t in sorted((t for t in every if t.convention == convention), key=_device_order)
    )
    return Table(title, ("device", "network", "per inference", *(f"{p} (%)" for p in PARTS)), rows, 2)


def _device_order(total: Total) -> int:
    names = list(DEVICES)
    return names.index(total.device) if total.device in names else len(names)


def device_table(every: Sequence[Total]) -> Table:
    """Source of every device's prices, and what they leave out; devices that share both on one row."""
    groups: dict[tuple[str, str], list[str]] = {}
    for name, source in {t.device: t.source for t in every if t.convention == EXACT}.items():
        device = DEVICES.get(name)
        what = f"{name} ({device.description})" if device else name
        groups.setdefault((source, device.leaves_out if device else DASH), []).append(what)
    rows = tuple(("; ".join(names), source, leaves_out) for (source, leaves_out), names in groups.items())
    return Table("Devices, sources, and what the prices leave out", ("devices", "source", "leaves out"), rows, 3)


def fidelity_table(certificate: Certificate) -> Table:
    """One row for every backend."""
    rows = []
    for one in certificate.comparisons:
        delta = one.accuracy_delta
        rows.append(
            (
                one.backend,
                f"{one.slots:,}",
                f"{one.mismatches:,}",
                small(max((layer.max_membrane_difference for layer in one.layers.values()), default=0.0)),
                small(one.max_output_difference),
                f"{100 * one.argmax_agreement:.1f}",
                DASH if one.accuracy is None else f"{100 * one.accuracy:.1f}",
                DASH if delta is None else f"{100 * delta:+.1f}" if delta else "0",
            )
        )
    columns = (
        "backend",
        "spike slots",
        "mismatches",
        "largest membrane difference",
        "largest output difference",
        "same class (%)",
        "accuracy (%)",
        "accuracy delta (points)",
    )
    return Table("By backend", columns, tuple(rows), 1)


def fidelity_layers_table(certificate: Certificate) -> Table:
    """One row for every backend and spiking layer."""
    rows = []
    for one in certificate.comparisons:
        for name, layer in one.layers.items():
            first = "none"
            if layer.first is not None:
                where = layer.first
                first = f"sample {where.sample}, step {where.step}, neuron {where.neuron}; margin {small(where.margin)}"
            numbers = f"{layer.slots:,}", f"{layer.mismatches:,}", small(layer.max_membrane_difference)
            rows.append((one.backend, name, *numbers, first))
    columns = ("backend", "layer", "spike slots", "mismatches", "largest membrane difference", "first divergence")
    return Table("By layer", columns, tuple(rows), 2, closed=len(rows) > 12)


def timing_table(run: Run) -> Table | None:
    """Times of export/simulations.csv."""
    if not run.simulations:
        return None
    rows = tuple(
        (
            str(row["backend"]),
            f"{row['samples']:.0f}",
            f"{row['build_seconds']:.2f}",
            f"{row['run_seconds']:.2f}",
            f"{1000 * row['run_seconds'] / row['samples']:.1f}",
        )
        for row in run.simulations
    )
    columns = ("backend", "samples", "build (s)", "run (s)", "run (ms a sample)")
    return Table("Time of the simulations", columns, rows, 1)


def write_tables(run: Run) -> list[Path]:
    """Writes what there is of accuracy.csv, forgetting.csv, energy.csv and fidelity.csv into the run's `tables`."""
    files: dict[str, list[dict[str, Any]]] = {
        "accuracy": [
            _key(n, s) | _mean("test", s.test) | _mean("train", s.train) for n in run.networks for s in n.summaries
        ],
        "forgetting": [_key(n, s) | _mean("first_test", s.first) for n in run.networks for s in n.summaries],
        "energy": [_energy_row(total) for total in totals(run.energy)],
        "fidelity": fidelity_rows(run.certificate) if run.certificate else [],
    }
    written = []
    for name, rows in files.items():
        if rows:
            written.append(run.folder.path / "tables" / f"{name}.csv")
            write_csv(written[-1], tuple(rows[0]), rows)
    return written


def _key(network: Network, s: Summary) -> dict[str, Any]:
    return {
        "network": network.name,
        "protocol": s.protocol,
        "head": s.head,
        "classes": s.classes,
        "draws": s.test.n,
    }


def _mean(name: str, mean: Mean) -> dict[str, Any]:
    return {f"{name}_accuracy": mean.mean, f"{name}_half_width": "" if mean.half_width is None else mean.half_width}


def _energy_row(total: Total) -> dict[str, Any]:
    row = {
        "network": total.network,
        "device": total.device,
        "convention": total.convention,
        "joules": total.joules,
    }
    return row | {f"joules_{p.lower()}": total.parts[p] for p in PARTS} | {"source": total.source}


def fidelity_rows(certificate: Certificate) -> list[dict[str, Any]]:
    """The certificate flat: for every backend one row of all layers together (`all`), then one for each layer."""
    rows = []
    for one in certificate.comparisons:
        same = {"backend": one.backend, "reference": one.reference, "samples": one.samples, "steps": one.steps}
        delta = one.accuracy_delta
        rows.append(
            same
            | {
                "layer": "all",
                "slots": one.slots,
                "mismatches": one.mismatches,
                "max_membrane_difference": max((x.max_membrane_difference for x in one.layers.values()), default=0.0),
                "max_output_difference": one.max_output_difference,
                "argmax_agreement": one.argmax_agreement,
                "accuracy": "" if one.accuracy is None else one.accuracy,
                "accuracy_delta": "" if delta is None else delta,
            }
        )
        for name, layer in one.layers.items():
            first = layer.first
            where = {} if first is None else {f"first_{k}": v for k, v in vars(first).items()}
            numbers = {k: v for k, v in vars(layer).items() if k != "first"}
            rows.append(same | {"layer": name} | numbers | where)
    return [{column: row.get(column, "") for column in FIDELITY_COLUMNS} for row in rows]
