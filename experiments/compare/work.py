"""One run of a comparison, in a process of its own: its stages, each passed over where its file is there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from experiments import export, pipeline
from experiments.compare.costs import run_costs, run_quantised_costs
from experiments.compare.folder import CompareFolder
from experiments.compare.plan import Job
from experiments.compare.plan_file import read_comparison
from experiments.compare.shares import SHARES
from experiments.csv_files import read_csv, write_csv
from experiments.measure import CSV_COLUMNS, measure_inference
from experiments.quantised import quantised_folder, run_quantised
from experiments.run_data import Data, held_out_drawings, load_data, load_data_of
from experiments.run_folder import RunFolder, sole_writer
from snn_anml.model_io import load

TRAINING, META_TEST, EXPORT, COSTS = "training", "meta-test", "export", "costs"


@dataclass(frozen=True, eq=False)
class Work:
    """A run, where it is computed, and by how many processes its meta-test."""

    job: Job
    folder: RunFolder
    quantised_bits: tuple[int, ...]
    device: str
    workers: int
    console: Console

    @cached_property
    def data(self) -> Data:
        return load_data(self.job.config, self.device)

    def train(self) -> None:
        pipeline.run_training(self.job.config, self.folder, self.data, True, self.device, self.console)

    def meta_test(self) -> None:
        config = self.job.config
        pipeline.run_meta_test(config, self.folder, self.data, self.device, self.console, workers=self.workers)

    def export(self) -> None:
        export.run_export(self.job.config, self.folder, self.data, self.console)

    def costs(self) -> None:
        run_costs(self.job.config, self.folder, self.data)

    def quantise(self, bits: int) -> None:
        run_quantised(self.job.config, self.folder, self.data, bits, self.console, self.workers)
        run_quantised_costs(self.job.config, self.folder, self.data, bits)


class Stage(NamedTuple):
    """A part of a run. file: written last; do: makes it."""

    name: str
    file: Path
    do: Callable[[Work], None]


def stages(job: Job, folder: RunFolder, quantised_bits: tuple[int, ...]) -> list[Stage]:
    """All stages of a run; published layers have no form on a simulator, and so no counts."""
    found = [Stage(TRAINING, folder.model, Work.train), Stage(META_TEST, folder.meta_test, Work.meta_test)]
    if job.config.network.layers == "strided":
        if job.config.network.neuron == "lif":
            found.append(Stage(EXPORT, folder.certificate, Work.export))
        found.append(Stage(COSTS, folder.energy, Work.costs))
    for bits in quantised_bits:
        written_last = quantised_folder(folder, bits).path / SHARES
        found.append(Stage(f"{bits} bits", written_last, partial(Work.quantise, bits=bits)))
    return found


def next_stage(job: Job, folder: RunFolder, quantised_bits: tuple[int, ...]) -> str | None:
    """Name of the first stage that is not done; None where all are."""
    return next((stage.name for stage in stages(job, folder, quantised_bits) if not stage.file.exists()), None)


def perform(out: Path, arm: str, seed: int, device: str, workers: int, console: Console) -> None:
    """Does what is left of one run of the comparison in `out`.

    Raises:
        UserError: a run that cannot be done, with the reason; or another process writes into its folder.
    """
    folder = CompareFolder(out)
    comparison = read_comparison([folder.comparison])
    comparison.register_devices()
    job = comparison.job(arm, seed)
    run = folder.run(job.arm, job.seed)
    work = Work(job, run, comparison.quantised_bits(job.arm), device, workers, console)
    with sole_writer(work.folder):
        for stage in stages(job, work.folder, work.quantised_bits):
            if not stage.file.exists():
                console.print(f"{datetime.now():%Y-%m-%d %H:%M:%S} {job}: {stage.name}", soft_wrap=True)
                stage.do(work)
    console.print(f"{datetime.now():%Y-%m-%d %H:%M:%S} {job}: done", soft_wrap=True)


def measure(out: Path, device: str, console: Console) -> None:
    """Measures the joules of an inference of every arm, with its first seed; writes measured.csv into their folders.

    To be called with nothing else running: a meter counts the whole machine. What a meter has measured stays.
    """
    folder = CompareFolder(out)
    for arm in read_comparison([folder.comparison]).arms:
        job = arm.job(arm.seeds[0])
        run = folder.run(arm.name, job.seed)
        if not run.meta_test.exists() or has_number(run.measured):
            continue
        console.print(f"{datetime.now():%Y-%m-%d %H:%M:%S} {job}: joules", soft_wrap=True)
        with sole_writer(run):
            data = load_data_of(run)
            classes = data.split.meta_test[: job.config.export.classes]
            x, _ = held_out_drawings(job.config, data, classes, job.config.export.samples)
            found = measure_inference(load(run.path), x, device, seed=job.seed)
            write_csv(run.measured, CSV_COLUMNS, [found.csv_row()])


def has_number(path: Path) -> bool:
    """Whether a measured.csv is there and holds more than the reason why nothing was measured."""
    return path.exists() and any(row["joules"] for row in read_csv(path))
