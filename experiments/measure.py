"""Measured joules of inference in torch, where the machine has a meter; never a number where it has none.

A meter counts the energy of everything that its part of the machine does. So each window of work stands between two
windows of rest, whose mean power is taken off:

    joules = (J - (P_before + P_after) / 2 * seconds) / inferences

No two windows of work share a rest: then what disturbs one repetition disturbs no other, as the interval supposes.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import stats

from experiments.meters import Meter, NoMeterError, find_meter
from snn_anml.errors import UserError
from snn_anml.networks import Network

NO_METER = "no meter on this machine"
SHORTEST = 2.0
"""s; NVML renews its counter about every 0.1 s (the Zeus project's measurements), so that shorter windows are noise."""

CSV_COLUMNS = ("meter", "what", "repetitions", "seconds", "joules", "low", "high", "note")


@dataclass(frozen=True)
class Clock:
    """Seconds from any origin, and a way to let some pass."""

    now: Callable[[], float] = time.perf_counter
    sleep: Callable[[float], None] = time.sleep


@dataclass(frozen=True)
class Measurement:
    """Energy of one inference as measured, mean and 95 % interval (Student's t over the repetitions).

    Attributes:
        meter: by which, None where there is none; then nothing else is known but `what` and `note`.
        what: was measured.
        repetitions: windows of work.
        inferences: in all of them.
        seconds: in all of them, rests aside.
        joules: J per inference, above rest.
        low: lower end of the interval, J.
        high: upper end of the interval, J.
        idle_watts: mean power at rest, W.
        note: what was taken off, or why there is no number.
    """

    meter: str | None
    what: str
    repetitions: int = 0
    inferences: int = 0
    seconds: float = 0.0
    joules: float | None = None
    low: float | None = None
    high: float | None = None
    idle_watts: float | None = None
    note: str = ""

    def csv_row(self) -> dict[str, str | int | float]:
        """A row of `measured.csv` with the columns `CSV_COLUMNS`; empty where nothing was measured."""
        row = {name: getattr(self, name) for name in CSV_COLUMNS}
        if self.joules is None:
            row |= dict.fromkeys(("repetitions", "seconds"), None)
        return {name: "" if value is None else value for name, value in row.items()}


def measure(
    work: Callable[[], int],
    meter: Meter,
    what: str,
    *,
    repetitions: int = 10,
    window: float = 4.0,
    rest: float = 4.0,
    clock: Clock | None = None,
) -> Measurement:
    """Measures some work, repeated until each window is over.

    Args:
        work: does some inferences to their end, and returns how many.
        meter: that measures them.
        what: is measured, for the table.
        repetitions: windows of work, at least 2, with two rests each.
        window: s of work in a window, at least `SHORTEST`; the last piece of work is finished.
        rest: s of each rest, at least `SHORTEST`.
        clock: to measure seconds and to rest by; the machine's where it is None.

    Returns:
        J per inference; without a number where the meter does not move.

    Raises:
        UserError: too few repetitions, or windows too short.
    """
    if repetitions < 2:
        raise UserError(f"{repetitions} repetitions have no interval; take at least 2.")
    if not min(window, rest) >= SHORTEST:
        raise UserError(f"Windows of {window} s and rests of {rest} s; take at least {SHORTEST:g} s for each.")
    clock = clock or Clock()
    work()  # what is done once only, such as choosing kernels and filling caches
    rests, windows = [], []
    for _ in range(repetitions):
        rests.append(_window(meter, clock, lambda: clock.sleep(rest)))
        windows.append(_window(meter, clock, lambda: _until(clock, window, work)))
        rests.append(_window(meter, clock, lambda: clock.sleep(rest)))
    if not all(joules > 0 for joules, _, _ in (*rests, *windows)):
        return Measurement(None, what, note=f"{NO_METER}: the counter of {meter.name} stands still")
    watts = [joules / seconds for joules, seconds, _ in rests]
    each = np.array(
        [
            (joules - (before + after) / 2 * seconds) / inferences
            for (joules, seconds, inferences), before, after in zip(windows, watts[::2], watts[1::2], strict=True)
        ]
    )
    mean = float(each.mean())
    half = float(stats.t.ppf(0.975, repetitions - 1) * each.std(ddof=1) / math.sqrt(repetitions))
    idle = sum(watts) / len(watts)
    note = f"{meter.covers}; {idle:.3g} W at rest taken off"
    if mean - half <= 0:
        note += "; not to be told from rest"
    return Measurement(
        meter.name,
        what,
        repetitions,
        sum(inferences for _, _, inferences in windows),
        sum(seconds for _, seconds, _ in windows),
        mean,
        mean - half,
        mean + half,
        idle,
        note,
    )


def measure_inference(
    model: Network,
    images: torch.Tensor,
    device: str | torch.device = "cpu",
    *,
    meter: Meter | None = None,
    seed: int = 0,
    **options: Any,
) -> Measurement:
    """Measured energy of one drawing's inference in torch, in a batch.

    Args:
        model: the network; a copy of it is moved to the device.
        images: (B, 1, H, W) pictures in [0, 1], one batch; a larger one has less overhead for each drawing.
        device: `cpu` or `cuda`, as torch calls it.
        meter: that measures; that of the device where it is None.
        seed: of the spikes of a rate encoding.
        options: of `measure`.

    Returns:
        J per drawing; without a number, and with the reason, where the machine has no meter.
    """
    where = torch.device(device)
    what = f"inference in torch on {where.type}, {len(images)} drawings at a time"
    try:
        meter = meter or find_meter(where)
    except NoMeterError as error:
        return Measurement(None, what, note=f"{NO_METER}: {error}")
    network, x = copy.deepcopy(model).to(where).eval(), images.to(where)

    def work() -> int:
        with torch.inference_mode():
            network(x, torch.Generator().manual_seed(seed))
        if where.type == "cuda":
            torch.cuda.synchronize(where)
        return len(x)

    return measure(work, meter, what, **options)


def _window(meter: Meter, clock: Clock, during: Callable[[], int | None]) -> tuple[float, float, int]:
    """Joules, seconds, and what `during` returns (0 for None)."""
    start = clock.now()
    meter.start()
    try:
        done = during()
    except BaseException:
        with suppress(Exception):  # the window is ended, so that the meter can be used again
            meter.stop()
        raise
    joules = meter.stop()
    return joules, clock.now() - start, done or 0


def _until(clock: Clock, seconds: float, work: Callable[[], int]) -> int:
    """Repeats work until the seconds are over; returns the sum of what it did."""
    end, done = clock.now() + seconds, 0
    while clock.now() < end:
        done += work()
    return done
