"""The folder of a run: what lies in it, and that nothing in it is lost by mistake."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from experiments.config_file import PROVENANCE, read_config
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
    def nir(self) -> Path:
        return self.path / "export" / "graph.nir"

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
    def memory(self) -> Path:
        return self.path / "memory.csv"

    @property
    def learning(self) -> Path:
        return self.path / "learning.csv"

    @property
    def training(self) -> Path:
        return self.path / "training.csv"

    @property
    def measured(self) -> Path:
        return self.path / "measured.csv"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def log(self) -> Path:
        """What a run said that was started beside others, and not at a terminal."""
        return self.path / "job.log"

    @property
    def twin(self) -> RunFolder:
        return RunFolder(self.path / "twin")

    def require(self) -> RunConfig:
        """The configuration of an existing run, or `UserError` where there is none."""
        if (self.path / "comparison.yaml").is_file():
            raise UserError(
                f"{self.path} holds a comparison; use snn-anml compare --out {self.path}, or name a run below its runs."
            )
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
    if plain["train"].pop("spike_cost") == "synapse":
        plain["train"]["charged_outputs"] = plain["export"]["classes"]
    if plain["train"]["spike_schedule"] == "constant":
        del plain["train"]["spike_schedule"]  # as in checkpoints from before there was another
    facts = {key: plain[key] for key in ("seed", "data", "network", "train", "meta")} | {"data_hash": data_hash}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def git_commit() -> str:
    """The commit of the source tree that is running, `+changes` where it was edited; `unknown` outside of one, as where
    the package is installed beside the code of another project."""
    here = Path(__file__)
    tracked, head, edited = (
        ["ls-files", "--error-unmatch", here.name],
        ["rev-parse", "HEAD"],
        ["status", "--porcelain", "--untracked-files=no"],
    )
    try:
        _, commit, status = (
            subprocess.run(
                ["git", *arguments], cwd=here.parent, capture_output=True, text=True, check=True, timeout=10
            ).stdout.strip()
            for arguments in (tracked, head, edited)
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


@contextmanager
def sole_writer(folder: RunFolder) -> Iterator[None]:
    """Makes a run folder, and keeps other processes from writing into it; the lock ends with the process.

    A folder that is still empty at the end is removed again.

    Raises:
        UserError: the folder cannot be made, or another process is writing into it.
    """
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder.path, os.O_RDONLY)
    except FileExistsError:
        raise UserError(f"{folder.path} is a file; choose another --out.") from None
    except OSError as error:
        raise UserError(f"{folder.path} cannot be made or opened ({error.strerror}); choose another --out.") from None
    try:
        _lock(handle, folder.path)
        yield
    finally:
        os.close(handle)
        with suppress(OSError):  # it is not empty
            folder.path.rmdir()


def _lock(handle: int, path: Path) -> None:
    try:
        import fcntl
    except ImportError:  # no such locks on Windows
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(f"Another process is writing into {path}; wait for it, or choose another --out.") from None
    except OSError:  # a file system without locks
        return


def open_run(
    folder: RunFolder, config: RunConfig, data_hash: str, device: str, resume: bool, processes: int = 1
) -> None:
    """Makes the folder of a new run and writes its config.yaml, or checks that a run there is this one.

    Raises:
        UserError: the folder holds another run, or this one without `resume`, or anything else.
    """
    if folder.config.exists():
        if not resume:
            raise UserError(f"{folder.path} already holds a run; go on with --resume, or choose another --out.")
        check_config(folder, config)
        check_data(folder, data_hash)
        return
    for leftover in folder.path.glob(".config.yaml.*"):  # of a process that was killed while it wrote the file
        leftover.unlink()
    if folder.path.exists() and (not folder.path.is_dir() or set(folder.path.iterdir()) - {folder.log}):
        raise UserError(f"{folder.path} is not empty and holds no run; choose another --out.")
    import torch  # late, since `snn-anml --help` need not wait for it

    threads = torch.get_num_threads()
    found = provenance(data_hash) | {"device": device, "threads": threads, "processes": processes}
    write_text(folder.config, yaml.safe_dump(to_plain(config) | {PROVENANCE: found}, sort_keys=False))


def provenance(data_hash: str) -> dict[str, Any]:
    """What results depend on beside the configuration: versions, source tree, data, machine."""
    return {
        "versions": versions(),
        "git_commit": git_commit(),
        "data_sha256": data_hash,
        "machine": f"{platform.processor() or platform.machine()}, {platform.system()} {platform.release()}",
    }


def first_difference(before: Any, after: Any, key: str = "") -> tuple[str, Any, Any] | None:
    """The first setting that differs, in full (`train.warm_steps`), with both values; None for equal ones."""
    if isinstance(before, dict) and isinstance(after, dict):
        for name in after:
            found = first_difference(before.get(name), after[name], f"{key}.{name}" if key else name)
            if found is not None:
                return found
        return None
    return None if before == after else (key, before, after)


def check_config(folder: RunFolder, config: RunConfig) -> None:
    """Raises `UserError` where the run of a folder has another configuration, with the first difference."""
    different = first_difference(to_plain(read_config(folder.config)), to_plain(config))
    if different is not None:
        key, there, here = different
        raise UserError(
            f"{folder.path} holds a run of another configuration ({key}: {there} there, {here} here); "
            "choose another --out."
        )


def check_data(folder: RunFolder, data_hash: str) -> None:
    """Raises `UserError` where a run was trained on other data than those with this hash."""
    trained_on = read_provenance(folder).get("data_sha256", data_hash)
    if trained_on != data_hash:
        raise UserError(
            f"{folder.path} was trained on other data (sha256 {str(trained_on)[:12]}... there, {data_hash[:12]}... "
            "here); put those back, or train anew with another --out."
        )


def read_provenance(folder: RunFolder) -> dict[str, Any]:
    """The `provenance` of a run's config.yaml; empty without one."""
    found = yaml.safe_load(folder.config.read_text(encoding="utf-8")).get(PROVENANCE)
    return found if isinstance(found, dict) else {}
