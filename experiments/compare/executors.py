"""Where runs are computed: processes of this machine, or jobs of a cluster."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from experiments.compare import child
from experiments.compare.child import PATIENCE, Task
from snn_anml.errors import MissingExtraError, UserError

MINUTES = 24 * 60
"""Of a cluster's job, where nothing else was asked for; stopped by the clock it is put in the queue again."""


class Running(Protocol):
    """A task on its way."""

    def code(self) -> int | None:
        """Exit code, negative for the number of a signal; None as long as it is not over."""
        ...

    def stop(self) -> None:
        """Asks it to end."""
        ...

    def wait(self) -> None:
        """Waits until it has ended, not for ever."""
        ...


class Executor(Protocol):
    """Starts tasks."""

    def start(self, task: Task) -> Running:
        """Starts a task and returns at once."""
        ...


class _Process:
    def __init__(self, task: Task) -> None:
        # Numeric libraries read these when they are loaded.
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(task.threads))
        # In a session of its own, so that Ctrl-C at the terminal reaches the parent alone, which ends its children.
        self._process = subprocess.Popen(
            [sys.executable, "-m", child.__name__, task.to_json()],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **threads},
            start_new_session=True,
        )

    def code(self) -> int | None:
        if (code := self._process.poll()) is not None:
            self._close()
        return code

    def stop(self) -> None:
        self._process.terminate()

    def wait(self) -> None:
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._close()

    def _close(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()


class Processes:
    """Processes of this machine, with as many threads each as the task says: one computes alike beside any others."""

    def start(self, task: Task) -> Running:
        return _Process(task)


class _Resumable:
    """A task that a cluster may stop and put in its queue again: it goes on where its files are."""

    def __call__(self, task: Task) -> int:
        return child.logged(task)

    def checkpoint(self, task: Task) -> Any:
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, task)


class _ClusterJob:
    def __init__(self, job: Any) -> None:
        self._job = job

    def code(self) -> int | None:
        if not self._job.done():
            return None
        try:
            return self._job.result()
        except Exception:  # whatever has happened to the job, submitit's log tells
            return 1

    def stop(self) -> None:
        self._job.cancel()

    def wait(self) -> None:
        """Nothing to wait for: the cluster ends it."""


class Cluster:
    """Jobs of SLURM through submitit, or processes of this machine that submitit starts, where there is no SLURM.

    Args:
        folder: where submitit keeps its files.
        parameters: of every job, as `partition`, `timeout_min`, `mem_gb`; see `parse_parameters`.
        threads: of a run.
        cluster: `slurm` or `local`; found out where None.

    Raises:
        MissingExtraError: submitit is not installed.
        UserError: a parameter that submitit does not know.
    """

    def __init__(self, folder: Path, parameters: Mapping[str, Any], threads: int, cluster: str | None = None) -> None:
        try:
            import submitit
        except ImportError:
            raise MissingExtraError("--executor submitit", "cluster") from None
        self._executor = submitit.AutoExecutor(folder, cluster=cluster)
        common = {"name": "snn-anml", "timeout_min": MINUTES, "cpus_per_task": threads}
        try:
            self._executor.update_parameters(**common | dict(parameters))
        except (NameError, TypeError, ValueError) as error:
            known = str(error).splitlines()[0].rstrip(".")
            raise UserError(f"--slurm {' '.join(map(str, parameters))}: {known}; see sbatch --help.") from None

    def start(self, task: Task) -> Running:
        from submitit.core.utils import FailedJobError

        try:
            return _ClusterJob(self._executor.submit(_Resumable(), task))
        except FailedJobError as error:  # as where there is no such partition
            said = str(error).strip().splitlines()[0].rstrip(".")
            raise UserError(f"The cluster refuses the job ({said}); mend --slurm, and see sbatch --help.") from None


SHARED = (
    "cpus_per_task",
    "gpus_per_node",
    "mem_gb",
    "name",
    "nodes",
    "stderr_to_stdout",
    "tasks_per_node",
    "timeout_min",
)
"""Parameters that submitit knows on every cluster; all others are SLURM's own."""


def parse_parameters(given: Sequence[str]) -> dict[str, Any]:
    """`partition=gpu timeout_min=60` as submitit calls them: `slurm_partition`, `timeout_min`; whole numbers as such.

    Raises:
        UserError: anything that is not of the form KEY=VALUE.
    """
    found = {}
    for one in given:
        key, equals, value = one.partition("=")
        if not key or not equals or not value:
            raise UserError(f"--slurm {one}; give KEY=VALUE, such as partition=gpu.")
        name = key if key in SHARED or key.startswith("slurm_") else f"slurm_{key}"
        found[name] = int(value) if value.isdecimal() else value
    return found
