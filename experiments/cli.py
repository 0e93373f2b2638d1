"""The command line: `snn-anml COMMAND`. A user's mistake gives one sentence and exit code 2."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean

import yaml
from jsonargparse import ActionConfigFile, ArgumentError, ArgumentParser, Namespace
from rich.console import Console
from rich.table import Table

import converters
from converters import energy
from experiments import pipeline
from experiments.allocator import keep_large_buffers
from experiments.run_folder import RunFolder, add_config, one_sentence, parsed_config
from snn_anml import __version__
from snn_anml.config import RunConfig
from snn_anml.data import DATASETS, fetch_dataset
from snn_anml.errors import UserError
from snn_anml.model_io import check_device

EXIT_USER_ERROR = 2


def _config_parser(description: str) -> ArgumentParser:
    parser = ArgumentParser(description=description, exit_on_error=False)
    parser.add_argument("--config", action=ActionConfigFile, help="YAML configuration; options override it.")
    parser.add_argument("--out", type=Path, default=None, help="Run folder (default: runs/DATASET_NEURON).")
    parser.add_argument("--resume", action="store_true", help="Go on with the run in --out.")
    parser.add_argument("--device", default="cpu", help="cpu or cuda.")
    add_config(parser)
    return parser


def _run_parser(description: str, several: bool = False) -> ArgumentParser:
    parser = ArgumentParser(description=description, exit_on_error=False)
    parser.add_argument("run", type=Path, nargs="+" if several else None, help="Run folder.", metavar="RUN")
    parser.add_argument("--device", default="cpu", help="cpu or cuda.")
    return parser


def build_parser() -> ArgumentParser:
    """The parser of `snn-anml`, with `--help` on every level."""
    description = "Spiking neuromodulated meta-learning (ANML), exact export to simulators, energy estimates."
    parser = ArgumentParser(prog="snn-anml", version=__version__, description=description, exit_on_error=False)
    commands = parser.add_subcommands(required=True)
    everything = _config_parser("Everything: train, meta-test, export, energy, report.")
    commands.add_subcommand("run", everything, help="train, meta-test, export, energy, report")
    commands.add_subcommand("train", _config_parser("Meta-trains a network."), help="meta-train a network")
    commands.add_subcommand(
        "meta-test", _run_parser("Learns the meta-test classes one after another."), help="sequential meta-test"
    )
    export = _run_parser("Exports a network with its learned head, and checks the simulation against torch.")
    export.add_argument("--target", nargs="+", default=None, help=f"of {', '.join(converters.backends())}")
    export.add_argument("--check", type=int, default=None, metavar="N", help="held-out drawings to compare")
    commands.add_subcommand("export", export, help="export to a simulator, with a fidelity certificate")
    commands.add_subcommand("energy", _run_parser("Counts operations and estimates energy."), help="energy estimates")
    report = _run_parser("Writes report.html of one run or of several.", several=True)
    report.add_argument("--out", type=Path, default=None, help="the page (default: RUN/report.html)")
    commands.add_subcommand("report", report, help="one page with figures and tables")
    data = ArgumentParser(description="Datasets.", exit_on_error=False)
    commands.add_subcommand("data", data, help="list or fetch datasets")
    actions = data.add_subcommands(dest="action", required=True)
    actions.add_subcommand("list", ArgumentParser(exit_on_error=False), help="where each dataset is looked for")
    fetch = ArgumentParser(description="Downloads a dataset that is not here.", exit_on_error=False)
    fetch.add_argument("name", help=f"of {', '.join(sorted(DATASETS))}")
    actions.add_subcommand("fetch", fetch, help="download a dataset")
    return parser


def _out(options: Namespace, config: RunConfig) -> RunFolder:
    return RunFolder(options.out or Path("runs") / f"{config.data.name}_{config.network.neuron}")


def _run(options: Namespace, console: Console) -> None:
    config = parsed_config(options)
    check_device(options.device)
    report = pipeline.run_everything(config, _out(options, config), options.resume, options.device, console)
    _show_accuracy(RunFolder(report.parent), console)
    console.print(f"Report: {report}")


def _train(options: Namespace, console: Console) -> None:
    config = parsed_config(options)
    folder = _out(options, config)
    data = pipeline.load_data(config, options.device)
    pipeline.run_training(config, folder, data, options.resume, options.device, console)
    console.print(f"Model: {folder.model}")


def _meta_test(options: Namespace, console: Console) -> None:
    folder = RunFolder(options.run)
    config = folder.require()
    pipeline.run_meta_test(config, folder, pipeline.load_data(config, options.device), options.device, console)
    _show_accuracy(folder, console)


def _export(options: Namespace, console: Console) -> None:
    folder = RunFolder(options.run)
    config = folder.require()
    certificate = pipeline.run_export(
        config, folder, pipeline.load_data(config), console, tuple(options.target or ()), options.check
    )
    table = Table("backend", "spike slots", "mismatches", "largest output difference", "accuracy")
    for one in certificate.comparisons:
        accuracy = "" if one.accuracy is None else f"{one.accuracy:.4f}"
        table.add_row(
            one.backend, f"{one.slots:,}", f"{one.mismatches:,}", f"{one.max_output_difference:.2g}", accuracy
        )
    console.print(table)
    console.print(f"Graph: {folder.graph}\nCertificate: {folder.certificate}")


def _energy(options: Namespace, console: Console) -> None:
    folder = RunFolder(options.run)
    config = folder.require()
    rows = pipeline.run_energy(config, folder, pipeline.load_data(config))
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


def _report(options: Namespace, console: Console) -> None:
    from experiments.report import write_report

    for run in options.run:
        RunFolder(run).require()
    out = options.out or RunFolder(options.run[0]).report
    console.print(f"Report: {write_report(options.run, out)}")


def _data(options: Namespace, console: Console) -> None:
    if options.action == "fetch":
        folder = fetch_dataset(options.fetch.name)
        console.print("Nothing to download: it is made on the spot." if folder is None else f"Data: {folder}")
        return
    table = Table("name", "what", "looked for in", "found")
    for name, source in DATASETS.items():
        places = source.where()
        table.add_row(
            name,
            source.description,
            "\n".join(str(place) for place, _ in places) or "-",
            "\n".join("yes" if found else "no" for _, found in places) or "always",
        )
    console.print(table)


def _show_accuracy(folder: RunFolder, console: Console) -> None:
    accuracy: dict[tuple[str, str], dict[int, list[float]]] = {}
    with folder.meta_test.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            milestones = accuracy.setdefault((row["protocol"], row["head"]), {})
            milestones.setdefault(int(row["classes"]), []).append(float(row["test_accuracy"]))
    classes = sorted({n for milestones in accuracy.values() for n in milestones})
    table = Table("protocol", "head", *map(str, classes), title="held-out accuracy after n classes, mean of the draws")
    for (protocol, head), milestones in accuracy.items():
        table.add_row(protocol, head, *(f"{fmean(milestones[n]):.3f}" for n in classes))
    console.print(table)


COMMANDS: dict[str, Callable[[Namespace, Console], None]] = {
    "run": _run,
    "train": _train,
    "meta-test": _meta_test,
    "export": _export,
    "energy": _energy,
    "report": _report,
    "data": _data,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code: 0, or 2 after one sentence on a user's mistake."""
    parser = build_parser()
    console = Console()
    try:
        parsed = parser.parse_args(None if arguments is None else list(arguments))
        command = parsed.subcommand
        options = parser.instantiate(parsed)[command]
        keep_large_buffers()
        COMMANDS[command](options, console)
    except (UserError, FileNotFoundError, ArgumentError, yaml.YAMLError) as error:
        print(f"snn-anml: {one_sentence(error)}", file=sys.stderr)
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        print("snn-anml: interrupted; go on with --resume.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
