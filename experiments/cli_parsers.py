"""The options of `snn-anml`, by command. Nothing here waits for torch, so that `--help` is quick."""

from __future__ import annotations

from argparse import PARSER, SUPPRESS, Action
from pathlib import Path
from typing import Literal

from jsonargparse import ArgumentParser, DefaultHelpFormatter

from experiments.config_file import ConfigFile, add_config
from snn_anml import __version__
from snn_anml.data import DATASETS


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


def _add_device(parser: ArgumentParser) -> None:
    parser.add_argument("--device", type=str, default="cpu", metavar="cpu|cuda", help="where to compute")


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
    _add_device(parser)
    add_config(parser)
    return parser


def _run_parser(description: str, several: bool = False) -> ArgumentParser:
    parser = _parser(description)
    nargs, text = ("+", "run folders, side by side") if several else (None, "run folder")
    parser.add_argument("run", type=Path, nargs=nargs, help=text, metavar="RUN")
    return parser


def _meta_test_parser() -> ArgumentParser:
    parser = _run_parser("Learns the meta-test classes one after another, with the trained network of a run.")
    _add_device(parser)
    parser.add_argument(
        "--protocols",
        type=Literal["strict", "paper", "iid"],
        nargs="+",
        default=None,
        metavar="NAME",
        help="of strict, paper and iid; outcomes of others are kept (default: meta_test.protocols of the run)",
    )
    parser.add_argument(
        "--target",
        type=str,
        default=None,
        metavar="NAME",
        help="learn from the features of this simulator, beside torch's; those of export --target",
    )
    parser.add_argument(
        "--classes",
        type=int,
        default=None,
        metavar="N",
        help="with --target: meta-test classes (default: 50, or all there are)",
    )
    parser.add_argument(
        "--weight-bits", type=int, default=None, metavar="B", help="with --target: round weights to so many bits"
    )
    return parser


def _export_parser() -> ArgumentParser:
    parser = _run_parser("Exports a network with its learned head, and checks simulators against torch.")
    parser.add_argument(
        "--target",
        nargs="+",
        default=None,
        metavar="NAME",
        # Written out, since to ask `converters.backends()` is to import torch.
        help="targets, of interpreter, torch, nengo, nengo-dl, nengo-native, loihi, nir "
        "(default: export.backends of the run)",
    )
    parser.add_argument(
        "--check", type=int, default=None, metavar="N", help="held-out drawings to compare (default: export.samples)"
    )
    parser.add_argument(
        "--approximate",
        action="store_true",
        help="give the targets resets to zero, which all of them have, instead of others; the deviation is measured",
    )
    return parser


def _compare_parser() -> ArgumentParser:
    description = (
        "Trains, meta-tests, exports and counts several networks alike, in parallel, and writes one report of them. "
        "Interrupted, the same command goes on where it stopped."
    )
    parser = _parser(description)
    parser.add_argument(
        "configs",
        type=Path,
        nargs="*",
        metavar="FILE",
        help="comparison file (with arms), or run configurations; none to go on with the comparison in --out",
    )
    parser.add_argument(
        "--out", type=Path, default=None, metavar="DIR", help="folder of the comparison (default: runs/FILE)"
    )
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=None, metavar="N", help="of all arms, instead of those in the files"
    )
    parser.add_argument(
        "--jobs",
        type=int,
        default=None,
        metavar="N",
        help="runs at once (default: one for each core, one on a GPU, all of them on a cluster)",
    )
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="threads of each run")
    _add_device(parser)
    parser.add_argument(
        "--executor",
        type=Literal["processes", "submitit"],
        default="processes",
        metavar="processes|submitit",
        help="run on this machine, or on a cluster through submitit (SLURM)",
    )
    parser.add_argument(
        "--slurm",
        type=str,
        nargs="+",
        default=None,
        metavar="KEY=VALUE",
        help="of every job on the cluster, such as partition=gpu timeout_min=240 mem_gb=8",
    )
    parser.add_argument(
        "--report-only", action="store_true", help="run nothing; collect and report what is there by now"
    )
    return parser


def _report_parser() -> ArgumentParser:
    parser = _run_parser("Writes one page of one run or of several.", several=True)
    parser.add_argument(
        "--out",
        type=Path,
        default=None,
        metavar="FILE",
        help="the page (default: RUN/report.html, or report.html for several runs)",
    )
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
    add("meta-test", _meta_test_parser(), "sequential meta-test")
    add("export", _export_parser(), "export to a simulator, with a fidelity certificate")
    add("energy", _run_parser("Counts operations of an inference and estimates its energy."), "energy estimates")
    add("compare", _compare_parser(), "several networks side by side: accuracy against energy")
    add("report", _report_parser(), "one page with figures and tables")
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
