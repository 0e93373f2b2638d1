"""The sequential meta-test: what is learned, scored, picked and repeated."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from snn_anml.config import MetaTestConfig, NetworkConfig
from snn_anml.errors import UserError
from snn_anml.meta import trial as trial_module
from snn_anml.meta.heads import learn_shuffled
from snn_anml.meta.rates import CANDIDATES, candidates, pick_rates
from snn_anml.meta.sequential import extract_features, meta_test
from snn_anml.meta.trial import Scores, Trial, accuracy_by_class
from snn_anml.networks import ANML
from tests.cli_helpers import TINY, refused, snn_anml, write_yaml

CONFIG = MetaTestConfig(
    milestones=(2, 5, 12), protocols=("strict", "paper", "iid"), draws=3, paper_draws=2, selection_draws=1, shots=4
)


def features(classes=12, drawings=6, width=400, noise=0.3, seed=0):
    """Drawings scattered around a random, non-negative mean of their class."""
    generator = torch.Generator().manual_seed(seed)
    means = torch.rand((classes, 1, width), generator=generator)
    return (means + noise * torch.randn((classes, drawings, width), generator=generator)).clamp(min=0)


def run(config=CONFIG, seed=0, noise=0.3):
    return meta_test(features(noise=noise), features(seed=9, noise=noise), np.arange(100, 112), config, seed)


def test_every_protocol_head_draw_and_milestone_has_one_outcome():
    outcomes, learned = run()
    keys = [(o.protocol, o.head, o.draw, o.classes) for o in outcomes]
    assert len(set(keys)) == len(keys) == (2 * 3 * 3 + 2 * 2 + 1) * 3
    assert set(learned) == {(head, n) for head in CONFIG.heads for n in CONFIG.milestones}
    for o in outcomes:
        assert all(0 <= a <= 1 for a in (o.train_accuracy, o.test_accuracy, o.first_test_accuracy))
        if o.classes <= 10:
            assert o.first_test_accuracy == o.test_accuracy


def test_equal_seeds_repeat_and_other_seeds_do_not():
    assert run()[0] == run()[0]
    accuracies = [[o.test_accuracy for o in run(seed=s, noise=2.0)[0]] for s in (0, 1)]
    assert accuracies[0] != accuracies[1]


@pytest.mark.parametrize("protocol", ["strict", "iid"])
def test_learned_heads_are_those_that_were_scored(protocol):
    outcomes, learned = run(replace(CONFIG, protocols=(protocol,)), noise=2.0)
    assert len(learned) == 9
    for (head, classes), what in learned.items():
        order = what.classes - 100
        assert len(order) == classes
        right = accuracy_by_class(what.head, features(noise=2.0)[order, CONFIG.shots :]).mean()
        (scored,) = (o for o in outcomes if (o.protocol, o.head, o.classes, o.draw) == (protocol, head, classes, 0))
        if classes == 12 or head == "class-mean" or protocol == "iid":
            assert right == pytest.approx(scored.test_accuracy)
        else:  # outputs still to come competed when it was scored
            assert right >= scored.test_accuracy - 1e-9
        assert what.learning_rate == scored.learning_rate


@pytest.mark.parametrize("shuffled", [None, (0,)])
def test_held_out_drawings_are_not_learned_from(shuffled):
    f = features()
    changed = f.clone()
    changed[:, CONFIG.shots :] = 0
    for head in CONFIG.heads:
        trial = Trial(head, np.arange(12), CONFIG.shots, shuffled=shuffled)
        before, after = (trial.run(x, 0.01, (5, 12)) for x in (f, changed))
        for a, b in zip(before, after, strict=True):
            assert torch.equal(a.head.weight, b.head.weight)
            assert a.train == b.train


def test_well_separated_classes_are_learned_and_chance_is_chance():
    outcomes, _ = run(noise=0.05)
    assert min(o.test_accuracy for o in outcomes if o.head == "class-mean") == 1
    assert np.mean([o.test_accuracy for o in outcomes if o.head == "adam" and o.classes == 12]) > 5 / 12
    rng = torch.Generator().manual_seed(0)
    noise = torch.rand((12, 6, 400), generator=rng)
    chance = [o.test_accuracy for o in meta_test(noise, noise, np.arange(12), CONFIG, 0)[0] if o.classes == 12]
    assert np.mean(chance) < 0.3


def test_the_oracle_learns_every_drawing_once_in_random_order_anew_for_every_milestone(monkeypatch):
    calls = []

    def learn(head, learned_from, rate, order):
        calls.append((learned_from, order))
        return learn_shuffled(head, learned_from, rate, order)

    monkeypatch.setattr(trial_module, "learn_shuffled", learn)
    f, order = features(), np.random.default_rng(5).permutation(12)
    one = Trial("sgd", order, 4, shuffled=(1, 2))
    scores = one.run(f, 0.01, (2, 5, 12))
    for classes, (learned_from, drawings), score in zip((2, 5, 12), tuple(calls), scores, strict=True):
        assert torch.equal(learned_from, f[order[:classes], :4])
        assert sorted(drawings.tolist()) == list(range(4 * classes))
        runs = (drawings // 4).diff().count_nonzero() + 1  # of drawings of one class; `classes` if they came in turn
        assert runs > classes
        (alone,) = one.run(f, 0.01, (classes,))  # nothing is left of earlier milestones
        assert torch.equal(alone.head.weight, score.head.weight)
        assert (alone.test, alone.first) == (score.test, score.first)
    (other,) = Trial("sgd", order, 4, shuffled=(1, 3)).run(f, 0.01, (12,))
    assert not torch.equal(other.head.weight, scores[-1].head.weight)


def test_the_oracle_meets_the_classes_of_strict_and_class_means_cannot_tell_them_apart():
    outcomes, learned = run(replace(CONFIG, protocols=("iid", "strict")), noise=2.0)
    _, strict = run(replace(CONFIG, protocols=("strict",)), noise=2.0)
    assert learned.keys() == strict.keys()
    assert all(np.array_equal(learned[key].classes, strict[key].classes) for key in learned)
    means = {
        p: [o._replace(protocol="") for o in outcomes if (o.protocol, o.head) == (p, "class-mean")]
        for p in ("strict", "iid")
    }
    assert means["iid"] == means["strict"]
    assert len({o.test_accuracy for o in means["iid"]}) > 1


def test_the_oracle_beats_a_sequence_that_must_forget():
    # Classes share most of a few features: each of 80 steps on one class lowers the outputs of all the others.
    f, seen = (1 + features(drawings=84, width=12, noise=0.05, seed=seed) for seed in (0, 9))
    config = replace(CONFIG, heads=("sgd",), protocols=("strict", "iid"), shots=80)
    outcomes, _ = meta_test(f, seen, np.arange(12), config, 0)
    assert all(o.test_accuracy >= 1 / o.classes for o in outcomes if o.protocol == "iid")
    last = [o for o in outcomes if o.classes == 12]
    strict, iid = (np.mean([o.test_accuracy for o in last if o.protocol == p]) for p in config.protocols)
    assert iid > strict + 0.4


def test_rates_are_picked_on_the_given_classes_for_each_milestone():
    tried = []

    def run_all(runs):
        for name, _, rate, milestones, wanted in runs:
            assert (name, wanted) == ("selection", False)
            tried.append((rate, milestones))
            # the best rate is 0.4 early and 0.2 late
            yield [Scores(0.0, 1 - abs(rate - (0.4 if m <= 100 else 0.2)), 0.0, None) for m in milestones]

    rates, trials = (0.05, 0.1, 0.2, 0.4, 0.8), [Trial("sgd", np.arange(300), 1)] * 2
    picked = pick_rates("selection", rates, trials, (10, 100, 200, 600), lambda runs: list(run_all(runs)))
    assert picked == {10: 0.4, 100: 0.4, 200: 0.2, 600: 0.2}
    early, late = [(rate, (10, 100)) for rate in rates for _ in trials], [(rate, (200,)) for rate in (0.2, 0.4, 0.8)]
    assert tried == early + late  # there are only 300 classes to pick on


@pytest.mark.slow
def test_any_number_of_workers_gives_the_same_results():
    config = replace(CONFIG, milestones=(2, 12), draws=2, paper_draws=1)
    alone, shared = (
        meta_test(features(), features(seed=9), np.arange(12), config, 0, workers=workers) for workers in (1, 2)
    )
    assert alone[0] == shared[0]
    for key, learned in alone[1].items():
        assert torch.equal(learned.head.weight, shared[1][key].head.weight)


def test_a_worker_gives_no_warning_of_the_denormals_it_flushes():
    """numpy looks for them when it is first asked for the limits of a type, as libraries do on import."""
    code = (
        "import warnings, numpy as np; from snn_anml.meta.side_by_side import _start; _start({}); "
        "warnings.simplefilter('error'); np.finfo(np.float64); np.finfo(np.float32)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_middle_of_equal_rates_is_picked():
    trials = [Trial("sgd", np.arange(20), 1)]
    picked = pick_rates(
        "test", (1.0, 2.0, 3.0, 4.0), trials, (10,), lambda runs: [[Scores(0, min(r[2], 2.0), 0, None)] for r in runs]
    )
    assert picked == {10: 3.0}


def test_rates_of_sgd_scale_with_the_features():
    f = features()
    assert candidates("adam", f) == CANDIDATES["adam"]
    np.testing.assert_allclose(np.array(candidates("sgd", 2 * f)) * 4, candidates("sgd", f), rtol=1e-6)


def test_rates_of_the_oracle_reach_higher():
    f = features(seed=9)[:, : CONFIG.shots]
    assert candidates("adam", f, shuffled=True) == candidates("adam", f)
    assert max(candidates("sgd", f, shuffled=True)) > max(candidates("sgd", f))
    for protocol, shuffled in (("strict", False), ("iid", True)):
        rates = {o.learning_rate for o in run()[0] if (o.protocol, o.head) == (protocol, "sgd")}
        assert rates <= set(candidates("sgd", f, shuffled))


def test_features_are_those_of_the_network_in_evaluation_mode():
    model = ANML(NetworkConfig(widths=(4, 6), nm_widths=(3,)), 5, size=12)
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (7, 6, 12, 12), dtype=np.uint8))
    classes = np.array([4, 1, 6])
    f, spikes = extract_features(model, images, classes, batch=4)
    assert f.shape == (3, 6, model.feature_count)
    x = images[classes].flatten(0, 1)[:, None].float() / 256
    with torch.no_grad():
        activity = model.eval().activity(x)
    torch.testing.assert_close(f.flatten(0, 1), activity.features)
    total = sum(layer.sum().item() for layer in activity.pln) / (
        18 * sum(layer[0, 0].numel() for layer in activity.pln)
    )
    assert spikes == pytest.approx(total)


def test_too_many_classes_or_shots_are_refused():
    with pytest.raises(UserError, match="20 classes, but there are 12"):
        run(MetaTestConfig(milestones=(20,), shots=4))
    with pytest.raises(UserError, match="a class has 6 drawings"):
        run(MetaTestConfig(milestones=(2,), shots=6))


def test_the_oracle_alone_is_run_from_the_command_line_and_its_head_is_exported(tmp_path, monkeypatch):
    monkeypatch.setenv("SNN_ANML_CACHE", str(tmp_path / "cache"))
    config, run = write_yaml(tmp_path / "tiny.yaml", TINY), tmp_path / "run"
    options = ("--twin", "false", "--meta_test.protocols", "[iid]")
    assert snn_anml("train", "--config", config, "--out", run, *options).code == 0
    said = snn_anml("meta-test", run)
    assert said.code == 0
    assert "iid" in said.out
    assert snn_anml("export", run, "--target", "interpreter").code == 0
    refusal = refused("train", "--meta_test.protocols", "[strict, oracle]")
    assert refusal == "meta_test.protocols = oracle; it must be one of strict, paper, iid."
