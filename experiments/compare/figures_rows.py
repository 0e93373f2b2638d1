"""Figures of marks on named rows: spikes by layer, cost of learning by head, break-even, sensitivity of a ratio."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D

from converters.energy.sensitivity import ALL
from experiments.compare.cells import bracketed, joules, joules_tick, number
from experiments.compare.figures_energy import MODELLED
from experiments.compare.joule_rows import Ratio, as_if_integers
from experiments.compare.look import arm_legend, dots, file_stem, legend_height, logarithmic, look, put_legend
from experiments.compare.results import Arm, Results, interval_of
from experiments.compare.statistics import Interval
from experiments.report.blocks import Figure
from experiments.report.drawing import colour, draw

Marks = Mapping[tuple[str, Arm], Interval]


def spikes(results: Results, folder: Path) -> Figure | None:
    """Spikes per neuron and inference of every spiking layer; None without activity."""
    found = {}
    for arm in results.arms:
        rows = results.rows("activity", arm)
        for layer, its in rows.groupby("layer", sort=False):
            if (i := interval_of(its, "spikes_per_neuron")) is not None:
                found[str(layer), arm] = i
    words = "; ".join(f"{arm.label}, {layer}: {number(i)}" for (layer, arm), i in found.items())
    caption = "Mean over the drawings counted. Bars: 95 % interval over seeds."
    title = "Spikes per neuron and inference, by layer"
    return _dot_figure(results, found, title, caption, words, "spikes per neuron and inference", folder / "spikes")


def learning(results: Results, device: str, folder: Path) -> Figure | None:
    """J to learn one more class, by head, with the most classes known; None without rows."""
    rows = results.tables["learning"]
    rows = rows[rows["device"] == device]
    if not len(rows):
        return None
    known, found = int(rows["known"].max()), {}
    for arm in results.arms:
        its = results.rows("learning", arm, device=device, known=known)
        sums = its.groupby(["head", "seed"], as_index=False, sort=False)["joules"].sum()
        for head in dict.fromkeys(sums["head"]):
            if (i := interval_of(sums[sums["head"] == head], "joules")) is not None:
                found[str(head), arm] = i
    words = "; ".join(f"{arm.label}, {head}: {joules(i)}" for (head, arm), i in found.items())
    caption = f"With {known:,} classes known; the features of the drawings are in it. {MODELLED}"
    title, x = f"Cost of learning one more class, {device}", "energy per class (modelled, logarithmic)"
    return _dot_figure(results, found, title, caption, words, x, folder / f"learning_{device}", log=True)


def _dot_figure(
    results: Results, found: Marks, title: str, caption: str, words: str, x: str, files: Path, log: bool = False
) -> Figure | None:
    if not found:
        return None
    rows, arms = list(dict.fromkeys(row for row, _ in found)), list(dict.fromkeys(arm for _, arm in found))

    def paint(canvas: Canvas) -> None:
        axes = canvas.add_subplot()
        if log:
            axes.set_xscale("log")
        dots(axes, results, rows, found, x)
        if log:
            logarithmic(axes.xaxis, joules_tick)
        else:
            axes.set_xlim(left=0)
        put_legend(canvas, axes, arm_legend(results, arms))

    thick = 0.16 + 0.06 * len(arms)
    height = 1.0 + thick * len(rows) + legend_height(arms)
    return draw(paint, title, caption, words + ".", height, files=files)


def break_even(results: Results, against: str, folder: Path) -> Figure | None:
    """Break-even spike rates of the first arm, in all its forms, against one form of the twin, beside the measured
    rates; None where there is neither."""
    table, rates, evens = results.tables["break_even"], {}, {}
    arms = {arm.form: arm for arm in results.arms if arm.name == results.main.name}
    table = table[(table["arm"] == results.main.name) & (table["reference_form"] == against)]
    for (form, device), its in table.groupby(["form", "device"], sort=False):
        if form not in arms or as_if_integers(form, device) or its["break_even_rate"].isna().any():
            continue
        known, rate = (interval_of(its, column) for column in ("break_even_rate", "spike_rate"))
        if known is not None and rate is not None:
            evens[device, arms[form]], rates[device, arms[form]] = known, rate
    if not evens:
        return None
    rows, shown = list(dict.fromkeys(row for row, _ in evens)), list(dict.fromkeys(arm for _, arm in evens))

    def paint(canvas: Canvas) -> None:
        axes = canvas.add_subplot()
        axes.set_xscale("log")
        for (row, arm), even in evens.items():
            y = rows.index(row) + (shown.index(arm) - (len(shown) - 1) / 2) * min(0.16, 0.7 / len(shown))
            axes.plot((rates[row, arm].mean, even.mean), (y, y), color=look(results, arm).colour, linewidth=1)
            axes.plot([even.mean], [y], color=look(results, arm).colour, marker="|", markersize=10, linestyle="")
        dots(axes, results, rows, rates, "spikes per neuron (logarithmic)")
        axes.tick_params(axis="y", labelsize=7.5)
        logarithmic(axes.xaxis)
        bar = Line2D([], [], color=colour("ink"), marker="|", markersize=10, linestyle="", label="break-even")
        put_legend(canvas, axes, [*arm_legend(results, shown), bar])

    words = "; ".join(
        f"{arm.label}, {row}: {number(rates[row, arm])}, break-even {number(even)}"
        for (row, arm), even in evens.items()
    )
    caption = (
        "A marker left of its bar: cheaper than the twin in that form, on that device (of the network / of the twin). "
        "Where the network of any seed is dearer even without a spike there is no mark (see the table). "
        f"{MODELLED}"
    )
    height = 1.0 + (0.2 + 0.05 * len(shown)) * len(rows) + legend_height(shown, 1)
    title = f"Break-even against measured spike rate: “{results.main.title}” against the twin in {against}"
    return draw(paint, title, caption, words + ".", height, files=folder / f"break_even_{against}")


def tornado(results: Results, ratio: Ratio, folder: Path) -> Figure | None:
    """How far each constant within its range moves a ratio of energies; None without constants."""
    rows = results.tables["sensitivity"]
    keys = {"arm": ratio.arm.name, "form": ratio.arm.form}
    keys |= {"reference": ratio.comparator.name, "reference_form": ratio.comparator.form}
    keys |= {"device": ratio.device, "reference_device": ratio.comparator_device}
    for column, value in keys.items():
        rows = rows[rows[column] == value]
    found = zip(rows["constant"], rows["ratio_low"], rows["ratio_high"], strict=True)
    bars = sorted(
        ((str(name), float(low), float(high)) for name, low, high in found if low > 0),
        key=lambda bar: (bar[0] != ALL, bar[1] / bar[2]),
    )
    if not bars:
        return None

    def paint(canvas: Canvas) -> None:
        axes = canvas.add_subplot()
        axes.set_xscale("log")
        for row, (name, low, high) in enumerate(bars):
            hue = colour("grey" if name == ALL else "blue")
            axes.plot((low, high), (row, row), color=hue, linewidth=7, solid_capstyle="butt")
        axes.axvline(ratio.value, color=colour("ink"), linewidth=1)
        axes.axvline(1.0, color=colour("vermillion"), linewidth=1, linestyle=(0, (3, 2)))
        axes.set_yticks(range(len(bars)), [name for name, _, _ in bars], fontsize=7.5)
        axes.set_ylim(len(bars) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        logarithmic(axes.xaxis)
        axes.set_xlabel("ratio of modelled energies (logarithmic)")
        marks = [Line2D([], [], color=colour("ink"), lw=1, label="published constants")]
        marks.append(
            Line2D([], [], color=colour("vermillion"), lw=1, linestyle=(0, (3, 2)), label="both cost the same")
        )
        put_legend(canvas, axes, marks)

    title = f"{ratio.arm.label} on {ratio.device}, over {ratio.comparator.label} on {ratio.comparator_device}"
    words = "; ".join(f"{name}: {bracketed((ratio.value, low, high))}" for name, low, high in bars)
    caption = f"Ratio {bracketed((ratio.value, ratio.low, ratio.high))}; each bar moves one constant. {MODELLED}"
    stem = f"sensitivity_{ratio.arm.form}_{ratio.device}_{ratio.comparator.form}_{ratio.comparator_device}"
    return draw(paint, title, caption, words + ".", 1.1 + 0.2 * len(bars), files=folder / file_stem(stem))
