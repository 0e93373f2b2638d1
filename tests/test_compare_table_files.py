"""Tables as files: LaTeX, Markdown and HTML that hold whatever stands in a cell."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("matplotlib", reason="the extra report is not installed")
pytest.importorskip("tabulate", reason="the extra report is not installed")

import pandas as pd

from experiments.compare.table_files import ResultTable, html_text, latex, latex_text, markdown_text
from tests.page_reader import Page

HARD = ResultTable(
    "hard_name",
    "50 % of a_b & <c>",
    ("arm & {x}", "J_per #1 (%)"),
    ((r"a|b_c \ ~^$", "1.0 [0.9, 1.1] \u00b5J \u00b1 \u2013"), ("[x]", "<b>*y*</b>")),
    pd.DataFrame({"x": [1]}),
)


def test_latex_is_sound():
    text = latex_text(HARD)
    assert text.isascii()
    for rule in (r"\toprule", r"\midrule", r"\bottomrule", r"\begin{tabular}{lr}", r"\caption{50 \% of a\_b \& "):
        assert text.count(rule) == 1
    assert len(re.findall(r"(?<!\\)\{", text)) == len(re.findall(r"(?<!\\)\}", text))
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len(rows) == 3
    for row in rows:
        assert len(re.findall(r"(?<!\\)&", row)) == 1
        assert not row.startswith("[")
        assert not re.search(r"(?<!\\)[%#_]", row)
    assert latex("a\u2264b 5 %") == r"a$\leq$b 5 \%"
    assert latex("\u201ctwin\u201d") == "``twin''"


def test_markdown_and_html_are_escaped():
    lines = markdown_text(HARD).splitlines()
    assert [len(re.findall(r"(?<!\\)\|", line)) for line in lines[2:]] == [3] * 4
    assert r"a\|b\_c" in lines[4]
    assert "<b>" not in html_text(HARD)
    assert "<caption>50 % of a_b &amp; &lt;c&gt;</caption>" in html_text(HARD)
    Page(
        html_text(HARD)
        .replace("<table", '<div role="region" aria-label="x"><table')
        .replace("</table>", "</table></div>")
    )
