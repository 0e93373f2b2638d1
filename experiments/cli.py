"""The command line: `snn-anml COMMAND`. A user's mistake gives one sentence and exit code 2."""

from __future__ import annotations

import csv
import errno
import os
import sys
from argparse import PARSER, SUPPRESS, Action
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from jsonargparse import ArgumentError, ArgumentParser, DefaultHelpFormatter, Namespace
from rich.console import Console
from rich.table import Column, Table

from experiments.allocator import keep_large_buffers
from experiments.config_file import ConfigFile, add_config, check_given, one_sentence, parsed_config
from experiments.run_folder import RunFolder, sole_writer
from snn_anml import __version__
from snn_anml.config import RunConfig
from snn_anml.data import DATASETS, fetch_dataset
from snn_anml.errors import UserError

if TYPE_CHECKING:  # not to wait for torch before --help
    from converters import Certificate, Fidelity

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells have it

# Faults of the place that is read or written, never of the program.
_PLACE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR, errno.EISDIR)


class _Help(DefaultHelpFormatter):
    """Help with defaults, without the names of Python types."""

    def _get_help_string(self, action: Action) -> str:
        text = action.help or ""
        shown = action.option_strings and action.nargs != 0 and action.default not in (None, SUPPRESS)
        return f"{text} (default: %(default)s)" if shown else text

    def _format_action_invocation(self, action: Action) -> str:
        return "one of" if action.nargs == PARSER else super()._format_action_invocation(action)


def _parser(description: str, usage: str | None = None) -> ArgumentParser:
    # No --print_config: a run's config.yaml is the template, and holds settings only.
    return ArgumentParser(
        description=description, usage=usage, exit_on_error=False, formatter_class=_Help, print_config=None
    )


def _config_parser(command: str, description: str) -> ArgumentParser:
    usage = (
        f"snn-anml {command} [--config FILE] [--out DIR] [--resume] [--seed N]\n"
        f"{' ' * len(f'usage: snn-anml {command}')} [--device cpu|cuda] [--SECTION.KEY VALUE ...]"
    )
    parser = _parser(description, usage)
    parser.add_argument(
        "--config", action=ConfigFile, metavar="FILE", help="YAML configuration; later options override it"
    )
    parser.add_argument(
        "--out", type=Path, default=None, metavar="DIR", help="run folder (default: runs/DATASET_NEURON)"
    )
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out")
    parser.add_argument("--device", type=str, default="cpu", metavar="cpu|cuda", help="where to compute")
    add_config(parser)
    return parser


def _run_parser(description: str, several: bool = False) -> ArgumentParser:
    parser = _parser(description)
    nargs, text = ("+", "run folders, side by side") if several else (None, "run folder")
    parser.add_argument("run", type=Path, nargs=nargs, help=text, metavar="RUN")
    return parser


def build_parser() -> ArgumentParser:
    """The parser of `snn-anml`, with `--help` on every level."""
    description = "Spiking neuromodulated meta-learning (ANML), exact export to simulators, energy estimates."
    parser = ArgumentParser(
        prog="snn-anml", version=__version__, description=description, exit_on_error=False, formatter_class=_Help
    )
    commands = parser.add_subcommands(required=True, title="commands", description=None)

    def add(name: str, command: ArgumentParser, text: str) -> None:
        commands.add_subcommand(name, command, help=text)
        command.prog = f"snn-anml {name}"

    everything = _config_parser("run", "Everything: train, meta-test, export, energy, report.")
    add("run", everything, "train, meta-test, export, energy, report")
    add("train", _config_parser("train", "Meta-trains a network."), "meta-train a network")
    meta_test = _run_parser("Learns the meta-test classes one after another, with the trained network of a run.")
    meta_test.add_argument("--device", type=str, default="cpu", metavar="cpu|cuda", help="where to compute")
    meta_test.add_argument(
        "--target",
        type=str,
        default=None,
        metavar="NAME",
        help="learn from the features of this simulator, beside torch's; those of export --target",
    )
    meta_test.add_argument(
        "--classes",
        type=int,
        default=None,
        metavar="N",
        help="with --target: meta-test classes (default: 50, or all there are)",
    )
    meta_test.add_argument(
        "--weight-bits", type=int, default=None, metavar="B", help="with --target: round weights to so many bits"
    )
    add("meta-test", meta_test, "sequential meta-test")
    export = _run_parser("Exports a network with its learned head, and checks simulators against torch.")
    export.add_argument(
        "--target",
        nargs="+",
        default=None,
        metavar="NAME",
        # Written out, since to ask `converters.backends()` is to import torch.
        help="targets, of interpreter, torch, nengo, nengo-dl, nengo-native, loihi, nir "
        "(default: export.backends of the run)",
    )
    export.add_argument(
        "--check", type=int, default=None, metavar="N", help="held-out drawings to compare (default: export.samples)"
    )
    export.add_argument(
        "--approximate",
        action="store_true",
        help="give the targets resets to zero, which all of them have, instead of others; the deviation is measured",
    )
    add("export", export, "export to a simulator, with a fidelity certificate")
    add("energy", _run_parser("Counts operations of an inference and estimates its energy."), "energy estimates")
    report = _run_parser("Writes one page of one run or of several.", several=True)
    report.add_argument(
        "--out",
        type=Path,
        default=None,
        metavar="FILE",
        help="the page (default: RUN/report.html, or report.html for several runs)",
    )
    add("report", report, "one page with figures and tables")
    data = _parser("Datasets.")
    add("data", data, "list or fetch datasets")
    actions = data.add_subcommands(dest="action", required=True, title="commands", description=None)
    fetch = _parser("Downloads a dataset that is not on this machine.")
    fetch.add_argument("name", metavar="NAME", help=f"of {', '.join(sorted(DATASETS))}")
    for name, action, text in (
        ("list", _parser("Names the datasets, where each is looked for, and whether it is there."), "what there is"),
        ("fetch", fetch, "download a dataset"),
    ):
        actions.add_subcommand(name, action, help=text)
        action.prog = f"snn-anml data {name}"
    return parser


def repeatable_gpu() -> None:
    """Full float32 and one order of adds in convolutions: what training resumes bit for bit from."""
    import torch

    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True


def _out(options: Namespace, config: RunConfig) -> RunFolder:
    return RunFolder(options.out or Path("runs") / f"{config.data.name}_{config.network.neuron}")


def _run(options: Namespace, console: Console) -> None:
    from experiments import pipeline

    config = parsed_config(options)
    folder = _out(options, config)
    with sole_writer(folder):
        report = pipeline.run_everything(config, folder, options.resume, options.device, console)
    _show_accuracy(folder, console)
    console.print(f"Report: {report}")


def _train(options: Namespace, console: Console) -> None:
    from experiments import pipeline
    from snn_anml.group import joined

    config = parsed_config(options)
    folder = _out(options, config)
    with joined(options.device) as (group, device):
        console.quiet = group.rank > 0
        with sole_writer(folder) if group.rank == 0 else nullcontext():
            pipeline.check_runs(config)
            data = pipeline.load_data(config, device)
            pipeline.run_training(config, folder, data, options.resume, device, console, group)
    console.print(f"Model: {folder.model}")


def _meta_test(options: Namespace, console: Console) -> None:
    from experiments import pipeline

    folder = RunFolder(options.run)
    config = folder.require()
    if options.target is not None:
        _adapt(options, config, folder, console)
        return
    for name, value in (("classes", options.classes), ("weight-bits", options.weight_bits)):
        if value is not None:
            raise UserError(f"--{name} = {value} is for the meta-test on a simulator; name one with --target.")
    with sole_writer(folder):
        data = pipeline.load_data_of(folder, options.device)
        pipeline.run_meta_test(config, folder, data, options.device, console)
    _show_accuracy(folder, console)


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
    from experiments import pipeline
    from experiments.export import run_export

    folder = RunFolder(options.run)
    config = folder.require()
    targets = tuple(dict.fromkeys(options.target or ()))
    with sole_writer(folder):
        data = pipeline.load_data_of(folder)
        certificate = run_export(config, folder, data, console, targets, options.check, options.approximate)
    _show_certificate(certificate, console)
    if "nir" in targets:
        for sentence in certificate.lossy:
            console.print(f"Other readers of the NIR file: {sentence}", soft_wrap=True)
        console.print(f"NIR file: {folder.nir}")
    console.print(f"Graph: {folder.graph}\nCertificate: {folder.certificate}")


def _show_certificate(certificate: Certificate, console: Console) -> None:
    columns = ("spike slots", "mismatches", "largest output difference", "accuracy")

    def cells(one: Fidelity) -> tuple[str, ...]:
        accuracy = "" if one.accuracy is None else f"{one.accuracy:.4f}"
        return f"{one.slots:,}", f"{one.mismatches:,}", f"{one.max_output_difference:.2g}", accuracy

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

    folder = RunFolder(options.run)
    config = folder.require()
    with sole_writer(folder):
        rows = pipeline.run_energy(config, folder, pipeline.load_data_of(folder))
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


def _show_accuracy(folder: RunFolder, console: Console) -> None:
    accuracy: dict[tuple[str, str], dict[int, list[float]]] = {}
    with folder.meta_test.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            milestones = accuracy.setdefault((row["protocol"], row["head"]), {})
            milestones.setdefault(int(row["classes"]), []).append(float(row["test_accuracy"]))
    classes = sorted({n for milestones in accuracy.values() for n in milestones})
    columns = [f"{protocol}\n{head}" for protocol, head in accuracy]
    table = Table("classes", *columns, title="held-out accuracy, mean of the draws")
    for n in classes:
        table.add_row(str(n), *(f"{fmean(milestones[n]):.3f}" for milestones in accuracy.values()))
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
    """Runs one command; returns the exit code: 0, 2 after one sentence on a user's mistake, 130 after Ctrl-C."""
    command = ""
    try:
        parser = build_parser()
        parsed = parser.parse_args(None if arguments is None else list(arguments))
        command = parsed.subcommand
        if command != "train" and int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise UserError(f"torchrun starts snn-anml train only; run snn-anml {command} in one process.")
        check_given(parsed[command])
        options = parser.instantiate(parsed)[command]
        keep_large_buffers()
        if str(getattr(options, "device", "cpu")).startswith("cuda"):
            repeatable_gpu()
        COMMANDS[command](options, Console())
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
        again = "go on with --resume" if command in ("run", "train") else "run the command again"
        print(f"snn-anml: interrupted; {again}.", file=sys.stderr)
        return EXIT_INTERRUPTED
    return 0


def _refuse(sentence: str) -> int:
    print(f"snn-anml: {sentence}", file=sys.stderr)
    return EXIT_USER_ERROR


if __name__ == "__main__":
    sys.exit(main())
