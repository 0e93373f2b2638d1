"""The meta-step by automatic differentiation: against the fast functions, MAML written out, and in training."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from benchmarks.restated_anml import restated_logits
from snn_anml.config import MetaConfig, NetworkConfig, TrainConfig
from snn_anml.data.tasks import pictures
from snn_anml.errors import UserError
from snn_anml.meta import Learner, Stage, train
from snn_anml.meta.plain import plain_meta_step
from snn_anml.meta.published import Drawings, MetaStep, meta_step
from snn_anml.meta.whole_network import whole_network_step
from snn_anml.networks import make_network
from snn_anml.networks.first_block import windows
from snn_anml.networks.plain_tower import plain_features
from snn_anml.networks.published import gated_features
from tests.published_helpers import apart, assert_same_step, random_case, together
from tests.test_published_anml import CASES

SOME_CASES = {name: CASES[name] for name in ("as published", "one channel", "no gate")}
MAML = MetaConfig(
    trajectories=2, classes=3, shots=2, queries=2, head="slots", adapt="pln", inner_lr=0.1, learn_inner_lr=False,
    inner_batch=0, inner_passes=2,
)  # fmt: skip
ANML = MetaConfig(classes=1, shots=4, queries=0, remember=3, head="meta", adapt="pln", learn_inner_lr=False)


@pytest.mark.parametrize("sizes", SOME_CASES.values(), ids=SOME_CASES)
def test_the_tower_is_the_published_one(sizes):
    case = random_case(seed=11, **sizes)
    x = case.query[0]
    expected = gated_features(case.weights, windows(x[:, 0]))
    for ours, theirs in zip(plain_features(case.weights, x), expected, strict=True):
        assert (ours is None) == (theirs is None)
        if theirs is not None:
            torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("order", ["none", "first", "second"])
@pytest.mark.parametrize("adapt", ["pln", "head"])
@pytest.mark.parametrize("sizes", SOME_CASES.values(), ids=SOME_CASES)
def test_equals_the_fast_functions(sizes, adapt, order):
    case = random_case(seed=12, **sizes)
    for drawings in (apart(case), together(case)):
        ours, fast = (
            step(case.weights, drawings, case.inner_lr, order, adapt) for step in (plain_meta_step, meta_step)
        )
        assert_same_step(ours, fast)
        assert (ours.adapted is None) == (fast.adapted is None)
        for name, value in (fast.adapted or {}).items():
            assert ours.adapted is not None
            torch.testing.assert_close(ours.adapted[name], value, rtol=1e-9, atol=1e-10)


def written_out(weights, drawings, inner_lr, order, batch, passes):
    """MAML on the re-stated network: SGD on minibatches of the trajectory, several times through it."""
    meta = {name: value.detach().requires_grad_() for name, value in weights.items()}
    fast, (x, y, support, start) = dict(meta), drawings
    for _ in range(passes):
        for part in torch.arange(support).split(batch or support):
            loss = F.cross_entropy(restated_logits(fast, x[part]), y[part])
            gradients = torch.autograd.grad(loss, list(fast.values()), create_graph=order == "second")
            fast = {
                name: value - inner_lr * gradient if name.startswith("pln.") else value
                for (name, value), gradient in zip(fast.items(), gradients, strict=True)
            }
    logits = restated_logits(fast, x[start:])
    loss = F.cross_entropy(logits, y[start:])
    gradients = torch.autograd.grad(loss, list(meta.values()))
    accuracy = (logits.argmax(1) == y[start:]).to(loss.dtype).mean()
    return MetaStep(loss.detach(), accuracy, dict(zip(meta, gradients, strict=True)))


@pytest.mark.parametrize("order", ["first", "second"])
@pytest.mark.parametrize("batch", [0, 3])
@pytest.mark.parametrize("sizes", [CASES["as published"], CASES["no gate"]], ids=["gates", "no gate"])
def test_minibatches_and_passes_are_maml_written_out(sizes, batch, order):
    case = random_case(seed=13, **sizes)
    drawings = together(case)._replace(query_from=len(case.trajectory[1]))  # the queries alone
    ours = plain_meta_step(case.weights, drawings, case.inner_lr, order, "pln", batch, passes=2)
    assert_same_step(ours, written_out(case.weights, drawings, case.inner_lr, order, batch, 2))


def single(case):
    drawings = together(case)
    return {name: value.float() for name, value in case.weights.items()}, drawings._replace(
        pictures=drawings.pictures.float()
    )


@pytest.mark.parametrize("order", ["first", "second"])
def test_bfloat16_is_near_single_precision(order):
    """What is left is ReLUs and maxima that rounding moves: cosine 0.988, and 0.7 to 0.98 at larger inner rates."""
    case = random_case(seed=14, nm=16, pln=32, classes=5, lr=0.002, support=4, remember=8, channels=1)
    inputs = (*single(case), case.inner_lr, order)
    exact = plain_meta_step(*inputs)
    with torch.autocast("cpu", torch.bfloat16):
        low = plain_meta_step(*inputs)
    assert low.loss != exact.loss, "autocast did nothing"
    torch.testing.assert_close(low.loss, exact.loss, rtol=0.01, atol=0)
    ours, theirs = (torch.cat([g.flatten() for g in step.gradient.values()]) for step in (low, exact))
    assert ours.dtype == torch.float32
    assert F.cosine_similarity(ours, theirs, 0) > 0.98


def test_the_output_layer_is_in_single_precision_under_autocast():
    """With the features at 1, rounding a gradient in the output layer's bias to bfloat16 would show."""
    case = random_case(seed=15, nm=0, pln=4, classes=5, lr=0.1, support=3, remember=4, channels=1)
    weights, drawings = single(case)
    for layer in (1, 2, 3):  # features of relu(shift), whatever the convolutions are
        weights[f"pln.norm{layer}.weight"] = torch.zeros(4)
        weights[f"pln.norm{layer}.bias"] = torch.ones(4)
    exact = plain_meta_step(weights, drawings, 0.1, "second", "head")
    with torch.autocast("cpu", torch.bfloat16):
        low = plain_meta_step(weights, drawings, 0.1, "second", "head")
    for name in ("pln.out.weight", "pln.out.bias"):
        torch.testing.assert_close(low.gradient[name], exact.gradient[name], rtol=1e-5, atol=1e-6)


def setup(meta, modulation="conventional", steps=5, **options):
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.integers(0, 256, (7, 6, 22, 22), dtype=np.uint8))
    network = NetworkConfig("relu", "published", widths=(4,) * 3, modulation=modulation, nm_widths=(3,) * 3)
    config = TrainConfig(warm_steps=1, meta_steps=steps, warm_batch=4, log_every=1, checkpoint_every=2, **options)
    learner = Learner(make_network(network, 7, 22, seed=1), meta)
    return learner, Stage(images, np.arange(7), config, meta, seed=5)


@pytest.mark.parametrize(
    ("meta", "options"),
    [(MAML, {"modulation": "none"}), (MAML, {"precision": "bfloat16"}), (ANML, {"precision": "bfloat16"})],
    ids=["MAML", "MAML, gates, bfloat16", "ANML, bfloat16"],
)
def test_resumed_training_ends_with_the_same_weights_bit_for_bit(tmp_path, meta, options):
    def run(folder, resume=False, stop=None):
        learner, stage = setup(meta, **options)
        for metrics in train(learner, stage, tmp_path / folder, "hash", resume):
            if metrics.step == stop:
                break
        lines = (tmp_path / folder / "metrics.jsonl").read_text().splitlines()
        return learner.state_dict(), [json.loads(line) | {"steps_per_second": 0} for line in lines]

    whole, log = run("whole")
    run("cut", stop=5)  # leaves a checkpoint at step 4
    resumed, again = run("cut", resume=True)
    assert log == again
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())


@pytest.mark.parametrize("order", ["first", "second"])
def test_slots_are_the_first_outputs_and_the_loss_is_on_the_queries(order, monkeypatch):
    monkeypatch.setattr("snn_anml.meta.stage.pictures", lambda *which: pictures(*which).double())
    meta = MetaConfig(**{**vars(MAML), "order": order})
    learner, stage = setup(meta, modulation="none")
    model = learner.model.double()
    loss = whole_network_step(learner, stage, 3)
    batch, _, _ = stage.trajectories(3, model)
    weights = {name: value.detach() for name, value in model.named_parameters()}
    weights |= {name: weights[name][: meta.classes] for name in ("pln.out.weight", "pln.out.bias")}
    expected = []
    for m, labels in enumerate(torch.from_numpy(batch.labels)):
        assert labels.tolist() == [0, 0, 1, 1, 2, 2] * 2
        x = pictures(stage.images, batch.classes[m], batch.drawings[m]).double()
        expected.append(written_out(weights, Drawings(x, labels, 6, 6), 0.1, order, 0, 2))
    torch.testing.assert_close(loss.total, torch.stack([one.loss for one in expected]).mean())
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        mean = torch.stack([one.gradient[name] for one in expected]).mean(0)
        torch.testing.assert_close(parameter.grad[: len(mean)], mean, rtol=1e-8, atol=1e-12)
        assert not parameter.grad[len(mean) :].any()


@pytest.mark.parametrize("meta", [MAML, ANML], ids=["MAML", "ANML"])
def test_a_fused_optimiser_takes_the_step_of_a_plain_one(meta):
    """A fused optimiser reads a gradient as it lies in memory, whatever its strides."""
    after = []
    for fused in (True, False):
        learner, stage = setup(meta)
        optimizer = torch.optim.SGD([p for p in learner.parameters() if p.requires_grad], lr=1.0, fused=fused)
        whole_network_step(learner, stage, 3)
        optimizer.step()
        after.append(learner.state_dict())
    for name, value in after[0].items():
        torch.testing.assert_close(value, after[1][name], msg=name)


def test_more_classes_than_outputs_are_refused():
    learner, stage = setup(MetaConfig(**{**vars(MAML), "classes": 8}))
    with pytest.raises(UserError, match=r"meta\.classes = 8, but there are only 7"):
        whole_network_step(learner, stage, 3)


def test_mistakes_are_named():
    case = random_case(seed=16, **CASES["one channel"])
    with pytest.raises(ValueError, match="support = 9"):
        plain_meta_step(case.weights, Drawings(*case.query, support=9), 0.1)
