"""The sequential meta-test: hundreds of unseen classes, one after another, and what is left of each.

`strict`: classes come in random order; the learning rate of every head and milestone is picked on classes held
out for that (and their rotations by 90 degrees as further classes, so that there are enough for late milestones),
which are never reported; the output layer starts at zero. `paper`: as published; index order, the output layer
freshly drawn, the learning rate picked on the very classes that are reported. The two are never mixed.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from snn_anml.config import MetaTestConfig
from snn_anml.data.tasks import pictures
from snn_anml.errors import UserError
from snn_anml.meta.heads import LinearHead
from snn_anml.meta.rates import candidates, pick_rates
from snn_anml.meta.trial import Trial
from snn_anml.networks import ANML, spikes_per_neuron


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
    """A head of draw 0 and the classes (indices into the dataset) that it has learned, in order."""

    head: LinearHead
    classes: np.ndarray
    learning_rate: float


@torch.no_grad()
def extract_features(
    model: ANML, images: Tensor, classes: np.ndarray, seed: int = 0, batch: int = 200
) -> tuple[Tensor, float]:
    """Features of every drawing of some classes, each computed once.

    Args:
        model: the network; put into evaluation mode.
        images: (all classes, drawings, H, W) uint8, on the model's device.
        classes: (n,) indices of classes.
        seed: of the spikes of a rate encoding.
        batch: drawings at a time.

    Returns:
        (n, drawings, F) float32 on the CPU, and the mean number of spikes per PLN neuron and inference.
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
        spikes += spikes_per_neuron(activity.pln).item() * len(x)
    return torch.cat(features).view(len(classes), drawings, -1), spikes / len(index[0])


def _drawn_layer(classes: int, features: int, seed: list[int]) -> Tensor:
    """A freshly drawn output layer, weights normal(0, 2 / fan_in) and bias 0: (classes, features + 1)."""
    weight = np.random.default_rng(seed).standard_normal((classes, features), np.float32) * math.sqrt(2 / features)
    return torch.cat([torch.from_numpy(weight), torch.zeros(classes, 1)], 1)


def _trials(
    head: str, features: Tensor, config: MetaTestConfig, protocol: str, draws: int, seed: list[int]
) -> tuple[list[Trial], list[np.ndarray]]:
    """The repetitions of a protocol and the order of classes in each."""
    trials, orders = [], []
    for draw in range(draws):
        if protocol == "strict":
            order, initial = np.random.default_rng([*seed, draw]).permutation(len(features)), None
        else:
            order, initial = np.arange(len(features)), _drawn_layer(len(features), features.shape[2], [*seed, draw])
        trials.append(Trial(head, features[order], config.shots, initial))
        orders.append(order)
    return trials, orders


def meta_test(
    features: Tensor,
    selection: Tensor,
    classes: np.ndarray,
    config: MetaTestConfig,
    seed: int,
    on_progress: Callable[[str, float], None] = lambda what, share: None,
) -> tuple[list[Outcome], dict[tuple[str, int], Learned]]:
    """Runs every protocol, head and draw.

    Args:
        features: (n, drawings, F) of the meta-test classes, in index order.
        selection: (m, drawings, F) of the classes on which `strict` picks learning rates.
        classes: (n,) indices of the meta-test classes in the dataset, recorded with the learned heads.
        config: milestones, heads, protocols, draws.
        seed: of class orders and freshly drawn output layers.
        on_progress: told what is being done, and the share that is done.

    Returns:
        the outcomes, and the heads learned in draw 0 of the first protocol by (head, milestone).

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
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the steps are small: whole runs side by side use the cores better
    try:
        with ThreadPoolExecutor(os.cpu_count()) as pool:

            def run_all(jobs: Iterable[Callable[[], Any]]) -> list[Any]:
                return list(pool.map(lambda job: job(), jobs))

            for done, (protocol, head) in enumerate(rounds):
                on_progress(f"{protocol}, {head}", done / len(rounds))
                strict = protocol == "strict"
                trials, orders = _trials(
                    head, features, config, protocol, config.draws if strict else config.paper_draws, [seed, 2]
                )
                if strict:
                    to_pick, _ = _trials(head, selection, config, protocol, config.selection_draws, [seed, 3])
                else:
                    to_pick = trials[:1]
                rates = candidates(head, to_pick[0].features[:, : config.shots])
                picked = pick_rates(rates, to_pick, config.milestones, run_all)
                # One run serves all milestones that share a learning rate.
                runs = [
                    (draw, rate, tuple(m for m in config.milestones if picked[m] == rate))
                    for draw in range(len(trials))
                    for rate in sorted(set(picked.values()))
                ]
                scores = run_all(partial(list, trials[draw].run(rate, todo)) for draw, rate, todo in runs)
                for (draw, rate, todo), run in zip(runs, scores, strict=True):
                    for milestone, s in zip(todo, run, strict=True):
                        outcomes.append(Outcome(protocol, head, milestone, draw, seed, s.train, s.test, rate, s.first))
                        if draw == 0 and protocol == config.protocols[0]:
                            learned[head, milestone] = Learned(s.head, classes[orders[0][:milestone]], rate)
    finally:
        torch.set_num_threads(threads)
    on_progress("done", 1.0)
    rank = {key: i for i, key in enumerate(rounds)}
    outcomes.sort(key=lambda o: (rank[o.protocol, o.head], o.draw, o.classes))
    return outcomes, learned
