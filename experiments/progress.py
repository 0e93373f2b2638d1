"""Progress bars on the terminal; silent where nobody watches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from snn_anml.meta import Metrics

WIDE = 125
"""Columns of a terminal from which on everything fits into one line."""


class TrainingBar:
    """A bar with loss, accuracy and time left; on a wide terminal also spikes per neuron and steps a second."""

    def __init__(self, title: str, console: Console) -> None:
        self._wide = console.width >= WIDE
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20 if self._wide else 8),
            MofNCompleteColumn(),
            TextColumn("{task.fields[facts]}"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task(title, total=None, facts="")

    def __enter__(self) -> TrainingBar:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def __call__(self, step: int, total: int, metrics: Metrics | None) -> None:
        if metrics is None:
            self._progress.update(self._task, completed=step, total=total)
            return
        if not self._wide:
            facts = f"loss {metrics.loss:.2f}  acc {metrics.accuracy:.2f}"
            self._progress.update(self._task, completed=step, total=total, facts=facts)
            return
        spikes = f"  {metrics.spikes_per_neuron:.2f} spikes/neuron" if metrics.spikes_per_neuron else ""
        facts = (
            f"{metrics.stage}  loss {metrics.loss:.3f}  accuracy {metrics.accuracy:.2f}{spikes}  "
            f"{metrics.steps_per_second:.1f} steps/s"
        )
        self._progress.update(self._task, completed=step, total=total, facts=facts)


class StageBar:
    """A bar over stages of unequal length, with the name of the current one."""

    def __init__(self, title: str, console: Console) -> None:
        self._title = title
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[what]}"),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task(title, total=1.0, what="")

    def __call__(self, what: str, share: float) -> None:
        self._progress.update(self._task, completed=share, what=what)

    @classmethod
    @contextmanager
    def show(cls, title: str, console: Console) -> Iterator[StageBar]:
        """The bar, for as long as the block runs."""
        bar = cls(title, console)
        with bar._progress:
            yield bar
