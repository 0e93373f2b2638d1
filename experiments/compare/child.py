"""A process that does one task of a comparison and ends: `python -m experiments.compare.child TASK`, TASK in JSON.

It ends with the process that started it, whose end of a pipe is its standard input.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path

PATIENCE = 10.0
"""Seconds that a process has to end cleanly."""


@dataclass(frozen=True)
class Task:
    """What a process is to do. Without an arm, it measures joules.

    out: of the comparison; log: where it writes what it says; workers: processes that share a meta-test.
    """

    out: str
    log: str
    device: str
    threads: int
    workers: int
    arm: str | None = None
    seed: int = 0

    def to_json(self) -> str:
        return json.dumps(asdict(self))


def do(task: Task) -> int:
    """Does a task, and returns 0, or 1 after the reason, in a traceback where it is a defect."""
    from rich.console import Console

    from experiments.compare.work import measure, perform
    from experiments.config_file import one_sentence
    from experiments.process import prepare_process
    from snn_anml.errors import UserError

    prepare_process(task.device, task.threads)
    console = Console(file=sys.stdout, width=120)
    try:
        if task.arm is None:
            measure(Path(task.out), task.device, console)
        else:
            perform(Path(task.out), task.arm, task.seed, task.device, task.workers, console)
    except UserError as error:
        print(f"snn-anml: {one_sentence(error)}", flush=True)
        return 1
    except Exception:
        traceback.print_exc(file=sys.stdout)
        return 1
    return 0


def logged(task: Task) -> int:
    """`do`, with all that this process writes, its libraries and their processes too, in the log of the task."""
    path = Path(task.log)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
    code = do(task)
    sys.stdout.flush()
    return code


def _end_with_parent() -> None:
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(PATIENCE)
    os._exit(1)


def main() -> int:
    """The process itself. SIGTERM ends it as an exception does, so that no half file is left behind."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    return logged(Task(**json.loads(sys.argv[1])))


if __name__ == "__main__":
    sys.exit(main())
