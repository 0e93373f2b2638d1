"""Energy by device and by layer, and accuracy against energy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from experiments.report.blocks import Figure
from experiments.report.drawing import colour, draw, legend_below
from experiments.report.energy import PARTS, Total, find
from experiments.report.runs import SPIKING, TWIN
from experiments.report.statistics import Mean

NETWORK_COLOURS = {SPIKING: "blue", TWIN: "vermillion"}
PART_COLOURS = dict(zip(PARTS, ("blue", "amber", "purple", "grey"), strict=True))
MODELLED = "Modelled from counts and published prices, not measured."
MARKERS = {
    "loihi": "o",
    "spinnaker2": "v",
    "cmos45-fp32": "s",
    "cmos45-int8": "D",
    "arm": "^",
    "gpu": "P",
}
"""Devices of the scatter, and their markers."""


def joules(value: float) -> str:
    """An energy with an SI prefix, three digits: 3.12e-7 is `312 nJ`."""
    for factor, unit in ((1, "J"), (1e-3, "mJ"), (1e-6, "\u00b5J"), (1e-9, "nJ"), (1e-12, "pJ")):
        if value >= 0.9995 * factor:  # less is 999 of the next unit
            return f"{value / factor:#.3g}".rstrip(".") + f" {unit}"
    return "0 J" if value == 0 else f"{value:.3g} J"


def device_bars(every: Sequence[Total], convention: str, title: str) -> Figure:
    """J per inference on every device, both networks on the same row, logarithmic."""
    chosen = [t for t in every if t.convention == convention]
    devices = list(dict.fromkeys(t.device for t in chosen))
    networks = [n for n in (SPIKING, TWIN) if any(t.network == n for t in chosen)]

    def paint(canvas: Canvas) -> None:
        axes = canvas.add_subplot()
        thick = 0.8 / len(networks)
        low = min(t.joules for t in chosen if t.joules > 0) / 4
        for i, network in enumerate(networks):
            for row, device in enumerate(devices):
                total = find(chosen, network, device, convention)
                if total is None or total.joules <= 0:
                    continue
                y = row + (i - (len(networks) - 1) / 2) * thick
                axes.barh(y, total.joules - low, thick * 0.9, left=low, color=colour(NETWORK_COLOURS[network]))
                axes.text(total.joules * 1.12, y, joules(total.joules), va="center", fontsize=7)
        axes.set_xscale("log")
        axes.set_xlim(low, max(t.joules for t in chosen) * 9)
        axes.set_yticks(range(len(devices)), devices)
        axes.set_ylim(len(devices) - 0.45, -0.55)
        axes.tick_params(axis="y", length=0)
        axes.grid(False, axis="y")
        axes.set_xlabel("J per inference (modelled, logarithmic)")
        handles = [Patch(color=colour(NETWORK_COLOURS[n]), label=n) for n in networks]
        legend_below(canvas, axes, 2, handles)

    words = "; ".join(f"{t.network} on {t.device}: {joules(t.joules)}" for t in chosen)
    return draw(paint, title, MODELLED, words + ".", 0.9 + 0.4 * len(devices))


def layer_bars(total: Total) -> Figure:
    """J per inference of every layer of one network on one device, coloured by part."""

    def paint(canvas: Canvas) -> None:
        axes = canvas.add_subplot()
        for row, (_, part, value) in enumerate(total.layers):
            axes.barh(row, value, 0.75, color=colour(PART_COLOURS[part]))
        axes.set_yticks(range(len(total.layers)), [layer for layer, _, _ in total.layers], fontsize=7.5)
        axes.set_ylim(len(total.layers) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.grid(False, axis="y")
        axes.ticklabel_format(axis="x", style="sci", scilimits=(0, 0), useMathText=True)
        axes.set_xlabel("J per inference (modelled)")
        handles = [
            Patch(color=colour(c), label=f"{p} {100 * total.share(p):.1f} %")
            for p, c in PART_COLOURS.items()
            if total.parts[p]
        ]
        legend_below(canvas, axes, 4, handles)

    words = ", ".join(f"{layer} {joules(value)}" for layer, _, value in total.layers)
    title = f"{total.network.capitalize()}, by layer, on {total.device}"
    height = 1.0 + 0.155 * len(total.layers)
    return draw(paint, title, f"{joules(total.joules)} in all. {MODELLED}", words + ".", height)


@dataclass(frozen=True)
class Spot:
    """One network of the scatter: its accuracy (fraction), colour name, and energies by device."""

    label: str
    twin: bool
    colour: str
    accuracy: Mean
    totals: Sequence[Total]


def accuracy_energy(spots: Sequence[Spot], what: str) -> Figure:
    """Held-out accuracy (%) against J per inference (logarithmic), one mark for every network and device."""

    def paint(canvas: Canvas) -> None:
        axes = canvas.add_subplot()
        for spot in spots:
            y, half = 100 * spot.accuracy.mean, 100 * (spot.accuracy.half_width or 0)
            for total in spot.totals:
                if total.device in MARKERS:
                    axes.errorbar(
                        total.joules,
                        y,
                        yerr=half or None,
                        color=colour(spot.colour),
                        marker=MARKERS[total.device],
                        markersize=6.5,
                        markerfacecolor=colour("paper") if spot.twin else colour(spot.colour),
                        elinewidth=1,
                        linestyle="",
                    )
        values = np.array([100 * spot.accuracy.mean for spot in spots])
        half = np.array([100 * (spot.accuracy.half_width or 0) for spot in spots])
        room = max(2.0, 0.4 * (values.max() - values.min()))
        axes.set_ylim(max(0, (values - half).min() - room), min(100.5, (values + half).max() + room))
        axes.set_xscale("log")
        axes.margins(x=0.08)
        axes.set(xlabel="J per inference (modelled, logarithmic)", ylabel="held-out accuracy (%)")
        legend_below(canvas, axes, 3, _scatter_legend(spots))

    words = "; ".join(f"{s.label}: {100 * s.accuracy.mean:.1f} %" for s in spots)
    return draw(paint, "Accuracy against energy", f"{what} {MODELLED}", words + ".", 3.6)


def _scatter_legend(spots: Sequence[Spot]) -> list[Any]:
    used = {t.device for s in spots for t in s.totals}
    entries: list[Any] = [
        Line2D(
            [],
            [],
            color=colour(s.colour),
            marker="o",
            linestyle="",
            markerfacecolor=colour("paper") if s.twin else colour(s.colour),
            label=s.label,
        )
        for s in spots
    ]
    entries += [
        Line2D([], [], color=colour("ink"), marker=m, linestyle="", label=d) for d, m in MARKERS.items() if d in used
    ]
    return entries
