"""Meta-training: plain classification first, then meta-steps; interrupted anywhere, it resumes bit for bit.

Meta-step: the features of all drawings of M trajectories in one batch; the inner loop on the output layer in the
dual (`snn_anml.meta.inner`); the loss is

    L = mean cross-entropy of the drawings after the inner loop + spike_weight * mean spikes per neuron.

Nothing random outlives a step (the generators of step k are seeded with (seed, stage, k)) and the learning rate
is a function of k, so weights, Adam's moments and k are all that a checkpoint must hold.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snn_anml import checkpoint
from snn_anml.config import MetaConfig, TrainConfig
from snn_anml.data.tasks import pictures, sample_batch, sample_trajectories
from snn_anml.errors import UserError
from snn_anml.files import write_text
from snn_anml.meta.heads import ADAM_BETAS, ADAM_EPS
from snn_anml.meta.inner import dual_sgd
from snn_anml.networks import ANML, Activity, spikes_per_neuron

REDRAW_GAIN = 2.0  # variance of a re-drawn output row times its fan-in (He et al. 2015), as in ANML


class Learner(nn.Module):
    """What meta-training changes: the network and the inner learning rate (kept positive as its logarithm)."""

    def __init__(self, model: ANML, inner_lr: float) -> None:
        super().__init__()
        self.model = model
        self.log_inner_lr = nn.Parameter(torch.tensor(math.log(inner_lr)))


class Loss(NamedTuple):
    """total: what is differentiated; accuracy, spikes: of the PLN, per neuron and inference; all scalars."""

    total: Tensor
    accuracy: Tensor
    spikes: Tensor


def _regularised(loss: Tensor, activity: Activity, model: ANML, weight: float) -> tuple[Tensor, Tensor]:
    """Adds weight x mean spikes per LIF neuron, and returns the PLN's alone beside it; a twin has none."""
    if model.config.neuron != "lif":
        return loss, torch.zeros((), device=loss.device)
    layers = activity.pln + (activity.nm if model.config.modulation == "spiking" else [])
    return loss + weight * spikes_per_neuron(layers), spikes_per_neuron(activity.pln).detach()


@dataclass(frozen=True)
class Stage:
    """Everything a training step needs but the learner: data, classes, configuration, precision.

    images: (classes, drawings, H, W) uint8 on the device; classes: (K,) of the meta-training classes.
    """

    images: Tensor
    classes: np.ndarray
    train: TrainConfig
    meta: MetaConfig
    seed: int

    def generators(self, step: int) -> tuple[np.random.Generator, torch.Generator]:
        """Sources of randomness of one step: for the sampling, and for encoding and re-drawn rows."""
        rng = np.random.default_rng([self.seed, 1, step])
        return rng, torch.Generator().manual_seed(int(rng.integers(2**63)))

    def activity(self, model: ANML, x: Tensor, generator: torch.Generator) -> Activity:
        """The network's forward pass in the configured precision; features come out in float32."""
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.train.precision == "bfloat16"):
            return model.activity(x, generator)


def warm_loss(learner: Learner, stage: Stage, step: int) -> Loss:
    """Plain classification of a random batch of the meta-training classes."""
    rng, generator = stage.generators(step)
    batch = sample_batch(rng, stage.classes, stage.images.shape[1], stage.train.warm_batch)
    activity = stage.activity(learner.model, pictures(stage.images, batch.classes, batch.drawings), generator)
    logits = learner.model.head(activity.features)
    labels = torch.from_numpy(batch.labels[0]).to(logits.device)
    loss, spikes = _regularised(F.cross_entropy(logits, labels), activity, learner.model, stage.train.spike_weight)
    return Loss(loss, (logits.argmax(-1) == labels).float().mean().detach(), spikes)


def initial_logits(
    learner: Learner, features: Tensor, trajectory: Tensor, head: str, generator: torch.Generator
) -> Tensor:
    """Logits (M, N, C) before the inner loop, from features (M, N, F) and the support labels (M, S).

    `zero`: an output layer of zeros. `meta`: the learned output layer, with the rows of the trajectory's classes
    re-drawn from normal(0, 2 / fan_in) in the fast copy, as the published ANML does for its one class.
    """
    model = learner.model
    if head == "zero":
        return features.new_zeros(*features.shape[:2], int(trajectory.max()) + 1)
    logits = model.head(features)
    scale = math.sqrt(REDRAW_GAIN / model.feature_count)
    for m, labels in enumerate(trajectory):
        rows = labels.unique()
        drawn = torch.randn((len(rows), model.feature_count), generator=generator).to(features) * scale
        logits = logits.index_put(
            (torch.tensor(m), torch.arange(features.shape[1])[:, None], rows), features[m] @ drawn.T
        )
    return logits


def meta_loss(learner: Learner, stage: Stage, step: int) -> Loss:
    """One meta-step's loss: inner loop on the output layer, then the loss over all drawings it is taken on.

    With queries or a remember set the loss is over those and, for `head = "meta"`, over the trajectory as well
    (as published); without any, over the trajectory alone.
    """
    rng, generator = stage.generators(step)
    batch = sample_trajectories(rng, stage.classes, stage.images.shape[1], stage.meta)
    M, N = batch.labels.shape
    S = stage.meta.classes * stage.meta.shots
    activity = stage.activity(learner.model, pictures(stage.images, batch.classes, batch.drawings), generator)
    features = activity.features.view(M, N, -1)
    labels = torch.from_numpy(batch.labels).to(features.device)
    logits = initial_logits(learner, features, labels[:, :S], stage.meta.head, generator)
    logits = dual_sgd(features, labels[:, :S], logits, learner.log_inner_lr.exp())
    first = S if stage.meta.head == "zero" and N > S else 0
    logits, labels = logits[:, first:].flatten(0, 1), labels[:, first:].flatten()
    loss, spikes = _regularised(F.cross_entropy(logits, labels), activity, learner.model, stage.train.spike_weight)
    return Loss(loss, (logits.argmax(-1) == labels).float().mean().detach(), spikes)


def learning_rate(step: int, total: int, peak: float) -> float:
    """Cosine decay from `peak` at step 0 to 0 at step `total`."""
    return peak * 0.5 * (1 + math.cos(math.pi * step / total))


class Metrics(NamedTuple):
    """One logged step; `steps_per_second` is of the wall clock, everything else is reproducible."""

    step: int
    stage: str
    loss: float
    accuracy: float
    spikes_per_neuron: float
    learning_rate: float
    inner_lr: float
    steps_per_second: float


def _check_finite(loss: float, step: int, config: TrainConfig) -> None:
    if not math.isfinite(loss):
        raise UserError(
            f"The loss is {loss} at step {step}; lower train.learning_rate ({config.learning_rate}) and train anew."
        )


def _save(path: Path, learner: Learner, optimizer: torch.optim.Optimizer, step: int, config_hash: str) -> None:
    tensors = {f"learner.{name}": value for name, value in learner.state_dict().items()}
    names = {id(parameter): name for name, parameter in learner.named_parameters()}
    for parameter, state in optimizer.state.items():
        tensors |= {f"adam.{key}.{names[id(parameter)]}": value for key, value in state.items()}
    checkpoint.save(path, "training", tensors, {"step": step, "config": config_hash})


def _restore(path: Path, learner: Learner, optimizer: torch.optim.Optimizer, config_hash: str) -> int:
    tensors, header = checkpoint.load(path, "training")
    if header["config"] != config_hash:
        raise UserError(
            f"{path} was written under another configuration; resume with that one, or choose another folder."
        )
    learner.load_state_dict({k.removeprefix("learner."): v for k, v in tensors.items() if k.startswith("learner.")})
    for name, parameter in learner.named_parameters():
        keys = ("step", "exp_avg", "exp_avg_sq")
        if f"adam.step.{name}" in tensors:
            state = {key: tensors[f"adam.{key}.{name}"].to(parameter.device) for key in keys}
            optimizer.state[parameter] = state
    return header["step"]


def _keep_metrics(path: Path, step: int) -> None:
    """Drops the lines of metrics.jsonl that the checkpoint does not know of, and a line cut short."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except (json.JSONDecodeError, KeyError):
            break
    write_text(path, "".join(kept))


def train(
    learner: Learner,
    stage: Stage,
    folder: Path,
    config_hash: str,
    resume: bool = False,
    on_step: Callable[[int, int, Metrics | None], None] = lambda step, total, metrics: None,
) -> Iterator[Metrics]:
    """Trains `learner` in place, and yields every line that it adds to `folder/metrics.jsonl`.

    Args:
        learner: network and inner learning rate.
        stage: data, classes and configuration.
        folder: receives `metrics.jsonl` and `training.safetensors` (the newest checkpoint).
        config_hash: identifies the configuration; a checkpoint of another one is refused.
        resume: go on from the checkpoint in `folder`, if there is one.
        on_step: called after every step with the number of steps done and their total.

    Raises:
        UserError: a checkpoint that cannot be read or is of another configuration; a loss that is not finite.
    """
    config = stage.train
    total = config.warm_steps + config.meta_steps
    optimizer = torch.optim.Adam(learner.parameters(), betas=ADAM_BETAS, eps=ADAM_EPS, fused=True)
    saved, log = folder / "training.safetensors", folder / "metrics.jsonl"
    done = _restore(saved, learner, optimizer, config_hash) if resume and saved.exists() else 0
    folder.mkdir(parents=True, exist_ok=True)
    _keep_metrics(log, done)
    learner.train()
    since, last = time.perf_counter(), done
    for step in range(done, total):
        warm = step < config.warm_steps
        loss = (warm_loss if warm else meta_loss)(learner, stage, step)
        optimizer.zero_grad(set_to_none=True)
        loss.total.backward()
        rate = learning_rate(step, total, config.learning_rate)
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
        on_step(step + 1, total, None)
        if (step + 1) % config.log_every == 0 or step + 1 == total:
            now = time.perf_counter()
            metrics = Metrics(
                step=step + 1,
                stage="warm" if warm else "meta",
                loss=loss.total.item(),
                accuracy=loss.accuracy.item(),
                spikes_per_neuron=loss.spikes.item(),
                learning_rate=rate,
                inner_lr=learner.log_inner_lr.exp().item(),
                steps_per_second=(step + 1 - last) / (now - since),
            )
            since, last = now, step + 1
            _check_finite(metrics.loss, step + 1, config)
            with log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(metrics._asdict()) + "\n")
            on_step(step + 1, total, metrics)
            yield metrics
        if (step + 1) % config.checkpoint_every == 0 or step + 1 == total:
            _check_finite(loss.total.item(), step + 1, config)
            _save(saved, learner, optimizer, step + 1, config_hash)
