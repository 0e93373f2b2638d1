"""Trials side by side: in processes of their own, since their steps are too short for threads to share Python."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context, parent_process

import numpy as np
import torch

from snn_anml.meta.trial import Scores, Trial

Run = tuple[str, Trial, float, tuple[int, ...], bool]
"""Name of the features, trial, learning rate, milestones, and whether the learned heads are wanted."""

RunAll = Callable[[Iterable[Run]], list[list[Scores]]]
"""Runs independent trials and returns their scores in order."""

_features: dict[str, torch.Tensor] = {}
"""What this worker was started with."""


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _start(features: dict[str, np.ndarray]) -> None:
    # A worker waits for jobs for ever, also when its parent was killed.
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    # numpy keeps the answers; first asked when denormals are flushed, it warns.
    np.finfo(np.float32)
    np.finfo(np.float64)
    # Moments of features that no longer fire decay into denormal numbers, with which processors are many times slower.
    torch.set_flush_denormal(True)
    _features.update({name: torch.from_numpy(values) for name, values in features.items()})


def _run(run: Run) -> list[Scores]:
    name, trial, rate, milestones, wanted = run
    scores = trial.run(_features[name], rate, milestones)
    return scores if wanted else [score._replace(head=None) for score in scores]


@contextmanager
def side_by_side(features: dict[str, torch.Tensor], workers: int) -> Iterator[RunAll]:
    """Workers that hold the features, for as long as the block runs.

    Args:
        features: by name, (classes, drawings, F) float32 on the CPU; sent to every worker once.
        workers: processes. With 1 the trials run in this process, one after another; more need a main module that can
            be imported without running, as `multiprocessing` with spawn does.
    """
    arrays = {name: values.numpy() for name, values in features.items()}
    threads = torch.get_num_threads()
    pool: Executor
    if workers == 1:
        pool = ThreadPoolExecutor(1, initializer=_start, initargs=(arrays,))  # a thread has its own denormal mode
    else:
        pool = ProcessPoolExecutor(workers, get_context("spawn"), initializer=_start, initargs=(arrays,))
    try:
        with pool:
            yield lambda runs: list(pool.map(_run, runs))
    finally:
        if workers == 1:
            torch.set_num_threads(threads)
            _features.clear()
