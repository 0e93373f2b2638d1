"""The long tables of a comparison, put together from whatever its run folders hold."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from converters import energy
from converters.certificate import load_certificate
from converters.energy import learning, memory, training
from converters.energy.break_even import break_even
from converters.energy.sensitivity import CSV_COLUMNS, Bill, csv_rows, sensitivity
from experiments import measure
from experiments.compare.folder import FLOAT, KEYS, CompareFolder
from experiments.compare.plan import Comparison
from experiments.compare.run import last_metrics
from experiments.compare.shares import ACCOUNTINGS, BOUND, SHARES, mean_bill, read_bills, read_spike_costs
from experiments.csv_files import read_csv, write_csv
from experiments.quantised import quantised_folder
from experiments.report.tables import FIDELITY_COLUMNS, fidelity_rows
from experiments.run_folder import RunFolder, read_provenance, to_plain
from snn_anml.errors import UserError

ACCURACY = (
    "protocol",
    "head",
    "classes",
    "draw",
    "learning_rate",
    "train_accuracy",
    "test_accuracy",
    "first_test_accuracy",
)
ACTIVITY = ("layer", "part", "neurons", "spikes", "spikes_per_neuron")
BREAK_EVEN = (*KEYS, "reference_form", "device", "spike_rate", "break_even_rate")
SENSITIVITY = (*CSV_COLUMNS, "seeds", "seed_low", "seed_high")
RUNS = ("arm", "seed", "folder", "config_sha256", "data_sha256", "git_commit", "trained_steps")

# By device of a spiking network, those on which a conventional one stands beside it, but for the same.
_INTEGERS = tuple(energy.integer(bits).name for bits in range(1, 9))
_FLOAT_OVER_INTEGERS = {"cmos45-fp32": _INTEGERS, **{f"memory-{one}": (f"memory-{one}",) for one in ACCOUNTINGS}}
_INTEGERS_OVER_INTEGERS = {"cmos45-int8": _INTEGERS, "cmos45-int32": _INTEGERS}
_INTEGERS_OVER_INTEGERS |= {f"memory-{one}{BOUND}": (f"memory-{one}",) for one in ACCOUNTINGS}


class Form(NamedTuple):
    """The folder of one arm and seed in one form."""

    arm: str
    form: str
    seed: int
    folder: RunFolder

    @property
    def keys(self) -> dict[str, Any]:
        return dict(zip(KEYS, self[:3], strict=True))


def collect(folder: CompareFolder, comparison: Comparison) -> list[str]:
    """Writes every long table that has a row, and takes away those that have none; returns the names of the former.

    Where no run was begun, the tables are all there is, as of results that were published without the runs: they stay.

    Raises:
        UserError: files of a run that another version made, so that they lack something.
    """
    forms = list(_forms(folder, comparison))
    tables: dict[str, tuple[Sequence[str], Iterable[Mapping[str, Any]]]] = {
        "accuracy": _of_runs(forms, "meta_test", ACCURACY),
        "energy": _of_runs(forms, "energy", energy.CSV_COLUMNS),
        "memory": _of_runs(forms, "memory", memory.CSV_COLUMNS),
        "learning": _of_runs(forms, "learning", learning.CSV_COLUMNS),
        "training": _of_runs(forms, "training", training.CSV_COLUMNS),
        "activity": ((*KEYS, *ACTIVITY), _activity(forms)),
        "fidelity": ((*KEYS, *FIDELITY_COLUMNS), _fidelity(forms)),
        "sensitivity": (SENSITIVITY, _sensitivity(forms, comparison)),
        "break_even": (BREAK_EVEN, _break_even(forms, comparison)),
        "measured": _of_runs(forms, "measured", measure.CSV_COLUMNS),
        "runs": (RUNS, _runs(folder, forms)),
    }
    if not forms:
        return [name for name in tables if folder.table(name).exists()]
    written = []
    for name, (columns, rows) in tables.items():
        rows = [{column: row[column] for column in columns} for row in rows]
        if rows:
            write_csv(folder.table(name), columns, rows)
            written.append(name)
        else:
            folder.table(name).unlink(missing_ok=True)
    return written


def config_hash(folder: RunFolder) -> str:
    """Identifies the configuration of a run, all of it."""
    return hashlib.sha256(json.dumps(to_plain(folder.require()), sort_keys=True).encode()).hexdigest()


def _forms(folder: CompareFolder, comparison: Comparison) -> Iterator[Form]:
    """Every run that was begun, and its quantised forms, in the order of the comparison."""
    for arm in comparison.every_arm:
        for seed in arm.seeds:
            job = comparison.job(arm.name, seed)
            run = folder.run(job.arm, job.seed)
            if run.config.exists():
                yield Form(arm.name, FLOAT, seed, run)
                for bits in comparison.quantised_bits(arm.name):
                    yield Form(arm.name, f"int{bits}", seed, quantised_folder(run, bits))


def _of_runs(
    forms: Iterable[Form], table: str, columns: Iterable[str]
) -> tuple[tuple[str, ...], Iterator[dict[str, Any]]]:
    """A table of every run, one below the other; `network` is given as arm and form."""
    own = tuple(name for name in columns if name != "network")

    def rows() -> Iterator[dict[str, Any]]:
        for form in forms:
            path = getattr(form.folder, table)
            for row in read_csv(path):
                if absent := next((column for column in own if column not in row), None):
                    raise _other_version(form, path, f"column {absent!r}")
                yield {**row, **form.keys}

    return (*KEYS, *own), rows()


def _other_version(form: Form, path: Path, lacks: str) -> UserError:
    """Of a file that lacks something; the remedy names what its stage is done again without."""
    remedy = path if path in (form.folder.meta_test, form.folder.measured) else form.folder.energy
    if form.form != FLOAT:
        remedy = form.folder.path
    return UserError(f"{path} has no {lacks}: another version made it; delete {remedy} and run snn-anml compare again.")


def _activity(forms: Iterable[Form]) -> Iterator[dict[str, Any]]:
    """Spikes of every spiking layer: they are the same whatever the device."""
    for form in forms:
        seen = set()
        for row in read_csv(form.folder.energy):
            if row["kind"] == "LIF" and row["layer"] not in seen:
                seen.add(row["layer"])
                yield {**row, **form.keys, "spikes_per_neuron": float(row["spikes"]) / float(row["neurons"])}


def _fidelity(forms: Iterable[Form]) -> Iterator[dict[str, Any]]:
    """The certificates of the exported networks, for every simulator one row of all layers and one of each."""
    for form in forms:
        if form.folder.certificate.exists():
            for row in fidelity_rows(load_certificate(form.folder.certificate)):
                yield {**row, **form.keys}


def _pairs(form: str, own: Iterable[str], reference_form: str, others: Collection[str]) -> list[tuple[str, str]]:
    """Devices on which an arm and a comparator are set against each other; integers against integers alone."""
    same = (form == FLOAT) == (reference_form == FLOAT)
    if form == FLOAT:
        chips = (name for name, one in energy.DEVICES.items() if one.kind == "chip" and one.spiking)
        differing = dict.fromkeys(chips, ("arm",)) if same else _FLOAT_OVER_INTEGERS
    else:
        differing = _INTEGERS_OVER_INTEGERS if same else {}
    return [
        (one, other) for one in own for other in others if (same and one == other) or other in differing.get(one, ())
    ]


def _sensitivity(forms: Sequence[Form], comparison: Comparison) -> Iterator[Mapping[str, Any]]:
    """Ratios of mean energies over the seeds that both have, of every arm to the forms of the reference that `_pairs`
    sets it against; `seed_low`, `seed_high`: the ratio of the seed where it is least, and most."""
    if comparison.reference is None:
        return
    bills: dict[tuple[str, str], dict[int, dict[str, Bill]]] = {}
    for form in forms:
        if found := read_bills(form.folder):
            of_arm = bills.setdefault((form.arm, form.form), {})
            of_arm[form.seed] = found
            for device, one in next(iter(of_arm.values())).items():
                if device not in found or one.joules.keys() != found[device].joules.keys():
                    raise _other_version(
                        form, form.folder.path / SHARES, f"constants of {device} as the first seed has"
                    )
    names = {arm.name for arm in comparison.arms} - {comparison.reference}
    for (arm, form), own in bills.items():
        for (reference, reference_form), others in bills.items():
            seeds = sorted(own.keys() & others.keys())
            if arm not in names or reference != comparison.reference or not seeds:
                continue
            for device, other in _pairs(form, own[seeds[0]], reference_form, others[seeds[0]]):
                pairs = [(own[seed][device], others[seed][other]) for seed in seeds]
                ratio = sensitivity(mean_bill([one for one, _ in pairs]), mean_bill([its for _, its in pairs]))
                of_seeds = [one.total / its.total for one, its in pairs]
                spread = {"seeds": len(seeds), "seed_low": min(of_seeds), "seed_high": max(of_seeds)}
                for row in csv_rows(ratio, arm, form, reference, reference_form):
                    yield row | spread


def _break_even(forms: Sequence[Form], comparison: Comparison) -> Iterator[dict[str, Any]]:
    """Of every spiking arm against the same forms of the reference, with the same seed."""
    rivals = [(form, read_bills(form.folder)) for form in forms if form.arm == comparison.reference]
    for own in forms:
        costs = read_spike_costs(own.folder)
        for rival, bills in rivals if costs else ():
            for device, other in _pairs(own.form, costs, rival.form, bills) if rival.seed == own.seed else ():
                even = break_even(costs[device], bills[other].total)
                yield {
                    **own.keys,
                    "reference_form": rival.form,
                    "device": device if device == other else f"{device} / {other}",
                    "spike_rate": costs[device].rate,
                    "break_even_rate": "" if even is None else even,
                }


def _runs(folder: CompareFolder, forms: Iterable[Form]) -> Iterator[dict[str, Any]]:
    for form in forms:
        if form.form == FLOAT:
            facts = read_provenance(form.folder)
            steps = last["step"] if (last := last_metrics(form.folder.metrics)) else 0
            yield {
                "arm": form.arm,
                "seed": form.seed,
                "folder": form.folder.path.relative_to(folder.path).as_posix(),
                "config_sha256": config_hash(form.folder),
                "data_sha256": facts.get("data_sha256", ""),
                "git_commit": facts.get("git_commit", ""),
                "trained_steps": steps,
            }
