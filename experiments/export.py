"""The export of a run: its graph, simulated on every target, beside what the trained network does itself."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from rich.console import Console

import converters
from converters import Certificate, Fidelity, Graph
from converters.nir_backend import NAME as NIR
from experiments.csv_files import read_csv, write_csv
from experiments.pipeline import check_targets, exported, to_graph
from experiments.progress import StageBar
from experiments.run_data import Data, held_out_drawings
from experiments.run_folder import RunFolder
from snn_anml.config import RunConfig
from snn_anml.errors import MissingExtraError

TIMES = ("samples", "build_seconds", "run_seconds")
"""Columns of simulations.csv that are numbers."""


def run_export(
    config: RunConfig,
    folder: RunFolder,
    data: Data,
    console: Console,
    targets: Sequence[str] = (),
    samples: int | None = None,
    approximate: bool = False,
) -> Certificate:
    """Exports the network with its learned head, simulates it, and then writes graph, certificate and timings.

    The certificate compares every simulator, and every form that a target can give the gates, with torch. Target
    `nir` leaves a file.

    Args:
        config: of the run.
        folder: of the run.
        data: of the run.
        console: where a missing simulator is named.
        targets: backends, beside which the certificate keeps what it says of others; those of the configuration where
            none is given, missing ones then left out.
        samples: held-out drawings to simulate; the configured number where None.
        approximate: give the targets the network with all resets to zero, and compare that with the network as it is.

    Raises:
        MissingExtraError: a backend asked for in `targets` that is not installed.
        UserError: an unknown backend, one that cannot run the network, more drawings than there are, a run without a
            learned head, or, with `targets`, a damaged certificate or table of times that they should be added to.
    """
    check_targets(targets)
    model, classes = exported(config, folder)
    x, labels = held_out_drawings(config, data, classes, config.export.samples if samples is None else samples)
    graph = to_graph(model)
    simulated = converters.zero_reset(graph) if approximate else graph
    changed = ", resets to zero" if converters.graph_hash(simulated) != converters.graph_hash(graph) else ""
    for backend in targets:
        converters.check(simulated, backend)
    earlier = _earlier(folder, graph) if targets else None
    timed = read_csv(folder.simulations, TIMES) if targets else []
    reference = converters.simulate(graph, x, backend="torch", seed=config.seed)
    comparisons = [converters.compare(converters.record_anml(model, x, seed=config.seed), reference, labels)]
    timings = [_timing(reference, len(x))]
    backends = tuple(targets) or config.export.backends
    with StageBar.show("export", console) as bar:
        for i, backend in enumerate(backends):
            bar(backend, i / (len(backends) + 1))
            try:
                recording = converters.simulate(simulated, x, backend=backend, seed=config.seed)
            except MissingExtraError as error:
                if targets or not config.export.optional:
                    raise
                console.print(f"Left out: {error}")
                continue
            recording = replace(recording, backend=backend + changed)
            comparisons.append(converters.compare(recording, reference, labels))
            timings.append(_timing(recording, len(x)))
        bar("gates", len(backends) / (len(backends) + 1))
        gates = converters.compare_gate_forms(graph, x, reference, labels, config.seed)
        bar("done", 1.0)
    certificate = converters.certify(graph, comparisons, gates)
    if earlier is not None:
        certificate = _beside(earlier, certificate)
        timings += _other_timings(timed, timings)
    # Files last, so that one that fails or is interrupted leaves the export as it was.
    converters.save_graph(graph, folder.graph)
    if _of_nir(comparisons):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", converters.LossyExportWarning)  # they go into the certificate
            certificate = replace(certificate, lossy=tuple(converters.save_nir(simulated, folder.nir)))
    elif not _of_nir(certificate.comparisons):
        folder.nir.unlink(missing_ok=True)  # of an export before this one
    write_csv(folder.simulations, tuple(timings[0]), timings)
    converters.save_certificate(certificate, folder.certificate)
    return certificate


def _of_nir(comparisons: Sequence[Fidelity]) -> bool:
    return any(one.backend.split(",")[0] == NIR for one in comparisons)


def _earlier(folder: RunFolder, graph: Graph) -> Certificate | None:
    """The certificate that is there, if it is of this graph."""
    if not folder.certificate.exists():
        return None
    certificate = converters.load_certificate(folder.certificate)
    return certificate if certificate.graph == converters.graph_hash(graph) else None


def _beside(earlier: Certificate, now: Certificate) -> Certificate:
    """What was checked now, and what was checked before of other backends; of what is always checked, the larger."""
    before = {one.backend: one for one in earlier.comparisons}
    trained, *others = now.comparisons
    renewed = {one.backend for one in now.comparisons}
    kept = [one for one in earlier.comparisons if one.backend not in renewed]
    gates = {form: _larger(earlier.gates.get(form), one) for form, one in now.gates.items()}
    comparisons = (_larger(before.get(trained.backend), trained), *others, *kept)
    return replace(now, comparisons=comparisons, gates=gates, lossy=earlier.lossy)


def _larger(before: Fidelity | str | None, now: Any) -> Any:
    return before if isinstance(before, Fidelity) and before.samples > now.samples else now


def _timing(recording: converters.Recording, samples: int) -> dict[str, Any]:
    return {
        "backend": recording.backend,
        "samples": samples,
        "build_seconds": recording.build_seconds,
        "run_seconds": recording.run_seconds,
    }


def _other_timings(before: Sequence[dict[str, Any]], timings: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those of before that are of other backends."""
    renewed = {timing["backend"] for timing in timings}
    return [row for row in before if row["backend"] not in renewed]
