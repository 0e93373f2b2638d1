"""Tables on what inference, learning and training cost; modelled joules and measured ones each in their own."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from experiments.compare.cells import as_columns, bracketed, joules, number
from experiments.compare.joule_rows import (
    Ratio,
    as_if_integers,
    devices,
    energy,
    energy_rows,
    focus,
    headline_ratios,
    ratios,
    sources,
)
from experiments.compare.results import Results, interval_of
from experiments.compare.table_files import ResultTable
from experiments.compare.tables_accuracy import spikes_per_neuron
from experiments.report.tables import DASH

OF_TWIN = (
    ("cmos45-fp32", "cmos45-fp32"),
    ("memory-exact", "memory-exact"),
    ("memory-lemaire", "memory-lemaire"),
    ("loihi", "loihi"),
    ("loihi", "arm"),
)
"""Pairs of devices on which the summary sets an arm against the twin."""
OF_LEARNING = ("cmos45-fp32", "loihi", "arm")
"""Devices on which the cost of learning is shown."""


def summary(results: Results) -> ResultTable | None:
    """Spikes and modelled J per inference of every arm on a few devices."""
    shown = focus(results)
    if not shown:
        return None
    cells, values = [], []
    for arm in results.arms:
        found = [energy(results, arm, device) for device in shown]
        if any(i is not None for i in found):
            spikes = number(spikes_per_neuron(results, arm)) if arm.spiking else DASH
            cells.append((arm.label, spikes, *(joules(i) for i in found)))
            for device, i in zip(shown, found, strict=True):
                values.append({"arm": arm.name, "form": arm.form, "device": device} | as_columns(i, "joules"))
    title = "Modelled energy of one inference, first layer, NM network and gates included"
    columns = ("arm", "spikes per neuron", *shown)
    return ResultTable("summary_energy", title, columns, tuple(cells), pd.DataFrame(values), 1)


def summary_ratios(results: Results) -> ResultTable | None:
    """Energy of every arm in float32 over that of the twin, on a few pairs of devices."""
    found = {(r.arm, r.device, r.comparator_device): r for r in ratios(results) if r.comparator == results.twin}
    shown = [pair for pair in OF_TWIN if any(key[1:] == pair for key in found)]
    cells, values = [], []
    for arm in results.arms:
        its = [found.get((arm, *pair)) for pair in shown]
        if any(its):
            cells.append((arm.label, *(DASH if r is None else bracketed((r.value, r.low, r.high)) for r in its)))
            for r in its:
                if r is not None:
                    key = {"arm": arm.name, "form": arm.form, "device": r.device, "twin_device": r.comparator_device}
                    values.append(key | {"ratio": r.value, "ratio_low": r.low, "ratio_high": r.high})
    if not cells:
        return None
    title = "Modelled energy of one inference over that of the conventional twin, [over the ranges of the constants]"
    columns = ("arm", *(f"{one}, twin on {other}" if one != other else one for one, other in shown))
    return ResultTable("summary_ratios", title, columns, tuple(cells), pd.DataFrame(values), 1)


def by_device(results: Results) -> ResultTable | None:
    """Modelled J per inference, devices against arms."""
    arms = [arm for arm in results.arms if len(results.rows("energy", arm)) or len(results.rows("memory", arm))]
    if not arms:
        return None
    cells, values = [], []
    for device in devices(results):
        found = [None if as_if_integers(arm.form, device) else energy(results, arm, device) for arm in arms]
        cells.append((device, *(joules(i) for i in found)))
        for arm, i in zip(arms, found, strict=True):
            values.append({"device": device, "arm": arm.name, "form": arm.form} | as_columns(i, "joules"))
    title = "Modelled energy of one inference on every device"
    return ResultTable(
        "energy", title, ("device", *(a.label for a in arms)), tuple(cells), pd.DataFrame(values), 1, closed=True
    )


def nm_share(results: Results) -> ResultTable | None:
    """Share of the NM network and of the gates in the modelled energy of every arm that has one."""
    shown = focus(results)
    cells, values = [], []
    for arm in results.arms:
        for device in shown:
            rows = energy_rows(results, arm, device)
            total = rows["joules"].sum()
            if not total or not (rows["part"] == "nm").any():
                continue
            nm = rows[rows["part"] == "nm"]["joules"].sum() / total
            gates = rows["joules_gates"].sum() / total if "joules_gates" in rows else None
            cells.append((arm.label, device, f"{100 * nm:.1f}", DASH if gates is None else f"{100 * gates:.1f}"))
            values.append({"arm": arm.name, "form": arm.form, "device": device, "nm_share": nm, "gates_share": gates})
    if not cells:
        return None
    title = "Price of neuromodulation: share of the modelled energy of an inference (%)"
    return ResultTable(
        "neuromodulation", title, ("arm", "device", "NM network", "gates"), tuple(cells), pd.DataFrame(values), 2, True
    )


def ratio_table(results: Results) -> ResultTable | None:
    """Energy of every arm over that of each comparator, with the range over the constants."""
    title = "Ratio of modelled energies, [over the ranges of the constants]"
    return _ratios(ratios(results), "ratios", title, closed=True)


def headline(results: Results) -> ResultTable | None:
    """Those ratios of the first arm that the text speaks of."""
    title = f"“{results.main.title}” over the twin: ratio of modelled energies, [over the ranges of the constants]"
    return _ratios(headline_ratios(results), "headline_ratios", title)


def _ratios(found: Sequence[Ratio], name: str, title: str, closed: bool = False) -> ResultTable | None:
    cells, values = [], []
    for r in found:
        which = (r.arm.label, r.device, r.comparator.label, r.comparator_device, r.bound or DASH, r.verdict)
        spread = f"{bracketed([r.seed_low])} to {bracketed([r.seed_high])}" if r.seeds > 1 else DASH
        cells.append((*which, bracketed((r.value, r.low, r.high)), spread))
        key = {"arm": r.arm.name, "form": r.arm.form, "device": r.device}
        key |= {"comparator": r.comparator.name, "comparator_form": r.comparator.form}
        key |= {"comparator_device": r.comparator_device}
        key |= {"bound": r.bound, "verdict": r.verdict, "ratio": r.value, "ratio_low": r.low, "ratio_high": r.high}
        values.append(key | {"seeds": r.seeds, "seed_low": r.seed_low, "seed_high": r.seed_high})
    if not cells:
        return None
    columns = ("arm", "device", "comparator", "its device", "bound", "takes", "ratio", "of seeds")
    return ResultTable(name, title, columns, tuple(cells), pd.DataFrame(values), 6, closed)


def break_even(results: Results) -> ResultTable | None:
    """Spikes per neuron at which an arm costs what its comparator does, beside those it has."""
    rows = results.tables["break_even"]
    if not len(rows):
        return None
    cells = []
    labels = {(arm.name, arm.form): arm.label for arm in results.arms}
    for (name, form, against, device), its in rows.groupby(["arm", "form", "reference_form", "device"], sort=False):
        if (name, form) in labels and not as_if_integers(form, device):
            known = its.dropna(subset=["break_even_rate"])
            even = number(interval_of(known, "break_even_rate")) if len(known) else "none"
            if 0 < len(known) < len(its):
                even += f" ({len(known)} of {len(its)} seeds)"
            cells.append((labels[name, form], f"twin, {against}", device, number(interval_of(its, "spike_rate")), even))
    title = "Break-even: spikes per neuron and inference at which both cost the same (modelled)"
    columns = ("arm", "against", "device", "measured spike rate", "break-even rate")
    return ResultTable("break_even", title, columns, tuple(cells), rows, 3, closed=True)


def learning(results: Results) -> ResultTable | None:
    """Modelled J and bytes to learn one more class, by head, with the most classes known."""
    rows = results.tables["learning"]
    if not len(rows):
        return None
    shown = [device for device in OF_LEARNING if device in set(rows["device"])]
    known = int(rows["known"].max())
    cells = []
    for arm in results.arms:
        its = results.rows("learning", arm, known=known)
        for head in dict.fromkeys(its["head"]):
            of_head = its[its["head"] == head]
            sums = of_head.groupby(["seed", "device"], as_index=False)[["joules", "read_bytes", "write_bytes"]].sum()
            by_device = (interval_of(sums[sums["device"] == device], "joules") for device in shown)
            traffic = sums[sums["device"] == shown[0]] if shown else sums
            sizes = (of_head["resident_bytes"].max(), traffic["read_bytes"].mean(), traffic["write_bytes"].mean())
            cells.append((arm.label, head, *(f"{size / 1024:,.0f}" for size in sizes), *map(joules, by_device)))
    title = f"Learning one more class with {known:,} known: memory of the head (KiB), and modelled energy"
    columns = ("arm", "head", "held", "read", "written", *shown)
    return ResultTable("learning", title, columns, tuple(cells), rows, 2)


def learning_items(results: Results, device: str) -> ResultTable | None:
    """Modelled J of every part of learning one more class, by head, with the most classes known, on one device."""
    rows = results.tables["learning"]
    rows = rows[(rows["device"] == device) & (rows["known"] == rows["known"].max())]
    items = list(dict.fromkeys(rows["item"]))
    cells, values = [], []
    for arm in results.arms:
        its = rows[(rows["arm"] == arm.name) & (rows["form"] == arm.form)]
        for head in dict.fromkeys(its["head"]):
            found = [interval_of(its[(its["head"] == head) & (its["item"] == item)], "joules") for item in items]
            cells.append((arm.label, head, *map(joules, found)))
            key = {"arm": arm.name, "form": arm.form, "head": head, "device": device}
            values += [key | {"item": item} | as_columns(i, "joules") for item, i in zip(items, found, strict=True)]
    if not cells:
        return None
    title = f"Learning one more class by parts, {device} (modelled)"
    columns = ("arm", "head", *items)
    return ResultTable(f"learning_items_{device}", title, columns, tuple(cells), pd.DataFrame(values), 2, closed=True)


def training(results: Results) -> ResultTable | None:
    """What meta-training took: modelled joules and measured seconds of it."""
    rows = results.tables["training"]
    cells = []
    for arm in results.arms:
        its = results.rows("training", arm)
        for device in dict.fromkeys(its["device"]):
            one = its[its["device"] == device]
            timed, counted = one.dropna(subset=["seconds"]), one.dropna(subset=["joules"])
            steps, drawings = (f"{one[name].mean():,.0f}" for name in ("steps", "drawings"))
            cost = joules(interval_of(counted, "joules"))
            cells.append((arm.label, device, steps, drawings, number(interval_of(timed, "seconds")), cost))
    if not cells:
        return None
    title = "Meta-training of one network: steps, drawings, seconds that passed, and modelled energy"
    columns = ("arm", "device", "steps", "drawings", "seconds", "modelled energy")
    return ResultTable("training", title, columns, tuple(cells), rows, 2, closed=True)


def measured(results: Results) -> ResultTable | None:
    """Measured joules, by themselves: they hold what models leave out, and only of the machine they were taken on."""
    rows = results.tables["measured"]
    if not len(rows):
        return None
    titles = {(arm.name, arm.form): arm.label for arm in results.arms}
    cells = []
    for row in rows.to_dict("records"):
        energy_text = DASH
        if pd.notna(row["joules"]):
            ends = (row["low"], row["high"]) if pd.notna(row["low"]) and pd.notna(row["high"]) else ()
            energy_text = f"{bracketed((row['joules'], *ends))} J"
        repetitions, seconds = (DASH if pd.isna(row[c]) else f"{row[c]:.3g}" for c in ("repetitions", "seconds"))
        name = titles.get((row["arm"], row["form"]), row["arm"])
        seed = f"{row['seed']:.0f}"
        cells.append((name, seed, row["what"], row["meter"] or "none", row["note"], repetitions, seconds, energy_text))
    title = "Measured energy (never beside modelled)"
    columns = ("arm", "seed", "what", "meter", "note", "repetitions", "seconds", "measured energy")
    return ResultTable("measured", title, columns, tuple(cells), rows, 5, bool(rows["joules"].isna().all()))


def source_table(results: Results) -> ResultTable | None:
    """What every modelled joule of the page rests on."""
    cells = tuple(sources(results))
    if not cells:
        return None
    columns = ("modelled energy of", "devices", "source", "leaves out")
    values = pd.DataFrame(list(cells), columns=pd.Index(columns))
    return ResultTable("sources", "Devices, sources, and what the prices leave out", columns, cells, values, 4, True)
