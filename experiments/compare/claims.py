"""Sentences on differences between arms, each made from its test and no stronger than it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np

from experiments.compare import statistics
from experiments.compare.results import Arm, Results, groups
from experiments.compare.statistics import Interval

LEVEL = 0.05


class Verdict(Enum):
    """What the data say of a difference between two ways of training."""

    ABOVE = "above"
    BELOW = "below"
    NOT_SHOWN = "no difference shown"
    UNDECIDED = "the data do not decide"


class Equivalence(Enum):
    """Whether a difference is shown to be smaller than a margin."""

    WITHIN = "yes"
    OUTSIDE = "no"
    NOT_SHOWN = "not shown"
    ONE_SEED = "needs more seeds"


@dataclass(frozen=True)
class Comparison:
    """Held-out accuracy of two arms under one protocol and head, after so many classes.

    Attributes:
        protocol: of the meta-test.
        head: that was read out.
        classes: learned before.
        first: the arm whose accuracy stands before the minus sign.
        second: the other.
        difference: mean of first - second over pairs (seed, draw) that both have, with its bootstrap interval.
        seed_interval: Student's t over one difference a seed; None with one seed.
        wilcoxon: p-value over pairs.
        mann_whitney: p-value of all values against all values.
        wilcoxon_holm: the first, corrected for the family.
        mann_whitney_holm: the second, corrected for the family.
        seeds_p: p-value of Student's t-test over seeds; None with one seed.
        p: of the test that the verdict rests on, corrected for the family: over seeds where there are several, since
            draws of one seed share a network, else over pairs.
        family: number of comparisons corrected for.
    """

    protocol: str
    head: str
    classes: int
    first: Arm
    second: Arm
    difference: Interval
    seed_interval: tuple[float, float] | None
    wilcoxon: float
    mann_whitney: float
    wilcoxon_holm: float
    mann_whitney_holm: float
    seeds_p: float | None
    p: float
    family: int = 1

    @property
    def too_few(self) -> bool:
        """Whether the signed-rank test that the verdict rests on could not reach the level, whatever the pairs show."""
        return self.seeds_p is None and statistics.smallest_p(self.difference.values) * self.family > LEVEL

    @property
    def verdict(self) -> Verdict:
        """A difference counts where the corrected test and both intervals agree on it.

        Undecided: too few pairs for the test to find anything, or networks that differ where other trainings may not.
        """
        if self.too_few:
            return Verdict.UNDECIDED
        if self.p <= LEVEL:
            intervals = [i for i in (self.difference.bounds, self.seed_interval) if i is not None]
            if all(low > 0 for low, _ in intervals):
                return Verdict.ABOVE
            if all(high < 0 for _, high in intervals):
                return Verdict.BELOW
        return Verdict.UNDECIDED if min(self.p, self.wilcoxon_holm) <= LEVEL else Verdict.NOT_SHOWN

    def equivalence(self, margin: float) -> Equivalence:
        """Whether both intervals lie inside the margin, each of 95 % and not corrected for other comparisons; or both
        outside, of a difference that the corrected test shows. Never said with one seed, nor where all seeds agree to
        the last digit, which is chance."""
        intervals = (self.difference.bounds, self.seed_interval)
        if self.seed_interval is None:
            return Equivalence.ONE_SEED
        if self.seed_interval[1] - self.seed_interval[0] < statistics.SAME:
            return Equivalence.NOT_SHOWN
        if statistics.within(margin, *intervals):
            return Equivalence.WITHIN
        ends = [end for i in intervals for end in i or ()]
        outside = all(end <= -margin for end in ends) or all(end >= margin for end in ends)
        outside &= self.verdict in (Verdict.ABOVE, Verdict.BELOW)
        return Equivalence.OUTSIDE if outside else Equivalence.NOT_SHOWN


def compare(results: Results, first: Arm, second: Arm, protocol: str, head: str, classes: int) -> Comparison | None:
    """The comparison of two arms, uncorrected; None where they have no pair (seed, draw) in common.

    The same seed and draw have the same classes in the same order in both arms.
    """
    where = {"protocol": protocol, "head": head, "classes": classes}
    columns = ["seed", "draw", "test_accuracy"]
    one, other = (results.rows("accuracy", arm, **where)[columns] for arm in (first, second))
    pairs = one.merge(other, on=["seed", "draw"], suffixes=("", "_other"))
    if not len(pairs):
        return None
    a, b = (pairs[name].to_numpy(np.float64) for name in ("test_accuracy", "test_accuracy_other"))
    # Sums of fractions: what is equal in decimals may differ in the last bit, and a tie is then none.
    pairs["difference"] = np.round(a - b, 12)
    if (pairs.groupby("seed")["difference"].nunique() == 1).all():
        # A head that does not depend on the order of the classes: ten draws that agree are one value, not ten.
        pairs = pairs.groupby("seed", as_index=False).mean()
        a, b = (pairs[name].to_numpy(np.float64) for name in ("test_accuracy", "test_accuracy_other"))
    by_seed = groups(pairs, "difference")
    p, u = statistics.wilcoxon(pairs["difference"].to_numpy()), statistics.mann_whitney(a, b)
    interval, seeds = statistics.bootstrap(by_seed), statistics.over_seeds(by_seed)
    t = statistics.t_test(by_seed)
    return Comparison(protocol, head, classes, first, second, interval, seeds, p, u, p, u, t, p if t is None else t)


def corrected(family: Sequence[Comparison]) -> list[Comparison]:
    """The same comparisons, with p-values corrected for all of them (Holm)."""
    paired = statistics.holm([one.wilcoxon for one in family])
    unpaired = statistics.holm([one.mann_whitney for one in family])
    decisive = statistics.holm([one.wilcoxon if one.seeds_p is None else one.seeds_p for one in family])
    return [
        replace(one, wilcoxon_holm=w, mann_whitney_holm=u, p=p, family=len(family))
        for one, w, u, p in zip(family, paired, unpaired, decisive, strict=True)
    ]


def primary(results: Results, protocol: str) -> list[Comparison]:
    """The comparisons that the text is about, few enough that a few seeds can decide them: under the head that is
    exported, the first arm against each other in float32, and against the twin in the same quantised form."""
    main, twin = results.main, results.twin
    pairs = [(main, other) for other in results.arms if other.name != main.name and other.form == main.form]
    pairs += [(a, b) for a in results.arms for b in results.arms if _same_few_bits(a, b, main, twin)]
    return _family(results, protocol, [results.head], pairs)


def family(results: Results, protocol: str) -> list[Comparison]:
    """The comparisons of the table of all tests: for every head, the first arm against each other, and each against the
    twin; a quantised form of the first arm against the same of the twin."""
    main, twin = results.main, results.twin
    pairs = [(main, other) for other in results.arms if other != main]
    if twin is not None and twin.name != main.name:
        pairs += [(other, twin) for other in results.arms if other.name not in (main.name, twin.name)]
    pairs += [(a, b) for a in results.arms for b in results.arms if _same_few_bits(a, b, main, twin)]
    return _family(results, protocol, results.seen("accuracy", "head"), pairs)


def _family(
    results: Results, protocol: str, heads: Sequence[str], pairs: Sequence[tuple[Arm, Arm]]
) -> list[Comparison]:
    """At the largest number of classes that the first arm has under this protocol, corrected for each other."""
    rows = results.rows("accuracy", results.main, protocol=protocol)
    if not len(rows):
        return []
    classes = int(rows["classes"].max())
    found = (compare(results, a, b, protocol, head, classes) for head in heads for a, b in pairs)
    return corrected([one for one in found if one is not None])


def _same_few_bits(first: Arm, second: Arm, main: Arm, twin: Arm | None) -> bool:
    """Whether these are the main arm and the twin in one quantised form."""
    if twin is None or twin.name == main.name:
        return False
    return first.form == second.form != main.form and (first.name, second.name) == (main.name, twin.name)


def sentence(one: Comparison, margin: float | None = None) -> str:
    """The comparison in words.

    Args:
        one: corrected.
        margin: of equivalence, a fraction; without it nothing is said of equivalence.
    """
    verdict, seeds = one.verdict, one.difference.seeds
    what = f"head {one.head}, {one.classes:,} classes, protocol {one.protocol}"
    numbers = _numbers(one)
    a, b = quoted(one.first), quoted(one.second)
    if verdict in (Verdict.ABOVE, Verdict.BELOW):
        networks = "" if seeds > 1 else "of these two trained networks, on these drawings, "
        said = f"{networks}{a} is {verdict.value} {b} ({numbers})"
    elif verdict is Verdict.NOT_SHOWN:
        said = f"between {a} and {b} no difference is shown ({numbers}), which does not say that there is none"
    elif one.too_few:
        said = (
            f"between {a} and {b} the data do not decide ({numbers}): so few pairs among {one.family} comparisons "
            "cannot reach the level, whatever they show"
        )
    else:
        said = (
            f"between {a} and {b} the data do not decide ({numbers}): the trained networks differ, but other trainings "
            "may turn it round"
        )
    text = f"With {what}, {said}."
    if margin is not None:
        text += " " + _equivalence(one, margin)
    return text if seeds > 1 else f"{text} {ONE_SEED}"


ONE_SEED = "One seed: nothing can be said about other trainings of the same kind, nor about other drawings."


def _numbers(one: Comparison) -> str:
    d = one.difference
    text = f"difference {points(d)} points"
    if one.seed_interval is not None:
        low, high = one.seed_interval
        text += f", over {d.seeds} seeds [{100 * low:.1f}, {100 * high:.1f}]"
    pairs = "1 pair" if d.values == 1 else f"{d.values} pairs"
    return f"{text}, {pairs}, Holm {p_text(one.p)}"


def _equivalence(one: Comparison, margin: float) -> str:
    first, width = quoted(one.first), f"{100 * margin:g} points of {quoted(one.second)}"
    near = f"{first} is within {width}"
    return {
        Equivalence.WITHIN: f"{near}: both intervals lie inside.",
        Equivalence.OUTSIDE: f"{first} is not within {width}: both intervals lie outside.",
        Equivalence.NOT_SHOWN: f"That {near} is not shown: an interval reaches beyond, or is a point.",
        Equivalence.ONE_SEED: f"Whether {near} takes more than one seed.",
    }[one.equivalence(margin)]


def quoted(arm: Arm) -> str:
    """An arm in a sentence: titles are free text, with commas."""
    return f"“{arm.label}”"


def points(d: Interval) -> str:
    """A difference in points of per cent, with its interval: `+3.1 [1.0, 5.2]`."""
    interval = "" if d.bounds is None else f" [{100 * d.bounds[0]:.1f}, {100 * d.bounds[1]:.1f}]"
    return f"{100 * d.mean:+.1f}{interval}"


def p_text(p: float) -> str:
    """`p = 0.013`, or `p < 0.001`."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def seeds_note(comparisons: Iterable[Comparison]) -> str:
    """What the number of seeds lets the p-values mean."""
    most = max((one.difference.seeds for one in comparisons), default=0)
    if most < 2:
        return (
            "One training seed: intervals are over draws, and a p-value says whether these very networks differ on "
            "these drawings. About the variance of training nothing can be said."
        )
    return (
        f"Draws of one seed share a network and are not independent of each other: over pairs, a p-value says whether "
        f"the {most} pairs of trained networks differ, and is too small as a statement on the way of training. So a "
        "verdict rests on the test over seeds (Student's t, one difference a seed), corrected, which with few seeds "
        "finds large and even differences alone. Where the pairs show one and the seeds do not, the data do not decide."
    )
