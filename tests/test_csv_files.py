"""Tables of runs as files: written whole, and refused where they are damaged."""

from __future__ import annotations

import pytest

from experiments.csv_files import read_csv, write_csv
from snn_anml.errors import UserError

ROWS = [{"head": "sgd", "classes": 10, "accuracy": 0.5}, {"head": 'a,"b"', "classes": 20, "accuracy": 0.25}]


@pytest.fixture
def table(tmp_path):
    write_csv(tmp_path / "table.csv", tuple(ROWS[0]), ROWS)
    return tmp_path / "table.csv"


def test_what_is_written_is_read_as_text(table):
    assert read_csv(table, ("classes", "accuracy")) == [{k: str(v) for k, v in row.items()} for row in ROWS]
    assert read_csv(table.with_name("none.csv"), ("classes",)) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda text: text[: text.rindex(",")],
            "line 3, is damaged; delete it, and run the stage that wrote it again.",
        ),
        (lambda text: text.replace("10,0.5", "10,0.5,7"), "line 2, is damaged"),
        (lambda text: text.replace("0.5", ""), "line 2, is damaged"),
        (lambda text: text.replace("0.5", "half"), "line 2, is damaged"),
        (lambda text: text.replace("0.5", "nan"), "line 2, is damaged"),
        (lambda text: "x,y\n", "has no column classes; delete it"),
        (lambda text: "", "has no column classes; delete it"),
    ],
)
def test_a_damaged_file_is_refused(table, change, said):
    table.write_text(change(table.read_text()))
    with pytest.raises(UserError, match=r"table\.csv") as refused:
        read_csv(table, ("classes", "accuracy"))
    assert said in str(refused.value)
