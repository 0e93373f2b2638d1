"""Tables of runs as CSV files."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from snn_anml.errors import UserError
from snn_anml.files import write_text

REMEDY = "delete it, and run the stage that wrote it again"


def read_csv(path: Path, numbers: Sequence[str] = ()) -> list[dict[str, str]]:
    """The rows of a table as text; none where there is no file.

    Raises:
        UserError: a damaged file, such as one cut short: a line without all fields, or, in the columns `numbers`, which
            must be there, with something else than a number.
    """
    if not path.exists():
        return []
    rows = []
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if absent := [name for name in numbers if name not in (reader.fieldnames or ())]:
            raise UserError(f"{path} has no column {absent[0]}; {REMEDY}.")
        for row in reader:
            whole = None not in row and None not in row.values()
            if not whole or not all(_is_number(row[name]) for name in numbers):
                raise UserError(f"{path}, line {reader.line_num}, is damaged; {REMEDY}.")
            rows.append(row)
    return rows


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[dict[str, Any]]) -> None:
    """Writes a table whole or not at all."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())
