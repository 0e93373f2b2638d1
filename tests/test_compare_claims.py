"""What the report of a comparison claims, and that it is what its tests carry."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="the extra report is not installed")
pytest.importorskip("tabulate", reason="the extra report is not installed")

import pandas as pd

from experiments.compare.claims import Equivalence, Verdict, family, primary
from experiments.compare.folder import CompareFolder
from experiments.compare.results import read_results
from tests.compare_report_helpers import CLASSES, TITLES, make_comparison


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> CompareFolder:
    return make_comparison(tmp_path_factory.mktemp("compare") / "out")


@pytest.fixture(scope="module")
def results(folder):
    return read_results(folder)


def test_a_network_is_never_tested_against_itself(results):
    twin_first = replace(results, arms=results.arms[2:] + results.arms[:2])
    assert twin_first.main == twin_first.twin
    found = family(twin_first, "strict")
    assert found
    assert all(one.first != one.second for one in found)
    pairs = [frozenset((one.first.label, one.second.label, one.head)) for one in found]
    assert len(set(pairs)) == len(pairs)  # nor twice against another


def test_few_comparisons_are_fixed_beforehand_and_corrected_among_themselves(results):
    found = primary(results, "strict")
    spiking, twin = results.main, results.twin
    labels = [(one.first.label, one.second.label) for one in found]
    assert labels == [
        (spiking.label, twin.label),
        (spiking.label, TITLES["no_nm"]),
        (f"{spiking.label}, int8", f"{twin.label}, int8"),
    ]
    assert {(one.head, one.classes, one.family) for one in found} == {(results.head, CLASSES[-1], 3)}
    of_all = {(one.first, one.second): one for one in family(results, "strict") if one.head == results.head}
    for one in found:
        every = of_all[one.first, one.second]
        assert (one.difference, one.wilcoxon) == (every.difference, every.wilcoxon)
        assert one.wilcoxon_holm <= every.wilcoxon_holm


def of_two(results, spiking, twin):
    """Results with these accuracies (seeds, draws) of two arms, and nothing else."""
    rows = [
        {
            "arm": name,
            "form": "float32",
            "seed": seed,
            "protocol": "strict",
            "head": "sgd",
            "classes": 600,
            "draw": draw,
        }
        | {"test_accuracy": values[seed, draw]}
        for name, values in (("spiking", spiking), ("twin", twin))
        for seed, draw in np.ndindex(values.shape)
    ]
    arms = (results.main, results.twin)
    return replace(results, arms=arms, tables={"accuracy": pd.DataFrame(rows)})


def test_arms_that_are_alike_are_seldom_told_apart(results):
    """One false claim among twenty comparisons in at most 5 of 100 families, although draws share a network."""
    rng = np.random.default_rng(6)

    def family_of_twenty():
        heads = []
        for i in range(20):
            arms = (0.7 + rng.normal(0, 0.02, (3, 1)) + rng.normal(0, 0.005, (3, 5)) for _ in range(2))
            heads.append(of_two(results, *arms).tables["accuracy"].assign(head=f"head {i}"))
        both = replace(results, arms=(results.main, results.twin), tables={"accuracy": pd.concat(heads)})
        return family(both, "strict")

    claims = [[one.verdict in (Verdict.ABOVE, Verdict.BELOW) for one in family_of_twenty()] for _ in range(60)]
    assert all(len(one) == 20 for one in claims)
    assert np.mean([any(one) for one in claims]) <= 0.11  # 0.05 is promised; this is two standard errors above


def test_draws_that_agree_are_one_value(results):
    means = np.array([0.70, 0.71, 0.73])
    spiking, twin = (np.repeat(x[:, None], 10, axis=1) for x in (means + np.array((0.05, 0.06, 0.055)), means))
    (one,) = family(of_two(results, spiking, twin), "strict")
    assert (one.difference.seeds, one.difference.values) == (3, 3)
    assert one.wilcoxon == 0.25
    assert one.p == one.seeds_p < 0.01
    assert one.verdict is Verdict.ABOVE
    (alone,) = family(of_two(results, spiking[:1], twin[:1]), "strict")
    assert alone.verdict is Verdict.UNDECIDED


def test_seeds_that_agree_to_the_last_digit_prove_nothing(results):
    spiking = np.array([[0.75], [0.72]])
    (one,) = family(of_two(results, spiking, spiking - 0.045), "strict")
    assert one.seed_interval == pytest.approx((0.045, 0.045))
    assert one.verdict is Verdict.NOT_SHOWN
    assert one.equivalence(0.1) is Equivalence.NOT_SHOWN
    (apart,) = family(of_two(results, spiking, spiking - [[0.045], [0.0453]]), "strict")
    assert apart.verdict is Verdict.ABOVE
    assert apart.equivalence(0.1) is Equivalence.WITHIN


def test_networks_that_differ_do_not_make_a_claim_on_training(results):
    rng = np.random.default_rng(7)
    twin = 0.7 + rng.normal(0, 0.01, (3, 10))
    spiking = twin + np.array([[0.09], [0.05], [-0.01]]) + rng.normal(0, 0.002, (3, 10))
    (one,) = family(of_two(results, spiking, twin), "strict")
    assert one.wilcoxon_holm < 0.01 < 0.05 < one.p
    assert one.verdict is Verdict.UNDECIDED


def test_beyond_the_margin_is_said_of_a_shown_difference_alone(results):
    rng = np.random.default_rng(8)
    twin = 0.7 + rng.normal(0, 0.001, (3, 4))
    (one,) = family(of_two(results, twin - 0.05 + np.array([[0.004], [0], [-0.004]]), twin), "strict")
    assert (one.verdict, one.equivalence(0.02)) == (Verdict.BELOW, Equivalence.OUTSIDE)
    unsure = replace(one, p=0.2)
    assert unsure.verdict not in (Verdict.ABOVE, Verdict.BELOW)
    assert unsure.equivalence(0.02) is Equivalence.NOT_SHOWN


def test_every_verdict_of_a_table_is_corrected_for_all_of_them(results):
    """Over seeds where there are several, over pairs where there is one: one family."""
    rng = np.random.default_rng(9)
    twin = 0.7 + rng.normal(0, 0.001, (3, 6))
    unlike = np.array([[0.09], [0.05], [-0.02]])
    spiking = {f"head {i}": twin + unlike for i in range(3)} | {"one": twin[:1] + rng.uniform(0.01, 0.02, 6)}
    frames = [
        of_two(results, values, twin[: len(values)]).tables["accuracy"].assign(head=head)
        for head, values in spiking.items()
    ]
    both = replace(results, arms=(results.main, results.twin), tables={"accuracy": pd.concat(frames)})
    found = {one.head: one for one in family(both, "strict")}
    alone = found["one"]
    assert alone.seeds_p is None
    assert alone.wilcoxon == 2**-5 < 0.05
    assert alone.p == 4 * 2**-5
    assert alone.verdict is Verdict.UNDECIDED
