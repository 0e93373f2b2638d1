"""Sections on what was learned: summary, accuracy under each protocol, forgetting, sweeps, tests."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from experiments.compare import figures_accuracy, tables_accuracy, tables_energy
from experiments.compare.cells import percent
from experiments.compare.claims import ONE_SEED, Comparison, family, seeds_note, sentence
from experiments.compare.joule_rows import headline_ratios, ratio_sentence
from experiments.compare.results import Arm, Results
from experiments.compare.statistics import Interval
from experiments.compare.table_files import ResultTable
from experiments.report.blocks import Figure, Figures, Note, Section
from experiments.report.protocols import PROTOCOLS

MARGIN = 0.02
"""Of the claim to be as good as the twin."""
STRICT = "strict"

Keep = Callable[[ResultTable | None], list[ResultTable]]
"""Takes a table that may not be there; writes it where there is one."""


def figures(panels: Iterable[Figure | None]) -> list[Figures]:
    """Those that are there, side by side."""
    found = tuple(panel for panel in panels if panel is not None)
    return [Figures(found)] if found else []


def protocols(results: Results) -> list[str]:
    """Those with numbers, the strict one first."""
    there = results.seen("accuracy", "protocol")
    return [name for name in PROTOCOLS if name in there]


def summary(results: Results, keep: Keep) -> Section:
    """The first arm against the twin, in words and in numbers; the numbers that matter; what is missing."""
    section = Section("summary", "Summary")
    of_accuracy: list[ResultTable] = []
    for protocol in protocols(results)[:1]:
        comparisons = family(results, protocol)
        ours = [one for one in comparisons if one.first.name == results.main.name]
        against = [one for one in ours if one.second.name == results.reference and one.first.form == one.second.form]
        section.blocks += [Note(sentence(one, MARGIN)) for one in _telling(against)]
        if against:
            title = f"Against the twin in the same form after {against[0].classes:,} classes, protocol {protocol}"
            of_accuracy.append(tables_accuracy.differences(against, "against_twin", title, MARGIN))
        of_accuracy.append(tables_accuracy.summary(results, protocol))
    section.blocks += [Note(ratio_sentence(one)) for one in headline_ratios(results) if one.comparator == results.twin]
    if not section.blocks:
        section.blocks.append(Note("Nothing to compare yet: no accuracy of any arm.", True))
    of_energy = (tables_energy.headline(results), tables_energy.summary(results), tables_energy.summary_ratios(results))
    section.blocks += [table.block for one in (*of_accuracy, *of_energy) for table in keep(one)]
    section.blocks += [Note(f"Missing: {part}.", True) for part in results.missing]
    section.blocks.append(Note(INTERVALS))
    return section


INTERVALS = (
    "A number such as 72.1 [70.5, 73.4] is the mean over training seeds of the mean over draws, with its 95 % "
    "bootstrap interval (seeds resampled, then the draws of each; with one seed the draws alone). Energies have "
    "an interval over seeds, and where the text says so a range over the constants of the model."
)


OTHERS = (
    "Each under the head with which the first arm knows most. What a verdict needs is said under statistical "
    "tests, where every head has its own."
)


def accuracy(results: Results, protocol: str, keep: Keep, folder: Path) -> Section:
    """Accuracy against the number of classes under one protocol: a panel a head."""
    said = PROTOCOLS[protocol]
    section = Section(f"accuracy-{protocol}", f"Accuracy, protocol {said.title}")
    comparisons = family(results, protocol)
    shown = [one for one in comparisons if one.first.name == results.main.name and one.second != results.twin]
    if telling := _telling(shown):
        one = telling[0]
        title = f"Against the other arms after {one.classes:,} classes, protocol {said.title}"
        table = tables_accuracy.differences(telling, f"against_others_{protocol}", title)
        section.blocks += [kept.block for kept in keep(table)]
        section.blocks.append(Note(OTHERS if one.difference.seeds > 1 else f"{OTHERS} {ONE_SEED}"))
    section.blocks.append(Note(said.definition))
    heads = results.seen("accuracy", "head")
    for measure in tables_accuracy.MEASURES:
        section.blocks += figures(figures_accuracy.curves(results, protocol, head, measure, folder) for head in heads)
        for head in heads:
            table = tables_accuracy.milestones(results, protocol, head, measure)
            section.blocks += [one.block for one in keep(table)]
        if measure == "test_accuracy":
            section.blocks.append(Note(f"What is left of the first classes: {_forgetting(results, protocol)}"))
            section.blocks.append(Note(said.first))
    return section


def _telling(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """One for every pair: under the head with which the first arm knows most."""
    best: dict[tuple[Arm, Arm], Comparison] = {}
    heads = {one.head for one in comparisons}
    for one in comparisons:
        best.setdefault((one.first, one.second), one)
    head = max(heads, key=lambda h: _mean(comparisons, h), default=None)
    return [
        next((c for c in comparisons if (c.first, c.second, c.head) == (*pair, head)), one)
        for pair, one in best.items()
    ]


def _mean(comparisons: Sequence[Comparison], head: str) -> float:
    return max(one.first_mean for one in comparisons if one.head == head)


def _forgetting(results: Results, protocol: str) -> str:
    """First and last point of the first arm, under every head; described, not tested."""
    words = []
    for head in results.seen("accuracy", "head"):
        rows = results.rows("accuracy", results.main, protocol=protocol, head=head)
        ends = sorted(set(rows["classes"]))
        if len(ends) > 1:
            first, last = (_first_ten(results, protocol, head, n) for n in (ends[0], ends[-1]))
            words.append(
                f"{head} {percent(first)} % after {ends[0]:,.0f} classes, {percent(last)} % after {ends[-1]:,.0f}"
            )
    return f"“{results.main.label}”: {'; '.join(words)}." if words else "one number of classes only."


def _first_ten(results: Results, protocol: str, head: str, classes: float) -> Interval | None:
    where = {"protocol": protocol, "head": head, "classes": classes}
    return results.interval("accuracy", results.main, "first_test_accuracy", **where)


def sweeps(results: Results, keep: Keep, folder: Path) -> Section:
    """What single settings do."""
    section = Section("sweeps", "Sweeps of a setting")
    if not results.sweeps:
        section.blocks.append(Note("This comparison has no sweeps.", True))
        return section
    tables = tables_accuracy.sweep_tables(results)
    text = "Shown, not tested: the points have few seeds and often less training, and no claim is made of them."
    section.blocks.append(Note(text))
    for sweep in results.sweeps:
        panels = figures(figures_accuracy.sweep_panels(results, sweep, folder))
        section.blocks += panels or [Note(f"{sweep.title}: no numbers yet.", True)]
    section.blocks += [table.block for one in tables for table in keep(one)]
    return section


def tests(results: Results, keep: Keep) -> Section:
    """Every test, and how far it carries."""
    section = Section("tests", "Statistical tests")
    families = {name: family(results, name) for name in protocols(results)}
    section.blocks.append(Note(seeds_note(one for found in families.values() for one in found)))
    section.blocks.append(Note(TESTS))
    for name, found in families.items():
        if found:
            section.blocks += [table.block for table in keep(tables_accuracy.tests(found, name))]
        else:
            section.blocks.append(Note(f"Protocol {name}: no two arms to compare.", True))
    return section


TESTS = (
    "Pairs share seed and draw, hence classes and order. Wilcoxon: signed ranks of the differences of pairs. "
    "Mann-Whitney: all values against all, as in the ANML paper; it ignores the pairing. Both two-sided, "
    "corrected by Holm for all comparisons of a table. A verdict needs the corrected Wilcoxon p below 0.05 and "
    "both intervals on one side of zero. To be within a margin of the twin means that both intervals lie inside "
    "it; a difference that is not shown is no such claim."
)
