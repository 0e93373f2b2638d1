"""Tables on what was learned: accuracy, forgetting, tests, and where every number comes from."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from experiments.compare.cells import as_columns, number, percent
from experiments.compare.claims import Comparison, p_text, points
from experiments.compare.folder import FLOAT
from experiments.compare.results import Arm, Results, interval_of
from experiments.compare.statistics import Interval
from experiments.compare.table_files import ResultTable
from experiments.report.tables import DASH

MEASURES = {
    "test_accuracy": ("accuracy", "Held-out accuracy"),
    "first_test_accuracy": ("forgetting", "Held-out accuracy on the first ten classes"),
}
"""Columns of accuracy.csv: the name of their tables, and what they are."""


def summary(results: Results, protocol: str) -> ResultTable:
    """Arms against heads, after the most classes."""
    heads = results.seen("accuracy", "head")
    rows = results.tables["accuracy"]
    shown = rows["arm"].isin([arm.name for arm in results.arms]) & (rows["protocol"] == protocol)
    most = int(rows[shown]["classes"].max())
    cells, values = [], []
    for arm in results.arms:
        where = {"protocol": protocol, "classes": most}
        found = [results.interval("accuracy", arm, "test_accuracy", **where, head=head) for head in heads]
        if any(i is not None for i in found):
            cells.append((arm.label, *map(percent, found)))
            key = {"arm": arm.name, "form": arm.form} | where
            values += [
                key | {"head": head} | as_columns(i, "test_accuracy") for head, i in zip(heads, found, strict=True)
            ]
    title = f"Held-out accuracy (%) after {most:,} classes, protocol {protocol}, by head"
    return ResultTable(f"summary_accuracy_{protocol}", title, ("arm", *heads), tuple(cells), pd.DataFrame(values), 1)


def spikes_per_neuron(results: Results, arm: Arm | str, part: str | None = None) -> Interval | None:
    """Mean spikes per neuron and inference over seeds, of all spiking layers (or those of a part), silent ones too."""
    rows = results.rows("activity", arm)
    rows = rows[rows["part"] == part] if part else rows
    if not len(rows):
        return None
    sums = rows.groupby("seed", as_index=False)[["spikes", "neurons"]].sum()
    sums["rate"] = sums["spikes"] / sums["neurons"]
    return interval_of(sums, "rate")


def milestones(results: Results, protocol: str, head: str, measure: str) -> ResultTable | None:
    """One of `MEASURES`, arms against numbers of classes; None without numbers."""
    rows = results.tables["accuracy"]
    rows = rows[(rows["protocol"] == protocol) & (rows["head"] == head)]
    classes = sorted(set(rows["classes"].astype(int)))
    cells, values = [], []
    for arm in results.arms:
        if not len(results.rows("accuracy", arm, protocol=protocol, head=head)):
            continue
        where = {"protocol": protocol, "head": head}
        found = [results.interval("accuracy", arm, measure, **where, classes=n) for n in classes]
        cells.append((arm.label, *(percent(i) for i in found)))
        key = {"arm": arm.name, "form": arm.form} | where
        values += [key | {"classes": n} | as_columns(i, measure) for n, i in zip(classes, found, strict=True)]
    if not cells:
        return None
    name, what = MEASURES[measure]
    title = f"{what} (%), protocol {protocol}, head {head}, by number of classes"
    columns = ("arm", *(f"{n:,}" for n in classes))
    return ResultTable(f"{name}_{protocol}_{head}", title, columns, tuple(cells), pd.DataFrame(values), 1, closed=True)


def differences(comparisons: Sequence[Comparison], name: str, title: str, margin: float | None = None) -> ResultTable:
    """What arms have before others, with the p-value that each verdict rests on.

    Args:
        comparisons: corrected.
        name: of the table.
        title: of the table.
        margin: of equivalence, a fraction; without it there is no column of it.
    """
    cells, values = [], []
    for one in comparisons:
        near = {} if margin is None else {"within_margin": one.equivalence(margin).value}
        what, *numbers = _difference(one)
        test = "Wilcoxon" if one.seeds_p is None else "seeds"
        cells.append((one.first.label, one.second.label, one.head, what, *near.values(), *numbers, _p(one.p), test))
        values.append(_values(one) | {"margin": margin} | near)
    within = () if margin is None else (f"within {100 * margin:g} points, uncorrected",)
    if comparisons:
        title += f", after {comparisons[0].classes:,} classes (Holm over {comparisons[0].family} comparisons)"
    columns = ("arm", "against", "head", "verdict", *within, "difference (points)", "over seeds", "p (Holm)", "of test")
    return ResultTable(name, title, columns, tuple(cells), pd.DataFrame(values), 4 + len(within))


def tests(comparisons: Sequence[Comparison], protocol: str) -> ResultTable:
    """Every comparison of a family, with what it says."""
    cells = []
    for one in comparisons:
        over_seeds = None if one.seeds_p is None else one.p
        p = (DASH if p is None else _p(p) for p in (one.wilcoxon_holm, one.mann_whitney_holm, over_seeds))
        cells.append((one.head, one.first.label, one.second.label, *_difference(one), *p))
    after = f" after {comparisons[0].classes:,} classes" if comparisons else ""
    title = f"Tests between arms{after}, protocol {protocol} (Holm over all {len(comparisons)} of the table)"
    columns = ("head", "arm", "against", "verdict", "difference (points)", "over seeds")
    columns += ("Wilcoxon p", "Mann-Whitney p", "seeds p")
    values = pd.DataFrame([_values(one) for one in comparisons])
    return ResultTable(f"tests_{protocol}", title, columns, tuple(cells), values, 4, closed=True)


def _difference(one: Comparison) -> tuple[str, str, str]:
    """The verdict, the difference in points, and its interval over seeds."""
    s = one.seed_interval
    verdict = one.verdict.value
    if one.too_few:
        verdict += ", too few pairs"
    elif one.difference.seeds == 1:
        verdict += ", of these two networks"
    return verdict, points(one.difference), DASH if s is None else f"[{100 * s[0]:.1f}, {100 * s[1]:.1f}]"


def _p(p: float) -> str:
    return p_text(p).removeprefix("p = ").removeprefix("p ")


def _values(one: Comparison) -> dict[str, float | str | None]:
    s = one.seed_interval
    return {
        "protocol": one.protocol,
        "head": one.head,
        "classes": one.classes,
        "first": one.first.name,
        "first_form": one.first.form,
        "second": one.second.name,
        "second_form": one.second.form,
        **as_columns(one.difference, "difference"),
        "seeds_low": None if s is None else s[0],
        "seeds_high": None if s is None else s[1],
        "wilcoxon_p": one.wilcoxon,
        "wilcoxon_p_holm": one.wilcoxon_holm,
        "mann_whitney_p": one.mann_whitney,
        "mann_whitney_p_holm": one.mann_whitney_holm,
        "seeds_p": one.seeds_p,
        "seeds_p_holm": None if one.seeds_p is None else one.p,
        "comparisons": one.family,
        "verdict": one.verdict.value,
    }


def traceability(results: Results) -> ResultTable | None:
    """Where every trained network comes from; hashes are whole in the CSV file."""
    rows = results.tables["runs"]
    cells = tuple(
        (
            row["arm"],
            f"{row['seed']:.0f}",
            *(row[key][:12] or DASH for key in ("config_sha256", "data_sha256", "git_commit")),
            f"{row['trained_steps']:,.0f}",
        )
        for row in rows.to_dict("records")
    )
    if not cells:
        return None
    title = "Every trained network: first digits of the sha256 of its configuration and data, commit, steps"
    columns = ("arm", "seed", "configuration", "data", "commit", "steps")
    return ResultTable("traceability", title, columns, cells, rows, 5, closed=True)


def sweep_tables(results: Results) -> list[ResultTable]:
    """Accuracy and spikes of every point of every sweep, at its largest number of classes."""
    tables = []
    for sweep in results.sweeps:
        cells, values, heads = [], [], results.seen("accuracy", "head")
        for point in sweep.points:
            rows = results.rows("accuracy", point.name, protocol="strict")
            if not len(rows):
                continue
            most = int(rows["classes"].max())
            found = [
                results.interval("accuracy", point.name, "test_accuracy", protocol="strict", head=h, classes=most)
                for h in heads
            ]
            cells.append((str(point.value), number(spikes_per_neuron(results, point.name)), *map(percent, found)))
            key = {"sweep": sweep.name, "setting": sweep.setting, "value": point.value, "form": FLOAT}
            values += [
                key | {"head": h, "classes": most} | as_columns(i, "test_accuracy")
                for h, i in zip(heads, found, strict=True)
            ]
        if cells:
            title = f"{sweep.title}: held-out accuracy (%) after the most classes, protocol strict"
            columns = (sweep.setting, "spikes per neuron", *heads)
            tables.append(ResultTable(f"sweep_{sweep.name}", title, columns, tuple(cells), pd.DataFrame(values), 1))
    return tables
