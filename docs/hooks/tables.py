"""Tables of the documentation that are made from the code, so that no key and no constant is typed twice.

A page says where: `<!-- table: NAME -->`, with a name of `TABLES`.
"""

from __future__ import annotations

import csv
import inspect
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import yaml
from docstring_parser import DocstringStyle, parse

from converters.energy import DEVICES
from experiments.report.published import CLASSES, CURVES, POINTS
from snn_anml.config import RunConfig

MARK = re.compile(r"<!-- table: (\w+) -->")
PRICES = ("accumulate", "multiply_accumulate", "gate_multiply", "neuron_update", "add", "bias_add")
PICO = 1e-12
RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
RUNS = Path(__file__).parents[2] / "experiments" / "results"
CONVENTIONAL = RUNS / "conventional"
HARDWARE, DEFAULT = RUNS / "omniglot_hardware", RUNS / "omniglot_spiking"
COMPARED = ("snnTorch", "SpikingJelly (torch)", "Norse")  # in the table of speeds


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _default(field: Field[Any]) -> Any:
    return field.default_factory() if field.default_factory is not MISSING else field.default


def _yaml(value: Any) -> str:
    plain = list(value) if isinstance(value, tuple) else value
    return yaml.safe_dump(plain, default_flow_style=True).removesuffix("...\n").strip()


def configuration() -> str:
    """Every key of `RunConfig`, with its type, default and meaning."""
    sections, top = [], []
    about = _meanings(RunConfig)
    for field in fields(RunConfig):
        default = _default(field)
        if not is_dataclass(default):
            top.append((f"`{field.name}`", f"`{field.type}`", f"`{_yaml(default)}`", about[field.name]))
            continue
        meanings = _meanings(type(default))
        rows = [
            (f"`{field.name}.{f.name}`", f"`{f.type}`", f"`{_yaml(_default(f))}`", meanings[f.name])
            for f in fields(default)
        ]
        summary = inspect.getdoc(type(default)).splitlines()[0]  # type: ignore[union-attr]
        sections.append(f"## {field.name}\n\n{summary}\n\n{_table(('key', 'type', 'default', 'meaning'), rows)}")
    first = f"## The run\n\n{_table(('key', 'type', 'default', 'meaning'), top)}"
    return "\n\n".join([first, *sections])


def _meanings(config: type) -> dict[str, str]:
    """What the docstring says of every key; one that it does not explain is an error of the documentation."""
    found = {p.arg_name: p.description or "" for p in parse(inspect.getdoc(config) or "", DocstringStyle.GOOGLE).params}
    for field in fields(config):
        if not is_dataclass(_default(field)) and not found.get(field.name):
            raise ValueError(f"{config.__name__}.{field.name} has no description in its docstring; add one.")
    return {name: " ".join(text.split()) for name, text in found.items()}


def devices() -> str:
    """Prices of every device, then where they are from and what they leave out."""
    prices = (
        (f"`{d.name}`", d.description, d.kind, *(f"{getattr(d, price) / PICO:.4g}" for price in PRICES))
        for d in DEVICES.values()
    )
    head = ("name", "device", "kind", *(price.replace("_", " ") for price in PRICES))
    sources = ((f"`{d.name}`", d.source, d.leaves_out) for d in DEVICES.values())
    return f"{_table(head, prices)}\n\n{_table(('name', 'source', 'leaves out'), sources)}"


def published() -> str:
    """Accuracies of others, %, as the report draws them."""
    curves = ((c.source, *(f"{c.accuracy[n]:g}" for n in CLASSES)) for c in CURVES)
    points = ((p.source, f"{value:g} after {n} classes") for p in POINTS for n, value in p.accuracy.items())
    return f"{_table(('source', *map(str, CLASSES)), curves)}\n\n{_table(('source', 'accuracy'), points)}"


def neuron_speed() -> str:
    """Of the committed benchmark: ns for a neuron and step, and how many times that others take."""
    file = RESULTS / "neurons.json"
    results = json.loads(file.read_text(encoding="utf-8"))
    found = {(c["contender"], c["batch"], c["order"], c["steps"]): c for c in results["cells"]}
    others = [name for name in dict.fromkeys(c["contender"] for c in results["cells"]) if name in COMPARED]

    def times(name: str, batch: int, order: str, steps: int) -> str:
        cell = found[name, batch, order, steps]
        return cell["missing"] if cell["times_ours"] is None else f"{cell['times_ours']:.1f} x"

    keys = [key[1:] for key in found if key[0] == "ours"]
    rows = [
        (
            str(batch),
            str(steps),
            order,
            f"{found['ours', batch, order, steps]['ns']:.2f}",
            *(times(name, batch, order, steps) for name in others),
        )
        for batch, order, steps in keys
        if found["ours", batch, order, steps]["ns"] is not None
    ]
    machine = results["machine"]
    said = (
        f"One layer of {'x'.join(map(str, results['layer']))} neurons, on one core of {machine['processor']}, torch "
        f"{machine['versions']['torch']}: `{results['command']}`, kept in `benchmarks/results/{file.name}` with what "
        "each contender is. ns are for a neuron and step; the others as multiples of ours."
    )
    return f"{said}\n\n{_table(('batch', 'T', 'order', 'ours, ns', *others), rows)}"


def published_speed() -> str:
    """Of the committed benchmark: seconds of a full-width meta-step, and how many times faster than as published."""
    results = json.loads((RESULTS / "published_anml.json").read_text(encoding="utf-8"))
    rows = [
        (
            name.removeprefix("ours, "),
            f"{results['seconds'][name]:.3f}",
            f"{ratio:.1f} x",
            f"{results['floors'][name]:.3f}",
        )
        for name, ratio in results["ratios"].items()
    ]
    machine = results["machine"]
    said = (
        f"A meta-step at full width on one core of {machine['processor']} (`{results['command']}`), against the "
        f"{results['against']}: as many times faster. `head` is the exact second order of the output layer alone, "
        "against the second order of everything. The floor is the time of all floating-point operations at the "
        "measured rate of the second convolution."
    )
    return f"{said}\n\n{_table(('meta-step', 'ours, s', 'faster', 'floor, s'), rows)}"


def _accuracies(file: Path, *keys: str) -> dict[tuple[str, ...], dict[int, list[float]]]:
    """Held-out accuracies, %, of every draw, by the columns `keys` and the number of classes."""
    found: dict[tuple[str, ...], dict[int, list[float]]] = {}
    with file.open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            by_classes = found.setdefault(tuple(row[key] for key in keys), {})
            by_classes.setdefault(int(row["classes"]), []).append(100 * float(row["test_accuracy"]))
    return found


def _means(accuracy: dict[int, list[float]], classes: Sequence[int] = CLASSES) -> Iterable[str]:
    return (f"{fmean(accuracy[n]):.1f}" if n in accuracy else "" for n in classes)


def conventional() -> str:
    """Held-out accuracy, %, of the committed conventional runs, by protocol, head and number of classes."""
    rows = [
        (f"`{file.parent.name}`", protocol, head, *_means(accuracy))
        for file in sorted(CONVENTIONAL.glob("*/meta_test.csv"))
        for (protocol, head), accuracy in _accuracies(file, "protocol", "head").items()
    ]
    return _table(("run", "protocol", "head", *map(str, CLASSES)), rows)


def hardware_accuracy() -> str:
    """Held-out accuracy, %, of the hardware profile beside the default's, under `strict`."""
    rows = [
        (f"`{run.name}`", head, *_means(accuracy))
        for run in (DEFAULT, HARDWARE)
        for (protocol, head), accuracy in _accuracies(run / "meta_test.csv", "protocol", "head").items()
        if protocol == "strict"
    ]
    return _table(("run", "head", *map(str, CLASSES)), rows)


def _certificate(run: Path) -> dict[str, Any]:
    return json.loads((run / "certificate.json").read_text(encoding="utf-8"))


def _differing(one: dict[str, Any]) -> str:
    share = 100 * one["mismatches"] / one["slots"]
    return f"{one['mismatches']:,} of {one['slots']:,}" + (f" ({share:.3f} %)" if share >= 0.001 else "")


def hardware_targets() -> str:
    """Every target of the hardware profile's certificate, layer by layer where spikes differ."""
    rows = []
    for one in _certificate(HARDWARE)["comparisons"]:
        accuracy = f"{100 * one['accuracy']:.0f}, torch {100 * one['reference_accuracy']:.0f}"
        rows.append((f"`{one['backend']}`", "all", _differing(one), "", "", accuracy))
        for name, layer in one["layers"].items() if one["mismatches"] else ():
            cores = str(one["cores"].get(name, "host")) if one.get("cores") else ""
            correlation = "" if layer["correlation"] is None else f"{layer['correlation']:.4f}"
            rows.append(("", f"`{name}`", _differing(layer), correlation, cores, ""))
    head = ("target", "layer", "spike slots that differ", "correlation of spike counts", "cores", "accuracy, %")
    return _table(head, rows)


def gate_forms() -> str:
    """What other forms of the gates change, of the hardware profile's certificate."""
    rows = []
    for form, one in _certificate(HARDWARE)["gates"].items():
        if isinstance(one, str):
            rows.append((form, one, ""))
        else:
            accuracy = f"{100 * one['accuracy']:.0f}, before {100 * one['reference_accuracy']:.0f}"
            rows.append((form, _differing(one), accuracy))
    return _table(("gates as", "spike slots that differ", "accuracy, %"), rows)


def adaptation() -> str:
    """Held-out accuracy, %, of heads learned from a target's spikes and from torch's, of the committed run."""
    rows = []
    for file in sorted(HARDWARE.glob("meta_test_*.csv")):
        found = _accuracies(file, "features", "head")
        classes = max(next(iter(found.values())))
        target = file.stem.removeprefix("meta_test_")
        for head in dict.fromkeys(head for _, head in found):
            means = (f"{fmean(found[features, head][classes]):.1f}" for features in ("torch", target))
            rows.append((f"`{target}`", str(classes), head, *means))
    return _table(("target", "classes", "head", "learned from torch's features", "from the target's"), rows)


def loihi_rounding() -> str:
    """Of the committed benchmark: the share of spike slots, %, that each rounding of the chip changes."""
    layers = json.loads((RESULTS / "loihi_rounding.json").read_text(encoding="utf-8"))["layers"]
    shares = {name: {"all": of["emulator"], "inherited": of["inherited"], **of["alone"]} for name, of in layers.items()}
    rows = [
        (rounding, *(f"{100 * of[rounding]:.3f}" for of in shares.values())) for rounding in next(iter(shares.values()))
    ]
    return _table(("", *(f"`{name}`" for name in shares)), rows)


def simulator_speed() -> str:
    """Of the committed benchmark: time of a drawing on every backend, building apart."""
    results = json.loads((RESULTS / "simulators.json").read_text(encoding="utf-8"))
    networks = [network["ways"] for network in results["networks"].values()]

    def cell(way: dict[str, Any] | None) -> str:
        return "" if way is None else f"{1e3 / way['drawings_a_second']:.3g} ms, {way['times_module']:.3g} x"

    rows = [
        (name, f"{first['build_seconds'] + first['first_seconds']:.2g}", *(cell(n.get(name)) for n in networks))
        for name, first in networks[0].items()
    ]
    said = (
        f"A drawing on one core of {results['machine']['processor']}, and as a multiple of the time that torch takes "
        f"for the network itself (`{results['command']}`, kept in `benchmarks/results/simulators.json`). Start is the "
        "time to build and to run once, for the first of the networks."
    )
    return f"{said}\n\n{_table(('', 'start, s', *results['networks']), rows)}"


TABLES: dict[str, Callable[[], str]] = {
    "adaptation": adaptation,
    "configuration": configuration,
    "conventional": conventional,
    "devices": devices,
    "gate_forms": gate_forms,
    "hardware_accuracy": hardware_accuracy,
    "hardware_targets": hardware_targets,
    "loihi_rounding": loihi_rounding,
    "neuron_speed": neuron_speed,
    "published": published,
    "published_speed": published_speed,
    "simulator_speed": simulator_speed,
}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by mkdocs for every page."""
    return MARK.sub(lambda mark: TABLES[mark[1]](), markdown)
