"""A training step of the published ANML against its re-statement: rows re-drawn, both orders, and weights that stay."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from benchmarks.restated_anml import restated_logits, restated_step
from snn_anml.config import MetaConfig, NetworkConfig, TrainConfig
from snn_anml.data.tasks import pictures, sample_trajectories
from snn_anml.meta.outer import add_gradient
from snn_anml.meta.published import MetaStep
from snn_anml.meta.stage import Learner, Stage
from snn_anml.networks import make_network
from tests.published_helpers import assert_same_step

NETWORK = NetworkConfig("relu", "published", widths=(5, 5, 5), nm_widths=(3, 3, 3))
META = MetaConfig(
    classes=1, shots=4, queries=0, remember=6, head="meta", adapt="pln", order="first", inner_lr=0.1,
    learn_inner_lr=False,
)  # fmt: skip


def setup(meta=META, network=NETWORK, freeze_nm=False):
    torch.manual_seed(0)
    learner = Learner(make_network(network, 12, 24, seed=1), meta, freeze_nm).double()
    learner.model.head.bias.data.normal_(generator=torch.Generator().manual_seed(2))
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (12, 6, 24, 24), dtype=np.uint8))
    return learner, Stage(images, np.arange(12), TrainConfig(warm_steps=0, meta_steps=9), meta, seed=5)


@pytest.fixture(autouse=True)
def exact_pictures(monkeypatch):
    """Pictures in float64, so that the steps can be held against each other."""
    monkeypatch.setattr("snn_anml.meta.stage.pictures", lambda *a: pictures(*a).double())


def rows_drawn(stage, model, labels, step=3):
    """The rows that the step draws for each trajectory."""
    rng, _ = stage.generators(step)
    sample_trajectories(rng, stage.classes, stage.images.shape[1], stage.meta)
    generators = [torch.Generator().manual_seed(int(seed)) for seed in rng.integers(2**63, size=len(labels))]
    features = model.feature_count
    return [
        torch.randn((len(set(y.tolist())), features), generator=g).double() * (2 / features) ** 0.5
        for y, g in zip(labels, generators, strict=True)
    ]


def sampled(stage, model, step=3):
    """Pictures and labels of every trajectory of the step."""
    batch, *_ = stage.trajectories(step, copy.deepcopy(model))
    x = [pictures(stage.images, c, d).double() for c, d in zip(batch.classes, batch.drawings, strict=True)]
    return x, torch.from_numpy(batch.labels)


def left(loss, model):
    """What a step left behind."""
    gradient = {name: parameter.grad for name, parameter in model.named_parameters()}
    return MetaStep(loss.total.detach(), loss.accuracy, gradient)


@pytest.mark.parametrize("order", ["first", "second"])
@pytest.mark.parametrize("adapt", ["pln", "head"])
@pytest.mark.parametrize("redraw", ["fast", "meta"])
@pytest.mark.parametrize("trajectories", [1, 2])
def test_the_gradient_is_that_of_the_restatement(order, adapt, redraw, trajectories):
    meta = replace(META, order=order, adapt=adapt, redraw=redraw, trajectories=trajectories)
    learner, stage = setup(meta)
    model, S = learner.model, meta.shots
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    x, y = sampled(stage, model)
    drawn = rows_drawn(stage, model, y[:, :S])
    if redraw == "meta":
        for labels, rows in zip(y, drawn, strict=True):
            before["pln.out.weight"][labels[0]] = rows[0]
    loss = add_gradient(learner, stage, 3)
    total, expected = (
        torch.zeros((), dtype=torch.float64),
        {name: torch.zeros_like(value) for name, value in before.items()},
    )
    for pixels, labels, rows in zip(x, y, drawn, strict=True):
        weights = dict(before)
        if redraw == "fast":
            row = labels[0]
            weights["pln.out.weight"] = before["pln.out.weight"].index_put((row,), rows[0])
            weights["pln.out.bias"] = before["pln.out.bias"].index_fill(0, row, 0)
        one, _, gradient = restated_step(weights, (pixels[:S], labels[:S]), (pixels, labels), 0.1, order, adapt)
        if redraw == "fast":
            gradient["pln.out.weight"][row] = 0
            gradient["pln.out.bias"][row] = 0
        total += one / trajectories
        expected = {name: value + gradient[name] / trajectories for name, value in expected.items()}
    assert_same_step(left(loss, model), MetaStep(total, loss.accuracy, expected))
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]), name


@pytest.mark.parametrize("adapt", ["pln", "head"])
def test_without_meta_gradient_the_inner_loop_stays_and_the_loss_trains_what_it_left(adapt):
    meta = replace(META, order="none", redraw="meta", adapt=adapt)
    learner, stage = setup(meta)
    model, S = learner.model, meta.shots
    weights = {name: value.detach().clone() for name, value in model.named_parameters()}
    (x,), (y,) = sampled(stage, model)
    weights["pln.out.weight"][y[0]] = rows_drawn(stage, model, y[None, :S])[0][0]
    prefix = "pln." if adapt == "pln" else "pln.out."
    for pixels, label in zip(x[:S], y[:S], strict=True):
        adapted = {name: value.requires_grad_() for name, value in weights.items() if name.startswith(prefix)}
        loss = F.cross_entropy(restated_logits(weights, pixels[None]), label[None])
        gradients = torch.autograd.grad(loss, list(adapted.values()))
        step = {name: (weights[name] - 0.1 * g).detach() for name, g in zip(adapted, gradients, strict=True)}
        weights = {name: value.detach() for name, value in weights.items()} | step
    for value in weights.values():
        value.requires_grad_()
    loss = F.cross_entropy(restated_logits(weights, x), y)
    gradients = torch.autograd.grad(loss, list(weights.values()))
    ours = add_gradient(learner, stage, 3)
    expected = dict(zip(weights, gradients, strict=True))
    assert_same_step(left(ours, model), MetaStep(loss.detach(), ours.accuracy, expected))
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter, weights[name], rtol=1e-9, atol=1e-12, msg=name)


@pytest.mark.parametrize("adapt", ["pln", "head"])
def test_a_frozen_nm_network_gates_and_stays(adapt):
    learner, stage = setup(replace(META, adapt=adapt), freeze_nm=True)
    add_gradient(learner, stage, 3)
    weights = dict(learner.model.named_parameters())
    assert all((value.grad is None) == name.startswith("nm.") for name, value in weights.items())
    with torch.no_grad():
        weights["nm.out.bias"].fill_(-2.0)
    gated = add_gradient(learner, stage, 3).total
    assert gated != add_gradient(*setup(replace(META, adapt=adapt)), 3).total


def test_an_output_layer_drawn_anew_depends_on_nothing_learned():
    """OML: the output layer of the network takes no part, whatever it holds."""
    meta = MetaConfig(classes=3, shots=2, queries=2, head="drawn")
    losses = []
    for fill in (0.0, 7.0):
        learner, stage = setup(meta, replace(NETWORK, modulation="none"))
        with torch.no_grad():
            learner.model.head.weight.fill_(fill)
        losses.append(add_gradient(learner, stage, 3))
        assert learner.model.head.weight.grad is None
    assert losses[0].total == losses[1].total
    x, y = sampled(stage, learner.model)
    (rows,) = rows_drawn(stage, learner.model, y[:, :6])
    weights = {name: value.detach() for name, value in learner.model.named_parameters()}
    weights |= {"pln.out.weight": rows, "pln.out.bias": torch.zeros(3, dtype=torch.float64)}
    trajectory, queries = (x[0][:6], y[0][:6]), (x[0][6:], y[0][6:])
    rate = torch.as_tensor(learner.inner_lr).item()
    loss, accuracy, gradient = restated_step(weights, trajectory, queries, rate, "second", "head")
    learned = {name: value for name, value in left(losses[1], learner.model).gradient.items() if value is not None}
    expected = {name: gradient[name] for name in learned}
    assert "pln.conv1.weight" in expected
    assert_same_step(MetaStep(losses[1].total.detach(), accuracy, learned), MetaStep(loss, accuracy, expected))
