"""Sections on what the network does and costs: spikes and gates, energy, fidelity, provenance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import yaml

from experiments.report import energy as book
from experiments.report import figures_energy, tables
from experiments.report.blocks import Block, Figures, Note, Section, Table, Verbatim
from experiments.report.drawing import CYCLE
from experiments.report.figures_inside import drawings_figure, gates_figure, pair, raster_figure
from experiments.report.inside import SHOWN_DRAWINGS, Gates, gates, rasters
from experiments.report.protocols import PROTOCOLS
from experiments.report.runs import CONVENTIONAL, SPIKING, TWIN, Run
from experiments.report.sections_learning import missing, no_form
from experiments.run_data import load_data
from experiments.run_folder import to_plain
from snn_anml.data import DATASETS
from snn_anml.errors import UserError
from snn_anml.model_io import load
from snn_anml.networks import ANML

LAYERS_OF = ((SPIKING, "loihi"), (SPIKING, "cmos45-fp32"), (TWIN, "cmos45-fp32"), (TWIN, "gpu"))
"""Networks and devices whose energy is shown by layer."""


def _subtitle(runs: Sequence[Run], run: Run) -> list[Block]:
    return [Note(f"Run {run.label}")] if len(runs) > 1 else []


def inside(runs: Sequence[Run]) -> Section:
    """Spike rasters and gates of a few drawings."""
    section = Section("inside", "Spikes and gates")
    for run in runs:
        section.blocks += [*_subtitle(runs, run), *_inside(run)]
    return section


def _inside(run: Run) -> list[Block]:
    if not run.folder.model.is_file():
        return [missing("trained network", run, "train one first")]
    name = run.config.data.name
    if name in DATASETS and not DATASETS[name].found:
        return [missing(f"data ({name} is not on this machine)", run, f"get it with snn-anml data fetch {name}")]
    try:
        model, data = load(run.folder.path), load_data(run.config)
    except (UserError, OSError) as error:
        why = f"the network or its data could not be loaded: {error}"
        return [Note(f"{run.label}: no spikes and gates, since {why}", True)]
    blocks: list[Block] = []
    if data.dataset.sha256 != run.provenance.get("data_sha256", data.dataset.sha256):
        blocks.append(Note(f"{run.label}: the {name} data here are not those of the run (other hash).", True))
    if isinstance(model, ANML) and run.network.name == SPIKING:
        blocks.append(Figures(tuple(raster_figure(raster) for raster in rasters(model, data, run.config.seed))))
    else:
        blocks.append(Note(f"{run.label}: a conventional network has no spikes.", True))
    found = gates(model, data, run.config.seed)
    if found is None:
        blocks.append(Note(f"{run.label}: this network has no gates (network.modulation: none).", True))
        return blocks
    panels = (drawings_figure(found), *(gates_figure(found, layer) for layer in range(len(found.layers))))
    return [*blocks, Figures(panels), _likeness_table(found)]


def _likeness_table(found: Gates) -> Table:
    rows = tuple(
        (f"layer {i + 1}", pair(x.raw_within, x.raw_between), pair(x.deviation_within, x.deviation_between))
        for i, x in enumerate(found.likeness)
    )
    title = (
        f"Mean correlation of gates within / between classes, over {SHOWN_DRAWINGS} drawings of each of "
        f"{found.classes} unseen classes"
    )
    return Table(title, ("gates of", "raw gates", "without the mean gate"), rows, 1)


def energy(runs: Sequence[Run]) -> Section:
    """Energy by device, by part and by layer."""
    text = "Every joule here is modelled, not measured: exact counts of operations times published prices."
    section = Section("energy", "Energy", [Note(text)])
    for run in runs:
        section.blocks += _subtitle(runs, run)
        every = book.totals(run.energy)
        if not every:
            without = missing("energy estimate", run, "make it with snn-anml energy")
            section.blocks.append(no_form("energy estimate", run) if run.network.name == CONVENTIONAL else without)
            continue
        section.blocks += _energy(run, every)
    return section


def _energy(run: Run, every: list[book.Total]) -> list[Block]:
    networks = {t.network for t in every}
    blocks: list[Block] = []
    if TWIN not in networks and SPIKING in networks:
        blocks.append(missing("energy of a conventional twin", run, "there is nothing to compare with"))
    blocks += [Note(text) for text in _shares(run, every)]
    found = [book.find(every, network, device) for network, device in LAYERS_OF]
    panels = [figures_energy.device_bars(every, book.EXACT, "Energy of one inference by device")]
    blocks.append(Figures((*panels, *(figures_energy.layer_bars(t) for t in found if t is not None))))
    blocks.append(tables.energy_table(every, book.EXACT, "Modelled energy, with shares of PLN, NM, gates and head"))
    blocks.append(tables.device_table(every))
    if any(t.convention == book.KERAS_SPIKING for t in every):
        title = "The same in the convention of KerasSpiking (padding counts, gates and biases are free)"
        blocks.append(replace(tables.energy_table(every, book.KERAS_SPIKING, title), closed=True))
    return blocks


def _shares(run: Run, every: list[book.Total]) -> list[str]:
    """Share of the neuromodulation, and the break-even spike rates, in words."""
    notes = []
    found = [book.find(every, SPIKING, device) for device in ("loihi", "cmos45-fp32")]
    on = [t for t in found if t is not None]
    shares = "; ".join(
        f"on {t.device} the NM network takes {100 * t.share('NM'):.1f} % and the gates {100 * t.share('gates'):.1f} %"
        for t in on
    )
    if shares:
        notes.append(f"Price of neuromodulation in the spiking network: {shares} of the energy of an inference.")
    rate = book.spike_rate(run.energy, SPIKING)
    if rate is None:
        return notes
    steps, texts = run.config.network.steps, []
    for t in on:
        twin = book.find(every, TWIN, t.device)
        if twin is None:
            continue
        even = book.break_even(t, twin, rate)
        cost = f"{t.joules / twin.joules:.2f} times the energy of its twin"
        if even is None:
            texts.append(f"on {t.device} the spiking network takes {cost} and would take more even without a spike")
        else:
            equal = f"{even:.3f} spikes a neuron ({even / steps:.3f} a step)"
            texts.append(f"on {t.device} it takes {cost}, and both are equal at {equal}")
    if texts:
        notes.append(
            f"Spiking against its twin, on the same row: at {rate:.3f} spikes per neuron and inference "
            f"({rate / steps:.3f} a step, all spiking layers), {'; '.join(texts)}. Accumulates are taken as "
            "proportional to the spike rate. The twin is full precision on the rows that say so; one quantised to "
            f"{math.ceil(math.log2(steps + 1))} bits, as many as {steps} steps can tell apart, would be cheaper "
            "(nearest row: cmos45-int8)."
        )
    return notes


def accuracy_energy(runs: Sequence[Run]) -> Section:
    """Each exported network's accuracy against its energy on several devices."""
    section = Section("accuracy-energy", "Accuracy against energy")
    spots = []
    for i, run in enumerate(runs):
        every = book.totals(run.energy)
        if run.network.name == CONVENTIONAL:
            section.blocks.append(no_form("accuracy against energy", run))
            continue
        for network in run.networks:
            mean = network.summary(run.config.meta_test.protocols[0], run.config.export.head, run.config.export.classes)
            its = [t for t in every if t.network == network.name and t.convention == book.EXACT]
            if mean is None or not its:
                what = f"accuracy together with energy of the {network.name} network"
                section.blocks.append(missing(what, run, "both are needed here"))
                continue
            label = f"{run.label}: {network.name}" if len(runs) > 1 else network.name
            hue = CYCLE[i % len(CYCLE)] if len(runs) > 1 else figures_energy.NETWORK_COLOURS[network.name]
            spots.append(figures_energy.Spot(label, network.name == TWIN, hue, mean.test, its))
    if spots:
        kinds = {(run.config.export.head, run.config.export.classes) for run in runs}
        protocols = " or ".join(sorted({PROTOCOLS[run.config.meta_test.protocols[0]].title for run in runs}))
        heads = "; ".join(f"{head}, after {n:,} classes" for head, n in sorted(kinds))
        what = f"Exported head: {heads}, protocol {protocols}; accuracies are those of float32 weights on every device."
        section.blocks.append(Figures((figures_energy.accuracy_energy(spots, what),)))
    return section


def fidelity(runs: Sequence[Run]) -> Section:
    """The certificate of every export."""
    section = Section("fidelity", "Fidelity of the export")
    for run in runs:
        section.blocks += _subtitle(runs, run)
        certificate = run.certificate
        if certificate is None:
            without = missing("fidelity certificate", run, "make it with snn-anml export")
            section.blocks.append(no_form("fidelity certificate", run) if run.network.name == CONVENTIONAL else without)
            continue
        one = certificate.comparisons[0] if certificate.comparisons else None
        if one is not None:
            section.blocks.append(
                Note(
                    f"{one.samples:,} held-out drawings on every backend, against {one.reference}: a spike slot is one "
                    "neuron at one step of one drawing. The margin of a first divergence is how far the silent neuron "
                    "was from its threshold: a margin of the size of rounding explains it. The reference is the "
                    "exported graph in torch: the norm folded, the weights on grids that make sums exact. The row "
                    "snn_anml is the trained network as it was, without either."
                )
            )
        section.blocks += [tables.fidelity_table(certificate), tables.fidelity_layers_table(certificate)]
        times = tables.timing_table(run)
        section.blocks.append(times or missing("simulation times", run, "export/simulations.csv is missing"))
        versions = ", ".join(f"{name} {version}" for name, version in certificate.versions.items())
        section.blocks.append(Note(f"Graph sha256 {certificate.graph}. Versions: {versions}."))
    return section


def provenance(runs: Sequence[Run]) -> Section:
    """Configuration, versions and how to make it again."""
    section = Section("provenance", "Configuration and provenance")
    for run in runs:
        section.blocks += _subtitle(runs, run)
        facts = run.provenance
        if not facts:
            section.blocks.append(missing("provenance", run, "config.yaml does not hold it"))
        versions = ", ".join(f"{name} {version}" for name, version in facts.get("versions", {}).items())
        names = (
            ("git_commit", "commit"),
            ("data_sha256", "data sha256"),
            ("device", "device"),
            ("machine", "machine"),
            ("threads", "threads"),
            ("processes", "processes"),
        )
        rows = [(title, str(facts[key])) for key, title in names if key in facts]
        rows += [("versions", versions)] if versions else []
        rows.append(("seed", str(run.config.seed)))
        rows.append(("to make it again", f"snn-anml run --config {run.folder.config.name} --out NEW_FOLDER"))
        section.blocks.append(Table("Provenance", ("what", "value"), tuple(rows), 2))
        text = yaml.safe_dump(to_plain(run.config), sort_keys=False)
        section.blocks.append(Verbatim("Configuration (config.yaml)", text))
    command = "snn-anml report " + " ".join(run.label for run in runs)
    section.blocks.append(Note(f"This page was written by: {command}"))
    return section
