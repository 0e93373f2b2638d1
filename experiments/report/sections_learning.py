"""Sections on what was learned: summary, accuracy, forgetting, training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from experiments.report import published
from experiments.report.blocks import Block, Figure, Figures, Note, Section, Table
from experiments.report.drawing import cycle, head_colour
from experiments.report.energy import find, spike_rate, totals
from experiments.report.figures_energy import joules
from experiments.report.figures_learning import Series, accuracy_panel, forgetting_panel, training_panels
from experiments.report.protocols import ORACLE, PROTOCOLS
from experiments.report.runs import SPIKING, TWIN, Network, Run
from experiments.report.tables import DASH, accuracy_table, percent, published_table

REFERENCE_CLASSES = 200

INTERVALS = (
    "A number such as 80.1 ± 0.6 is the mean and half of the 95 % interval (Student's t) over draws of one trained "
    "network: it covers the order of the classes or the drawn output layer, not another training. The class-mean head "
    "does not depend on the order once all classes are in. Without ± there was one draw."
)


def named_networks(runs: Sequence[Run]) -> list[tuple[str, Network]]:
    """Every network with its name on the page: with several runs, the folder's name comes first."""
    several = len(runs) > 1
    return [(f"{run.label}: {n.name}" if several else n.name, n) for run in runs for n in run.networks]


def missing(what: str, run: Run, remedy: str) -> Note:
    """One line in the place of something that a run does not have."""
    return Note(f"{run.label}: no {what} yet; {remedy}.", missing=True)


def no_form(what: str, run: Run) -> Note:
    """The same for what a conventional network in published layers cannot have."""
    return Note(f"{run.label}: no {what}, since published layers have no form on a simulator.", missing=True)


def summary(runs: Sequence[Run]) -> Section:
    """What was trained, the numbers that matter, and what the protocols mean."""
    section = Section("summary", "Summary", [Note(_trained(run)) for run in runs])
    table = _key_accuracies(runs)
    if table is None:
        section.blocks.append(Note("No meta-test yet, so no accuracy; run snn-anml meta-test on the run folder.", True))
    else:
        section.blocks.append(table)
    section.blocks.append(_facts(runs))
    oracle = any(s.protocol == ORACLE for run in runs for n in run.networks for s in n.summaries)
    section.blocks += [Note(p.definition) for name, p in PROTOCOLS.items() if oracle or name != ORACLE]
    section.blocks.append(Note(INTERVALS))
    return section


def _trained(run: Run) -> str:
    c = run.config
    spiking = c.network.neuron == "lif"
    neuron = f"Spiking network (LIF, {c.network.steps} steps)" if spiking else "Conventional network (ReLU)"
    neuron += " of the published layers" if c.network.layers == "published" else ""
    gates = "without gates" if c.network.modulation == "none" else f"gated by a {c.network.modulation} NM network"
    twin = "; its conventional twin (same layers, ReLU) stands beside it" if len(run.networks) > 1 else ""
    rows = run.network.metrics
    done = f", {rows[-1]['step']:,} of them done" if rows and rows[-1]["step"] < _steps(run) else ""
    widths, size = "-".join(map(str, c.network.widths)), f"{c.data.size}\u00d7{c.data.size}"
    return (
        f"{run.label}: {neuron} with {widths} channels, {gates}, on {c.data.name} ({size}), "
        f"seed {c.seed}{twin}. Trained for {c.train.warm_steps:,} steps of plain classification and "
        f"{c.train.meta_steps:,} meta-steps{done}. Meta-test: {c.data.meta_test_classes:,} unseen classes, "
        f"{c.meta_test.shots} drawings of each learned in one pass, the others held out."
    )


def _steps(run: Run) -> int:
    return run.config.train.warm_steps + run.config.train.meta_steps


def _key_accuracies(runs: Sequence[Run]) -> Table | None:
    named = named_networks(runs)
    there = [s for _, n in named for s in n.summaries]
    if not there:
        return None
    protocol = next(p for p in PROTOCOLS if any(s.protocol == p for s in there))
    classes_of = {s.classes for s in there if s.protocol == protocol}
    wanted = sorted(classes_of & {REFERENCE_CLASSES, max(classes_of)})
    rows = []
    for label, network in named:
        for head in dict.fromkeys(s.head for s in network.summaries if s.protocol == protocol):
            found = [network.summary(protocol, head, classes) for classes in wanted]
            rows.append((label, head, *(DASH if s is None else percent(s.test) for s in found)))
    columns = ("network", "head", *(f"after {classes:,} classes" for classes in wanted))
    return Table(f"Held-out accuracy under protocol {PROTOCOLS[protocol].title} (%)", columns, tuple(rows), 2)


def _facts(runs: Sequence[Run]) -> Table:
    names = ("spikes per neuron and inference (PLN)", "spike slots that differ from torch", "energy, spiking on Loihi")
    names += ("energy, twin on GPU", "energy, twin on Loihi")
    columns = []
    for run in runs:
        every = totals(run.energy)
        spikes = run.network.activity.get("spikes_per_neuron") if run.network.name == SPIKING else None
        if spikes is None and run.network.name == SPIKING:
            spikes = spike_rate(run.energy, SPIKING)
        mismatches = DASH
        if run.certificate is not None:
            alike: dict[str, list[str]] = {}
            for one in run.certificate.comparisons:
                alike.setdefault(f"{one.mismatches:,} of {one.slots:,}", []).append(one.backend)
            mismatches = "; ".join(f"{count} ({', '.join(names)})" for count, names in alike.items())
        found = [find(every, n, d) for n, d in ((SPIKING, "loihi"), (TWIN, "gpu"), (TWIN, "loihi"))]
        energies = [DASH if total is None else f"{joules(total.joules)} (modelled)" for total in found]
        columns.append((DASH if spikes is None else f"{spikes:.3f}", mismatches, *energies))
    rows = tuple((name, *cells) for name, cells in zip(names, zip(*columns, strict=True), strict=True))
    heads = tuple(run.label for run in runs) if len(runs) > 1 else ("value",)
    return Table("Spikes, fidelity, energy", ("quantity", *heads), rows, len(heads) + 1)


def _panels(runs: Sequence[Run]) -> list[tuple[str, str, list[Series]]]:
    """(protocol, what, curves) of every panel. One run: a panel a protocol, heads by colour. Several: one for every
    protocol and head, runs by colour."""
    panels = []
    heads = list(dict.fromkeys(s.head for run in runs for n in run.networks for s in n.summaries))
    for protocol in PROTOCOLS:
        if len(runs) == 1:
            series = [s for head in heads for s in _series(runs[0], protocol, head, head, head_colour(head))]
            panels.append((protocol, "", series))
            continue
        for head in heads:
            series = [s for i, run in enumerate(runs) for s in _series(run, protocol, head, run.label, cycle(i))]
            panels.append((protocol, f"head {head}", series))
    return [panel for panel in panels if panel[2]]


def _series(run: Run, protocol: str, head: str, label: str, colour: str) -> list[Series]:
    found = [
        Series(label, colour, n.name != SPIKING, [s for s in n.summaries if (s.protocol, s.head) == (protocol, head)])
        for n in run.networks
    ]
    return [series for series in found if series.summaries]


def _without_meta_test(runs: Sequence[Run]) -> list[Note]:
    notes = [
        missing(f"meta-test of the {n.name} network", run, "make it with snn-anml meta-test")
        for run in runs
        for n in run.networks
        if not n.summaries
    ]
    notes += [
        missing("conventional twin", run, "it is trained where the configuration has twin: true")
        for run in runs
        if run.network.name == SPIKING and len(run.networks) == 1
    ]
    return notes


def _with_tables(panels: list[Figure], runs: Sequence[Run], field: str, title: str, closed: bool) -> list[Block]:
    tables = [
        accuracy_table(named_networks(runs), name, field, f"{title}, protocol {p.title} (%), by number of classes")
        for name, p in PROTOCOLS.items()
    ]
    figures: list[Block] = [Figures(tuple(panels))] if panels else []
    return figures + [replace(table, closed=closed) for table in tables if table is not None]


def accuracy(runs: Sequence[Run]) -> Section:
    """Accuracy against the number of classes, with what is published."""
    on_omniglot = all(run.config.data.name == published.DATASET for run in runs)
    section = Section("accuracy", "Accuracy against number of classes", [*_without_meta_test(runs)])
    panels = [accuracy_panel(series, protocol, what, on_omniglot) for protocol, what, series in _panels(runs)]
    section.blocks += _with_tables(panels, runs, "test", "Held-out accuracy", False)
    if on_omniglot:
        section.blocks.append(published_table())
    else:
        text = "Published curves are of Omniglot, so they are not drawn behind accuracies on other data."
        section.blocks.append(Note(text, True))
    return section


def forgetting(runs: Sequence[Run]) -> Section:
    """Accuracy on the first ten classes as learning goes on."""
    section = Section("forgetting", "Forgetting: the first classes as learning goes on")
    panels = [forgetting_panel(series, protocol, what) for protocol, what, series in _panels(runs)]
    section.blocks += _with_tables(panels, runs, "first", "Held-out accuracy on the first ten classes", True)
    if not panels:
        section.blocks.append(Note("No meta-test yet, so nothing could be forgotten.", True))
    return section


def training(runs: Sequence[Run]) -> Section:
    """Curves of metrics.jsonl."""
    section = Section("training", "Training")
    networks = [(label, cycle(i), n) for i, (label, n) in enumerate(named_networks(runs))]
    without = [label for label, _, n in networks if not n.metrics]
    section.blocks += [Note(f"{label}: no metrics.jsonl, so no curves.", True) for label in without]
    panels = training_panels(networks)
    if panels:
        section.blocks.append(Figures(tuple(panels)))
    return section
