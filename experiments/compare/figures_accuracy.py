"""Accuracy against the number of classes, forgetting, and sweeps of a setting."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from experiments.compare.cells import joules, joules_tick, percent
from experiments.compare.joule_rows import ARITHMETIC, energy, focus
from experiments.compare.look import MARKERS, arm_legend, legend_height, logarithmic, look, put_legend
from experiments.compare.plan import Sweep
from experiments.compare.results import Arm, Results
from experiments.compare.statistics import Interval
from experiments.report import published
from experiments.report.blocks import Figure
from experiments.report.drawing import HEAD_COLOURS, colour, cycle, draw, head_colour
from experiments.report.protocols import PROTOCOLS

BANDS = "Bands: 95 % bootstrap interval over seeds and draws."
TITLES = {"test_accuracy": "Accuracy", "first_test_accuracy": "First ten classes"}
LABELS = {"test_accuracy": "held-out accuracy (%)", "first_test_accuracy": "accuracy on the first ten (%)"}
STEMS = {"test_accuracy": "accuracy", "first_test_accuracy": "forgetting"}


def curves(results: Results, protocol: str, head: str, measure: str, folder: Path) -> Figure | None:
    """One panel: every arm's accuracy against the number of classes learned; None without numbers."""
    found = {arm: points for arm in results.arms if (points := _points(results, arm, protocol, head, measure))}
    if not found:
        return None
    behind = measure == "test_accuracy" and results.dataset == published.DATASET
    cited = [one for one in published.POINTS if one.head == head] if behind else []

    def paint(canvas: Canvas) -> None:
        axes = canvas.add_subplot()
        grey = _published(axes, head, cited) if behind else []
        for arm, points in found.items():
            _curve(axes, results, arm, points)
        axes.set(xlabel=PROTOCOLS[protocol].axis, ylabel=LABELS[measure], ylim=(0, 101))
        axes.set_xlim(0, 1.03 * max(max(points) for points in found.values()))
        put_legend(canvas, axes, [*arm_legend(results, list(found), lines=True), *grey])

    words = "; ".join(_in_words(arm, points) for arm, points in found.items())
    caption = BANDS
    if cited or (behind and head == "adam"):
        told = [f"{_source(one)}: {value:g} % at {n}" for one in cited for n, value in one.accuracy.items()]
        told += ["band: range of ANML results"] if head == "adam" else []
        caption += f" Grey, published, all as protocol paper: {'; '.join(told)}."
    title = f"{TITLES[measure]}, head {head}, protocol {PROTOCOLS[protocol].title}"
    files = folder / f"{STEMS[measure]}_{protocol}_{head}"
    return draw(paint, title, caption, words + ".", 2.9 + legend_height(list(found), 2), files=files)


def _points(results: Results, arm: Arm, protocol: str, head: str, measure: str) -> dict[int, Interval]:
    rows = results.rows("accuracy", arm, protocol=protocol, head=head)
    where = {"protocol": protocol, "head": head}
    found = {
        int(n): results.interval("accuracy", arm, measure, **where, classes=n) for n in sorted(set(rows["classes"]))
    }
    return {n: i for n, i in found.items() if i is not None}


def _curve(axes: Axes, results: Results, arm: Arm, points: dict[int, Interval]) -> None:
    x, one = list(points), look(results, arm)
    axes.plot(x, [100 * i.mean for i in points.values()], markersize=4, linewidth=1.4, **one.of_line)
    if all(i.bounds is not None for i in points.values()):
        ends = 100 * np.array([i.bounds for i in points.values()])
        axes.fill_between(x, ends[:, 0], ends[:, 1], color=one.colour, alpha=0.16, linewidth=0)


def _published(axes: Axes, head: str, cited: list[published.Published]) -> list[Any]:
    """Draws what is published for this head, and returns its entries of the legend."""
    entries: list[Any] = []
    if head == "adam":
        x, low, high = published.envelope("ANML")
        axes.fill_between(x, low, high, color=colour("grey"), alpha=0.25, linewidth=0)
        entries.append(Patch(color=colour("grey"), alpha=0.25, lw=0, label="ANML, published"))
    style: dict[str, Any] = {"color": colour("grey"), "marker": "*", "markersize": 8, "linestyle": ""}
    for one in cited:
        axes.plot(list(one.accuracy), list(one.accuracy.values()), clip_on=False, **style)
    return [*entries, Line2D([], [], label="published", **style)] if cited else entries


def _source(one: published.Published) -> str:
    return one.source.replace("(same)", "(Banayeeanzade et al. 2021)")


def _in_words(arm: Arm, points: dict[int, Interval]) -> str:
    (first, low), (last, high) = next(iter(points.items())), list(points.items())[-1]
    return f"{arm.label}: {percent(low)} % at {first} classes, {percent(high)} % at {last}"


def sweep_panels(results: Results, sweep: Sweep, folder: Path) -> list[Figure]:
    """Accuracy and modelled energy against the value of a setting."""
    panels = [_sweep_accuracy(results, sweep, folder), _sweep_energy(results, sweep, folder)]
    return [panel for panel in panels if panel is not None]


def _sweep_accuracy(results: Results, sweep: Sweep, folder: Path) -> Figure | None:
    found: dict[str, dict[int, Interval]] = {}
    for x, point in enumerate(sweep.points):
        rows = results.rows("accuracy", point.name, protocol="strict")
        for head in dict.fromkeys(rows["head"]):
            where = {"protocol": "strict", "head": head, "classes": rows["classes"].max()}
            i = results.interval("accuracy", point.name, "test_accuracy", **where)
            if i is not None:
                found.setdefault(head, {})[x] = i
    scaled = {head: {x: _scaled(i, 100) for x, i in points.items()} for head, points in found.items()}
    label = "held-out accuracy (%), most classes"
    styles = {head: _style(head_colour(head), [*HEAD_COLOURS, head].index(head)) for head in scaled}
    return _sweep(sweep, scaled, styles, label, "accuracy", BANDS.replace("Bands", "Bars"), folder)


def _sweep_energy(results: Results, sweep: Sweep, folder: Path) -> Figure | None:
    found: dict[str, dict[int, Interval]] = {}
    for device in dict.fromkeys((ARITHMETIC, *focus(results))):
        for x, point in enumerate(sweep.points):
            i = energy(results, Arm(point.name, point.title, point.spiking), device)
            if i is not None:
                found.setdefault(device, {})[x] = i
    styles = {device: _style(cycle(n), n) for n, device in enumerate(found)}
    label = "energy per inference (modelled)"
    return _sweep(sweep, found, styles, label, "energy", "Modelled, not measured.", folder, log=True)


def _style(hue: str, marker: int) -> dict[str, Any]:
    return {"color": hue, "marker": MARKERS[marker % len(MARKERS)]}


def _sweep(
    sweep: Sweep,
    lines: dict[str, dict[int, Interval]],
    styles: dict[str, dict[str, Any]],
    y: str,
    what: str,
    caption: str,
    folder: Path,
    log: bool = False,
) -> Figure | None:
    if not lines:
        return None
    values = [str(point.value) for point in sweep.points]

    def paint(canvas: Canvas) -> None:
        axes = canvas.add_subplot()
        handles = []
        for name, points in lines.items():
            axes.plot(list(points), [i.mean for i in points.values()], **styles[name])
            for x, i in points.items():
                if i.bounds is not None:
                    axes.plot((x, x), i.bounds, color=styles[name]["color"], linewidth=1)
            handles.append(Line2D([], [], label=name, **styles[name]))
        axes.set_xticks(range(len(values)), values)
        if log:
            axes.set_yscale("log")
            logarithmic(axes.yaxis, joules_tick)
        axes.set(xlabel=sweep.setting, ylabel=y)
        axes.set_xlim(-0.3, len(values) - 0.7)
        put_legend(canvas, axes, handles)

    shown = joules if log else lambda i: f"{i.mean:.1f} %"
    words = "; ".join(
        f"{name}: " + ", ".join(f"{shown(i)} at {values[x]}" for x, i in points.items())
        for name, points in lines.items()
    )
    title = f"{sweep.title}: {what}"
    return draw(paint, title, caption, words + ".", files=folder / f"sweep_{sweep.name}_{what}")


def _scaled(i: Interval, factor: float) -> Interval:
    low, high = (None, None) if i.bounds is None else (factor * i.bounds[0], factor * i.bounds[1])
    return Interval(factor * i.mean, low, high, i.seeds, i.values)
