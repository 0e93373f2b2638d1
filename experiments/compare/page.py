"""The report of a comparison: tables, figures and the page, written in one go."""

from __future__ import annotations

from pathlib import Path

from experiments.compare import sections_costs as costs
from experiments.compare import sections_results as learned
from experiments.compare.folder import CompareFolder
from experiments.compare.results import Results, read_results
from experiments.compare.table_files import ResultTable, write_table
from experiments.report.blocks import Section
from experiments.report.page import render
from snn_anml.files import write_text

FOOTER = (
    "Energies are modelled, not measured, but for the section that says so. Tables lie in the folder tables as HTML, "
    "CSV, Markdown and LaTeX, figures in the folder figures as SVG and PDF."
)


def build_sections(results: Results) -> list[Section]:
    """All sections, in the order of the page; their tables and figures are written on the way."""
    folder = results.folder

    def keep(table: ResultTable | None) -> list[ResultTable]:
        if table is None:
            return []
        write_table(table, folder.tables)
        return [table]

    return [
        learned.summary(results, keep),
        *(learned.accuracy(results, name, keep, folder.figures) for name in learned.protocols(results)),
        costs.energy(results, keep, folder.figures),
        costs.accuracy_energy(results, folder.figures),
        costs.break_even(results, keep, folder.figures),
        costs.learning(results, keep, folder.figures),
        costs.spikes(results, folder.figures),
        costs.fidelity(results, keep),
        learned.sweeps(results, keep, folder.figures),
        learned.tests(results, keep),
        costs.measured(results, keep),
        costs.provenance(results, keep),
    ]


def write_comparison(folder: CompareFolder) -> Path:
    """Writes tables, figures and report.html from the long tables of a comparison, whatever of them is there.

    Returns:
        The page, which loads nothing from anywhere.

    Raises:
        UserError: no comparison in the folder, or a damaged file.
    """
    results = read_results(folder)
    write_text(folder.report, render(results.title, build_sections(results), FOOTER))
    return folder.report
