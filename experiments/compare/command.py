"""`snn-anml compare`: the runs that are missing, the long tables, the report."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console

from converters.energy.sensitivity import constant_values
from experiments import pipeline
from experiments.compare.child import Task
from experiments.compare.collect import collect
from experiments.compare.executors import Cluster, Executor, Processes, parse_parameters
from experiments.compare.folder import CompareFolder
from experiments.compare.plan import Comparison, Job
from experiments.compare.plan_file import read_comparison, write_comparison_file
from experiments.compare.run import Entry, Failure, run_all
from experiments.compare.shares import read_bills
from experiments.compare.work import measure, next_stage
from experiments.csv_files import read_csv
from experiments.meters import NoMeterError, find_meter
from experiments.run_data import load_data
from experiments.run_folder import RunFolder, check_config, check_data, provenance, sole_writer
from snn_anml.device import check_device, parse_device
from snn_anml.errors import MissingExtraError, UserError

OF_REPORT = ("matplotlib", "jinja2", "pandas", "tabulate")


@dataclass(frozen=True)
class Options:
    """How the runs of a comparison are done.

    Attributes:
        device: `cpu` or `cuda`.
        jobs: runs at once; decided by `at_once` where None.
        threads: of each.
        executor: `processes` or `submitit`.
        parameters: of a cluster's jobs, KEY=VALUE.
        report_only: run nothing.
    """

    device: str = "cpu"
    jobs: int | None = None
    threads: int = 1
    executor: str = "processes"
    parameters: tuple[str, ...] = ()
    report_only: bool = False

    def __post_init__(self) -> None:
        for name, value in (("jobs", self.jobs), ("threads", self.threads)):
            if value is not None and value < 1:
                raise UserError(f"--{name} = {value}; it must be at least 1.")
        if self.parameters and self.executor != "submitit":
            raise UserError("--slurm is for jobs on a cluster; give --executor submitit too.")
        parse_device(self.device)

    @property
    def here(self) -> str:
        """The device that this machine must have: a cluster's jobs find theirs where they run."""
        return self.device if self.executor == "processes" else "cpu"

    def at_once(self, jobs: int) -> int:
        """Of so many runs."""
        if self.jobs is not None or self.executor == "submitit":
            return min(jobs, self.jobs or jobs)
        return min(jobs, max(1, cores() // self.threads)) if self.device == "cpu" else 1


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_comparison(
    configs: Sequence[Path], out: Path | None, seeds: Sequence[int], options: Options, console: Console
) -> int:
    """Does what is left of a comparison, collects its tables, and writes its report.

    Args:
        configs: comparison files or run configurations; none for those that `out` was made from.
        out: the folder; named after the first of `configs` where None.
        seeds: of all arms, instead of those in the files.
        options: how runs are done.
        console: where progress is shown.

    Returns:
        exit code: 0, or 1 where runs failed, which are named.

    Raises:
        MissingExtraError: the packages of the report, or of the cluster, are not installed.
        UserError: see `read_comparison`; a run that is there with another configuration or other data; or nothing to
            report yet.
    """
    if any(find_spec(package) is None for package in OF_REPORT):
        raise MissingExtraError("The report", "report")  # now, and not after the training
    folder = CompareFolder(out or _default(configs))
    if RunFolder(folder.path).config.exists():
        raise UserError(f"{folder.path} holds a run and no comparison; choose another --out.")
    if not configs and not folder.comparison.exists():
        raise UserError(f"{folder.path} holds no comparison to go on with; name a comparison file or configurations.")
    comparison = read_comparison(configs or [folder.comparison], seeds)
    comparison.register_devices()
    if options.report_only:
        _check_same(folder, comparison)
        return _report(folder, comparison, console)
    with sole_writer(RunFolder(folder.path)):
        executor = _executor(folder, options)
        data_hash = _check(folder, comparison, options.here)
        write_comparison_file(folder.comparison, comparison, provenance(data_hash))
        left = [job for job in comparison.jobs if next_stage(*_place(folder, comparison, job))]
        at_once = options.at_once(len(left))
        console.print(f"{len(comparison.jobs)} runs, {len(left)} to do, {at_once} at once: {folder.path}")
        entries = [_entry(folder, comparison, job, options, at_once) for job in left]
        failures = run_all(entries, executor, at_once, console)
        failures += _measure(folder, options, executor, console)
        _report(folder, comparison, console)
    for failure in failures:
        console.print(f"Failed: {failure.name}: {failure.reason} ({failure.log})", soft_wrap=True, markup=False)
    if failures:
        console.print("What is there is kept; the same command does the rest.")
    return 1 if failures else 0


def _check_same(folder: CompareFolder, comparison: Comparison) -> None:
    if not folder.comparison.exists():
        raise UserError(f"{folder.path} holds no run of this comparison; run it first, without --report-only.")
    if read_comparison([folder.comparison]) != comparison:
        raise UserError(
            f"{folder.comparison} is not the comparison asked for; name --out alone to report on that one, "
            "or leave out --report-only to run this one."
        )


def _default(configs: Sequence[Path]) -> Path:
    if not configs:
        raise UserError("FILE must be given, or --out with a comparison to go on with; --help says how.")
    return Path("runs") / configs[0].stem


def _executor(folder: CompareFolder, options: Options) -> Executor:
    if options.executor == "processes":
        return Processes()
    gpus = {} if options.device == "cpu" else {"gpus_per_node": 1}
    return Cluster(folder.cluster, gpus | parse_parameters(options.parameters), options.threads)


def _place(folder: CompareFolder, comparison: Comparison, job: Job) -> tuple[Job, RunFolder, tuple[int, ...]]:
    return job, folder.run(job.arm, job.seed), comparison.quantised_bits(job.arm)


def _check(folder: CompareFolder, comparison: Comparison, device: str) -> str:
    """Refuses before anything runs what a run would refuse; returns the hash of the data, the same for all arms."""
    for arm in comparison.every_arm:
        try:
            pipeline.check_runs(arm.config)
            data_hash = load_data(arm.config, device).dataset.sha256
        except UserError as error:
            raise UserError(f"Arm {arm.name}: {error}") from None
    for job in comparison.jobs:
        run = folder.run(job.arm, job.seed)
        if run.config.exists():
            check_config(run, job.config)
            check_data(run, data_hash)
            _check_devices(run, comparison)
    return data_hash


def _check_devices(run: RunFolder, comparison: Comparison) -> None:
    sources = {row["device"]: row["source"] for row in read_csv(run.energy)}
    if not sources:
        return
    bills = read_bills(run)
    for device in comparison.devices:
        bill = bills.get(device.name)
        if sources.get(device.name) != device.source or bill is None or bill.values != constant_values(device):
            raise UserError(
                f"{run.energy} was written without the device {device.name} of this source and these prices; delete "
                "it, and the same command counts that run again."
            )


def _entry(folder: CompareFolder, comparison: Comparison, job: Job, options: Options, at_once: int) -> Entry:
    run = folder.run(job.arm, job.seed)
    workers = options.threads if options.executor == "submitit" else max(options.threads, cores() // at_once)
    out, log = str(folder.path.resolve()), str(run.log.resolve())
    task = Task(out, log, options.device, options.threads, workers, job.arm, job.seed)
    steps = job.config.train.warm_steps + job.config.train.meta_steps
    return Entry(str(job), task, partial(next_stage, *_place(folder, comparison, job)), steps, run.metrics)


def _measure(folder: CompareFolder, options: Options, executor: Executor, console: Console) -> list[Failure]:
    """Joules of inferences, in a process with nothing beside it; without a meter there is nothing to wait for."""
    if options.executor == "processes":
        try:
            find_meter(check_device(options.device))
        except NoMeterError:
            measure(folder.path, options.device, Console(quiet=True))
            return []
    log = folder.path.resolve() / "measure.log"
    task = Task(str(folder.path.resolve()), str(log), options.device, options.threads, 1)
    return run_all([Entry("joules", task, lambda: "measuring", 0, log)], executor, 1, console)


def _report(folder: CompareFolder, comparison: Comparison, console: Console) -> int:
    from experiments.compare.page import write_comparison

    if "accuracy" not in collect(folder, comparison):
        console.print("Nothing to report: no run has come to its meta-test.")
        return 0
    console.print(f"Report: {write_comparison(folder)}")
    return 0
