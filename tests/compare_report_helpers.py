"""The folder of a comparison made up in a moment: long tables with effects that are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from converters.energy import DEVICES
from converters.energy import memory as memory_model
from converters.energy.devices import integer
from experiments.compare.folder import CompareFolder
from experiments.csv_files import write_csv

HEADS = ("sgd", "class-mean")
CLASSES = (10, 100, 600)
ARMS = {"spiking": 0.70, "twin": 0.72, "no_nm": 0.55}
"""True held-out accuracy at 600 classes under `strict`, head `sgd`."""
NETWORKS: dict[str, dict[str, Any]] = {
    "spiking": {"neuron": "lif", "modulation": "spiking"},
    "twin": {"neuron": "relu", "modulation": "conventional"},
    "no_nm": {"neuron": "lif", "modulation": "none"},
}
TITLES = {"spiking": "spiking, spiking NM", "twin": "conventional twin", "no_nm": "spiking, no NM & 50 %_less"}
FORMS = {"spiking": ("float32", "int8"), "twin": ("float32", "int8", "int3"), "no_nm": ("float32",)}
LAYERS = (("encode", "encoder"), ("pln.conv1", "pln"), ("pln.lif1", "pln"), ("nm.conv1", "nm"), ("head", "head"))
VALUES = (0, 0.03, 0.3)


def make_comparison(
    path: Path,
    seeds: Sequence[int] = (0, 1, 2),
    accuracies: Mapping[str, float] = ARMS,
    seed_spread: float = 0.004,
    draw_spread: float = 0.01,
    draws: int = 10,
    sweep: bool = True,
) -> CompareFolder:
    """Writes comparison.yaml and all long tables.

    Accuracy = the arm's + a deviation of the seed of its own + one of the draw that all arms share + noise.
    """
    folder = CompareFolder(path)
    path.mkdir(parents=True, exist_ok=True)
    plan: dict[str, Any] = {
        "title": "A made-up <comparison> & more",
        "seeds": list(seeds),
        "reference": "twin",
        "settings": {"network": {"steps": 4}},
        "arms": {name: {"title": TITLES[name], "settings": {"network": NETWORKS[name]}} for name in accuracies},
        "provenance": {"git_commit": "0123456789abcdef", "versions": {"python": "3.11"}},
    }
    if sweep:
        plan["sweeps"] = {
            "lambda": {
                "title": "Regulariser \u03bb",
                "setting": "train.spike_weight",
                "values": list(VALUES),
                "arm": "spiking",
                "seeds": [0],
            }
        }
    folder.comparison.write_text(yaml.safe_dump(plan, sort_keys=False))
    rng = np.random.default_rng(5)
    runs = [(arm, form, seed) for arm in accuracies for form in FORMS[arm] for seed in seeds]
    points = [(f"lambda={value:g}", "float32", 0) for value in VALUES] if sweep else []
    accuracy = [r for run in runs for r in _accuracy(rng, *run, accuracies[run[0]], seed_spread, draw_spread, draws)]
    accuracy += [r for i, run in enumerate(points) for r in _accuracy(rng, *run, 0.6 - 0.05 * i, 0, draw_spread, 3)]
    tables: dict[str, list[dict[str, Any]]] = {
        "accuracy": accuracy,
        "energy": [row for run in runs + points for row in _energy(rng, *run)],
        "memory": [row for run in runs for row in _memory(rng, *run)],
        "learning": [row for run in runs if run[1] == "float32" for row in _learning(rng, *run)],
        "training": [row for run in runs if run[1] == "float32" for row in _training(*run)],
        "activity": [row for run in runs + points if run[0] != "twin" for row in _activity(rng, *run)],
        "fidelity": [r for run in runs + points if run[0] != "twin" for r in _fidelity(*run)],
        "sensitivity": _sensitivity(accuracies),
        "break_even": [row for run in runs if run[0] != "twin" for row in _break_even(*run)],
        "measured": [_measured(*run) for run in runs if run[1] == "float32"],
        "runs": [_run(*run) for run in runs + points if run[1] == "float32"],
    }
    for name, rows in tables.items():
        write_csv(folder.table(name), tuple(rows[0]), rows)
    return folder


def _keys(arm: str, form: str, seed: int) -> dict[str, Any]:
    return {"arm": arm, "form": form, "seed": seed}


def _accuracy(
    rng: np.random.Generator, arm: str, form: str, seed: int, mean: float, of_seed: float, of_draw: float, draws: int
) -> list[dict[str, Any]]:
    loss = {"float32": 0.0, "int8": 0.002, "int3": 0.1}[form]
    training = rng.normal(0, of_seed)
    shared = np.random.default_rng(100 + seed).normal(0, of_draw, draws)
    rows = []
    for protocol, count in (("strict", draws), ("paper", max(1, draws // 2))):
        for h, head in enumerate(HEADS):
            for draw in range(count):
                for n in CLASSES:
                    most = mean + 0.08 * h + training + shared[draw] + rng.normal(0, of_draw / 5) - loss
                    test = most + 0.06 * np.log10(CLASSES[-1] / n)
                    values = (0.01, min(1.0, test + 0.1), test, test - 0.02)
                    names = ("learning_rate", "train_accuracy", "test_accuracy", "first_test_accuracy")
                    where = {"protocol": protocol, "head": head, "classes": n, "draw": draw}
                    rows.append(_keys(arm, form, seed) | where | dict(zip(names, values, strict=True)))
    return rows


def _factor(arm: str, layer: str) -> float:
    """Spiking arms take a fifth; without NM its layers are not there."""
    return (1.0 if arm == "twin" else 0.2) * (0.0 if arm == "no_nm" and layer.startswith("nm") else 1.0)


def _energy(rng: np.random.Generator, arm: str, form: str, seed: int) -> list[dict[str, Any]]:
    devices = list(DEVICES.values()) if form == "float32" else [integer(8), integer(int(form[3:]))]
    rows = []
    for device in dict.fromkeys(devices):
        for i, (layer, part) in enumerate(LAYERS):
            joules = 1e5 * (i + 1) * device.multiply_accumulate * _factor(arm, layer) * rng.uniform(0.97, 1.03)
            shares = {"joules_synapses": 0.8 * joules, "joules_neurons": 0.15 * joules, "joules_gates": 0.05 * joules}
            which = {"device": device.name, "convention": "exact", "source": device.source}
            rows.append(_keys(arm, form, seed) | {"layer": layer, "part": part} | which | shares | {"joules": joules})
    return rows


def _memory(rng: np.random.Generator, arm: str, form: str, seed: int) -> list[dict[str, Any]]:
    bits = 32 if form == "float32" else int(form[3:])
    device = integer(bits).name
    rows = []
    for accounting in ("exact", "lemaire"):
        for i, (layer, part) in enumerate(LAYERS):
            joules = 1e-6 * (i + 1) * bits / 32 * _factor(arm, layer) * rng.uniform(0.97, 1.03)
            which = {"accounting": accounting, "curve": "horowitz", "device": device, "bits": bits}
            which |= {"source": memory_model.LEMAIRE}
            parts = {
                "joules_arithmetic": 0.2 * joules,
                "joules_addressing": 0.1 * joules,
                "joules_memory": 0.7 * joules,
            }
            rows.append(_keys(arm, form, seed) | {"layer": layer, "part": part} | which | parts | {"joules": joules})
    return rows


def _learning(rng: np.random.Generator, arm: str, form: str, seed: int) -> list[dict[str, Any]]:
    return [
        _keys(arm, form, seed)
        | {"head": head, "known": known, "device": device, "source": DEVICES[device].source, "item": item}
        | {"read_bytes": "" if item == "features" else 2048 * (h + 1), "write_bytes": 1024}
        | {"resident_bytes": 4096 * (h + 1), "joules": DEVICES[device].accumulate * known * 1e3 * rng.uniform(1, 2)}
        for h, head in enumerate(HEADS)
        for known in (10, 600)
        for device in ("cmos45-fp32", "loihi", "arm")
        for item in ("features", "update")
    ]


def _training(arm: str, form: str, seed: int) -> list[dict[str, Any]]:
    costs = {"steps": 20000, "drawings": 1680000, "seconds": 1500 + seed, "device": "gpu", "joules": 2e5}
    return [_keys(arm, form, seed) | costs | {"source": DEVICES["gpu"].source}]


def _activity(rng: np.random.Generator, arm: str, form: str, seed: int) -> list[dict[str, Any]]:
    rows = []
    for layer, part in (("pln.lif1", "pln"), ("pln.lif2", "pln"), ("nm.lif1", "nm")):
        spikes = 1000 * rng.uniform(0.1, 0.2)
        counts = {"layer": layer, "part": part, "neurons": 1000, "spikes": spikes, "spikes_per_neuron": spikes / 1000}
        rows.append(_keys(arm, form, seed) | counts)
    return rows


def _sensitivity(arms: Mapping[str, float]) -> list[dict[str, Any]]:
    rows = []
    pairs = [("float32", "cmos45-fp32", "float32", "cmos45-fp32", 0.2)]
    pairs += [("float32", "cmos45-fp32", "int8", "cmos45-int8", 4.0)]
    pairs += [("float32", "cmos45-fp32", "int3", "cmos45-int3-extrapolated", 9.0)]
    pairs += [("float32", "cmos45-int8", "float32", "cmos45-int8", 0.2)]
    pairs += [("float32", "loihi", "float32", "arm", 0.01), ("float32", "memory-exact", "float32", "memory-exact", 0.9)]
    pairs += [("int8", "cmos45-int8", "int8", "cmos45-int8", 0.3), ("int8", "cmos45-int32", "int8", "cmos45-int8", 3.0)]
    for arm in arms:
        for own, device, form, other, ratio in pairs if arm != "twin" else ():
            if own not in FORMS[arm]:
                continue
            for constant, factor in (("add", 1.2), ("multiply", 1.5), ("all together", 2.0)):
                ends = {"low": "", "high": ""} if constant == "all together" else {"low": 1e-12, "high": 4e-12}
                which = {"arm": arm, "form": own, "reference": "twin", "reference_form": form}
                which |= {"device": device, "reference_device": other}
                values = {"ratio": ratio, "ratio_low": ratio / factor, "ratio_high": ratio * factor}
                values |= {"seeds": 3, "seed_low": 0.9 * ratio, "seed_high": 1.1 * ratio}
                rows.append(which | {"constant": constant} | ends | values)
    return rows


def _break_even(arm: str, form: str, seed: int) -> list[dict[str, Any]]:
    own = _keys(arm, form, seed) | {"spike_rate": 0.15 + 0.01 * seed}
    evens = {("float32", "cmos45-fp32"): 0.8, ("int8", "cmos45-fp32 / cmos45-int8"): 0.05, ("int3", "memory-exact"): ""}
    return [own | {"reference_form": f, "device": d, "break_even_rate": even} for (f, d), even in evens.items()]


def _measured(arm: str, form: str, seed: int) -> dict[str, Any]:
    empty = {"meter": "", "what": "inference", "repetitions": "", "seconds": "", "joules": "", "low": "", "high": ""}
    return _keys(arm, form, seed) | empty | {"note": "no meter on this machine"}


def _fidelity(arm: str, form: str, seed: int) -> list[dict[str, Any]]:
    """Exact on the interpreter; weights on grids changed 3 slots of 1,000 and an answer of 200."""
    if form != "float32":
        return []
    rows = []
    for backend, mismatches, difference, agreement in (("snn_anml", 3, 0.25, 0.995), ("interpreter", 0, 0.0, 1.0)):
        for layer in ("all", "pln.lif1"):
            which = {"backend": backend, "reference": "torch", "layer": layer, "samples": 200, "steps": 4}
            counted = {"slots": 1000, "mismatches": mismatches, "max_output_difference": difference}
            rows.append(_keys(arm, form, seed) | which | counted | {"argmax_agreement": agreement, "accuracy": 0.8})
    return rows


def _run(arm: str, form: str, seed: int) -> dict[str, Any]:
    hashes = {"config_sha256": "ab" * 32, "data_sha256": "cd" * 32, "git_commit": "ef" * 20}
    return {"arm": arm, "seed": seed, "folder": f"runs/{arm}/seed-{seed}"} | hashes | {"trained_steps": 20000}
