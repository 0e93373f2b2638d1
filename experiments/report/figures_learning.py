"""Accuracy against the number of classes, forgetting, and the training curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from experiments.report import published
from experiments.report.blocks import Figure
from experiments.report.drawing import colour, draw, legend_below
from experiments.report.protocols import ORACLE, PROTOCOLS
from experiments.report.runs import SPIKING, Network
from experiments.report.statistics import Mean, Summary


@dataclass(frozen=True)
class Series:
    """One curve: the summaries of one head of one network under one protocol."""

    label: str
    colour: str
    conventional: bool
    summaries: Sequence[Summary]


def _percent(means: Sequence[Mean]) -> tuple[np.ndarray, np.ndarray]:
    """Means and half widths (0 where there is none), %."""
    return (
        np.array([100 * m.mean for m in means]),
        np.array([100 * (m.half_width or 0.0) for m in means]),
    )


def _curve(axes: Any, series: Series, means: Sequence[Mean]) -> None:
    x = [s.classes for s in series.summaries]
    y, half = _percent(means)
    face = colour("paper") if series.conventional else series.colour
    width = 1.1 if series.conventional else 1.8
    axes.plot(x, y, color=series.colour, marker="o", markerfacecolor=face, linewidth=width)
    if half.any():
        axes.fill_between(x, y - half, y + half, color=series.colour, alpha=0.18, linewidth=0)


def _published(axes: Any, protocol: str) -> list[Any]:
    """Draws what is published, and returns its entries of the legend."""
    if protocol == "paper":
        styles = {"ANML": "-", "OML": ":"}
        for one in published.CURVES:
            x, y = zip(*one.accuracy.items(), strict=True)
            axes.plot(x, y, color=colour("grey"), linestyle=styles[one.family], linewidth=1)
        return [
            Line2D([], [], color=colour("grey"), linestyle=style, lw=1, label=f"{family} (published, paper)")
            for family, style in styles.items()
        ]
    if protocol == ORACLE:
        x, y = zip(*published.ORACLE.accuracy.items(), strict=True)
        return axes.plot(x, y, color=colour("grey"), marker="D", linestyle="", label="ANML, i.i.d. oracle (published)")
    x, low, high = published.envelope("ANML")
    axes.fill_between(x, low, high, color=colour("grey"), alpha=0.25, linewidth=0)
    return [Patch(color=colour("grey"), alpha=0.25, lw=0, label="ANML (published, paper)")]


def _legend(series: Sequence[Series], learned_from: bool) -> list[Any]:
    """Colours stand for heads (or runs), markers for networks, line styles for drawings."""
    ink = colour("ink")
    names = {s.label: s.colour for s in series}
    entries: list[Any] = [Line2D([], [], color=c, label=name, linewidth=2.4) for name, c in names.items()]
    kinds = {s.conventional for s in series}
    for conventional, label in ((False, "spiking"), (True, "conventional")):
        if conventional in kinds:
            face = colour("paper") if conventional else ink
            entries.append(Line2D([], [], color=ink, marker="o", markerfacecolor=face, linestyle="", label=label))
    if learned_from:
        entries.append(Line2D([], [], color=ink, label="held out"))
        entries.append(Line2D([], [], color=ink, linestyle=(0, (4, 2)), linewidth=1, label="learned from"))
    return entries


def accuracy_panel(series: Sequence[Series], protocol: str, what: str, behind: bool) -> Figure:
    """Accuracy (%) against the number of classes learned.

    Args:
        series: the curves.
        protocol: of `PROTOCOLS`.
        what: of whom or of which head, for the title; may be empty.
        behind: draw the published curves behind.
    """
    said = PROTOCOLS[protocol]

    def paint(canvas: Canvas) -> None:
        axes = canvas.add_subplot()
        grey = _published(axes, protocol) if behind else []
        for one in series:
            x = [s.classes for s in one.summaries]
            train, _ = _percent([s.train for s in one.summaries])
            alpha = 0.55 if one.conventional else 0.9
            axes.plot(x, train, color=one.colour, linestyle=(0, (4, 2)), linewidth=0.9, alpha=alpha)
        for one in series:
            _curve(axes, one, [s.test for s in one.summaries])
        axes.set(xlabel=said.axis, ylabel="accuracy (%)", ylim=(0, 101))
        axes.set_xlim(0, 1.03 * max(s.classes for one in series for s in one.summaries))
        axes.set_title(said.note)
        legend_below(canvas, axes, 3 if len(series) > 2 else 2, _legend(series, True) + grey)

    title = f"Accuracy, protocol {said.title}" + (f", {what}" if what else "")
    caption = "Bands: 95 % interval over draws, of the held-out accuracy." + (f" {said.grey}" if behind else "")
    return draw(paint, title, caption, _in_words(series, "test"), 3.9)


def forgetting_panel(series: Sequence[Series], protocol: str, what: str) -> Figure:
    """Held-out accuracy (%) on the ten classes learned first, against the number of classes learned."""
    said = PROTOCOLS[protocol]

    def paint(canvas: Canvas) -> None:
        axes = canvas.add_subplot()
        for one in series:
            _curve(axes, one, [s.first for s in one.summaries])
        axes.set(xlabel=said.axis, ylabel="accuracy on the first ten (%)", ylim=(0, 101))
        axes.set_xlim(left=0)
        legend_below(canvas, axes, 3, _legend(series, False))

    title = f"First ten classes, protocol {said.title}" + (f", {what}" if what else "")
    return draw(paint, title, said.first, _in_words(series, "first"), 3.4)


def _in_words(series: Sequence[Series], field: str) -> str:
    """First and last point of every curve."""
    words = []
    for one in series:
        first, last = one.summaries[0], one.summaries[-1]
        a, b = (100 * getattr(s, field).mean for s in (first, last))
        name = f"{one.label}{', conventional' if one.conventional else ''}"
        words.append(f"{name}: {a:.1f} % at {first.classes} classes, {b:.1f} % at {last.classes}")
    return "; ".join(words) + "."


MEASURES = (
    ("loss", "loss (nats)"),
    ("accuracy", "accuracy of the batch (%)"),
    ("spikes_per_neuron", "spikes per neuron and inference"),
)
SMOOTHED = 15
"""Logged lines over which the running mean is taken."""


def running_mean(values: np.ndarray, width: int) -> np.ndarray:
    """Centred mean over `width` values, fewer at the ends; (n,) to (n,)."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    i = np.arange(len(values))
    low, high = np.maximum(i - width // 2, 0), np.minimum(i + width // 2 + 1, len(values))
    return (sums[high] - sums[low]) / (high - low)


def training_panels(networks: Sequence[tuple[str, str, Network]]) -> list[Figure]:
    """Loss, accuracy and spikes against the step; networks as (label, colour, network)."""
    panels = []
    for measure, ylabel in MEASURES:
        shown = [(label, c, n) for label, c, n in networks if n.metrics]
        if measure == "spikes_per_neuron":
            shown = [one for one in shown if one[2].name == SPIKING]
        if not shown:
            continue

        def paint(canvas: Canvas, measure: str = measure, ylabel: str = ylabel, shown: Any = tuple(shown)) -> None:
            axes = canvas.add_subplot()
            scale = 100 if measure == "accuracy" else 1
            for label, c, network in shown:
                for stage in dict.fromkeys(row["stage"] for row in network.metrics):
                    rows = [row for row in network.metrics if row["stage"] == stage]
                    x = [row["step"] for row in rows]
                    y = scale * np.array([row[measure] for row in rows])
                    axes.plot(x, y, color=c, linewidth=0.6, alpha=0.35)
                    first = rows[0] is network.metrics[0]  # one entry of the legend for both stages
                    axes.plot(x, running_mean(y, SMOOTHED), color=c, label=label if first else None)
            ends = {n.config.train.warm_steps for _, _, n in shown if n.config.train.meta_steps}
            for end in sorted(ends - {0}):
                axes.axvline(end, color=colour("ink"), linewidth=0.8, linestyle=(0, (2, 2)))
                for name, side, shift in (("\u2190 warm", "right", -5), ("meta \u2192", "left", 5)):
                    axes.annotate(
                        name,
                        (end, 1.01),
                        (shift, 0),
                        xycoords=axes.get_xaxis_transform(),
                        textcoords="offset points",
                        fontsize=8,
                        ha=side,
                    )
            axes.set(xlabel="step of the outer optimiser", ylabel=ylabel)
            axes.set_ylim(bottom=0)
            axes.set_xlim(left=0)
            legend_below(canvas, axes, 2)

        name = measure.replace("_", " ")
        ends = [(label, n.metrics[0][measure], n.metrics[-1][measure]) for label, _, n in shown]
        words = "; ".join(f"{label}: {first:.3g} to {last:.3g}" for label, first, last in ends)
        panels.append(
            draw(
                paint,
                f"Training: {name}",
                f"Thin: as logged. Thick: mean of {SMOOTHED} logged lines around, within a stage.",
                f"{name.capitalize()} from the first to the last logged step: {words}.",
            )
        )
    return panels
