"""Sections on what was learned: summary, accuracy under each protocol, forgetting, sweeps, tests."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from experiments.compare import figures_accuracy, tables_accuracy, tables_energy
from experiments.compare.cells import percent
from experiments.compare.claims import ONE_SEED, family, primary, seeds_note, sentence
from experiments.compare.results import Results
from experiments.compare.statistics import Interval
from experiments.compare.table_files import ResultTable
from experiments.report.blocks import Figure, Figures, Note, Section
from experiments.report.protocols import PROTOCOLS

MARGIN = 0.02
"""Of the claim to be as good as the twin."""

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
    tables: list[ResultTable | None] = []
    for protocol in protocols(results)[:1]:
        against = [one for one in primary(results, protocol) if one.second.name == results.reference]
        section.blocks += [Note(sentence(one, MARGIN)) for one in against]
        ours = [one for one in family(results, protocol) if one.first.name == results.main.name]
        alike = [one for one in ours if one.second.name == results.reference and one.first.form == one.second.form]
        if alike:
            title = f"Against the twin in the same form, protocol {protocol}"
            alike.sort(key=lambda one: one.first.form != results.main.form)
            tables.append(tables_accuracy.differences(alike, "against_twin", title, MARGIN))
        tables.append(tables_accuracy.summary(results, protocol))
    tables += [tables_energy.headline(results), tables_energy.summary(results), tables_energy.summary_ratios(results)]
    section.blocks += [table.block for one in tables for table in keep(one)]
    if not section.blocks:
        section.blocks.append(Note("Nothing to compare yet: no accuracy of any arm.", True))
    section.blocks += [Note(f"Missing: {part}.", True) for part in results.missing]
    section.blocks.append(Note(INTERVALS))
    return section


INTERVALS = (
    "A number such as 72.1 [70.5, 73.4] is the mean over training seeds of the mean over draws, with its 95 % "
    "bootstrap interval (seeds resampled, then the draws of each; with one seed the draws alone). Over few seeds it is "
    "too short: with two it holds the mean of such trainings about every second time, with three three times in four, "
    "with ten nine times in ten; of a difference, the interval over seeds (Student's t) is the one to trust. All is of "
    "the same drawings of the same classes, and no interval says what others would give. Energies have "
    "an interval over seeds; a ratio of energies has the range over the constants of the model in brackets, and beside "
    "it the seeds where it is least and most. It is less, or more, where not even both at once turn it round; a lower "
    "bound never shows that an arm takes less, nor an upper one that it takes more."
)


PRIMARY = (
    "Under the head that is exported, and corrected for these comparisons alone, which are few; under every head, and "
    "corrected for all, they stand with the statistical tests, where it is said what a verdict needs."
)


def accuracy(results: Results, protocol: str, keep: Keep, folder: Path) -> Section:
    """Accuracy against the number of classes under one protocol: a panel a head."""
    said = PROTOCOLS[protocol]
    section = Section(f"accuracy-{protocol}", f"Accuracy, protocol {said.title}")
    if comparisons := primary(results, protocol):
        title = f"Against the other arms, protocol {said.title}"
        table = tables_accuracy.differences(comparisons, f"against_others_{protocol}", title)
        section.blocks += [one.block for one in keep(table)]
        one_seed = comparisons[0].difference.seeds == 1
        section.blocks.append(Note(f"{PRIMARY} {ONE_SEED}" if one_seed else PRIMARY))
    section.blocks.append(Note(said.definition))
    heads = results.seen("accuracy", "head")
    for measure in tables_accuracy.MEASURES:
        section.blocks += figures(figures_accuracy.curves(results, protocol, head, measure, folder) for head in heads)
        for head in heads:
            table = tables_accuracy.milestones(results, protocol, head, measure)
            section.blocks += [one.block for one in keep(table)]
        if measure == "test_accuracy":
            section.blocks.append(
                Note(f"What is left of the first classes (described, not tested): {_forgetting(results, protocol)}")
            )
            section.blocks.append(Note(said.first))
    return section


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
    "corrected by Holm for all comparisons of a table. A verdict needs the corrected seeds p (with one seed the "
    "Wilcoxon p) at most 0.05 and both intervals on one side of zero. To be within a margin of the twin means "
    "that both intervals lie inside it, each of 95 % and not corrected for the others; a difference that is not shown "
    "is no such claim."
)
