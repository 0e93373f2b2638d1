"""The long tables of a comparison: their columns, and how one is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from experiments.compare.folder import KEYS
from snn_anml.errors import UserError

Rows = Any
"""A pandas.DataFrame, which carries no types."""


class Columns(NamedTuple):
    """What a long table must hold: text, numbers, numbers that may be empty; `unique`: no two rows alike in these."""

    text: tuple[str, ...]
    numbers: tuple[str, ...]
    optional: tuple[str, ...] = ()
    unique: tuple[str, ...] = ()


_PER_LAYER = ("arm", "form", "layer", "part")
TABLES: dict[str, Columns] = {
    "accuracy": Columns(
        ("arm", "form", "protocol", "head"),
        ("seed", "classes", "draw", "train_accuracy", "test_accuracy", "first_test_accuracy"),
        unique=(*KEYS, "protocol", "head", "classes", "draw"),
    ),
    "energy": Columns(
        (*_PER_LAYER, "device", "convention", "source"),
        ("seed", "joules_synapses", "joules_neurons", "joules_gates", "joules"),
        unique=(*KEYS, "layer", "device", "convention"),
    ),
    "memory": Columns(
        (*_PER_LAYER, "accounting", "curve", "device", "source"),
        ("seed", "bits", "joules_arithmetic", "joules_addressing", "joules_memory", "joules"),
        unique=(*KEYS, "layer", "accounting", "curve", "device", "bits"),
    ),
    "learning": Columns(
        ("arm", "form", "head", "device", "source", "item"),
        ("seed", "known", "resident_bytes", "joules"),
        ("read_bytes", "write_bytes"),
    ),
    "training": Columns(("arm", "form", "device", "source"), ("seed", "steps", "drawings"), ("seconds", "joules")),
    "activity": Columns(_PER_LAYER, ("seed", "neurons", "spikes", "spikes_per_neuron"), unique=(*KEYS, "layer")),
    "fidelity": Columns(
        ("arm", "form", "backend", "reference", "layer"),
        ("seed", "samples", "slots", "mismatches"),
        ("max_output_difference", "argmax_agreement", "accuracy"),
        unique=(*KEYS, "backend", "layer"),
    ),
    "sensitivity": Columns(
        ("arm", "form", "reference", "reference_form", "device", "reference_device", "constant"),
        ("ratio", "ratio_low", "ratio_high", "seeds", "seed_low", "seed_high"),
        ("low", "high"),
    ),
    "break_even": Columns(("arm", "form", "reference_form", "device"), ("seed", "spike_rate"), ("break_even_rate",)),
    "measured": Columns(
        ("arm", "form", "meter", "what", "note"), ("seed",), ("repetitions", "seconds", "joules", "low", "high")
    ),
    "runs": Columns(
        ("arm", "folder", "config_sha256", "data_sha256", "git_commit"),
        ("seed", "trained_steps"),
        unique=("arm", "seed"),
    ),
}


def read_table(path: Path, columns: Columns) -> Rows:
    """One long table; empty, with its columns, where there is no file.

    Raises:
        UserError: no table, a missing column, something else where a number belongs, or a row that is there twice.
    """
    remedy = "delete it and run snn-anml compare again"
    if not path.is_file():
        return pd.DataFrame(
            {name: pd.Series(dtype=object if name in columns.text else float) for name in _all(columns)}
        )
    try:
        rows: Rows = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (ValueError, UnicodeDecodeError) as error:  # pandas' own errors are ValueErrors
        raise UserError(f"{path} is no table ({str(error).splitlines()[0]}); {remedy}.") from None
    if not isinstance(rows.index, pd.RangeIndex):  # what is too much was taken for names of rows
        raise UserError(f"{path} is no table (line 2 has more fields than names); {remedy}.")
    absent = [name for name in _all(columns) if name not in rows]
    if absent:
        raise UserError(f"{path} has no column {absent[0]!r}; {remedy}.")
    for name in (*columns.numbers, *columns.optional):
        numbers: Rows = pd.to_numeric(rows[name], errors="coerce")
        wrong = ~np.isfinite(numbers) & ((rows[name] != "") | (name in columns.numbers))
        if wrong.any():
            line = int(np.argmax(wrong.to_numpy())) + 2  # line 1 holds the names
            raise UserError(f"{path}, line {line}: {name} = {rows[name].iloc[line - 2]!r} is no number; {remedy}.")
        rows[name] = numbers
    if columns.unique and rows.duplicated(list(columns.unique)).any():
        line = int(np.argmax(rows.duplicated(list(columns.unique)).to_numpy())) + 2
        raise UserError(f"{path}, line {line}, is there twice; {remedy}.")
    return rows


def _all(columns: Columns) -> tuple[str, ...]:
    return (*columns.text, *columns.numbers, *columns.optional)
