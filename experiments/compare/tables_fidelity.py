"""How closely the exported networks follow the trained ones."""

from __future__ import annotations

import pandas as pd

from experiments.compare.cells import as_columns, percent
from experiments.compare.results import Results, interval_of
from experiments.compare.table_files import ResultTable
from experiments.report.tables import small


def fidelity(results: Results) -> ResultTable | None:
    """Arms and simulators: spike slots that differ, over all seeds, outputs and answers; None without an export."""
    cells, values = [], []
    for arm in results.arms:
        rows = results.rows("fidelity", arm, layer="all")
        for (backend, reference), its in rows.groupby(["backend", "reference"], sort=False):
            slots, mismatches = int(its["slots"].sum()), int(its["mismatches"].sum())
            agreement, difference = interval_of(its, "argmax_agreement"), float(its["max_output_difference"].max())
            differ = f"{mismatches:,} of {slots:,}"
            cells.append((arm.label, backend, reference, differ, small(difference), percent(agreement)))
            key = {"arm": arm.name, "form": arm.form, "backend": backend, "reference": reference}
            counted = {"slots": slots, "mismatches": mismatches, "max_output_difference": difference}
            values.append(key | counted | as_columns(agreement, "argmax_agreement"))
    if not cells:
        return None
    columns = (
        "arm",
        "simulated by",
        "against",
        "spike slots that differ",
        "largest output difference",
        "same class (%)",
    )
    title = "Exported networks against torch, all seeds together"
    return ResultTable("fidelity", title, columns, tuple(cells), pd.DataFrame(values), 3)
