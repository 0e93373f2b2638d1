"""One of the processes that tests/test_group.py starts by torchrun: saves what every case's steps leave behind."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from snn_anml.config import MetaConfig, NetworkConfig, TrainConfig
from snn_anml.group import ALONE, Group, joined
from snn_anml.meta.outer import add_gradient
from snn_anml.meta.stage import Learner, Stage
from snn_anml.networks import make_network

LAYERS = NetworkConfig(widths=(4, 6), nm_widths=(3, 3), steps=3)
PUBLISHED = NetworkConfig("relu", "published", widths=(6, 6, 6), nm_widths=(4, 4, 4))
SHARED = {"trajectories": 2, "classes": 2, "shots": 2}
ANML = MetaConfig(**SHARED, remember=6, head="meta", learn_inner_lr=False)
CASES: dict[str, tuple[NetworkConfig, MetaConfig]] = {
    "spiking": (LAYERS, MetaConfig(**SHARED)),
    "spiking NM, learned head": (
        NetworkConfig(widths=(4, 6), nm_widths=(3, 3), steps=3, modulation="spiking"),
        MetaConfig(**SHARED, remember=6, head="meta"),
    ),
    "batch norm, learned rows": (
        NetworkConfig("relu", widths=(4, 6), nm_widths=(3, 3)),
        MetaConfig(**SHARED, remember=6, head="meta", redraw="meta"),
    ),
    "published, OML": (PUBLISHED, MetaConfig(**SHARED, head="drawn")),
    "published, whole network": (
        PUBLISHED,
        MetaConfig(**SHARED, remember=6, head="meta", redraw="meta", adapt="pln", order="first", learn_inner_lr=False),
    ),
}
WARM, STEPS = 1, 2


def gradients(case: str, group: Group) -> dict[str, Tensor]:
    """Gradients and mean losses of a warm step and a meta-step, and the running statistics after them."""
    network, meta = CASES[case]
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (12, 5, 24, 24), dtype=np.uint8))
    learner = Learner(make_network(network, 12, 24, seed=1), meta).train()
    config = TrainConfig(warm_steps=WARM, meta_steps=STEPS - WARM, warm_batch=8)
    stage = Stage(images, np.arange(12), config, meta, 5, group)
    left = {}
    for step in range(STEPS):
        learner.zero_grad(set_to_none=True)
        loss = add_gradient(learner, stage, step)
        group.average_(loss)
        left[f"{case}/{step}/loss"] = loss.total.detach()
        grads = {name: p.grad for name, p in learner.named_parameters() if p.grad is not None}
        left |= {f"{case}/{step}/{name}": value.contiguous() for name, value in grads.items()}
    return left | {f"{case}/{name}": value for name, value in learner.named_buffers()}


if __name__ == "__main__":
    torch.set_num_threads(1)
    with joined("cpu") as (group, _):
        assert group != ALONE
        left = {name: value for case in CASES for name, value in gradients(case, group).items()}
        if group.rank == 0:
            save_file(left, Path(sys.argv[1]))
