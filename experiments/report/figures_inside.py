"""Spike rasters and heat maps of gates."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from experiments.report.blocks import Figure
from experiments.report.drawing import colour, draw
from experiments.report.inside import Gates, Raster, evenly

MOST_NEURONS, MOST_GATES = 120, 96


def _picture(axes: Axes, picture: np.ndarray) -> None:
    axes.imshow(picture, cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    axes.grid(False)


def raster_figure(raster: Raster) -> Figure:
    """The drawing, and the spikes of every PLN layer: neurons against time steps."""
    steps = len(raster.layers[0])

    def paint(canvas: Canvas) -> None:
        count = len(raster.layers)
        grid = canvas.add_gridspec(1, count + 1, width_ratios=[0.9, *[1] * count])
        axes = canvas.add_subplot(grid[0])
        _picture(axes, raster.picture)
        axes.set_title("drawing")
        for i, layer in enumerate(raster.layers):
            axes = canvas.add_subplot(grid[i + 1])
            shown = evenly(layer.shape[1], MOST_NEURONS)
            t, neuron = np.nonzero(layer[:, shown])
            # One line broken by NaN for all spikes: a path of its own for each would make the page heavy.
            x = np.stack([t + 0.58, t + 1.42, np.full(len(t), np.nan)], 1).ravel()
            y = np.repeat(neuron.astype(float), 3)
            axes.plot(x, y, color=colour("ink"), linewidth=1.1, solid_capstyle="butt")
            axes.set_xlim(0.5, steps + 0.5)
            axes.set_ylim(len(shown), -1)
            axes.set_xticks(np.unique(np.linspace(1, steps, min(steps, 5)).round()))
            axes.set_yticks([])
            axes.grid(False)
            axes.set_title(f"layer {i + 1}")
            axes.set_xlabel(f"step\n{len(shown):,} of {layer.shape[1]:,}\n{layer.sum(0).mean():.2f} a neuron")
            if i == 0:
                axes.set_ylabel("neurons")

    rates = ", ".join(f"{layer.sum(0).mean():.2f}" for layer in raster.layers)
    silent = ", ".join(f"{100 * (~layer.any(0)).mean():.0f} %" for layer in raster.layers)
    return draw(
        paint,
        f"Spikes of one held-out drawing of {raster.class_name}",
        f"Every dash is a spike. Neurons are an even sample where a layer has more than {MOST_NEURONS}; how many are "
        f"shown, and the spikes of an average neuron, stand under each layer. Silent neurons by layer: {silent}.",
        f"Raster of spikes over {steps} steps; spikes per neuron of the layers: {rates}.",
        3.6,
    )


def gates_figure(gates: Gates, layer: int) -> Figure:
    """Heat map of the gates of one layer: drawings of two classes against gates."""
    values = gates.layers[layer]
    each = values.shape[1]

    def paint(canvas: Canvas) -> None:
        axes = canvas.add_subplot()
        shown = evenly(values.shape[2], MOST_GATES)
        rows = values[..., shown].reshape(2 * each, -1)
        # In the order of the first class's mean gate, so that agreement shows as a smooth run of colour.
        rows = rows[:, np.argsort(rows[:each].mean(0), kind="stable")]
        image = axes.imshow(rows, aspect="auto", cmap="cividis", vmin=0, vmax=1, interpolation="nearest")
        axes.axhline(each - 0.5, color=colour("paper"), linewidth=2.5)
        axes.set_yticks([(each - 1) / 2, each + (each - 1) / 2], ["class A", "class B"], rotation=90, va="center")
        axes.set_xticks([])
        axes.tick_params(length=0)
        axes.grid(False)
        axes.set_xlabel(f"{len(shown):,} of {values.shape[2]:,} gates, ordered by the mean of class A")
        axes.spines[:].set_visible(False)
        bar = canvas.colorbar(image, ax=axes, label="gate", shrink=0.9, pad=0.02, ticks=[0, 0.5, 1])
        bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]

    likeness = gates.likeness[layer]
    caption = (
        f"Correlation of raw gates within / between classes {pair(likeness.raw_within, likeness.raw_between)}; of what "
        f"is left without the mean gate {pair(likeness.deviation_within, likeness.deviation_between)}."
    )
    return draw(
        paint,
        f"Gates of layer {layer + 1}",
        caption,
        f"Heat map: {each} drawings of {gates.class_names[0]} above {each} of {gates.class_names[1]}. {caption}",
        2.9,
    )


def pair(within: float | None, between: float | None) -> str:
    """Two correlations as `0.91 / 0.12`, a dash for one that does not exist."""
    return " / ".join("\u2013" if value is None else f"{value:.2f}" for value in (within, between))


def drawings_figure(gates: Gates) -> Figure:
    """The drawings whose gates are shown."""

    def paint(canvas: Canvas) -> None:
        axes = canvas.subplots(2, gates.pictures.shape[1], squeeze=False)
        for row, name, pictures in zip(axes, "AB", gates.pictures, strict=True):
            for one, picture in zip(row, pictures, strict=True):
                _picture(one, picture)
            row[0].set_ylabel(f"class {name}")

    a, b = gates.class_names
    return draw(
        paint,
        "The drawings",
        f"Class A is {a}, class B is {b}; neither was seen in training.",
        f"{gates.pictures.shape[1]} drawings of each of two classes.",
        2.1,
    )
