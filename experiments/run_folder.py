"""The folder of a run: what lies in it, and that nothing in it is lost by mistake."""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
from dataclasses import asdict, dataclass, fields
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import SUPPRESS, ArgumentError, ArgumentParser, Namespace

from snn_anml.config import RunConfig
from snn_anml.errors import UserError
from snn_anml.files import write_text

PACKAGES = ("snn-anml", "torch", "numpy", "snntorch", "nengo", "nengo-dl", "tensorflow", "keras-spiking")


@dataclass(frozen=True)
class RunFolder:
    """Paths of one run. `twin` is the folder of its conventional twin, a run of its own."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def model(self) -> Path:
        return self.path / "model.safetensors"

    @property
    def heads(self) -> Path:
        return self.path / "heads.safetensors"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def meta_test(self) -> Path:
        return self.path / "meta_test.csv"

    @property
    def activity(self) -> Path:
        return self.path / "activity.json"

    @property
    def graph(self) -> Path:
        return self.path / "export" / "graph.safetensors"

    @property
    def certificate(self) -> Path:
        return self.path / "export" / "certificate.json"

    @property
    def simulations(self) -> Path:
        return self.path / "export" / "simulations.csv"

    @property
    def energy(self) -> Path:
        return self.path / "energy.csv"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def twin(self) -> RunFolder:
        return RunFolder(self.path / "twin")

    def require(self) -> RunConfig:
        """The configuration of an existing run, or `UserError` where there is none."""
        if not self.config.is_file():
            raise UserError(
                f"{self.path} holds no run (no config.yaml); name a run folder, or make one with snn-anml run."
            )
        return read_config(self.config)


def to_plain(config: RunConfig) -> dict[str, Any]:
    """The configuration as JSON-able data."""
    return json.loads(json.dumps(asdict(config)))


def training_hash(config: RunConfig, data_hash: str) -> str:
    """Identifies everything that the trained weights depend on, but for the machine."""
    plain = to_plain(config)
    plain["train"] = {
        k: v for k, v in plain["train"].items() if k not in ("log_every", "checkpoint_every", "tensorboard")
    }
    facts = {key: plain[key] for key in ("seed", "data", "network", "train", "meta")} | {"data_hash": data_hash}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def add_config(parser: ArgumentParser) -> None:
    """Gives a parser every option of `RunConfig`, and lets it read the configuration file of a finished run."""
    parser.add_class_arguments(RunConfig)
    parser.add_argument("--provenance", type=dict, default=None, help=SUPPRESS)


def parsed_config(parsed: Namespace) -> RunConfig:
    """The checked configuration from what a parser with `add_config` has parsed and instantiated."""
    return RunConfig(**{f.name: parsed[f.name] for f in fields(RunConfig)})


def read_config(path: Path) -> RunConfig:
    """Reads a configuration file; the `provenance` of a finished run's is left out.

    Raises:
        UserError: no file, no YAML, an unknown key, or a value of the wrong kind or out of its range.
    """
    parser = ArgumentParser(exit_on_error=False)
    add_config(parser)
    if not path.is_file():
        raise UserError(f"There is no configuration file {path}.")
    try:
        return parsed_config(parser.instantiate(parser.parse_path(str(path))))
    except (ArgumentError, UserError, TypeError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: {one_sentence(error)}") from None


def one_sentence(error: BaseException) -> str:
    """The message of an error on one line, ending in one full stop."""
    return " ".join(str(error).split()).rstrip(".") + "."


def git_commit() -> str:
    """The commit of the source tree that is running, `unknown` outside of one; `+changes` where it was edited."""
    here = Path(__file__).parent
    try:
        commit, status = (
            subprocess.run(
                ["git", *arguments], cwd=here, capture_output=True, text=True, check=True, timeout=10
            ).stdout.strip()
            for arguments in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return commit + ("+changes" if status else "")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def open_run(folder: RunFolder, config: RunConfig, data_hash: str, device: str, resume: bool) -> None:
    """Makes the folder of a new run and writes its config.yaml, or checks that a run there is this one.

    Raises:
        UserError: the folder holds another run, or this one without `resume`, or anything else.
    """
    if folder.config.exists():
        if not resume:
            raise UserError(f"{folder.path} already holds a run; go on with --resume, or choose another --out.")
        before = to_plain(read_config(folder.config))
        after = to_plain(config)
        if before != after:
            key = next(k for k in after if before[k] != after[k])
            raise UserError(
                f"{folder.path} holds a run of another configuration ({key}: {before[key]} there, {after[key]} here); "
                "choose another --out."
            )
        return
    if folder.path.exists() and (not folder.path.is_dir() or any(p.name != "twin" for p in folder.path.iterdir())):
        raise UserError(f"{folder.path} exists and is no run; choose another --out.")
    provenance = {
        "versions": versions(),
        "git_commit": git_commit(),
        "data_sha256": data_hash,
        "device": device,
        "machine": f"{platform.processor() or platform.machine()}, {platform.system()} {platform.release()}",
    }
    write_text(folder.config, yaml.safe_dump(to_plain(config) | {"provenance": provenance}, sort_keys=False))


def read_provenance(folder: RunFolder) -> dict[str, Any]:
    """The `provenance` of a run's config.yaml."""
    return yaml.safe_load(folder.config.read_text(encoding="utf-8")).get("provenance", {})
