"""The page: sections put into the template, and the tables beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from experiments.report import sections_learning as learning
from experiments.report import sections_machine as machine
from experiments.report.blocks import Figures, Note, Section, Table, Verbatim
from experiments.report.drawing import PALETTE, unique_ids
from experiments.report.runs import Run, read_runs
from experiments.report.tables import write_tables
from snn_anml.files import write_text

KINDS = {Note: "note", Figures: "figures", Table: "table", Verbatim: "verbatim"}


def build_sections(runs: Sequence[Run]) -> list[Section]:
    """All sections, in the order of the page."""
    return [
        learning.summary(runs),
        learning.accuracy(runs),
        learning.forgetting(runs),
        learning.training(runs),
        machine.inside(runs),
        machine.energy(runs),
        machine.accuracy_energy(runs),
        machine.fidelity(runs),
        machine.provenance(runs),
    ]


FOOTER = (
    "Energies are modelled, not measured. The numbers of this page lie as CSV files in the folder tables of each run."
)


def render(title: str, sections: Sequence[Section], footer: str) -> str:
    """A page as HTML."""
    environment = Environment(
        loader=PackageLoader("experiments.report", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    count = 0

    def inline(svg: str) -> Markup:
        nonlocal count
        count += 1
        return Markup(unique_ids(svg, f"f{count}"))

    return environment.get_template("template.html").render(
        title=title,
        sections=sections,
        footer=footer,
        kind=lambda block: KINDS[type(block)],
        inline=inline,
        tie=lambda text: text.replace(" %", "\u00a0%"),
        light=PALETTE,
    )


def write_page(paths: Sequence[Path], out: Path) -> Path:
    """Writes the page to `out` and the tables into the run folders; see `experiments.report.write_report`."""
    runs = read_runs(paths)
    for run in runs:
        write_tables(run)
    out = Path(out)
    title = "snn-anml: " + ", ".join(run.label for run in runs)
    write_text(out, render(title, build_sections(runs), FOOTER))
    return out
