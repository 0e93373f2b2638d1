"""Accuracy against energy, and energy by layer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from experiments.compare.cells import joules, joules_tick, percent
from experiments.compare.joule_rows import ARITHMETIC, DEPLOYED, MEMORY_AWARE, device_of, energy, energy_rows
from experiments.compare.look import MARKERS, file_stem, legend_height, logarithmic, look, put_legend
from experiments.compare.results import Arm, Results
from experiments.compare.statistics import Interval
from experiments.report.blocks import Figure
from experiments.report.drawing import colour, draw
from snn_anml.meta.heads import LINEAR

MODELLED = "Modelled from counts and published prices, not measured."
PARTS = {"arithmetic": "blue", "neurons": "sky", "memory": "green", "addressing": "vermillion"}
PARTS |= {"gates": "purple", "NM network": "amber"}
"""Of a bar of the breakdown, with their colours."""


class Spot(NamedTuple):
    """One arm and head: what it costs and what it knows."""

    arm: Arm
    head: str
    joules: Interval
    accuracy: Interval


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Those of (cost, gain) that no other beats in one without being beaten in the other; by rising cost."""
    best, kept = float("-inf"), []
    for i in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1])):
        if points[i][1] > best:
            best = points[i][1]
            kept.append(i)
    return kept


def pareto(results: Results, protocol: str, device: str, folder: Path) -> Figure | None:
    """Held-out accuracy after the most classes against J per inference, with the Pareto front; None without numbers."""
    spots = _spots(results, protocol, device)
    if not spots:
        return None
    kept = [spots[i] for i in front([(s.joules.mean, s.accuracy.mean) for s in spots])]
    heads, arms = list(dict.fromkeys(s.head for s in spots)), list(dict.fromkeys(s.arm for s in spots))

    def style(arm: Arm, head: str) -> dict[str, Any]:
        return look(results, arm).of_marker | {"marker": MARKERS[heads.index(head) % len(MARKERS)]}

    def paint(canvas: Canvas) -> None:
        axes = canvas.add_subplot()
        axes.plot(
            [s.joules.mean for s in kept],
            [100 * s.accuracy.mean for s in kept],
            color=colour("grey"),
            linewidth=1,
            drawstyle="steps-post",
            zorder=1,
        )
        for s in spots:
            x, y, hue = s.joules.mean, 100 * s.accuracy.mean, look(results, s.arm).colour
            if s.accuracy.bounds is not None:
                axes.plot((x, x), [100 * end for end in s.accuracy.bounds], color=hue, linewidth=0.8)
            if s.joules.bounds is not None:
                axes.plot(s.joules.bounds, (y, y), color=hue, linewidth=0.8)
            axes.plot([x], [y], markersize=5.5, **style(s.arm, s.head))
        axes.set_xscale("log")
        axes.margins(x=0.08, y=0.08)
        logarithmic(axes.xaxis, joules_tick)
        axes.set(xlabel="energy per inference (modelled, logarithmic)", ylabel="held-out accuracy (%)")
        handles: list[Any] = [Line2D([], [], label=arm.label, **style(arm, heads[0])) for arm in arms]
        ink = colour("ink")
        for i, head in enumerate(heads):
            handles.append(Line2D([], [], color=ink, marker=MARKERS[i % len(MARKERS)], linestyle="", label=head))
        handles.append(Line2D([], [], color=colour("grey"), label="Pareto front"))
        put_legend(canvas, axes, handles)

    words = "; ".join(f"{s.arm.label}, {s.head}: {percent(s.accuracy)} % at {joules(s.joules)}" for s in spots)
    classes = int(results.rows("accuracy", spots[0].arm, protocol=protocol)["classes"].max())
    where = _DEVICE_WORDS.get(device, "")
    caption = (
        f"After {classes:,} classes, protocol {protocol}. Linear heads, which cost the same; gaussian is none. "
        f"Bars: 95 % intervals. {where}{MODELLED}"
    )
    height = 3.0 + legend_height(arms, len(heads) + 1)
    title = f"Accuracy against energy, {device}"
    return draw(paint, title, caption, words + ".", height, files=folder / f"pareto_{file_stem(device)}")


_DEVICE_WORDS = {
    ARITHMETIC: "Every arm on the row of its own number format; integers under 8 bits extrapolated. Spiking integers "
    "from below: membranes are priced as short as weights. ",
    MEMORY_AWARE: "Spiking integers from below: membranes are stored as short as weights. ",
    DEPLOYED: "Spiking arms on loihi, conventional ones on arm. ",
}


def _spots(results: Results, protocol: str, device: str) -> list[Spot]:
    spots = []
    for arm in results.arms:
        cost = energy(results, arm, device)
        rows = results.rows("accuracy", arm, protocol=protocol)
        for head in dict.fromkeys(rows["head"]):
            where = {"protocol": protocol, "head": head, "classes": rows["classes"].max()}
            accuracy = results.interval("accuracy", arm, "test_accuracy", **where)
            if head in LINEAR and cost is not None and accuracy is not None:
                spots.append(Spot(arm, head, cost, accuracy))
    return spots


def by_layer(results: Results, arm: Arm, device: str, folder: Path) -> Figure | None:
    """J per inference of every layer of an arm, its parts stacked; None without rows or without a joule."""
    layers = _layers(results, arm, device)
    if not layers:
        return None
    total = sum(sum(parts.values()) for _, parts in layers)
    used = [part for part in PARTS if any(parts.get(part, 0) for _, parts in layers)]

    def paint(canvas: Canvas) -> None:
        axes = canvas.add_subplot()
        for row, (_, parts) in enumerate(layers):
            left = 0.0
            for part in used:
                axes.barh(row, parts.get(part, 0.0), 0.75, left=left, color=colour(PARTS[part]))
                left += parts.get(part, 0.0)
        axes.set_yticks(range(len(layers)), [name for name, _ in layers], fontsize=7.5)
        axes.set_ylim(len(layers) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.grid(False, axis="y")
        axes.ticklabel_format(axis="x", style="sci", scilimits=(0, 0), useMathText=True)
        axes.set_xlabel("J per inference (modelled)")
        sums = {part: sum(parts.get(part, 0.0) for _, parts in layers) for part in used}
        handles = [Patch(color=colour(PARTS[part]), label=f"{part} {100 * sums[part] / total:.1f} %") for part in used]
        put_legend(canvas, axes, handles)

    where = device_of(arm, device)
    words = "; ".join(f"{name}: {joules(Interval(sum(p.values()), None, None, 1, 1))}" for name, p in layers)
    title = f"{arm.label}: energy by layer, {where}"
    caption = f"{joules(energy(results, arm, device))} in all; mean over seeds. {MODELLED}"
    stem = f"layers_{file_stem(arm.name)}_{arm.form}_{file_stem(device)}"
    return draw(paint, title, caption, words + ".", 1.3 + 0.155 * len(layers), files=folder / stem)


def _layers(results: Results, arm: Arm, device: str) -> list[tuple[str, dict[str, float]]]:
    """Mean joules of every layer by part, layers without any left out; the NM network is one part."""
    rows = energy_rows(results, arm, device)
    if device == MEMORY_AWARE:
        names = {"arithmetic": "joules_arithmetic", "memory": "joules_memory", "addressing": "joules_addressing"}
    else:
        names = {"arithmetic": "joules_synapses", "neurons": "joules_neurons", "gates": "joules_gates"}
    found = []
    for (layer, part), its in rows.groupby(["layer", "part"], sort=False):
        if part == "nm":
            parts = {"NM network": float(its["joules"].mean())}
        else:
            parts = {name: float(its[column].mean()) for name, column in names.items()}
        if sum(parts.values()):
            found.append((layer, parts))
    return found
