"""Modelled joules of meta-training on a conventional processor, which skips no zero.

    E = e * (warm_steps * B * 3 (n + F K) + meta_steps * M * (3 N n + inner) + 21 (warm_steps * P + meta_steps * Q))

    e   J per operation of the device
    n   operations of one inference without its output layer: every connection at every evaluation (over all T steps),
        pooling, gates and neuron updates; thrice, for the forward pass, the gradient of what goes in and that of the
        weights (an upper bound: the picture needs no gradient, nor has a gate weights). A frozen NM network goes
        forward only.
    B, M, N   drawings of a warm step; trajectories of a meta-step; drawings of a trajectory, S of them learned from
    F, K, C   features; meta-training classes; outputs of the inner loop's head (K for `meta.head: meta`)
    P, Q   weights that the outer loop trains, and those of them that a meta-step trains: all but the output layer where
        trajectories have one of their own (`meta.head: zero` or `drawn`); 21 operations of Adam for each: 5 for the
        moments, 16 for the change, of which 13 are a root and a division (`converters.energy.learning.FUNCTION_MACS`)
    inner, by learner and order of gradient (unit-sgd as sgd):
        sgd, second    3 S N F (the Gram matrix and its gradients) + 3 S N C + 2 S^2 C (the recursion, and back)
        sgd, first     2 S N F + 2 S N C + S^2 C
        sgd, none      2 S F C (on the layer itself) + 3 N F C
        logits before  2 N F C where the head is drawn, 3 N F C where it is `meta`, nothing where it is zero
        class-mean, cosine    3 (N - S) F C, with `meta.leave_one_out` 3 N F C;  gaussian twice that: scores, and back

It leaves out the norms' statistics, softmax and loss, statistics of the read-outs, sampling and loading of drawings,
logging, and all that the device's own figure leaves out; picking settings before is not counted, nor the meta-test.
"""

from __future__ import annotations

from dataclasses import dataclass

from converters.energy.devices import Device, find
from converters.energy.learning import FUNCTION_MACS, OUTPUT_LAYER
from converters.energy.table import Counts
from snn_anml.config import MetaConfig, TrainConfig
from snn_anml.errors import UserError

PASSES = 3
"""Forward, gradient of what goes in, gradient of the weights."""

ADAM = 2 + 3 + FUNCTION_MACS["roots"] + FUNCTION_MACS["divisions"] + 3
"""Operations a weight: b1 m + (1 - b1) g;  b2 v + (1 - b2) g^2;  sqrt(v) + eps, a division, the change."""

TRAINING_DEVICES = ("gpu", "cpu", "arm")

CSV_COLUMNS = ("steps", "drawings", "seconds", "device", "joules", "source")


@dataclass(frozen=True)
class TrainingCounts:
    """Operations of a whole meta-training, warm start included.

    Attributes:
        steps: of both kinds.
        drawings: that passed the network, in all steps.
        network: operations of the network without output layer, forward and backward.
        inner: the same of the output layer: plain classification, inner loops, and the logits of the meta-loss.
        optimiser: those of Adam.
    """

    steps: int
    drawings: int
    network: float
    inner: int
    optimiser: int

    @property
    def operations(self) -> float:
        """All of them."""
        return self.network + self.inner + self.optimiser


def inner_operations(meta: MetaConfig, features: int, classes: int) -> int:
    """Operations of one trajectory on the output layer, forward and backward, as the module lists them.

    Raises:
        UserError: an inner loop that changes the whole prediction network.
    """
    if meta.adapt != "head":
        raise UserError(
            f"meta.adapt = {meta.adapt!r}: the cost of an inner loop over the whole network is not modelled; "
            "only that of adapt: head is."
        )
    S, N, F = meta.classes * meta.shots, _drawings(meta), features
    C = classes if meta.head == "meta" else meta.classes
    before = {"zero": 0, "drawn": 2}.get(meta.head, 3) * N * F * C
    of_sgd = {
        "second": before + 3 * S * N * F + 3 * S * N * C + 2 * S * S * C,
        "first": before + 2 * S * N * F + 2 * S * N * C + S * S * C,
        "none": 2 * S * F * C + 3 * N * F * C,
    }[meta.order]
    scores = PASSES * (N if meta.leave_one_out else N - S) * F * C
    return sum(
        {"sgd": of_sgd, "unit-sgd": of_sgd, "gaussian": 2 * scores}.get(learner, scores) for learner in meta.learners
    )


def count(
    inference: Counts, train: TrainConfig, meta: MetaConfig, *, features: int, classes: int, parameters: int, head: int
) -> TrainingCounts:
    """Operations of meta-training.

    Args:
        inference: counts of the trained network, by `converters.energy.count`; the mean over its drawings.
        train: numbers of steps, the warm batch, and whether the NM network is frozen.
        meta: trajectories, their drawings, and what learns in them.
        features: F.
        classes: K, meta-training classes.
        parameters: P, weights that are trained.
        head: of these, the weights of the output layer.

    Raises:
        UserError: an inner loop that changes the whole prediction network.
    """
    passes = {part: 1 if part == "nm" and train.freeze_nm else PASSES for part in inference.parts}
    a_drawing = sum(passes[part] * _dense(inference.of_part(part)) for part in inference.parts if part != OUTPUT_LAYER)
    warm, of_meta = train.warm_steps * train.warm_batch, train.meta_steps * meta.trajectories
    # Without meta-steps it does not matter what they would do.
    inner = of_meta * inner_operations(meta, features, classes) if of_meta else 0
    drawings, steps = warm + of_meta * _drawings(meta), train.warm_steps + train.meta_steps
    return TrainingCounts(
        steps,
        drawings,
        drawings * a_drawing,
        warm * PASSES * features * classes + inner,
        ADAM * (steps * parameters - train.meta_steps * (head if meta.head in ("zero", "drawn") else 0)),
    )


def joules(counts: TrainingCounts, device: str | Device) -> float:
    """Modelled energy of the whole training, J.

    Raises:
        UserError: an unknown device, or one that skips zeros, which training does not.
    """
    prices = find(device)
    if prices.spiking:
        others = ", ".join(TRAINING_DEVICES)
        raise UserError(f"Training computes every connection, and {prices.name} skips zeros; use one of {others}.")
    return prices.multiply_accumulate * counts.operations


def csv_rows(counts: TrainingCounts, seconds: float) -> list[dict[str, str | int | float]]:
    """Rows of `training.csv` with the columns `CSV_COLUMNS`, one per device.

    Args:
        counts: of the training.
        seconds: that it took, by the clock on the wall; on whatever machine it ran, not on the device of the row.
    """
    return [
        {
            "steps": counts.steps,
            "drawings": counts.drawings,
            "seconds": seconds,
            "device": device,
            "joules": joules(counts, device),
            "source": find(device).source,
        }
        for device in TRAINING_DEVICES
    ]


def _drawings(meta: MetaConfig) -> int:
    """N, drawings of one trajectory."""
    return meta.classes * (meta.shots + meta.queries) + meta.remember


def _dense(counts: Counts) -> float:
    """Operations of one inference where nothing is skipped."""
    return float(sum(counts.mean(name) for name in ("dense", "dense_pool_adds", "gate_multiplies", "neuron_updates")))
