"""The look of all figures, and how one becomes an inline SVG element."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from experiments.report.blocks import Figure
from snn_anml.files import write_whole

# Okabe and Ito 2008 (colour-blind safe), and brown as a seventh. The page gives each name its colour, a lighter one on
# a dark screen.
PALETTE = {
    "blue": "#0072b2",
    "vermillion": "#d55e00",
    "green": "#009e73",
    "purple": "#b05a8f",
    "amber": "#b07d00",
    "sky": "#3d9bd1",
    "brown": "#6b3f1d",
    "ink": "#24292f",
    "grey": "#8c9196",
    "grid": "#e3e5e8",
    "paper": "#fefefd",
}
HEAD_COLOURS = {
    "adam": "blue",
    "sgd": "vermillion",
    "unit-sgd": "sky",
    "class-mean": "green",
    "cosine": "purple",
    "gaussian": "amber",
}
CYCLE = ("blue", "vermillion", "green", "purple", "amber", "sky", "brown")
WIDTH = 4.6  # inches; narrow enough that the text can still be read when a phone scales the figure down

STYLE: dict[str, Any] = {
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "svg.fonttype": "none",  # text stays text: selectable, searchable, small
    "svg.hashsalt": "snn-anml",
    "font.family": "DejaVu Sans",  # widest of the usual fonts, so what fits in it fits in the reader's
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "legend.handlelength": 1.8,
    "legend.columnspacing": 1.2,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": PALETTE["grey"],
    "axes.labelcolor": PALETTE["ink"],
    "text.color": PALETTE["ink"],
    "xtick.color": PALETTE["ink"],
    "ytick.color": PALETTE["ink"],
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": PALETTE["grid"],
    "grid.linewidth": 0.8,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
    "path.simplify": True,
}


FILE_STYLE: dict[str, Any] = {
    "svg.fonttype": "path",  # outlines of the letters, since a file cannot count on the reader's fonts
    "pdf.fonttype": 42,  # the whole outlines of the letters used, as TrueType: publishers refuse Type 3
    "savefig.facecolor": "white",
}
"""How the files of a figure differ from what stands in the page."""


def draw(
    paint: Callable[[Canvas], None],
    title: str,
    caption: str,
    alt: str,
    height: float = 3.2,
    width: float = WIDTH,
    files: Path | None = None,
) -> Figure:
    """Lets `paint` draw on a new canvas and returns it as an inline SVG.

    Args:
        paint: draws on the canvas.
        title: the figure's name, also the accessible one.
        caption: what stands under it.
        alt: what is to be seen, in words.
        height: inches.
        width: inches.
        files: written besides, with `.svg` and `.pdf` behind the name, fonts embedded, equal for equal pictures.
    """
    with matplotlib.rc_context(STYLE):
        canvas = Canvas(figsize=(width, height), layout="constrained")
        paint(canvas)
        file = io.StringIO()
        canvas.savefig(file, format="svg", metadata={"Date": None})
        if files is not None:
            canvas.set_layout_engine("none")  # what is laid out stays as it is
            _write_files(canvas, files)
    return Figure(_inline(file.getvalue(), title, alt), title, caption)


def _write_files(canvas: Canvas, stem: Path) -> None:
    with matplotlib.rc_context(FILE_STYLE):
        for kind, date in (("svg", "Date"), ("pdf", "CreationDate")):
            file = io.BytesIO()
            canvas.savefig(file, format=kind, metadata={date: None})
            content = file.getvalue()
            write_whole(stem.with_name(f"{stem.name}.{kind}"), lambda path, content=content: path.write_bytes(content))


def colour(name: str) -> str:
    """The colour of that name for matplotlib; the page turns it into a variable."""
    return PALETTE[name]


def cycle(index: int) -> str:
    """The colour of the index-th series."""
    return PALETTE[CYCLE[index % len(CYCLE)]]


def head_colour(head: str) -> str:
    """The colour of a head, the same in every figure; a head that only another version knows is brown."""
    return PALETTE[HEAD_COLOURS.get(head, "brown")]


def legend_below(canvas: Canvas, axes: Axes, columns: int, handles: list[Any] | None = None) -> None:
    """A legend under the axes, where it hides nothing."""
    if handles is None:
        handles, labels = axes.get_legend_handles_labels()
    else:
        labels = [handle.get_label() for handle in handles]
    canvas.legend(handles, labels, loc="outside lower center", ncols=columns)


def unique_ids(svg: str, prefix: str) -> str:
    """The same picture with every id, and every reference to one, prefixed: ids of one page must differ."""
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', svg)
    svg = re.sub(r'href="#([^"]+)"', rf'href="#{prefix}-\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}-\1)", svg)
    return re.sub(r'aria-labelledby="([^"]+) ([^"]+)"', rf'aria-labelledby="{prefix}-\1 {prefix}-\2"', svg)


def _inline(svg: str, title: str, alt: str) -> str:
    """matplotlib's SVG file as an element of a page: no prologue, no namespaces, no style that leaks, a title."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", svg, count=1, flags=re.DOTALL)
    svg = svg.replace("xlink:href", "href")
    view = re.search(r'viewBox="([^"]+)"', svg)
    assert view is not None
    body = svg[svg.index(">") + 1 :]
    for name, value in PALETTE.items():
        body = re.sub(rf"(?<=[ :\"]){value}\b", f"var(--{name})", body)
    body = re.sub(r"font: ([\d.]+)px 'DejaVu Sans'[^;\"]*", r"font: \1px var(--sans)", body)
    body = re.sub(r"(?<![-\w])font-family: ?'DejaVu Sans'[^;\"]*", "font-family: var(--sans)", body)
    head = (
        f'<svg viewBox="{view.group(1)}" role="img" aria-labelledby="title desc">'
        f'<title id="title">{html.escape(title)}</title><desc id="desc">{html.escape(alt)}</desc>'
    )
    return head + body.strip()
