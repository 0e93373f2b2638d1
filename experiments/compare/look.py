"""How arms look in figures, and the dot plot that several figures are."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from experiments.compare.results import Arm, Results
from experiments.compare.statistics import Interval
from experiments.report.drawing import colour, cycle, legend_below

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")
FILLS = ("full", "left", "bottom", "top")
LINES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1, 1.2)))
LEGEND_CHARACTERS = 62
"""Together in a row of a legend that is as wide as the figure."""


class Look(NamedTuple):
    """Of one arm: a colour and a marker for each way of training, hollow for conventional arms; a line style and which
    part of the marker is filled for each form."""

    colour: str
    marker: str
    line: Any
    face: str
    back: str
    fill: str

    @property
    def of_line(self) -> dict[str, Any]:
        """For `Axes.plot`."""
        return self.of_marker | {"linestyle": self.line}

    @property
    def of_marker(self) -> dict[str, Any]:
        """For a marker without a line."""
        faces = {"markerfacecolor": self.face, "markerfacecoloralt": self.back, "fillstyle": self.fill}
        return {"color": self.colour, "marker": self.marker, "linestyle": "", **faces}


def look(results: Results, arm: Arm) -> Look:
    """The same for an arm in every figure."""
    names = list(dict.fromkeys(one.name for one in results.arms))
    forms = [one.form for one in results.arms if one.name == arm.name]
    i, form = names.index(arm.name), forms.index(arm.form)
    faces = (cycle(i), colour("paper")) if arm.spiking else (colour("paper"), cycle(i))
    return Look(cycle(i), MARKERS[i % len(MARKERS)], LINES[form % len(LINES)], *faces, FILLS[form % len(FILLS)])


def arm_legend(results: Results, arms: Sequence[Arm], lines: bool = False) -> list[Line2D]:
    """An entry for every arm."""
    looks = [(arm.label, look(results, arm)) for arm in arms]
    return [Line2D([], [], label=label, **(one.of_line if lines else one.of_marker)) for label, one in looks]


def columns_for(handles: Sequence[Any]) -> int:
    """As many columns as the longest label leaves room for."""
    return _columns(max((len(str(handle.get_label())) for handle in handles), default=1))


def _columns(longest: int) -> int:
    return max(1, min(4, LEGEND_CHARACTERS // (longest + 6)))


def logarithmic(axis: Axis, form: Callable[[float, int], str] | None = None) -> None:
    """A logarithmic axis with a few labels, at 1, 2 and 5 or 1 and 3 where the range is short, written by `form`."""
    low, high = sorted(axis.get_view_interval())
    decades = math.log10(high / low)
    subs = (1.0,) if decades > 3 else (1.0, 3.0) if decades > 1.5 else (1.0, 2.0, 5.0)
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(FuncFormatter(form or (lambda value, _: f"{value:g}")))
    axis.set_minor_formatter(NullFormatter())


def put_legend(canvas: Canvas, axes: Axes, handles: list[Any]) -> None:
    """Below the axes, in as many columns as fit."""
    if handles:
        legend_below(canvas, axes, columns_for(handles), handles)


def legend_height(arms: Sequence[Arm], more: int = 0) -> float:
    """Inches that a legend of these arms and some short entries takes."""
    longest = max((len(arm.label) for arm in arms), default=1)
    columns = _columns(longest)
    return 0.17 * (-(-(len(arms) + more) // columns))


def dots(
    axes: Axes, results: Results, rows: Sequence[str], values: Mapping[tuple[str, Arm], Interval], x_label: str
) -> None:
    """Values of arms on rows with names: a marker for each, a whisker for its interval.

    Args:
        axes: to draw on.
        results: for the look of the arms.
        rows: names, from top to bottom.
        values: by row and arm.
        x_label: of the axis of values.
    """
    arms = list(dict.fromkeys(arm for _, arm in values))
    for (row, arm), i in values.items():
        shift = (arms.index(arm) - (len(arms) - 1) / 2) * min(0.16, 0.7 / len(arms))
        y = rows.index(row) + shift
        if i.bounds is not None:
            axes.plot(i.bounds, (y, y), color=look(results, arm).colour, linewidth=1)
        axes.plot([i.mean], [y], markersize=5, **look(results, arm).of_marker)
    axes.set_yticks(range(len(rows)), list(rows))
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(x_label)


def file_stem(text: str) -> str:
    """A name for the files of a figure."""
    return "".join(letter if letter.isalnum() or letter in "_-" else "-" for letter in text)
