"""What every training step has in common: the learner, the data, the sources of randomness, the loss."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from snn_anml.config import MetaConfig, TrainConfig
from snn_anml.data.distortion import distorted
from snn_anml.data.tasks import Drawings, pictures, sample_batch, sample_trajectories
from snn_anml.group import ALONE, Group
from snn_anml.meta.graphed import Graphed
from snn_anml.meta.heads import STREAMING
from snn_anml.meta.output_rows import redraw_
from snn_anml.meta.streaming import Readouts
from snn_anml.networks import ANML, Activity, Network, spikes_per_neuron, spikes_per_synapse


class Learner(nn.Module):
    """What meta-training changes: the network and the inner learning rate (kept positive as its logarithm).

    Args:
        model: the network.
        meta: gives the inner learning rate, and whether it is learned.
        freeze_nm: leave the NM network as it is.
    """

    def __init__(self, model: Network, meta: MetaConfig, freeze_nm: bool = False) -> None:
        super().__init__()
        self.model, self._fixed = model, None if meta.learn_inner_lr else meta.inner_lr
        self.log_inner_lr = nn.Parameter(torch.tensor(math.log(meta.inner_lr)), requires_grad=meta.learn_inner_lr)
        if not set(meta.learners).isdisjoint(STREAMING):
            self.readouts = Readouts()
        if freeze_nm and model.modulation is not None:
            model.modulation.requires_grad_(False)

    @property
    def inner_lr(self) -> Tensor | float:
        """The inner learning rate; a tensor that takes part in the gradient where it is learned."""
        return self.log_inner_lr.exp() if self._fixed is None else self._fixed


class Loss(NamedTuple):
    """total: what is differentiated; accuracy, spikes: of the PLN, per neuron and inference; all scalars."""

    total: Tensor
    accuracy: Tensor
    spikes: Tensor


@dataclass(frozen=True)
class Stage:
    """Everything a training step needs but the learner: data, classes, configuration, and who else trains.

    images: (classes, drawings, H, W) uint8 on the device; classes: (K,) of the meta-training classes; outputs: of the
    head that a spike of the last layer is charged for, with `train.spike_cost: synapse`; graphed: keeps a meta-step's
    CUDA graph from one step to the next.
    """

    images: Tensor
    classes: np.ndarray
    train: TrainConfig
    meta: MetaConfig
    seed: int
    group: Group = ALONE
    outputs: int = 0
    graphed: Graphed = field(default_factory=Graphed, repr=False, compare=False)

    def generators(self, step: int) -> tuple[np.random.Generator, torch.Generator]:
        """Sources of randomness of one step: for the sampling, the same in all processes, and for the encoding."""
        rng = np.random.default_rng([self.seed, 1, step])
        seed = int(rng.integers(2**63))
        return rng, torch.Generator().manual_seed((seed + self.group.rank) % 2**63)

    def trajectories(self, step: int, model: Network) -> tuple[Drawings, list[torch.Generator], torch.Generator]:
        """This process's trajectories of a meta-step; their sources of rows, one each; the source of encodings.

        With `meta.redraw = "meta"` the rows of all trajectories, of other processes too, are re-drawn in `model`.
        """
        rng, encoding = self.generators(step)
        whole = sample_trajectories(rng, self.classes, self.images.shape[1], self.meta)
        rows = [torch.Generator().manual_seed(int(seed)) for seed in rng.integers(2**63, size=len(whole.labels))]
        if self.meta.head == "meta" and self.meta.redraw == "meta":
            learned_from = whole.labels[:, : self.meta.classes * self.meta.shots]
            for labels, generator in zip(learned_from, rows, strict=True):
                redraw_(model.head, torch.from_numpy(labels), generator)
        own = self.group.share(len(rows), "meta.trajectories")
        return Drawings(*(part[own] for part in whole)), rows[own], encoding

    def spike_weight(self, step: int) -> float:
        """lambda at a step, counted from the first of the warm start."""
        train = self.train
        constant = train.spike_schedule == "constant"
        return train.spike_weight * (1 if constant else step / (train.warm_steps + train.meta_steps))

    def regularised(self, loss: Tensor, activity: Activity, model: Network, step: int) -> tuple[Tensor, Tensor]:
        """Adds lambda x mean spikes per LIF neuron, or per synapse behind one; without LIF there are none.

        Returns:
            the sum, and the mean spikes per neuron of the PLN alone.
        """
        if not isinstance(model, ANML) or model.config.neuron != "lif":
            return loss, torch.zeros((), device=loss.device)
        layers = activity.pln + (activity.nm if model.config.modulation == "spiking" else [])
        if self.train.spike_cost == "synapse":
            cost = spikes_per_synapse(layers, model.fan_out(self.outputs))
        else:
            cost = spikes_per_neuron(layers)
        return loss + self.spike_weight(step) * cost, spikes_per_neuron(activity.pln).detach()

    def batch(self, step: int) -> tuple[Drawings, torch.Generator]:
        """This process's part of a batch of plain classification, and the source of encodings."""
        rng, encoding = self.generators(step)
        whole = sample_batch(rng, self.classes, self.images.shape[1], self.train.warm_batch)
        own = self.group.share(self.train.warm_batch, "train.warm_batch")
        return Drawings(*(part[:, own] for part in whole)), encoding

    def pictures(self, classes: np.ndarray, drawings: np.ndarray, generator: torch.Generator) -> Tensor:
        """Pictures (B, 1, H, W) of flat or (M, N) indices, distorted as configured."""
        return distorted(pictures(self.images, classes, drawings), self.train.distortion, generator)

    def activity(self, model: Network, batch: Drawings, generator: torch.Generator) -> Activity:
        """The network's forward pass on a batch in the configured precision; features come out in float32."""
        x = self.pictures(batch.classes, batch.drawings, generator)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.train.precision == "bfloat16"):
            return model.activity(x, generator)
