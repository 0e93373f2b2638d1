"""The runs of a comparison side by side: as many at once as asked for, none stopped by another's failure."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.live import Live
from rich.table import Table

from experiments.compare.child import Task
from experiments.compare.executors import Executor, Running
from experiments.compare.work import TRAINING

WATCH_SECONDS = 0.5
"""Between two looks at the processes."""


@dataclass(frozen=True)
class Entry:
    """A task as the user sees it.

    name: of the run; stage: tells what it does by now, None where all is done; steps, metrics: of its training.
    """

    name: str
    task: Task
    stage: Callable[[], str | None]
    steps: int
    metrics: Path


class Failure(NamedTuple):
    """A task that failed, and in its log's last line why."""

    name: str
    reason: str
    log: Path


def run_all(entries: Sequence[Entry], executor: Executor, at_once: int, console: Console) -> list[Failure]:
    """Does all tasks, and shows on a terminal what each does. Interrupted, it ends those on their way first."""
    waiting, running, failures = list(entries), dict[str, tuple[Entry, Running]](), list[Failure]()

    def table() -> Table:
        counts = f"{len(entries) - len(waiting) - len(running)} of {len(entries)} over, {len(waiting)} waiting"
        return _table([entry for entry, _ in running.values()], counts + f", {len(failures)} failed" * bool(failures))

    terminal = console.is_terminal
    try:
        with Live(table(), console=console, auto_refresh=False) if terminal else nullcontext() as live:
            while waiting or running:
                while waiting and len(running) < at_once:
                    entry = waiting.pop(0)
                    running[entry.name] = entry, executor.start(entry.task)
                    if not terminal:
                        console.print(f"{entry.name}: started", soft_wrap=True)
                for name, (entry, process) in list(running.items()):
                    if (code := process.code()) is None:
                        continue
                    del running[name]
                    if code:
                        log = Path(entry.task.log)
                        failures.append(Failure(name, _reason(code, log), log))
                        console.print(f"{name}: failed; {failures[-1].reason}", soft_wrap=True, markup=False)
                    elif not terminal:
                        console.print(f"{name}: done", soft_wrap=True)
                if live is not None:
                    live.update(table(), refresh=True)
                if running:
                    time.sleep(WATCH_SECONDS)
    finally:
        _end([process for _, process in running.values()])
    return failures


def _end(running: Sequence[Running]) -> None:
    for process in running:
        process.stop()
    for process in running:
        process.wait()


def _reason(code: int, log: Path) -> str:
    """Why a task failed: the signal that ended it, or the last line of its log."""
    if code < 0:
        also = ", as where memory runs out" if -code == getattr(signal, "SIGKILL", None) else ""
        return f"it was ended by signal {-code}{also}; start it again."
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n") if log.exists() else []
    said = [line for line in lines if line.strip()]
    return said[-1].strip().removeprefix("snn-anml: ") if said else f"it ended with code {code} and said nothing."


def _table(entries: Sequence[Entry], caption: str) -> Table:
    table = Table("run", "what", "step", "steps/s", "left", caption=caption)
    for entry in entries:
        stage = entry.stage() or "done"
        cells = ("", "", "")
        if stage == TRAINING and (metrics := last_metrics(entry.metrics)):
            step, rate = metrics["step"], metrics["steps_per_second"]
            cells = f"{step:,} of {entry.steps:,}", f"{rate:.1f}", _left((entry.steps - step) / rate)
        table.add_row(entry.name, stage, *cells)
    return table


def _left(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


def last_metrics(path: Path) -> dict | None:
    """The last whole line of metrics.jsonl; None without one."""
    if not path.exists():
        return None
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 4096))
        for line in reversed(file.read().split(b"\n")):
            try:
                return json.loads(line)
            except ValueError:
                continue
    return None
