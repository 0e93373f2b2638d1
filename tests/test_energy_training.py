"""Operations of meta-training: the inner loop against what torch multiplies, the totals against sums by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from converters.energy import count as count_inference
from converters.energy.training import CSV_COLUMNS, count, csv_rows, inner_operations, joules
from snn_anml.config import MetaConfig, TrainConfig
from snn_anml.errors import UserError
from snn_anml.meta.inner import dual_sgd, sgd_
from snn_anml.meta.streaming import class_mean_scores, gaussian_scores
from tests.energy_helpers import anml_like, recording_of

WIDTH, CLASSES = 11, 13


class Multiplications(TorchDispatchMode):
    """Multiply-accumulates of matrix products and of outer products added to a matrix."""

    def __init__(self):
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        name = func.__name__.partition(".")[0]
        if name in ("mm", "bmm", "mv"):
            self.total += math.prod(args[0].shape) * (args[1].shape[-1] if name != "mv" else 1)
        elif name in ("addmm", "addmv"):
            self.total += math.prod(args[1].shape) * (args[2].shape[-1] if name == "addmm" else 1)
        elif name in ("addcmul_", "addr_"):
            self.total += args[0].numel()
        return result


def tensors(meta, outputs):
    generator = torch.Generator().manual_seed(0)
    n = meta.classes * (meta.shots + meta.queries) + meta.remember
    features = torch.rand((1, n, WIDTH), generator=generator, requires_grad=True)
    labels = torch.arange(meta.classes).repeat_interleave(meta.shots)[None]
    return features, labels, torch.zeros(1, n, outputs)


@pytest.mark.parametrize("order", ["first", "second"])
def test_the_dual_inner_loop_and_its_gradient(order):
    meta = MetaConfig(classes=3, shots=4, queries=2, order=order)
    features, labels, logits = tensors(meta, 3)
    with Multiplications() as done:
        dual_sgd(features, labels, logits, 0.1, order).square().sum().backward()
    assert done.total == inner_operations(meta, WIDTH, CLASSES)


def test_a_learned_layer_adds_its_logits():
    """Of all meta-training classes, forward and both gradients."""
    options = {"classes": 2, "shots": 3, "queries": 0, "remember": 5}
    meta, zero = MetaConfig(head="meta", **options), MetaConfig(classes=2, shots=3, queries=0)
    features, labels, _ = tensors(meta, CLASSES)
    layer = torch.zeros(CLASSES, WIDTH, requires_grad=True)
    with Multiplications() as done:
        dual_sgd(features, labels, features @ layer.mT, 0.1).square().sum().backward()
    assert done.total == inner_operations(meta, WIDTH, CLASSES) > inner_operations(zero, WIDTH, CLASSES)


def test_a_drawn_layer_has_no_gradient():
    meta = MetaConfig(head="drawn", classes=3, shots=2, queries=1)
    features, labels, _ = tensors(meta, 3)
    rows = torch.ones(3, WIDTH)
    with Multiplications() as done:
        dual_sgd(features, labels, features @ rows.mT, 0.1).square().sum().backward()
    assert done.total == inner_operations(meta, WIDTH, CLASSES)


def test_without_a_meta_gradient():
    meta = MetaConfig(
        head="meta", redraw="meta", order="none", learn_inner_lr=False, classes=2, shots=2, queries=0, remember=3
    )
    features, labels, _ = tensors(meta, CLASSES)
    layer = torch.nn.Linear(WIDTH, CLASSES)
    with Multiplications() as done:
        sgd_(layer.weight.data, layer.bias.data, features[0, :4].detach(), labels[0], 0.1)
        F.linear(features[0], layer.weight, layer.bias).square().sum().backward()
    assert done.total == inner_operations(meta, WIDTH, CLASSES)


@pytest.mark.parametrize(("learner", "scores"), [("class-mean", class_mean_scores), ("gaussian", gaussian_scores)])
def test_scores_of_statistics(learner, scores):
    meta = MetaConfig(classes=3, shots=4, queries=2, learners=(learner,))
    features, _, _ = tensors(meta, 3)
    support, queries = features[:, :12].unflatten(1, (3, 4)), features[:, 12:]
    prior = (4.0, 0.1) if learner == "gaussian" else ()
    with Multiplications() as done:
        scores(support, queries, *prior).square().sum().backward()
    assert done.total == inner_operations(meta, WIDTH, CLASSES)
    every = MetaConfig(classes=3, shots=4, queries=2, learners=(learner,), leave_one_out=True)
    assert inner_operations(every, WIDTH, CLASSES) * 6 == done.total * 18
    sgd = MetaConfig(classes=3, shots=4, queries=2)
    for of_sgd in ("sgd", "unit-sgd"):
        both = MetaConfig(classes=3, shots=4, queries=2, learners=(of_sgd, learner))
        assert inner_operations(both, WIDTH, CLASSES) == done.total + inner_operations(sgd, WIDTH, CLASSES)


@pytest.mark.parametrize("frozen", [False, True])
def test_totals_by_hand(frozen):
    rng = np.random.default_rng(0)
    graph = anml_like(rng)
    inference = count_inference(graph, recording_of(graph, 3, rng))
    names = ("dense", "dense_pool_adds", "gate_multiplies", "neuron_updates")
    of = {part: sum(inference.of_part(part).per_sample(name)[0] for name in names) for part in inference.parts}
    train = TrainConfig(warm_steps=5, warm_batch=7, meta_steps=3, freeze_nm=frozen)
    meta = MetaConfig(trajectories=2, classes=3, shots=4, queries=2)
    counts = count(inference, train, meta, features=WIDTH, classes=CLASSES, parameters=100, head=40)
    drawings = 5 * 7 + 3 * 2 * 18
    assert (counts.steps, counts.drawings) == (8, drawings)
    assert counts.network == drawings * (3 * of["pln"] + (1 if frozen else 3) * of["nm"])
    assert counts.inner == 5 * 7 * 3 * WIDTH * CLASSES + 6 * inner_operations(meta, WIDTH, CLASSES)
    assert counts.optimiser == 21 * (5 * 100 + 3 * 60)  # a trajectory's own layer is not the learned one
    learned = replace(meta, head="meta")
    whole = count(inference, train, learned, features=WIDTH, classes=CLASSES, parameters=100, head=40)
    assert whole.optimiser == 21 * 8 * 100
    rows = csv_rows(counts, 12.5)
    assert all(tuple(row) == CSV_COLUMNS for row in rows)
    assert [row["device"] for row in rows] == ["gpu", "cpu", "arm"]
    assert [row["joules"] for row in rows] == pytest.approx([e * counts.operations for e in (0.3e-9, 8.6e-9, 0.9e-9)])
    assert {row["seconds"] for row in rows} == {12.5}


def test_mistakes_are_named():
    whole = MetaConfig(adapt="pln", head="meta", learn_inner_lr=False)
    with pytest.raises(UserError, match="adapt = 'pln'"):
        inner_operations(whole, WIDTH, CLASSES)
    rng = np.random.default_rng(0)
    graph = anml_like(rng)
    inference = count_inference(graph, recording_of(graph, 1, rng))
    counts = count(inference, TrainConfig(meta_steps=0), whole, features=WIDTH, classes=CLASSES, parameters=1, head=1)
    assert counts.inner == 1000 * 84 * 3 * WIDTH * CLASSES
    with pytest.raises(UserError, match="loihi skips zeros"):
        joules(counts, "loihi")
