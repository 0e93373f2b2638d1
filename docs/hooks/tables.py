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
CONVENTIONAL = Path(__file__).parents[2] / "experiments" / "results" / "conventional"
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


def conventional() -> str:
    """Held-out accuracy, %, of the committed conventional runs, by protocol, head and number of classes."""
    rows = []
    for file in sorted(CONVENTIONAL.glob("*/meta_test.csv")):
        with file.open(encoding="utf-8", newline="") as lines:
            found: dict[tuple[str, str], dict[int, list[float]]] = {}
            for row in csv.DictReader(lines):
                by_classes = found.setdefault((row["protocol"], row["head"]), {})
                by_classes.setdefault(int(row["classes"]), []).append(100 * float(row["test_accuracy"]))
        for (protocol, head), accuracy in found.items():
            cells = (f"{fmean(accuracy[n]):.1f}" if n in accuracy else "" for n in CLASSES)
            rows.append((f"`{file.parent.name}`", protocol, head, *cells))
    return _table(("run", "protocol", "head", *map(str, CLASSES)), rows)


TABLES: dict[str, Callable[[], str]] = {
    "configuration": configuration,
    "conventional": conventional,
    "devices": devices,
    "neuron_speed": neuron_speed,
    "published": published,
    "published_speed": published_speed,
}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by mkdocs for every page."""
    return MARK.sub(lambda mark: TABLES[mark[1]](), markdown)
