"""Sections on what it costs: energy, accuracy against it, break-even and sensitivity, learning, meters, provenance."""

from __future__ import annotations

from pathlib import Path

from experiments.compare import figures_energy, figures_rows, tables_accuracy, tables_energy, tables_fidelity
from experiments.compare.figures_energy import MODELLED
from experiments.compare.joule_rows import ARITHMETIC, DEPLOYED, MEMORY_AWARE, focus, headline_ratios
from experiments.compare.results import Results
from experiments.compare.sections_results import Keep, figures, protocols
from experiments.report.blocks import Note, Section

NO_ENERGY = "No energy yet: no arm was exported and counted."
LAYERS_OF = (ARITHMETIC, MEMORY_AWARE)
"""Models whose energy is shown by layer."""


def energy(results: Results, keep: Keep, folder: Path) -> Section:
    """Modelled energy of an inference: layers, devices, the NM network's share, ratios."""
    section = Section("energy", "Energy of an inference (modelled)")
    if not focus(results):
        section.blocks.append(Note(NO_ENERGY, True))
        return section
    section.blocks.append(Note(DEFINITION))
    arms = [results.main] + ([results.twin] if results.twin not in (None, results.main) else [])
    panels = (
        figures_energy.by_layer(results, arm, device, folder) for device in LAYERS_OF for arm in arms if arm is not None
    )
    section.blocks += figures(panels)
    for table in (
        tables_energy.by_device(results),
        tables_energy.nm_share(results),
        tables_energy.ratio_table(results),
        tables_energy.source_table(results),
    ):
        section.blocks += [one.block for one in keep(table)]
    return section


DEFINITION = (
    f"{MODELLED} Every device, its source and what it leaves out stand in the last table of this section. "
    f"{ARITHMETIC}: adders and multipliers alone, every arm in its own number format. {MEMORY_AWARE}: after Lemaire et "
    "al. 2022, with memories as large as the network needs, accesses counted one by one (memory-exact); with the "
    "article's own formulas it is memory-lemaire. A picture that the network encodes as spikes costs a neuron update "
    "for each value and step, and one that enters as currents its multiply-accumulates. The network of every joule "
    "ends in the linear head that is exported. Quantised forms, of the twin (int8, and as many bits as the steps of "
    "the spiking network can tell apart) and of the first arm (int8), have the accuracy measured in that form, but for "
    "membranes and the head gaussian, which stay float32. "
    "Membranes need more bits than weights: an energy of spiking integers is a lower bound, and the rows that end in "
    "int32, as if everything had 32 bits, are an upper one."
)


def accuracy_energy(results: Results, folder: Path) -> Section:
    """Accuracy against energy, with the front of those that nobody beats in both."""
    section = Section("accuracy-energy", "Accuracy against energy")
    name = next(iter(protocols(results)), None)
    shown = (ARITHMETIC, MEMORY_AWARE, DEPLOYED) if name is not None else ()
    panels = figures(figures_energy.pareto(results, str(name), device, folder) for device in shown)
    if not panels:
        section.blocks.append(Note("Accuracy and energy are both needed here, and one is missing.", True))
        return section
    text = (
        "The grey line joins the means that none beats in both accuracy and modelled energy; it is drawn, not tested."
    )
    section.blocks += [Note(text), *panels]
    return section


def break_even(results: Results, keep: Keep, folder: Path) -> Section:
    """Where the spiking network stops to be cheaper: spike rates, and constants."""
    section = Section("break-even", "Break-even and sensitivity: how far the ratios carry")
    table, ratios = tables_energy.break_even(results), headline_ratios(results)
    if table is None and not ratios:
        section.blocks.append(Note("No break-even rates and no sensitivities yet.", True))
        return section
    section.blocks.append(Note(BREAK_EVEN))
    forms = results.seen("break_even", "reference_form")
    section.blocks += figures(figures_rows.break_even(results, form, folder) for form in forms)
    alike = [one for one in ratios if one.arm.form == one.comparator.form]
    section.blocks += figures(figures_rows.tornado(results, ratio, folder) for ratio in alike)
    section.blocks += [one.block for one in keep(table)]
    return section


BREAK_EVEN = (
    "Break-even assumes that all neurons spike more or less often in proportion. None: the device does not charge by "
    "the spike, or the arm costs more even without one. A rate above T is never reached: the arm costs less at any. "
    "Sensitivity moves each constant over its range, published where there is one and otherwise a factor of two either "
    "way, alone and all together; figures of pairs in the same form."
)


def learning(results: Results, keep: Keep, folder: Path) -> Section:
    """What one more class costs, and the meta-training."""
    section = Section("learning", "Cost of learning (modelled)")
    table = tables_energy.learning(results)
    if table is None:
        section.blocks.append(Note("No costs of learning yet.", True))
    else:
        section.blocks.append(Note(f"{LEARNING} {MODELLED}"))
        section.blocks += [one.block for one in keep(table)]
        there = set(results.tables["learning"]["device"])
        shown = [device for device in tables_energy.OF_LEARNING if device in there]
        section.blocks += figures(figures_rows.learning(results, device, folder) for device in shown)
        for device in shown:
            section.blocks += [one.block for one in keep(tables_energy.learning_items(results, device))]
    section.blocks += [one.block for one in keep(tables_energy.training(results))]
    return section


LEARNING = (
    "One new class: the features of its drawings, the forward pass and the update of the head, its optimiser's state, "
    "and reads and writes of its memory (KiB on the first device shown; one that skips no zero reads more). "
    "Seconds of meta-training passed on the machine that trained, whatever the device of the row."
)


def spikes(results: Results, folder: Path) -> Section:
    """Spikes by layer."""
    section = Section("spikes", "Spikes")
    panels = figures([figures_rows.spikes(results, folder)])
    section.blocks += panels or [Note("No spikes were counted yet.", True)]
    return section


def fidelity(results: Results, keep: Keep) -> Section:
    """The exported networks against the trained ones."""
    section = Section("fidelity", "Fidelity of the exports")
    table = tables_fidelity.fidelity(results)
    section.blocks.append(Note(FIDELITY) if table else Note("No spiking network was exported yet.", True))
    section.blocks += [one.block for one in keep(table)]
    return section


FIDELITY = (
    "Every spiking network is exported with the head that the energies are of, simulated on held-out drawings, and "
    "compared with torch on the same drawings, spike by spike. snn_anml is the network as it was trained, before its "
    "weights were put on grids that make sums exact. A spike slot is one neuron, step and drawing; "
    "results/fidelity.csv has every layer, and where it first differs."
)


def measured(results: Results, keep: Keep) -> Section:
    """Joules of a meter, apart from the modelled ones."""
    section = Section("measured", "Measured energy")
    table = tables_energy.measured(results)
    text = (
        "Of the machine and program of the run: they hold what every model leaves out, so they cannot stand beside "
        "modelled joules, and nothing on this page compares the two."
    )
    section.blocks += [Note(text)] + [one.block for one in keep(table)]
    if table is None:
        section.blocks.append(Note("Nothing was measured.", True))
    elif results.tables["measured"]["joules"].isna().all():
        section.blocks.insert(0, Note("No joule was measured; the column note says why.", True))
    return section


def provenance(results: Results, keep: Keep) -> Section:
    """Every number's configuration, data and commit."""
    section = Section("provenance", "Where the numbers come from")
    section.blocks.append(Note(PROVENANCE))
    table = tables_accuracy.traceability(results)
    section.blocks += [one.block for one in keep(table)]
    if table is None:
        section.blocks.append(Note("No list of runs yet.", True))
    facts = "; ".join(f"{name}: {_flat(value)}" for name, value in results.provenance.items())
    if facts:
        section.blocks.append(Note(f"Comparison: {facts}."))
    return section


PROVENANCE = (
    "The long tables in the folder results hold every single number with its arm, form and seed; this table says from "
    "which configuration, data and commit that arm and seed was trained (its later stages may be of later ones). The "
    "configuration is that of comparison.yaml, which has every setting, and lies in the run's folder too."
)


def _flat(value: object) -> str:
    return ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)
