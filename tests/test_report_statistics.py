"""Statistics, samples and numbers of the report of a run."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

pytest.importorskip("matplotlib", reason="the extra report is not installed")
pytest.importorskip("jinja2", reason="the extra report is not installed")

from experiments.report.figures_energy import joules
from experiments.report.figures_learning import running_mean
from experiments.report.inside import evenly
from experiments.report.statistics import correlations, mean_interval, summarise
from snn_anml.meta import Outcome


def test_interval_is_student_t():
    values = [0.8, 0.83, 0.79, 0.9]
    mean, half, n = mean_interval(values)
    low, high = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    assert n == 4
    np.testing.assert_allclose((mean - half, mean + half), (low, high), rtol=1e-12)


def test_one_draw_has_no_interval_and_none_no_mean():
    assert mean_interval([0.5]) == (0.5, None, 1)
    with pytest.raises(ValueError, match="no values"):
        mean_interval([])


@given(st.lists(st.floats(0, 1), min_size=2, max_size=12), st.floats(-5, 5))
def test_interval_moves_with_the_values_and_keeps_its_width(values, shift):
    mean, half, _ = mean_interval(values)
    moved, width, _ = mean_interval([v + shift for v in values])
    assert moved == pytest.approx(mean + shift, abs=1e-9)
    assert width == pytest.approx(half, abs=1e-9)
    assert half >= 0
    assert min(values) - 1e-12 <= mean <= max(values) + 1e-12


def test_interval_covers_the_true_mean_in_95_of_100():
    rng = np.random.default_rng(0)
    inside = [abs(m.mean) <= m.half_width for m in (mean_interval(rng.normal(size=5).tolist()) for _ in range(4000))]
    assert np.mean(inside) == pytest.approx(0.95, abs=0.012)


def test_summaries_keep_protocols_heads_and_milestones_apart():
    outcomes = [
        Outcome(protocol, "sgd", classes, draw, 0, 0.9, 0.1 * draw + classes / 1000, 0.1, 0.5)
        for protocol in ("strict", "paper")
        for draw in (0, 1)
        for classes in (20, 10)
    ]
    found = summarise(outcomes)
    assert [(s.protocol, s.classes) for s in found] == [("strict", 10), ("strict", 20), ("paper", 10), ("paper", 20)]
    assert found[1].test.mean == pytest.approx(0.07)
    assert found[1].test.n == 2


def test_correlations_are_means_over_pairs():
    rng = np.random.default_rng(1)
    x, labels = rng.normal(size=(7, 9)), np.array([0, 0, 1, 1, 1, 2, 2])
    pairs = {True: [], False: []}
    for i, j in combinations(range(7), 2):
        pairs[labels[i] == labels[j]].append(np.corrcoef(x[i], x[j])[0, 1])
    np.testing.assert_allclose(correlations(x, labels), (np.mean(pairs[True]), np.mean(pairs[False])), rtol=1e-12)
    assert correlations(np.ones((3, 4)), np.array([0, 0, 1])) == (None, None)


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=40), st.sampled_from([1, 3, 15]))
def test_running_mean_is_the_mean_of_a_centred_window(values, width):
    expected = [np.mean(values[max(0, i - width // 2) : i + width // 2 + 1]) for i in range(len(values))]
    np.testing.assert_allclose(running_mean(np.array(values), width), expected, atol=1e-12)


@given(st.integers(1, 500), st.integers(1, 100))
def test_even_sample_is_rising_and_within_bounds(count, most):
    sample = evenly(count, most)
    assert len(sample) == min(count, most)
    assert sample[0] == 0
    assert sample[-1] < count
    assert all(b > a for a, b in pairwise(sample))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3.123e-7, "312 nJ"),
        (9.996e-7, "1.00 \u00b5J"),
        (9.99e-7, "999 nJ"),
        (1e-3, "1.00 mJ"),
        (2.5, "2.50 J"),
        (7e-14, "7e-14 J"),
        (0.0, "0 J"),
    ],
)
def test_joules_are_printed_with_a_prefix(value, text):
    assert joules(value) == text
