"""The command line: `snn-anml COMMAND`. A user's mistake gives one sentence and exit code 2."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from jsonargparse import ArgumentError, Namespace
from rich.console import Console
from rich.table import Column, Table

from experiments.cli_parsers import build_parser
from experiments.config_file import check_given, one_sentence, parsed_config
from experiments.csv_files import read_csv
from experiments.process import prepare_process
from experiments.run_folder import RunFolder, sole_writer
from snn_anml.config import RunConfig
from snn_anml.data import DATASETS, fetch_dataset
from snn_anml.errors import UserError

if TYPE_CHECKING:  # not to wait for torch before --help
    from converters import Certificate, Fidelity

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells have it

# Faults of the place that is read or written, never of the program.
_PLACE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR, errno.EISDIR)

# What to do after an interruption.
_AGAIN = {
    "run": "go on with --resume",
    "train": "go on with --resume",
    "compare": "the same command goes on where it stopped",
}


def _out(options: Namespace, config: RunConfig) -> RunFolder:
    return RunFolder(options.out or Path("runs") / f"{config.data.name}_{config.network.neuron}")


def _run(options: Namespace, console: Console) -> None:
    from experiments.whole_run import run_everything

    config = parsed_config(options)
    folder = _out(options, config)
    with sole_writer(folder):
        report = run_everything(config, folder, options.resume, options.device, console)
    show_accuracy(folder, console)
    console.print(f"Report: {report}")


def _train(options: Namespace, console: Console) -> None:
    from experiments import pipeline
    from experiments.run_data import load_data
    from snn_anml.group import joined

    config = parsed_config(options)
    folder = _out(options, config)
    with joined(options.device) as (group, device):
        console.quiet = group.rank > 0
        with sole_writer(folder) if group.rank == 0 else nullcontext():
            pipeline.check_runs(config)
            data = load_data(config, device)
            pipeline.run_training(config, folder, data, options.resume, device, console, group)
    console.print(f"Model: {folder.model}")


def _meta_test(options: Namespace, console: Console) -> None:
    from experiments import pipeline
    from experiments.run_data import load_data_of

    folder = RunFolder(options.run)
    config = folder.require()
    if options.target is not None:
        if options.protocols is not None:
            raise UserError("--protocols is for the meta-test of the network itself; on a simulator it is strict.")
        _adapt(options, config, folder, console)
        return
    for name, value in (("classes", options.classes), ("weight-bits", options.weight_bits)):
        if value is not None:
            raise UserError(f"--{name} = {value} is for the meta-test on a simulator; name one with --target.")
    with sole_writer(folder):
        data = load_data_of(folder, options.device)
        pipeline.run_meta_test(config, folder, data, options.device, console, options.protocols or ())
    show_accuracy(folder, console)


def _adapt(options: Namespace, config: RunConfig, folder: RunFolder, console: Console) -> None:
    from experiments import adaptation

    classes = options.classes
    if classes is None:
        classes = min(adaptation.DEFAULT_CLASSES, config.data.meta_test_classes)
    request = adaptation.Request(options.target, classes, options.weight_bits)
    with sole_writer(folder):
        outcomes = adaptation.run_adaptation(config, folder, request, options.device, console)
    adaptation.show(outcomes, request, console)
    console.print(f"Outcomes: {request.csv(folder)}\nClasses, distance and seconds: {request.facts(folder)}")


def _export(options: Namespace, console: Console) -> None:
    from experiments.export import run_export
    from experiments.run_data import load_data_of

    folder = RunFolder(options.run)
    config = folder.require()
    targets = tuple(dict.fromkeys(options.target or ()))
    with sole_writer(folder):
        data = load_data_of(folder)
        certificate = run_export(config, folder, data, console, targets, options.check, options.approximate)
    _show_certificate(certificate, console)
    if "nir" in targets:
        for sentence in certificate.lossy:
            console.print(f"Other readers of the NIR file: {sentence}", soft_wrap=True)
        console.print(f"NIR file: {folder.nir}")
    console.print(f"Graph: {folder.graph}\nCertificate: {folder.certificate}")


def _show_certificate(certificate: Certificate, console: Console) -> None:
    columns = ("drawings", "spike slots", "mismatches", "largest output difference", "accuracy")

    def cells(one: Fidelity) -> tuple[str, ...]:
        accuracy = "" if one.accuracy is None else f"{one.accuracy:.4f}"
        return f"{one.samples:,}", f"{one.slots:,}", f"{one.mismatches:,}", f"{one.max_output_difference:.2g}", accuracy

    table = Table("backend", *columns)
    for one in certificate.comparisons:
        table.add_row(one.backend, *cells(one))
    console.print(table)
    layers = Table("backend", "layer", "mismatch", "correlation of counts", "cores", title="where spikes differ")
    for one in certificate.comparisons:
        for name, layer in one.layers.items() if one.mismatches else ():
            correlation = "" if layer.correlation is None else f"{layer.correlation:.4f}"
            cores = str(one.cores.get(name, "host")) if one.cores else ""
            layers.add_row(one.backend, name, f"{layer.mismatches / layer.slots:.3%}", correlation, cores)
    if layers.row_count:
        console.print(layers)
    if certificate.gates:
        forms = Table("gates as", *columns, title="what other forms of the gates change")
        for form, one in certificate.gates.items():
            if not isinstance(one, str):
                forms.add_row(form, *cells(one))
        console.print(forms)
        for form, one in certificate.gates.items():
            if isinstance(one, str):
                console.print(f"Gates as {form}: {one}", soft_wrap=True)


def _energy(options: Namespace, console: Console) -> None:
    from converters import energy
    from experiments import pipeline
    from experiments.run_data import load_data_of

    folder = RunFolder(options.run)
    config = folder.require()
    with sole_writer(folder):
        rows = pipeline.run_energy(config, folder, load_data_of(folder))
    totals: dict[tuple[str, str], float] = {}
    for row in rows:
        if row["convention"] == "exact":
            key = row["network"], row["device"]
            totals[key] = totals.get(key, 0.0) + row["joules"]
    table = Table("network", "device", "J per inference (modelled)", "source")
    for (network, device), joules in totals.items():
        table.add_row(network, device, f"{joules:.3g}", energy.DEVICES[device].source)
    console.print(table)
    console.print(f"Per layer, with counts: {folder.energy}")


def _compare(options: Namespace, console: Console) -> int:
    from experiments.compare.command import Options, run_comparison

    chosen = Options(
        options.device, options.jobs, options.threads, options.executor, tuple(options.slurm or ()), options.report_only
    )
    return run_comparison(options.configs, options.out, options.seeds or (), chosen, console)


def _report(options: Namespace, console: Console) -> None:
    from experiments.report import write_report

    for run in options.run:
        RunFolder(run).require()
    out = options.out or (RunFolder(options.run[0]).report if len(options.run) == 1 else Path("report.html"))
    console.print(f"Report: {write_report(options.run, out)}")


def _data(options: Namespace, console: Console) -> None:
    if options.action == "fetch":
        folder = fetch_dataset(options.fetch.name)
        console.print("Nothing to download: it is made on the spot." if folder is None else f"Data: {folder}")
        return
    table = Table("name", "what", Column("looked for in", overflow="fold"), "found")
    for name, source in DATASETS.items():
        places = source.where()
        table.add_row(
            name,
            source.description,
            "\n".join(str(place) for place, _ in places) or "-",
            "\n".join("yes" if found else "no" for _, found in places) or "always",
        )
    console.print(table)


def show_accuracy(folder: RunFolder, console: Console) -> None:
    """A table for each protocol: all heads of one fit a terminal of 80 columns, those of three do not."""
    accuracy: dict[str, dict[str, dict[int, list[float]]]] = {}
    for row in read_csv(folder.meta_test):
        milestones = accuracy.setdefault(row["protocol"], {}).setdefault(row["head"], {})
        milestones.setdefault(int(row["classes"]), []).append(float(row["test_accuracy"]))
    for protocol, heads in accuracy.items():
        table = Table("classes", *heads, title=f"held-out accuracy, {protocol}, mean of the draws")
        for n in sorted({n for milestones in heads.values() for n in milestones}):
            table.add_row(str(n), *(f"{fmean(milestones[n]):.3f}" for milestones in heads.values()))
        console.print(table)


COMMANDS: dict[str, Callable[[Namespace, Console], int | None]] = {
    "run": _run,
    "train": _train,
    "meta-test": _meta_test,
    "export": _export,
    "energy": _energy,
    "compare": _compare,
    "report": _report,
    "data": _data,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code.

    0; 1 where some runs of a comparison failed; 2 after one sentence on a user's mistake; 130 after Ctrl-C.
    """
    command = ""
    try:
        parser = build_parser()
        parsed = parser.parse_args(None if arguments is None else list(arguments))
        command = parsed.subcommand
        if command != "train" and int(os.environ.get("WORLD_SIZE") or 1) > 1:
            raise UserError(f"torchrun starts snn-anml train only; run snn-anml {command} in one process.")
        check_given(parsed[command])
        options = parser.instantiate(parsed)[command]
        prepare_process(str(getattr(options, "device", "cpu")))
        return COMMANDS[command](options, Console()) or 0
    except (UserError, ArgumentError) as error:
        return _refuse(one_sentence(error))
    except FileNotFoundError as error:
        if error.errno is not None:  # not raised with a sentence of ours
            raise
        return _refuse(one_sentence(error))
    except OSError as error:
        if error.errno not in _PLACE:
            raise
        return _refuse(f"{error.filename or 'A file'}: {error.strerror}; choose another folder, or make room there.")
    except KeyboardInterrupt:
        print(f"snn-anml: interrupted; {_AGAIN.get(command, 'run the command again')}.", file=sys.stderr)
        return EXIT_INTERRUPTED


def _refuse(sentence: str) -> int:
    print(f"snn-anml: {sentence}", file=sys.stderr)
    return EXIT_USER_ERROR


if __name__ == "__main__":
    sys.exit(main())
