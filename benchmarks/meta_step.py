"""Time of one meta-step of a network of default widths, beside the same meta-step written the obvious way.

    python -m benchmarks.meta_step [--repeats N] [--save]

In one process on one core, on the same random pictures:

    ours             fused LIF, one batch for all drawings, inner loop on the output layer in the dual
    ours, spiking NM the same with spiking modulation and hard-sigmoid gates at every step
    step by step     these two with `lif_eager` for the fused LIF: what that alone changes
    conventional     the same for the ReLU twin
    obvious, head    snnTorch's Leaky in a Python loop, inner loop on the output layer by autograd (the same function)
    obvious, all     the same, with every weight of the prediction network adapted (create_graph through all of them)

Each is forward, backward and Adam step. Medians of alternating repeats.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import cast

import numpy as np
import snntorch
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from snntorch import surrogate
from torch import Tensor, nn
from torch.func import functional_call

from benchmarks import machine
from experiments.allocator import keep_large_buffers
from snn_anml.config import MetaConfig, NetworkConfig, TrainConfig
from snn_anml.data.tasks import pictures, sample_trajectories
from snn_anml.meta.head_only import head_only_loss
from snn_anml.meta.stage import Learner, Stage
from snn_anml.networks import ANML
from snn_anml.neurons import Leaky, lif_eager

CLASSES = 873


def step_by_step(module: nn.Module) -> nn.Module:
    """The module with neurons that run as their definition says, a loop over the steps."""
    for layer in module.modules():
        if isinstance(layer, Leaky):
            layer.forward = partial(_eager, layer)
    return module


def _eager(
    layer: Leaky, currents: Tensor, steps: int | None = None, gate: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    spikes, state = lif_eager(currents, layer.parameters_of_neuron, steps, gate)
    return spikes, state.membrane


class ObviousANML(nn.Module):
    """ANML as one would write it with snnTorch: a loop over time, one module call a layer and step."""

    def __init__(self, config: NetworkConfig, classes: int) -> None:
        super().__init__()
        own = ANML(config, classes)
        self.steps = config.steps
        self.nm, self.convs, self.out = own.modulation, own.convs, nn.Linear(own.feature_count, classes)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        grad = surrogate.fast_sigmoid(slope=config.slope)
        self.neurons = nn.ModuleList(
            snntorch.Leaky(config.beta, config.threshold, spike_grad=grad, reset_mechanism=config.reset)
            for _ in config.widths
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits, and mean spikes per neuron, of pictures (B, 1, H, W)."""
        assert self.nm is not None
        gates, _ = self.nm(x[None])
        membranes = [neuron.reset_mem() for neuron in self.neurons]
        counts: list[Tensor] = []
        total, neurons = x.new_zeros(()), 0
        for _ in range(self.steps):
            s = x
            for i, (conv, neuron) in enumerate(zip(self.convs, self.neurons, strict=True)):
                current = conv.norm(conv.conv(s))
                gate = gates[i][0]
                last = i == len(self.convs) - 1
                s, membranes[i] = neuron(
                    current * (gate.view_as(current) if last else gate[..., None, None]), membranes[i]
                )
                total = total + s.sum() / len(x)
                neurons += s[0].numel()
            counts.append(s.flatten(1))
        return self.out(torch.stack(counts).mean(0)), total / neurons * self.steps


def obvious_loss(model: ObviousANML, stage: Stage, step: int, rate: float, everything: bool) -> Tensor:
    """The meta-loss of `snn_anml.meta.head_only.head_only_loss`, by unrolled autograd."""
    rng, _ = stage.generators(step)
    batch = sample_trajectories(rng, stage.classes, stage.images.shape[1], stage.meta)
    x = pictures(stage.images, batch.classes, batch.drawings)
    y = torch.from_numpy(batch.labels[0])
    S = stage.meta.classes * stage.meta.shots
    adapted = {
        name: parameter
        for name, parameter in model.named_parameters()
        if name.startswith("out.") or (everything and name.startswith("convs."))
    }
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    for k in range(S):
        logits, _ = functional_call(model, {**adapted, **buffers}, x[k : k + 1])
        grads = torch.autograd.grad(F.cross_entropy(logits, y[k : k + 1]), list(adapted.values()), create_graph=True)
        adapted = {name: p - rate * g for (name, p), g in zip(adapted.items(), grads, strict=True)}
    logits, spikes = functional_call(model, {**adapted, **buffers}, x[S:])
    return F.cross_entropy(logits, y[S:]) + stage.train.spike_weight * spikes


def stepper(module: nn.Module, loss: Callable[[int], Tensor]) -> Callable[[int], float]:
    """One training step, timed, s."""
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-3, fused=True)

    def step(i: int) -> float:
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        loss(i).backward()
        optimizer.step()
        return time.perf_counter() - start

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/meta_step.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_large_buffers()
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (CLASSES, 20, 28, 28), dtype=np.uint8))
    config, meta = NetworkConfig(), MetaConfig()
    stage = Stage(images, np.arange(CLASSES), TrainConfig(), meta, 0)
    spiking_nm = replace(config, modulation="spiking", gate="hard_sigmoid")
    models = {
        "ours": ANML(config, CLASSES),
        "ours, step by step": step_by_step(ANML(config, CLASSES)),
        "ours, spiking NM": ANML(spiking_nm, CLASSES),
        "ours, spiking NM, step by step": step_by_step(ANML(spiking_nm, CLASSES)),
        "conventional twin": ANML(replace(config, neuron="relu"), CLASSES),
    }
    ways: dict[str, Callable[[int], float]] = {}
    for name, network in models.items():
        learner = Learner(cast(ANML, network), meta)
        ways[name] = stepper(learner, lambda i, learner=learner: head_only_loss(learner, stage, i).total)
    for name, everything in (("obvious, head only", False), ("obvious, all PLN weights", True)):
        # Batch statistics of one drawing at a time would be another function: the running ones are used here.
        model = ObviousANML(config, meta.classes).eval()
        ways[name] = stepper(model, lambda i, m=model, e=everything: obvious_loss(m, stage, i, meta.inner_lr, e))
    times: dict[str, list[float]] = {name: [] for name in ways}
    for i in range(options.repeats + 1):
        for name, step in ways.items():
            for _ in range(1 if name.startswith("obvious") else 5):
                seconds = step(i)
                if i:  # the first round warms up
                    times[name].append(seconds)
    medians = {name: statistics.median(values) for name, values in times.items()}
    table = Table(
        "meta-step", "s, median", "times ours", title=f"{meta.classes} classes x {meta.shots} shots, T = {config.steps}"
    )
    for name, seconds in medians.items():
        table.add_row(name, f"{seconds:.3f}", f"{seconds / medians['ours']:.1f}")
    console = Console()
    console.print(table)
    console.print(machine.describe())
    if options.save:
        console.print(
            machine.save("meta_step", {"command": "python -m benchmarks.meta_step --save", "seconds": medians})
        )


if __name__ == "__main__":
    main()
