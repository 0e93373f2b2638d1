"""Meta-training: plain classification first, then meta-steps; interrupted anywhere, it resumes bit for bit.

A meta-step is that of `snn_anml.meta.head_only` or `snn_anml.meta.whole_network`, by what the inner loop changes.
Nothing random outlives a step (the generators of step k are seeded with (seed, stage, k)) and the learning rate
is a function of k, so weights, Adam's moments and k are all that a checkpoint must hold.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F

from snn_anml import checkpoint
from snn_anml.config import TrainConfig
from snn_anml.errors import UserError
from snn_anml.files import write_text
from snn_anml.group import Group
from snn_anml.meta.head_only import head_only_loss
from snn_anml.meta.softmax_layer import ADAM_BETAS, ADAM_EPS
from snn_anml.meta.stage import Learner, Loss, Stage
from snn_anml.meta.whole_network import whole_network_step


def warm_loss(learner: Learner, stage: Stage, step: int) -> Loss:
    """Plain classification of a random batch of the meta-training classes."""
    batch, generator = stage.batch(step)
    activity = stage.activity(learner.model, batch, generator)
    logits = learner.model.head(activity.features)
    labels = torch.from_numpy(batch.labels[0]).to(logits.device)
    loss, spikes = stage.regularised(F.cross_entropy(logits, labels), activity, learner.model, step)
    return Loss(loss, (logits.argmax(-1) == labels).float().mean().detach(), spikes)


def add_gradient(learner: Learner, stage: Stage, step: int) -> Loss:
    """Adds the gradient of one training step to `.grad` of the parameters, and returns the loss of this process."""
    if step >= stage.train.warm_steps and stage.meta.adapt == "pln":
        loss = whole_network_step(learner, stage, step)
    else:
        loss = (warm_loss if step < stage.train.warm_steps else head_only_loss)(learner, stage, step)
        loss.total.backward()
    stage.group.average_(p.grad for p in learner.parameters() if p.grad is not None)
    return loss


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


def _restore(path: Path, learner: Learner, optimizer: torch.optim.Optimizer, config_hash: str, group: Group) -> int:
    saved = group.from_first(lambda: checkpoint.load(path, "training") if path.exists() else None)
    if saved is None:
        return 0
    tensors, header = saved
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
    optimizer = torch.optim.Adam(
        [p for p in learner.parameters() if p.requires_grad], betas=ADAM_BETAS, eps=ADAM_EPS, fused=True
    )
    saved, log = folder / "training.safetensors", folder / "metrics.jsonl"
    group, writes = stage.group, stage.group.rank == 0
    done = _restore(saved, learner, optimizer, config_hash, group) if resume else 0
    if writes:
        folder.mkdir(parents=True, exist_ok=True)
        _keep_metrics(log, done)
    learner.train()
    since, last = time.perf_counter(), done
    for step in range(done, total):
        optimizer.zero_grad(set_to_none=True)
        loss = add_gradient(learner, stage, step)
        rate = learning_rate(step, total, config.learning_rate)
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
        on_step(step + 1, total, None)
        logs, saves = (
            (step + 1) % every == 0 or step + 1 == total for every in (config.log_every, config.checkpoint_every)
        )
        if logs or saves:
            group.average_(loss)  # all processes see the same loss, and stop together where it is not finite
            _check_finite(loss.total.item(), step + 1, config)
        if logs:
            now = time.perf_counter()
            metrics = Metrics(
                step=step + 1,
                stage="warm" if step < config.warm_steps else "meta",
                loss=loss.total.item(),
                accuracy=loss.accuracy.item(),
                spikes_per_neuron=loss.spikes.item(),
                learning_rate=rate,
                inner_lr=torch.as_tensor(learner.inner_lr).item(),
                steps_per_second=(step + 1 - last) / (now - since),
            )
            since, last = now, step + 1
            if writes:
                with log.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(metrics._asdict()) + "\n")
            on_step(step + 1, total, metrics)
            yield metrics
        if saves and writes:
            _save(saved, learner, optimizer, step + 1, config_hash)
