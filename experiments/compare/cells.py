"""Numbers as they are printed: means with their intervals, joules, ratios."""

from __future__ import annotations

from collections.abc import Sequence

from experiments.compare.statistics import Interval
from experiments.report.tables import DASH

PREFIXES = ((1e6, "MJ"), (1e3, "kJ"), (1.0, "J"), (1e-3, "mJ"), (1e-6, "\u00b5J"), (1e-9, "nJ"), (1e-12, "pJ"))


def percent(i: Interval | None) -> str:
    """`72.1 [70.5, 73.4]` in %."""
    if i is None:
        return DASH
    return f"{100 * i.mean:.1f}" + ("" if i.bounds is None else f" [{100 * i.bounds[0]:.1f}, {100 * i.bounds[1]:.1f}]")


def number(i: Interval | None) -> str:
    """`0.163 [0.158, 0.170]`."""
    return DASH if i is None else bracketed((i.mean, *(i.bounds or ())))


def joules(i: Interval | None) -> str:
    """`312 [300, 330] nJ`, all three with the prefix of the mean."""
    if i is None:
        return DASH
    factor, unit = _prefix(i.mean)
    scaled = (i.mean / factor, *(() if i.bounds is None else (end / factor for end in i.bounds)))
    return f"{bracketed(scaled)} {unit}"


def bracketed(values: Sequence[float]) -> str:
    """A number, and its range behind it where there is one; three digits."""
    mean, *ends = (f"{value:,.0f}" if abs(value) >= 999.5 else f"{value:#.3g}".rstrip(".") for value in values)
    return mean + (f" [{ends[0]}, {ends[1]}]" if ends else "")


def joules_tick(value: float, _: int = 0) -> str:
    """`20 µJ`, at a tick of an axis."""
    factor, unit = _prefix(value)
    return f"{value / factor:g} {unit}"


def _prefix(value: float) -> tuple[float, str]:
    return next(((f, u) for f, u in PREFIXES if abs(value) >= f * (1 - 1e-9)), (1.0, "J"))


def as_columns(i: Interval | None, name: str) -> dict[str, float | int | None]:
    """The same, unrounded, as columns of a CSV file."""
    if i is None:
        return {name: None, f"{name}_low": None, f"{name}_high": None, "seeds": 0, "values": 0}
    return {name: i.mean, f"{name}_low": i.low, f"{name}_high": i.high, "seeds": i.seeds, "values": i.values}
