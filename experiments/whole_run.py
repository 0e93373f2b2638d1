"""A whole run: every stage after the other, and the conventional twin beside a spiking network."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from rich.console import Console

from experiments import export, pipeline
from experiments.report import write_report
from experiments.run_data import load_data
from experiments.run_folder import RunFolder
from snn_anml.config import RunConfig
from snn_anml.errors import MissingExtraError


def run_everything(config: RunConfig, folder: RunFolder, resume: bool, device: str, console: Console) -> Path:
    """Train, meta-test, export, energy, report; with the conventional twin where the configuration asks for it."""
    if find_spec("matplotlib") is None or find_spec("jinja2") is None:
        raise MissingExtraError("The report", "report")  # now, and not after the training
    pipeline.check_runs(config)
    data = load_data(config, device)
    runs = [(config, folder)]
    if config.twin and config.network.neuron == "lif":
        runs.append((pipeline.twin_config(config), folder.twin))
    for its_config, its_folder in runs:
        pipeline.run_training(its_config, its_folder, data, resume, device, console)
        if not its_folder.meta_test.exists():
            pipeline.run_meta_test(its_config, its_folder, data, device, console)
    if config.network.layers == "published":
        console.print("Published layers have no form on a simulator: no export and no counts of operations.")
        return write_report([folder.path], folder.report)
    if not folder.certificate.exists():
        export.run_export(config, folder, data, console)
    pipeline.run_energy(config, folder, data)
    return write_report([folder.path], folder.report)
