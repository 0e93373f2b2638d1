"""Meta-training: losses against a written-out oracle, resuming bit for bit, and files that survive a kill."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from snn_anml import checkpoint
from snn_anml.config import MetaConfig, NetworkConfig, TrainConfig
from snn_anml.data.tasks import pictures, sample_batch, sample_trajectories
from snn_anml.errors import UserError
from snn_anml.meta.head_only import head_only_loss, initial_logits
from snn_anml.meta.outer import learning_rate, train, warm_loss
from snn_anml.meta.stage import Learner, Stage
from snn_anml.networks import make_network, spikes_per_neuron

NETWORK = NetworkConfig(widths=(4, 6), nm_widths=(3, 3), steps=3)
META = MetaConfig(trajectories=2, classes=3, shots=2, queries=1)
PUBLISHED = NetworkConfig("relu", "published", widths=(4, 4, 4), nm_widths=(3, 3, 3))
WHOLE = MetaConfig(
    classes=1, shots=3, remember=4, head="meta", adapt="pln", order="first", inner_lr=0.1, learn_inner_lr=False
)


def images(classes=12, size=12):
    """A random pattern for each class, and every drawing of it with noise."""
    rng = np.random.default_rng(0)
    patterns, noise = rng.integers(0, 200, (classes, 1, size, size)), rng.integers(0, 56, (classes, 6, size, size))
    return torch.from_numpy((patterns + noise).astype(np.uint8))


def setup(network=NETWORK, meta=META, warm=4, steps=4, size=12, **train_options):
    config = TrainConfig(
        warm_steps=warm, meta_steps=steps, warm_batch=8, log_every=1, checkpoint_every=3, **train_options
    )
    learner = Learner(make_network(network, 12, size, seed=1), meta)
    return learner, Stage(images(size=size), np.arange(12), config, meta, seed=5)


def weights(learner):
    return {name: value.clone() for name, value in learner.state_dict().items()}


def run(folder, steps=8, resume=False, stop=None, **options):
    learner, stage = setup(**options)
    for metrics in train(learner, stage, folder, "hash", resume):
        if metrics.step == stop:
            break
    return learner


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"network": NetworkConfig(widths=(4, 6), nm_widths=(3, 3), steps=3, modulation="spiking", encoding="rate")},
        {"meta": MetaConfig(classes=2, shots=2, queries=1, remember=6, head="meta")},
        {"precision": "bfloat16"},
        {"network": PUBLISHED, "size": 22, "meta": WHOLE},
        {"network": PUBLISHED, "size": 22, "meta": replace(WHOLE, order="none", redraw="meta")},
        {"network": PUBLISHED, "size": 22, "meta": MetaConfig(classes=2, shots=2, head="drawn", order="first")},
    ],
)
@pytest.mark.parametrize("stop", [2, 7])
def test_resumed_training_ends_with_the_same_weights_bit_for_bit(tmp_path, options, stop):
    whole = run(tmp_path / "whole", **options)
    run(tmp_path / "cut", stop=stop, **options)  # leaves a checkpoint at step 3 or 6, or none
    resumed = run(tmp_path / "cut", resume=True, **options)
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(resumed)[name]), name
    logs = [
        [
            json.loads(line) | {"steps_per_second": 0}
            for line in (tmp_path / d / "metrics.jsonl").read_text().splitlines()
        ]
        for d in ("whole", "cut")
    ]
    assert logs[0] == logs[1]
    assert [line["step"] for line in logs[0]] == list(range(1, 9))


def test_a_run_that_is_killed_resumes(tmp_path):
    """kill -9 in the middle of training, through the command line."""
    options = [
        *("--data.glyph_classes", "40", "--data.meta_test_classes", "8", "--data.selection_classes", "4"),
        *("--data.size", "12", "--network.widths", "[4,4]", "--network.nm_widths", "[3,3]"),
        *(
            "--train.warm_steps",
            "300",
            "--train.meta_steps",
            "300",
            "--train.checkpoint_every",
            "5",
            "--train.warm_batch",
            "8",
        ),
        *("--meta.classes", "4", "--meta_test.milestones", "[8]", "--export.classes", "8", "--export.samples", "4"),
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "SNN_ANML_CACHE": str(tmp_path / "cache")}

    def command(folder, *more):
        return [sys.executable, "-m", "experiments.cli", "train", *options, "--out", str(tmp_path / folder), *more]

    subprocess.run(command("whole"), env=environment, check=True, timeout=300)
    process = subprocess.Popen(command("cut"), env=environment)
    saved = tmp_path / "cut" / "training.safetensors"
    deadline = time.monotonic() + 120
    while not saved.exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "cut" / "model.safetensors").exists(), "the run ended before it was killed"
    step = checkpoint.load(saved, "training")[1]["step"]
    assert 0 < step < 600
    subprocess.run(command("cut", "--resume"), env=environment, check=True, timeout=300)
    whole, cut = (checkpoint.load(tmp_path / d / "model.safetensors", "model")[0] for d in ("whole", "cut"))
    assert whole.keys() == cut.keys()
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


def test_the_meta_loss_is_that_of_plain_sgd_on_an_output_layer():
    learner, stage = setup(meta=MetaConfig(classes=3, shots=2, queries=2), spike_weight=0.1)
    loss = head_only_loss(learner, stage, 7)
    learner, stage = setup(meta=MetaConfig(classes=3, shots=2, queries=2), spike_weight=0.1)
    rng, generator = stage.generators(7)
    batch = sample_trajectories(rng, stage.classes, 6, stage.meta)
    activity = learner.model.activity(pictures(stage.images, batch.classes, batch.drawings), generator)
    f, y = activity.features, torch.from_numpy(batch.labels[0])
    layer = torch.nn.Linear(f.shape[1], 3)
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.zero_()
    sgd = torch.optim.SGD(layer.parameters(), lr=0.02)
    for k in range(6):
        sgd.zero_grad()
        F.cross_entropy(layer(f[k : k + 1].detach()), y[k : k + 1]).backward()
        sgd.step()
    expected = F.cross_entropy(layer(f[6:]), y[6:]) + 0.1 * spikes_per_neuron(activity.pln)
    torch.testing.assert_close(loss.total, expected)
    assert loss.spikes == spikes_per_neuron(activity.pln)


def test_the_loss_is_the_mean_over_the_learners():
    def loss(*learners):
        learner, stage = setup(meta=MetaConfig(classes=3, shots=2, queries=2, learners=learners), spike_weight=0.1)
        return learner, stage, head_only_loss(learner, stage, 7)

    kinds = "sgd", "class-mean", "cosine", "gaussian"
    alone = [loss(kind)[2] for kind in kinds]
    learner, stage, together = loss(*kinds)
    torch.testing.assert_close(together.total, torch.stack([one.total for one in alone]).mean())
    torch.testing.assert_close(together.accuracy, torch.stack([one.accuracy for one in alone]).mean())
    together.total.backward()
    assert all(p.grad is not None and p.grad.isfinite() for p in learner.readouts.parameters())

    rng, generator = stage.generators(7)
    batch = sample_trajectories(rng, stage.classes, 6, stage.meta)
    activity = learner.model.activity(pictures(stage.images, batch.classes, batch.drawings), generator)
    f, y = activity.features, torch.from_numpy(batch.labels[0])
    logits = learner.readouts.logits("gaussian", f[:6].view(3, 2, -1), f[6:])
    expected = F.cross_entropy(logits, y[6:]) + 0.1 * spikes_per_neuron(activity.pln)
    torch.testing.assert_close(alone[3].total, expected)


def test_every_drawing_is_asked_about_where_each_is_left_out():
    meta = MetaConfig(classes=3, shots=2, queries=2, learners=("gaussian",), leave_one_out=True)
    learner, stage = setup(meta=meta, spike_weight=0.1)
    loss = head_only_loss(learner, stage, 7)
    rng, generator = stage.generators(7)
    batch = sample_trajectories(rng, stage.classes, 6, meta)
    activity = learner.model.activity(pictures(stage.images, batch.classes, batch.drawings), generator)
    of_class = [activity.features[torch.from_numpy(batch.labels[0] == c)] for c in range(3)]
    logits = learner.readouts.left_out_logits("gaussian", torch.stack(of_class))
    labels = torch.arange(3).repeat_interleave(4)
    expected = F.cross_entropy(logits, labels) + 0.1 * spikes_per_neuron(activity.pln)
    torch.testing.assert_close(loss.total, expected)
    assert loss.accuracy == (logits.argmax(1) == labels).float().mean()


def test_unit_sgd_learns_from_features_of_unit_length_without_a_bias():
    learner, stage = setup(meta=MetaConfig(classes=3, shots=2, queries=1, learners=("unit-sgd",)), spike_weight=0.1)
    loss = head_only_loss(learner, stage, 7)
    rng, generator = stage.generators(7)
    batch = sample_trajectories(rng, stage.classes, 6, stage.meta)
    activity = learner.model.activity(pictures(stage.images, batch.classes, batch.drawings), generator)
    f, y = F.normalize(activity.features, dim=1), torch.from_numpy(batch.labels[0])
    weight = torch.zeros(3, f.shape[1])
    for x, label in zip(f[:6], y[:6], strict=True):
        error = torch.softmax(weight @ x, 0) - F.one_hot(label, 3)
        weight = weight - learner.inner_lr * error[:, None] * x
    expected = F.cross_entropy(f[6:] @ weight.T, y[6:]) + 0.1 * spikes_per_neuron(activity.pln)
    torch.testing.assert_close(loss.total, expected)
    assert not hasattr(learner, "readouts")


def test_rows_of_the_trajectory_are_redrawn_and_the_others_kept():
    learner, stage = setup(meta=MetaConfig(head="meta"))
    with torch.no_grad():
        learner.model.head.weight.normal_(generator=torch.Generator().manual_seed(0))
    f = torch.rand(1, 5, learner.model.feature_count)
    labels = torch.tensor([[2, 2, 7]])
    first, again = (
        initial_logits(learner, f, labels, stage.meta, [torch.Generator().manual_seed(3)]) for _ in range(2)
    )
    plain = learner.model.head(f)
    kept = [c for c in range(12) if c not in (2, 7)]
    assert torch.equal(first[..., kept], plain[..., kept])
    assert torch.equal(first, again)
    assert (first[..., [2, 7]] != plain[..., [2, 7]]).all()


def test_spikes_of_a_spiking_modulation_are_charged_and_activations_are_not():
    for modulation in ("conventional", "spiking"):
        network = NetworkConfig(widths=(4, 6), nm_widths=(3, 3), steps=3, modulation=modulation)
        with_weight, without = (warm_loss(*setup(network=network, spike_weight=w), 0).total for w in (0.5, 0.0))
        learner, stage = setup(network=network)
        rng, _ = stage.generators(0)
        batch = sample_batch(rng, stage.classes, 6, 8)
        activity = learner.model.activity(pictures(stage.images, batch.classes, batch.drawings))
        layers = activity.pln + (activity.nm if modulation == "spiking" else [])
        torch.testing.assert_close(with_weight - without, 0.5 * spikes_per_neuron(layers))


@pytest.mark.parametrize(("loss", "step"), [(warm_loss, 3), (head_only_loss, 6)])
def test_the_weight_of_spikes_rises_with_the_steps_of_both_loops(loss, step):
    def total(step, **options):
        return loss(*setup(warm=4, steps=4, **options), step).total

    plain = total(step, spike_weight=0.0)
    risen = total(step, spike_weight=0.8, spike_schedule="linear") - plain
    torch.testing.assert_close(risen, total(step, spike_weight=0.8 * step / 8) - plain)
    assert risen > 0
    assert total(0, spike_weight=0.8, spike_schedule="linear") == total(0, spike_weight=0.0)


@pytest.mark.parametrize("outputs", [0, 7])
def test_spikes_are_charged_by_the_synapses_they_enter(outputs):
    network = NetworkConfig(widths=(4, 6), nm_widths=(3, 3), steps=3, modulation="spiking")
    totals = []
    for weight in (0.5, 0.0):
        learner, stage = setup(network=network, spike_weight=weight, spike_cost="synapse")
        totals.append(warm_loss(learner, replace(stage, outputs=outputs), 0).total)
    learner, stage = setup(network=network)
    rng, _ = stage.generators(0)
    batch = sample_batch(rng, stage.classes, 6, 8)
    activity = learner.model.activity(pictures(stage.images, batch.classes, batch.drawings))
    layers, fan_out = activity.pln + activity.nm, learner.model.fan_out(outputs)
    operations = sum(c * layer.sum() / 8 for c, layer in zip(fan_out, layers, strict=True))
    synapses = sum(c * layer[0, 0].numel() for c, layer in zip(fan_out, layers, strict=True))
    torch.testing.assert_close(totals[0] - totals[1], 0.5 * operations / synapses)


def test_learning_lowers_the_loss(tmp_path):
    learner, stage = setup(warm=100, steps=0, learning_rate=0.01)
    metrics = list(train(learner, stage, tmp_path, "hash"))
    assert np.mean([m.loss for m in metrics[-5:]]) < 0.5 * metrics[0].loss


def test_cosine_schedule():
    assert learning_rate(0, 10, 3.0) == 3.0
    assert learning_rate(5, 10, 3.0) == pytest.approx(1.5)
    assert learning_rate(10, 10, 3.0) == pytest.approx(0)


def test_a_checkpoint_of_another_configuration_is_refused(tmp_path):
    run(tmp_path)
    learner, stage = setup()
    with pytest.raises(UserError, match="another configuration"):
        list(train(learner, stage, tmp_path, "other", resume=True))


def test_a_loss_that_is_not_finite_stops_with_a_sentence(tmp_path):
    learner, stage = setup()
    with torch.no_grad():
        learner.model.head.weight.fill_(float("nan"))
    with pytest.raises(UserError, match="loss is nan at step 1"):
        list(train(learner, stage, tmp_path, "hash"))
