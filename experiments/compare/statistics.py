"""Intervals and tests over training seeds and draws.

A value belongs to a seed (one training) and a draw (one order of classes, or one drawn output layer, in the
meta-test of that training). The draws of one seed share a network, so they are not independent of each other:

- An interval over draws of one seed says how the meta-test varies, and nothing of another training.
- A test over pairs (seed, draw) asks whether *these* trained networks differ. As a statement on the way of training
  its p-value is too small, the more so the more seeds differ beside draws. So a statement on the way of training
  rests on the test over seeds (Student's t over one mean a seed), which treats each training as one value.
- All draws are of the same drawings of the same classes. Neither says anything of others.

The bootstrap over few seeds is narrow, since n values resampled spread by (n - 1) / n of what they should:
with draws that agree within each seed, it covers the true mean in about 50 of 100 cases with two seeds, in 75 with
three, in 90 with ten. The interval over seeds covers 95 of 100 with any number (of normally distributed seeds): the one
to trust.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from experiments.report.statistics import CONFIDENCE, mean_interval

RESAMPLES = 4000
EXACT_PAIRS = 50
"""Up to so many pairs the distribution of the signed-rank test is exact: 2^50 is a whole number in float64."""

SAME = 1e-12
"""Means of accuracies that differ by less are the same: sums of fractions differ in their last bits."""


class Interval(NamedTuple):
    """A mean and its 95 % bootstrap interval; without one (None) where there is a single value.

    seeds: trainings; values: seeds x draws.
    """

    mean: float
    low: float | None
    high: float | None
    seeds: int
    values: int

    @property
    def bounds(self) -> tuple[float, float] | None:
        """Both ends of the interval."""
        return None if self.low is None or self.high is None else (self.low, self.high)


Groups = Sequence[np.ndarray]
"""Values by seed: one array (draws,) for each."""


def bootstrap(groups: Groups, resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """Mean over seeds of the mean over draws, with its 95 % percentile interval.

    Several seeds: seeds are resampled, then the draws within each, which `scipy.stats.bootstrap` has no form for (it
    resamples one level, so draws of one training would count as independent trainings). One seed: that function.

    Args:
        groups: values by seed, none empty.
        resamples: number of resamples.
        seed: of the generator.

    Raises:
        ValueError: no values.
    """
    if not groups or any(len(group) == 0 for group in groups):
        raise ValueError("There is no mean of no values.")
    mean = float(np.mean([np.mean(group) for group in groups]))
    values = sum(len(group) for group in groups)
    if values == 1:
        return Interval(mean, None, None, 1, 1)
    rng = np.random.default_rng(seed)
    if len(groups) == 1:
        found = stats.bootstrap(
            (groups[0],),
            np.mean,
            n_resamples=resamples,
            confidence_level=CONFIDENCE,
            method="percentile",  # the others divide by the spread, which may be nothing
            random_state=rng,  # pyright: ignore[reportCallIssue]
        ).confidence_interval
        return Interval(mean, float(found.low), float(found.high), 1, values)
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(_resampled(groups, resamples, rng), (tail, 100 - tail))
    return Interval(mean, float(low), float(high), len(groups), values)


def _resampled(groups: Groups, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """(resamples,): means of resampled seeds and draws; seeds may have different numbers of draws."""
    sizes = np.array([len(group) for group in groups])
    table = np.zeros((len(groups), sizes.max()))
    for row, group in zip(table, groups, strict=True):
        row[: len(group)] = group
    seeds = rng.integers(len(groups), size=(resamples, len(groups), 1))
    draws = (rng.random((resamples, len(groups), sizes.max())) * sizes[seeds]).astype(int)
    kept = np.arange(sizes.max()) < sizes[seeds]
    return ((table[seeds, draws] * kept).sum(2) / sizes[seeds[..., 0]]).mean(1)


def over_seeds(groups: Groups) -> tuple[float, float] | None:
    """95 % interval of the mean over trainings: Student's t over one mean a seed; None with one seed."""
    mean, half, _ = mean_interval([float(np.mean(group)) for group in groups])
    return None if half is None else (mean - half, mean + half)


def t_test(groups: Groups) -> float | None:
    """Two-sided p-value of Student's t-test that the mean over trainings is zero; None with one seed.

    1 where all seeds agree to the last digit: accuracies are fractions of a few thousand drawings, so that two or three
    differences may be the same by chance, and a spread of nothing would then prove anything.
    """
    means = np.array([float(np.mean(group)) for group in groups])
    if len(means) < 2:
        return None
    if np.ptp(means) < SAME:
        return 1.0
    return float(stats.ttest_1samp(means, 0.0).pvalue)  # pyright: ignore[reportAttributeAccessIssue]


def wilcoxon(differences: np.ndarray) -> float:
    """Two-sided p-value of the signed-rank test that the differences (n,) of pairs are symmetric about zero.

    All signs of the ranks, whose sums are counted by convolution, ties or not; `scipy.stats.wilcoxon` has no exact
    distribution with ties, and serves from `EXACT_PAIRS` on. Differences of zero are left out; p = 1 where all are.
    """
    d = np.asarray(differences, dtype=np.float64)
    d = d[d != 0]
    if len(d) > EXACT_PAIRS:
        return float(stats.wilcoxon(d).pvalue)  # pyright: ignore[reportAttributeAccessIssue]
    ranks = np.rint(2 * stats.rankdata(np.abs(d))).astype(int)  # doubled, since ranks of ties are means
    total = int(ranks.sum())
    ways = np.zeros(total + 1)  # by the sum of the ranks of positive differences
    ways[0] = 1
    for rank in ranks:
        ways[rank:] += ways[:-rank].copy()
    extreme = np.abs(2 * np.arange(total + 1) - total) >= abs(2 * ranks[d > 0].sum() - total)
    return float(ways[extreme].sum() / 2.0 ** len(d))


def mann_whitney(first: np.ndarray, second: np.ndarray) -> float:
    """Two-sided p-value of the Mann-Whitney U test, unpaired; 1 where all values are the same."""
    if len(np.unique(np.concatenate([first, second]))) == 1:
        return 1.0
    return float(stats.mannwhitneyu(first, second).pvalue)


def smallest_p(pairs: int) -> float:
    """Smallest two-sided p-value that the signed-rank test can give with so many pairs."""
    return min(1.0, 2.0 ** (1 - pairs))


def holm(p: Sequence[float]) -> list[float]:
    """p-values corrected for as many comparisons as there are, in the same order (Holm 1979).

    The chance of one false claim among all stays below the level, whatever the dependence between the tests;
    `scipy.stats.false_discovery_control` (Benjamini and Hochberg) only bounds the share of false claims.
    """
    p_values = np.asarray(p, dtype=np.float64)
    order = np.argsort(p_values, kind="stable")
    factors = len(p_values) - np.arange(len(p_values))
    corrected = np.empty_like(p_values)
    corrected[order] = np.minimum(1, np.maximum.accumulate(factors * p_values[order]))
    return corrected.tolist()


def within(margin: float, *intervals: tuple[float, float] | None) -> bool:
    """Whether all intervals of a difference lie inside (-margin, margin): two one-sided tests, at 2.5 % each.

    Equivalence is never read off a test that found no difference: that may be for want of data.
    """
    return all(i is not None and -margin < i[0] and i[1] < margin for i in intervals)
