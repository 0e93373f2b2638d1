"""The sequential meta-test: hundreds of unseen classes, one after another, and what is left of each.

`strict`: classes come in random order; the learning rate of every head and milestone is picked on classes held
out for that (and their rotations by 90 degrees as further classes, so that there are enough for late milestones),
which are never reported; the output layer starts at zero. `paper`: as published; index order, the output layer
freshly drawn, the learning rate picked on the very classes that are reported. `iid`: an oracle, no continual learning;
as `strict` and in its orders of classes, but for every milestone the drawings of all its classes come once each,
shuffled, to an output layer that starts at zero again. They are never mixed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from snn_anml.config import MetaTestConfig
from snn_anml.data.tasks import pictures
from snn_anml.errors import UserError
from snn_anml.meta.heads import STREAMING, LinearHead
from snn_anml.meta.rates import candidates, pick_rates
from snn_anml.meta.side_by_side import side_by_side
from snn_anml.meta.trial import Deployed, Trial
from snn_anml.networks import Network, spikes_per_neuron


class Outcome(NamedTuple):
    """One line of meta_test.csv; the accuracies are those of `Scores`, after `classes` classes."""

    protocol: str
    head: str
    classes: int
    draw: int
    seed: int
    train_accuracy: float
    test_accuracy: float
    learning_rate: float
    first_test_accuracy: float


class Learned(NamedTuple):
    """The outputs that a head of draw 0 has learned, and their classes (indices into the dataset), in order.

    Outputs of classes still to come are left out, so that they no longer compete.
    """

    head: LinearHead
    classes: np.ndarray
    learning_rate: float


@torch.no_grad()
def extract_features(
    model: Network, images: Tensor, classes: np.ndarray, seed: int = 0, batch: int = 200
) -> tuple[Tensor, float]:
    """Features of every drawing of some classes, each computed once.

    Args:
        model: the network; put into evaluation mode.
        images: (all classes, drawings, H, W) uint8, on the model's device.
        classes: (n,) indices of classes.
        seed: of the spikes of a rate encoding.
        batch: drawings at a time.

    Returns:
        (n, drawings, F) float32 on the CPU, and the mean number of spikes per PLN neuron and inference (0 for the
        published layers, which have none).
    """
    model.eval()
    drawings = images.shape[1]
    generator = torch.Generator().manual_seed(seed)
    index = np.repeat(classes, drawings), np.tile(np.arange(drawings), len(classes))
    features, spikes = [], 0.0
    for start in range(0, len(index[0]), batch):
        x = pictures(images, *(i[start : start + batch] for i in index))
        activity = model.activity(x, generator)
        features.append(activity.features.float().cpu())
        if activity.pln:
            spikes += spikes_per_neuron(activity.pln).item() * len(x)
    return torch.cat(features).view(len(classes), drawings, -1), spikes / len(index[0])


def _trials(
    head: str, classes: int, shots: int, protocol: str, draws: int, seed: tuple[int, ...], deployed: Deployed | None
) -> list[Trial]:
    """The repetitions of a protocol."""
    if protocol == "paper":
        return [Trial(head, np.arange(classes), shots, (*seed, draw), None, deployed) for draw in range(draws)]
    seeds = [(*seed, draw) for draw in range(draws)]
    orders = [np.random.default_rng(one).permutation(classes) for one in seeds]
    shuffled = seeds if protocol == "iid" else [None] * draws
    return [Trial(head, order, shots, None, one, deployed) for order, one in zip(orders, shuffled, strict=True)]


def meta_test(
    features: Tensor,
    selection: Tensor,
    classes: np.ndarray,
    config: MetaTestConfig,
    seed: int,
    on_progress: Callable[[str, float], None] = lambda what, share: None,
    workers: int = 1,
    deployed: Deployed | None = None,
) -> tuple[list[Outcome], dict[tuple[str, int], Learned]]:
    """Runs every protocol, head and draw.

    Args:
        features: (n, drawings, F) of the meta-test classes, in index order.
        selection: (m, drawings, F) of the classes on which `strict` and `iid` pick learning rates.
        classes: (n,) indices of the meta-test classes in the dataset, recorded with the learned heads.
        config: milestones, heads, protocols, draws.
        seed: of class orders and freshly drawn output layers.
        on_progress: told what is being done, and the share that is done.
        workers: processes that share the work, see `side_by_side`; the results are the same for any number.
        deployed: makes of a learned head the one that answers, see `Trial`; a function that can be pickled.

    Returns:
        the outcomes, and the heads that answered in draw 0 of the first protocol by (head, milestone).

    Raises:
        UserError: more classes or shots asked for than there are.
    """
    n, drawings, _ = features.shape
    if config.milestones[-1] > n:
        raise UserError(f"meta_test.milestones ends at {config.milestones[-1]} classes, but there are {n}; lower it.")
    if config.shots >= drawings:
        raise UserError(f"meta_test.shots = {config.shots}, but a class has {drawings} drawings; keep some held out.")
    outcomes: list[Outcome] = []
    learned: dict[tuple[str, int], Learned] = {}
    rounds = [(protocol, head) for protocol in config.protocols for head in config.heads]
    with side_by_side({"test": features, "selection": selection}, workers) as run_all:
        for done, (protocol, head) in enumerate(rounds):
            on_progress(f"{protocol}, {head}", done / len(rounds))
            paper = protocol == "paper"
            # In index order, statistics depend on nothing that is drawn.
            draws = config.draws if not paper else 1 if head in STREAMING else config.paper_draws
            trials = _trials(head, n, config.shots, protocol, draws, (seed, 2), deployed)
            if paper:
                pick_on, seen, to_pick = "test", features, trials[:1]
            else:
                pick_on, seen = "selection", selection
                picks = config.selection_draws
                to_pick = _trials(head, len(seen), config.shots, protocol, picks, (seed, 3), deployed)
            rates = candidates(head, seen[:, : config.shots], protocol == "iid")
            picked = pick_rates(pick_on, rates, to_pick, config.milestones, run_all)
            # One run serves all milestones that share a learning rate. The long ones come first, for an even load.
            shared = {rate: tuple(m for m in config.milestones if picked[m] == rate) for rate in set(picked.values())}
            runs = [
                ("test", trial, rate, shared[rate], draw == 0)
                for rate in sorted(shared, key=lambda rate: -shared[rate][-1])
                for draw, trial in enumerate(trials)
            ]
            for i, scores in enumerate(run_all(runs)):
                _, trial, rate, milestones, _ = runs[i]
                draw = i % len(trials)
                for milestone, s in zip(milestones, scores, strict=True):
                    outcomes.append(Outcome(protocol, head, milestone, draw, seed, s.train, s.test, rate, s.first))
                    if isinstance(s.head, LinearHead) and protocol == config.protocols[0]:
                        known = LinearHead(s.head.weight[:milestone], s.head.bias[:milestone], None)
                        learned[head, milestone] = Learned(known, classes[trial.order[:milestone]], rate)
    on_progress("done", 1.0)
    rank = {key: i for i, key in enumerate(rounds)}
    outcomes.sort(key=lambda o: (rank[o.protocol, o.head], o.draw, o.classes))
    return outcomes, learned
