"""The configuration of a run: frozen dataclasses, one for each stage, checked when they are made."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from snn_anml.errors import UserError


def _check(condition: bool, name: str, value: object, rule: str) -> None:
    if not condition:
        raise UserError(f"{name} = {value!r}; it must be {rule}.")


@dataclass(frozen=True)
class DataConfig:
    """Which classes are learned from, and which are never seen before the meta-test.

    Args:
        name: `glyphs` or `omniglot`.
        size: height and width of the pictures, pixels.
        meta_test_classes: classes learned one after another in the meta-test.
        selection_classes: classes on which learning rates are picked; never trained on, never reported.
        glyph_classes: number of classes that `glyphs` draws.
        rotations: the meta-training classes turned by 90, 180 and 270 degrees are meta-training classes too.
    """

    name: str = "glyphs"
    size: int = 28
    meta_test_classes: int = 600
    selection_classes: int = 150
    glyph_classes: int = 1623
    rotations: bool = False

    def __post_init__(self) -> None:
        _check(self.size >= 8, "data.size", self.size, "at least 8 pixels")
        _check(self.meta_test_classes >= 2, "data.meta_test_classes", self.meta_test_classes, "at least 2")
        _check(self.selection_classes >= 2, "data.selection_classes", self.selection_classes, "at least 2")


@dataclass(frozen=True)
class NetworkConfig:
    """The prediction network (PLN), the neuromodulatory (NM) network, and their neurons.

    Args:
        neuron: `lif` (spiking) or `relu` (the conventional twin: the same layers, one step, no membrane).
        layers: `strided` (this project's) or `published`: the layers of the conventional ANML as published, three 3x3
            convolutions of equal width without padding, norm over each picture, max-pool; gates on the features alone.
        steps: T, time steps an inference.
        beta: decay of the LIF membrane a step, dimensionless, in [0, 1].
        threshold: membrane above which a neuron spikes.
        reset: `subtract`, `zero` or `none`; delayed by one step, as in snnTorch.
        surrogate: `fast_sigmoid`, `atan`, `sigmoid`, `triangular` or `straight_through`.
        slope: slope of the surrogate, dimensionless.
        encoding: `constant`, `rate` or `latency`.
        widths: channels of the PLN's convolutions (5x5, then 3x3, each with stride 2; published: 256, three times).
        modulation: the NM network: `conventional` (ReLU, one gate an inference, or one a step for a
            `rate` or `latency` encoding), `spiking` (LIF, gates
            at every step) or `none` (no gates).
        nm_widths: channels of the NM network's convolutions (3x3, stride 2; published: 112, three times).
        nm_beta: decay of the leaky sum of spikes that drives the gates of a spiking NM network.
        gate: `sigmoid`, or `hard_sigmoid` (exact in every simulator, since it needs no exponential).
    """

    neuron: Literal["lif", "relu"] = "lif"
    layers: Literal["strided", "published"] = "strided"
    steps: int = 4
    beta: float = 0.9
    threshold: float = 1.0
    reset: Literal["subtract", "zero", "none"] = "subtract"
    surrogate: str = "fast_sigmoid"
    slope: float = 5.0
    encoding: Literal["constant", "rate", "latency"] = "constant"
    widths: tuple[int, ...] = (32, 64, 64)
    modulation: Literal["conventional", "spiking", "none"] = "conventional"
    nm_widths: tuple[int, ...] = (32, 32, 32)
    nm_beta: float = 0.9
    gate: Literal["sigmoid", "hard_sigmoid"] = "sigmoid"

    def __post_init__(self) -> None:
        _check(self.steps >= 1, "network.steps", self.steps, "at least 1")
        _check(0 <= self.beta <= 1, "network.beta", self.beta, "in [0, 1]")
        _check(0 <= self.nm_beta <= 1, "network.nm_beta", self.nm_beta, "in [0, 1]")
        _check(self.threshold > 0, "network.threshold", self.threshold, "positive")
        _check(self.slope > 0, "network.slope", self.slope, "positive")
        _check(bool(self.widths) and min(self.widths) >= 1, "network.widths", self.widths, "one or more channels")
        _check(bool(self.nm_widths) and min(self.nm_widths) >= 1, "network.nm_widths", self.nm_widths, "as widths")
        if self.neuron == "relu":
            _check(
                self.modulation != "spiking", "network.modulation", self.modulation, "conventional or none, beside relu"
            )
            _check(self.encoding == "constant", "network.encoding", self.encoding, "constant, beside relu")
        if self.layers == "published":
            _check(self.neuron == "relu", "network.neuron", self.neuron, "relu, in the published layers")
            _check(self.gate == "sigmoid", "network.gate", self.gate, "sigmoid, in the published layers")
            for name in ("widths", "nm_widths"):
                widths = getattr(self, name)
                _check(len(widths) == 3 and len(set(widths)) == 1, f"network.{name}", widths, "one number three times")


@dataclass(frozen=True)
class MetaConfig:
    """One meta-step: trajectories of classes learned in sequence, then the loss that is differentiated.

    Args:
        trajectories: trajectories in a meta-step, learned independently and averaged.
        classes: classes of a trajectory, one after another.
        shots: drawings of each class that the inner loop learns from, one SGD step each.
        queries: further drawings of each class, in the loss alone.
        remember: drawings of any meta-training class in the loss (needs `head = "meta"`).
        head: the output layer at the start of a trajectory: `zero` (as in the meta-test), `drawn` (fresh random
            weights, as in OML), `meta` (a meta-parameter over all meta-training classes whose rows of the
            trajectory are re-drawn, as in ANML), or `slots` (a meta-parameter with one output for each position of a
            trajectory's classes, as in MAML; the loss is on the queries alone).
        redraw: where `meta` re-draws: in the `fast` copy, with a bias of 0 (the paper), or on the meta-parameter
            itself, whose bias stays (`meta`, the published code).
        learners: what learns the output layer in the inner loop: `sgd` or `unit-sgd`, `class-mean`, `cosine` and
            `gaussian` (see `snn_anml.meta.heads`); the loss is the mean over them. Other than `sgd` they need `head =
            "zero"` and queries.
        leave_one_out: learners of statistics are asked about every drawing, shots and queries alike, and not about the
            queries alone; each drawing is left out of what its own class has learned.
        adapt: what the inner loop changes: the output layer (`head`), or the whole prediction network (`pln`, which
            needs `network.layers = "published"`, `head = "meta"` or `"slots"`, and a fixed learning rate).
        order: of the meta-gradient: `second` (exact), `first` (inner gradients are constants, the published code), or
            `none` (no meta-gradient: what the inner loop changed is kept, and the loss trains what it left;
            "zapping only", Frati et al. 2023, arXiv 2310.07996).
        inner_lr: learning rate of the inner SGD.
        learn_inner_lr: meta-learn it from that value.
        inner_batch: drawings in a step of the inner SGD, whose loss is their mean; 0 for all that the inner loop
            learns from (MAML). Other than 1 it needs `adapt = "pln"`.
        inner_passes: times that the inner loop goes through them. Other than 1 it needs `adapt = "pln"`.
    """

    trajectories: int = 1
    classes: int = 20
    shots: int = 3
    queries: int = 1
    remember: int = 0
    head: Literal["zero", "drawn", "meta", "slots"] = "zero"
    redraw: Literal["fast", "meta"] = "fast"
    learners: tuple[Literal["sgd", "unit-sgd", "class-mean", "cosine", "gaussian"], ...] = ("sgd",)
    leave_one_out: bool = False
    adapt: Literal["head", "pln"] = "head"
    order: Literal["none", "first", "second"] = "second"
    inner_lr: float = 0.02
    learn_inner_lr: bool = True
    inner_batch: int = 1
    inner_passes: int = 1

    def __post_init__(self) -> None:
        for name in ("trajectories", "classes", "shots", "inner_passes"):
            _check(getattr(self, name) >= 1, f"meta.{name}", getattr(self, name), "at least 1")
        _check(self.queries >= 0, "meta.queries", self.queries, "0 or more")
        _check(self.remember >= 0, "meta.remember", self.remember, "0 or more")
        _check(self.inner_lr > 0, "meta.inner_lr", self.inner_lr, "positive")
        _check(self.inner_batch >= 0, "meta.inner_batch", self.inner_batch, "0 (all) or more")
        _check(bool(self.learners), "meta.learners", self.learners, "at least one learner")
        if set(self.learners) != {"sgd"}:
            _check(self.head == "zero", "meta.head", self.head, "zero, beside meta.learners other than sgd")
            _check(self.queries >= 1, "meta.queries", self.queries, "at least 1, beside meta.learners other than sgd")
        _check(not {"sgd", "unit-sgd"} <= set(self.learners), "meta.learners", self.learners, "of one inner SGD only")
        if set(self.learners) <= {"sgd", "unit-sgd"}:
            _check(not self.leave_one_out, "meta.leave_one_out", True, "false, beside meta.learners of SGD alone")
        if self.head != "meta":
            rule = f"0 beside head: {self.head}, which knows no other class"
            _check(self.remember == 0, "meta.remember", self.remember, rule)
        if self.adapt == "pln":
            _check(self.head in ("meta", "slots"), "meta.head", self.head, "meta or slots, beside adapt: pln")
            _check(not self.learn_inner_lr, "meta.learn_inner_lr", self.learn_inner_lr, "false, beside adapt: pln")
        else:
            _check(self.head != "slots", "meta.head", self.head, "zero, drawn or meta, beside adapt: head")
            for name in ("inner_batch", "inner_passes"):
                _check(getattr(self, name) == 1, f"meta.{name}", getattr(self, name), "1, beside adapt: head")
        if self.head == "slots":
            _check(self.queries >= 1, "meta.queries", self.queries, "at least 1, beside head: slots")
        if self.order == "none":
            _check(self.head == "meta", "meta.head", self.head, "meta, beside order: none")
            _check(self.redraw == "meta", "meta.redraw", self.redraw, "meta, beside order: none")
            _check(self.trajectories == 1, "meta.trajectories", self.trajectories, "1, beside order: none")
            _check(not self.learn_inner_lr, "meta.learn_inner_lr", self.learn_inner_lr, "false, beside order: none")
        elif self.head != "meta":
            _check(self.redraw == "fast", "meta.redraw", self.redraw, f"fast, beside head: {self.head}")


@dataclass(frozen=True)
class TrainConfig:
    """The outer loop: plain classification first, then meta-steps; Adam with cosine decay over both.

    Args:
        warm_steps: steps of plain classification of the meta-training classes.
        warm_batch: drawings in each of them.
        meta_steps: meta-steps after that.
        learning_rate: peak learning rate of Adam.
        freeze_nm: leave the NM network as it was drawn (the control of random gates).
        spike_weight: lambda, weight of the mean number of spikes per neuron, or synapse, and inference in the loss.
        spike_cost: what that mean is over: `neuron`, where all spikes weigh the same, or `synapse`, where a spike
            weighs as much as the synapses it enters, those into a head of `export.classes` outputs included.
        spike_schedule: of lambda: `constant`, or `linear`, from 0 at the first step of both loops to `spike_weight` at
            their end, so that a network learns first and saves spikes later.
        distortion: of the drawings trained on, see `snn_anml.data.distortion`; 1 turns by up to 15 degrees, and so on.
        precision: `float32`, or `bfloat16` (convolutions under autocast; membranes and losses stay float32).
        log_every: steps between two lines of metrics.jsonl.
        checkpoint_every: steps between two checkpoints.
        tensorboard: also write TensorBoard event files into the run folder.
    """

    warm_steps: int = 1000
    warm_batch: int = 84
    meta_steps: int = 1000
    learning_rate: float = 3e-3
    freeze_nm: bool = False
    spike_weight: float = 0.03
    spike_cost: Literal["neuron", "synapse"] = "neuron"
    spike_schedule: Literal["constant", "linear"] = "constant"
    distortion: float = 0.0
    precision: Literal["float32", "bfloat16"] = "float32"
    log_every: int = 20
    checkpoint_every: int = 200
    tensorboard: bool = False

    def __post_init__(self) -> None:
        _check(self.warm_steps >= 0, "train.warm_steps", self.warm_steps, "0 or more")
        _check(self.meta_steps >= 0, "train.meta_steps", self.meta_steps, "0 or more")
        _check(self.warm_batch >= 2, "train.warm_batch", self.warm_batch, "at least 2, for the batch statistics")
        _check(self.learning_rate > 0, "train.learning_rate", self.learning_rate, "positive")
        _check(self.spike_weight >= 0, "train.spike_weight", self.spike_weight, "0 or more")
        _check(self.distortion >= 0, "train.distortion", self.distortion, "0 or more")
        _check(self.log_every >= 1, "train.log_every", self.log_every, "at least 1")
        _check(self.checkpoint_every >= 1, "train.checkpoint_every", self.checkpoint_every, "at least 1")


@dataclass(frozen=True)
class MetaTestConfig:
    """The sequential meta-test.

    Args:
        milestones: numbers of classes after which accuracy is taken.
        heads: read-outs to compare, of `adam`, `sgd`, `unit-sgd`, `class-mean`, `cosine` and `gaussian`.
        protocols: of `strict`, `paper` and `iid` (an oracle: all classes at once, shuffled; not continual learning).
        draws: independent repetitions under `strict` and `iid`.
        paper_draws: the same under `paper`.
        selection_draws: repetitions on the selection classes by which learning rates are picked (`strict`, `iid`).
        shots: drawings of each class that are learned from; the others are held out.
    """

    milestones: tuple[int, ...] = (10, 50, 75, 100, 200, 300, 400, 500, 600)
    heads: tuple[Literal["adam", "sgd", "unit-sgd", "class-mean", "cosine", "gaussian"], ...] = (
        "adam",
        "sgd",
        "class-mean",
    )
    protocols: tuple[Literal["strict", "paper", "iid"], ...] = ("strict", "paper")
    draws: int = 10
    paper_draws: int = 5
    selection_draws: int = 1
    shots: int = 15

    def __post_init__(self) -> None:
        increasing = list(self.milestones) == sorted(set(self.milestones)) and bool(self.milestones)
        _check(increasing and self.milestones[0] >= 1, "meta_test.milestones", self.milestones, "increasing, from 1 up")
        _check(bool(self.heads), "meta_test.heads", self.heads, "at least one head")
        _check(bool(self.protocols), "meta_test.protocols", self.protocols, "at least one protocol")
        for name, values in (("heads", self.heads), ("protocols", self.protocols)):
            _check(len(set(values)) == len(values), f"meta_test.{name}", values, "without repetition")
        for name in ("draws", "paper_draws", "selection_draws", "shots"):
            _check(getattr(self, name) >= 1, f"meta_test.{name}", getattr(self, name), "at least 1")


@dataclass(frozen=True)
class ExportConfig:
    """What is simulated, and where.

    Args:
        backends: simulators to check against torch; those whose packages are missing are named and left out
            only where `optional` says so.
        samples: held-out drawings simulated for the fidelity certificate.
        head: the learned head that is exported.
        classes: number of classes that the exported head has learned.
        optional: leave out, and say so, a backend whose packages are not installed; otherwise that is an error.
    """

    backends: tuple[str, ...] = ("interpreter", "nengo", "nengo-dl")
    samples: int = 200
    head: Literal["adam", "sgd", "unit-sgd", "class-mean", "cosine"] = "class-mean"
    classes: int = 200
    optional: bool = True

    def __post_init__(self) -> None:
        _check(self.samples >= 1, "export.samples", self.samples, "at least 1")
        _check(self.classes >= 2, "export.classes", self.classes, "at least 2")


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides the result of a run, but for the machine.

    Args:
        seed: of weights, class splits, batches, class orders and spikes of a rate encoding.
        twin: also train the conventional twin (ReLU) of a spiking network, for the comparison in the report.
    """

    seed: int = 0
    twin: bool = True
    data: DataConfig = field(default_factory=DataConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    meta: MetaConfig = field(default_factory=MetaConfig)
    meta_test: MetaTestConfig = field(default_factory=MetaTestConfig)
    export: ExportConfig = field(default_factory=ExportConfig)

    def __post_init__(self) -> None:
        _check(0 <= self.seed < 2**31, "seed", self.seed, "in [0, 2^31)")
        if self.meta.adapt == "pln" and self.network.layers != "published":
            raise UserError(
                f'meta.adapt = "pln", but network.layers = "{self.network.layers}"; the whole prediction network '
                "adapts in the published layers only."
            )
        if self.network.layers == "published":
            _check(self.data.size >= 22, "data.size", self.data.size, "at least 22 pixels for the published layers")
        if self.train.freeze_nm and self.network.modulation == "none":
            raise UserError("train.freeze_nm = true, but network.modulation = none leaves no NM network to freeze.")
        most = self.meta_test.milestones[-1]
        if most > self.data.meta_test_classes:
            raise UserError(
                f"meta_test.milestones ends at {most} classes, but data.meta_test_classes = "
                f"{self.data.meta_test_classes}; lower the one or raise the other."
            )
        if self.export.head not in self.meta_test.heads:
            raise UserError(
                f"export.head = {self.export.head!r} is not among meta_test.heads = {self.meta_test.heads}; add it."
            )
        if self.export.classes not in self.meta_test.milestones:
            raise UserError(
                f"export.classes = {self.export.classes} is not among meta_test.milestones = "
                f"{self.meta_test.milestones}; choose one of them."
            )
