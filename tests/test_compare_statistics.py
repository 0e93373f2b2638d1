"""Intervals, tests and claims of a comparison, against brute force, scipy and what is known of made-up data."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations, permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

pytest.importorskip("pandas", reason="the extra report is not installed")

from experiments.compare.claims import ONE_SEED, Comparison, Verdict, corrected, p_text, points, seeds_note, sentence
from experiments.compare.results import Arm
from experiments.compare.statistics import (
    Interval,
    bootstrap,
    holm,
    mann_whitney,
    over_seeds,
    smallest_p,
    t_test,
    wilcoxon,
    within,
)

SPIKING, TWIN = Arm("spiking", "spiking", True), Arm("twin", "twin", False)


def made(difference, seed_interval, p, seeds_p=None, seeds=3, pairs=30, family=1):
    """A comparison with these numbers; with several seeds, p holds for them too where nothing else is said."""
    interval = Interval(*difference, seeds, pairs)
    t = None if seeds == 1 else p if seeds_p is None else seeds_p
    return Comparison(
        "strict", "sgd", 600, SPIKING, TWIN, interval, seed_interval, p, p, p, p, t, p if t is None else t, family
    )


def test_bootstrap_of_seeds_is_every_resample_of_them():
    groups = [np.array([0.0]), np.array([1.0]), np.array([5.0])]
    means = [np.mean(chosen) for chosen in product((0.0, 1.0, 5.0), repeat=3)]
    found = bootstrap(groups, resamples=60000)
    assert found.mean == 2.0
    assert (found.seeds, found.values) == (3, 3)
    rng_free = np.percentile(means, (2.5, 97.5), method="inverted_cdf")
    np.testing.assert_allclose(found.bounds, rng_free, atol=1e-9)


def test_bootstrap_resamples_draws_within_their_seed():
    groups = [np.array([0.0, 2.0]), np.array([10.0, 10.0, 13.0])]
    rng, means = np.random.default_rng(3), []
    for _ in range(20000):
        chosen = [groups[i] for i in rng.integers(2, size=2)]
        means.append(np.mean([rng.choice(group, len(group)).mean() for group in chosen]))
    found = bootstrap(groups, resamples=20000)
    assert found.mean == pytest.approx((1 + 11) / 2)
    np.testing.assert_allclose(found.bounds, np.percentile(means, (2.5, 97.5)), atol=0.15)


def test_bootstrap_of_one_seed_is_scipys():
    values = np.random.default_rng(0).normal(size=12)
    expected = stats.bootstrap(
        (values,), np.mean, n_resamples=4000, method="percentile", random_state=np.random.default_rng(0)
    ).confidence_interval
    assert bootstrap([values]).bounds == (expected.low, expected.high)


def test_bootstrap_covers_the_true_mean_as_its_docstring_says():
    rng = np.random.default_rng(1)

    def covered(seeds: int, spread: float) -> tuple[float, float]:
        both = []
        for k in range(400):
            groups = [rng.normal(rng.normal(0, 1), spread, 5) for _ in range(seeds)]
            i, s = bootstrap(groups, resamples=300, seed=k), over_seeds(groups)
            both.append((i.low <= 0 <= i.high, s[0] <= 0 <= s[1]))
        return tuple(np.mean(both, axis=0))

    two, few, many = covered(2, 0.0), covered(3, 0.0), covered(10, 0.0)
    assert two[0] == pytest.approx(0.50, abs=0.07)
    assert few[0] == pytest.approx(0.75, abs=0.07)
    assert many[0] == pytest.approx(0.90, abs=0.05)
    assert few[1] == pytest.approx(0.95, abs=0.035)
    assert many[1] == pytest.approx(0.95, abs=0.035)


def test_bootstrap_is_the_same_twice_and_needs_values():
    groups = [np.array([0.1, 0.3]), np.array([0.2, 0.6])]
    assert bootstrap(groups) == bootstrap(groups)
    assert bootstrap([np.array([0.4])]) == Interval(0.4, None, None, 1, 1)
    for nothing in ([], [np.array([])]):
        with pytest.raises(ValueError, match="no values"):
            bootstrap(nothing)


def test_interval_over_seeds_is_student_t_of_their_means():
    groups = [np.array([0.1, 0.3]), np.array([0.5]), np.array([0.4, 0.6])]
    means = [0.2, 0.5, 0.5]
    np.testing.assert_allclose(over_seeds(groups), stats.t.interval(0.95, 2, np.mean(means), stats.sem(means)))
    assert over_seeds(groups[:1]) is None
    assert t_test(groups) == pytest.approx(stats.ttest_1samp(means, 0).pvalue)
    assert t_test(groups[:1]) is None
    assert (t_test([np.ones(2)] * 3), t_test([np.zeros(2)] * 3)) == (1.0, 1.0)


@given(st.lists(st.integers(-4, 4), min_size=1, max_size=10))
@settings(deadline=None, max_examples=40)
def test_wilcoxon_is_the_share_of_signs_that_are_as_extreme(differences):
    d = np.array([x for x in differences if x], dtype=float)
    ranks = stats.rankdata(np.abs(d))
    sums = [abs(np.dot(signs, ranks)) for signs in product((-1, 1), repeat=len(d))]
    expected = np.mean([s >= abs(np.sign(d) @ ranks) - 1e-9 for s in sums]) if len(d) else 1.0
    assert wilcoxon(np.array(differences)) == pytest.approx(expected)


def test_wilcoxon_of_many_pairs_is_scipys():
    d = np.random.default_rng(2).normal(0.3, 1, 30)
    assert wilcoxon(d) == pytest.approx(stats.wilcoxon(d, method="exact").pvalue)
    assert wilcoxon(np.repeat(d, 2)) == stats.wilcoxon(np.repeat(d, 2)).pvalue
    assert wilcoxon(np.append(np.arange(1.0, 15.0), 14.0)) == smallest_p(15)
    assert wilcoxon(np.zeros(5)) == 1.0
    assert wilcoxon(np.arange(1.0, 8.0)) == smallest_p(7) == 2 / 2**7


def test_mann_whitney_is_the_share_of_partitions_that_are_as_extreme():
    a, b = np.array([0.1, 0.7, 0.9]), np.array([0.2, 0.3, 0.4, 0.5])
    every = np.concatenate([a, b])

    def u(chosen: tuple[int, ...]) -> float:
        rest = [i for i in range(7) if i not in chosen]
        return abs(sum(every[i] > every[j] for i in chosen for j in rest) - 6)

    extreme = [u(chosen) >= u((0, 1, 2)) for chosen in combinations(range(7), 3)]
    assert mann_whitney(a, b) == pytest.approx(np.mean(extreme))
    assert mann_whitney(np.ones(3), np.ones(4)) == 1.0


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=2, max_size=5))
@settings(deadline=None, max_examples=30)
def test_holm_rejects_what_its_steps_reject_in_any_order(p):
    level = 0.05
    rejected = set()
    for k, i in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        if p[i] * (len(p) - k) > level:
            break
        rejected.add(i)
    assert {i for i, q in enumerate(holm(p)) if q <= level} == rejected
    for order in permutations(range(len(p))):
        assert holm([p[i] for i in order]) == pytest.approx([holm(p)[i] for i in order])


def test_holm_bounds_the_chance_of_one_false_claim():
    rng = np.random.default_rng(4)
    false = np.mean([min(holm(rng.uniform(size=10).tolist())) <= 0.05 for _ in range(4000)])
    assert false == pytest.approx(0.05, abs=0.012)


def test_within_needs_every_interval_inside():
    assert within(0.02, (-0.01, 0.015), (-0.019, 0.019))
    assert not within(0.02, (-0.01, 0.015), (-0.021, 0.019))
    assert not within(0.02, (-0.01, 0.015), None)


@pytest.mark.parametrize(
    ("comparison", "verdict", "said"),
    [
        (made((0.03, 0.01, 0.05), (0.005, 0.055), 0.002), Verdict.ABOVE, "“spiking” is above “twin”"),
        (made((-0.03, -0.05, -0.01), (-0.06, -0.001), 0.002), Verdict.BELOW, "“spiking” is below “twin”"),
        (made((0.01, -0.01, 0.03), (-0.02, 0.04), 0.2), Verdict.NOT_SHOWN, "no difference is shown"),
        (made((0.03, 0.01, 0.05), (-0.01, 0.07), 0.002, 0.3), Verdict.UNDECIDED, "other trainings may turn it round"),
        (made((0.03, -0.001, 0.05), (0.01, 0.05), 0.002), Verdict.UNDECIDED, "other trainings may turn it round"),
        (made((0.03, 0.01, 0.05), (0.005, 0.055), 0.4, 0.01), Verdict.ABOVE, "Holm p = 0.010"),
        (made((0.03, 0.01, 0.05), None, 0.25, seeds=1, pairs=4), Verdict.UNDECIDED, "so few pairs"),
        (made((0.03, 0.01, 0.05), None, 0.002, seeds=1, pairs=9, family=20), Verdict.UNDECIDED, "cannot reach"),
    ],
)
def test_a_sentence_says_what_its_numbers_carry(comparison, verdict, said):
    assert comparison.verdict is verdict
    assert said in sentence(comparison)
    assert p_text(comparison.p) in sentence(comparison)
    assert points(comparison.difference) in sentence(comparison)
    if verdict not in (Verdict.ABOVE, Verdict.BELOW):
        assert "above" not in sentence(comparison)
        assert "below" not in sentence(comparison)


def test_one_seed_speaks_of_two_networks_only():
    one = made((0.03, 0.01, 0.05), None, 0.001, seeds=1, pairs=10)
    assert sentence(one).startswith("With head sgd, 600 classes, protocol strict, of these two trained networks, on")
    assert sentence(one, 0.2).endswith(ONE_SEED)
    assert "takes more than one seed" in sentence(one, 0.2)
    assert "“spiking” is within" not in sentence(one, 0.2).replace("Whether “spiking” is within", "")
    assert "nothing can be said" in seeds_note([one])
    assert "not independent" in seeds_note([made((0, -1, 1), (-1, 1), 1.0)])


@pytest.mark.parametrize(
    ("difference", "seed_interval", "said"),
    [
        ((0.0, -0.01, 0.01), (-0.015, 0.015), "“spiking” is within 2 points of “twin”: both"),
        ((0.0, -0.01, 0.01), (-0.03, 0.03), "is not shown: an interval reaches beyond"),
    ],
)
def test_equivalence_is_read_off_intervals_and_never_off_a_p_value(difference, seed_interval, said):
    for p in (0.9, 0.0001):
        assert said in sentence(made(difference, seed_interval, p), 0.02)


def test_beyond_the_margin_is_said_of_a_difference_that_is_shown():
    shown, unsure = (made((-0.05, -0.06, -0.04), (-0.07, -0.03), p) for p in (0.0001, 0.9))
    assert "“spiking” is not within 2 points of “twin”" in sentence(shown, 0.02)
    assert "That “spiking” is within 2 points of “twin” is not shown" in sentence(unsure, 0.02)


def test_a_family_is_corrected_together():
    family = [replace(made((0.1, 0.05, 0.2), (0.05, 0.2), p), mann_whitney=q) for p, q in ((0.01, 0.5), (0.04, 0.02))]
    found = corrected(family)
    assert [one.wilcoxon_holm for one in found] == pytest.approx([0.02, 0.04])
    assert [one.mann_whitney_holm for one in found] == pytest.approx([0.5, 0.04])
    assert [one.family for one in found] == [2, 2]
