"""A table of a comparison as files: CSV with the numbers; HTML, Markdown and LaTeX with the cells as printed."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from experiments.compare.long_tables import Rows
from experiments.report.blocks import Table
from snn_anml.files import write_text


@dataclass(frozen=True, eq=False)
class ResultTable:
    """A table as it is printed, and the numbers behind it.

    Attributes:
        name: of its files.
        title: what it shows, with unit.
        columns: heads of the columns.
        rows: cells as printed.
        values: a DataFrame of the numbers, unrounded, one row for each.
        text_columns: how many leading columns are text; the others are numbers.
        closed: behind a click on the page.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    values: Rows
    text_columns: int = 1
    closed: bool = False

    @property
    def block(self) -> Table:
        """For the page."""
        return Table(self.title, self.columns, self.rows, self.text_columns, self.closed)

    def frame(self, escaped: Callable[[str], str] = str) -> Rows:
        """The cells as printed, each as `escaped` gives it back."""
        cells = [[escaped(cell) for cell in row] for row in self.rows]
        return pd.DataFrame(cells, columns=pd.Index([escaped(name) for name in self.columns]), dtype=object)


def write_table(table: ResultTable, folder: Path) -> list[Path]:
    """Writes NAME.html, .csv, .md and .tex into the folder, and returns their paths."""
    texts = {
        "html": html_text(table),
        "csv": table.values.to_csv(index=False, lineterminator="\n"),
        "md": markdown_text(table),
        "tex": latex_text(table),
    }
    paths = [folder / f"{table.name}.{kind}" for kind in texts]
    for path, text in zip(paths, texts.values(), strict=True):
        write_text(path, text)
    return paths


def html_text(table: ResultTable) -> str:
    """A `<table>` with its caption, to be put into a page."""
    text = table.frame().to_html(index=False, border=0, escape=True)
    return text.replace("<thead>", f"<caption>{html.escape(table.title)}</caption>\n  <thead>", 1) + "\n"


def markdown_text(table: ResultTable) -> str:
    """A pipe table under its title."""
    numbers = len(table.columns) - table.text_columns
    align = ["left"] * table.text_columns + ["right"] * numbers
    body = table.frame(_markdown).to_markdown(
        index=False, tablefmt="pipe", disable_numparse=True, colalign=align if table.rows else None
    )
    return f"{_markdown(table.title)}\n\n{body}\n"


def _markdown(text: str) -> str:
    return re.sub(r"([|*_`<>\\])", r"\\\1", text)


def latex_text(table: ResultTable) -> str:
    """A `table` with booktabs rules; it needs `\\usepackage{booktabs}` and nothing else."""
    numbers = len(table.columns) - table.text_columns
    return (
        table.frame(latex)
        .style.hide(axis="index")
        .to_latex(
            hrules=True,
            column_format="l" * table.text_columns + "r" * numbers,
            caption=latex(table.title),
            label=f"tab:{table.name.replace('_', '-')}",
            position="tbp",
            position_float="centering",
        )
    )


_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "[": "{[}",  # \\[...] would be read as a distance between rows
    "]": "{]}",
    "\u00a0": "~",
    "\u2013": "--",
    "\u201c": "``",
    "\u201d": "''",
    "\u2212": "$-$",
    "\u00b1": r"$\pm$",
    "\u00d7": r"$\times$",
    "\u00b5": r"$\mu$",
    "\u2264": r"$\leq$",
    "\u2265": r"$\geq$",
    "\u03bb": r"$\lambda$",
}


def latex(text: str) -> str:
    """Text as LaTeX prints it: what has a meaning there escaped, signs beyond ASCII spelled."""
    return "".join(_SPECIAL.get(letter, letter) for letter in text)
