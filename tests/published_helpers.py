"""Meta-steps of the published ANML to hold ours against: recorded ones, and random ones for the re-statement."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks.restated_anml import Weights, restated_step
from snn_anml.meta.published import Drawings, MetaStep
from snn_anml.networks.published import PublishedANML

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / os.environ.get("SNN_ANML_REFERENCE", "../shared/fixtures/anml_reference.npz")
TOLERANCE = 1e-9


class Case(NamedTuple):
    """Inputs of a meta-step: weights by name, pictures (S or Q, 1, H, H) and labels of trajectory and query."""

    weights: Weights
    trajectory: tuple[Tensor, Tensor]
    query: tuple[Tensor, Tensor]
    inner_lr: float


def read_reference(path: Path) -> tuple[Case, dict[str, MetaStep]]:
    """The recorded meta-step, and what came out of it by order."""
    with np.load(path) as file:
        data = {name: torch.from_numpy(np.asarray(file[name])) for name in file.files}

    def under(prefix: str) -> Weights:
        return {name.removeprefix(prefix): value for name, value in data.items() if name.startswith(prefix)}

    def drawings(which: str) -> tuple[Tensor, Tensor]:
        return data[f"{which}_x"].double()[:, None] / 255, data[f"{which}_y"]

    case = Case(under("weight/"), drawings("trajectory"), drawings("query"), data["inner_lr"].item())
    steps = {o: MetaStep(data[f"loss/{o}"], data[f"accuracy/{o}"], under(f"grad/{o}/")) for o in ("first", "second")}
    return case, steps


def random_case(
    seed: int, nm: int, pln: int, classes: int, lr: float, support: int, remember: int, channels: int, size: int = 28,
    conv_bias: bool = False,
) -> Case:  # fmt: skip
    """Float64 weights, all of them random, and random pictures; the queries hold the trajectory at their end."""
    generator = torch.Generator().manual_seed(seed)
    model = PublishedANML(nm, pln, classes, size, channels, conv_bias, seed).double()
    weights = {
        name: value.detach() + 0.3 * torch.randn(value.shape, generator=generator, dtype=value.dtype)
        for name, value in model.weights.items()
    }
    x = torch.rand((support + remember, 1, size, size), generator=generator, dtype=torch.float64)
    y = torch.randint(classes, (support + remember,), generator=generator)
    trajectory = x[:support], y[:support]
    return Case(weights, trajectory, (x.roll(-support, 0), y.roll(-support)), lr)


def apart(case: Case) -> Drawings:
    """The case's drawings, those of the trajectory that are queries too standing there twice."""
    pictures, labels = (torch.cat(pair) for pair in zip(case.trajectory, case.query, strict=True))
    return Drawings(pictures, labels, len(case.trajectory[1]), len(case.trajectory[1]))


def together(case: Case) -> Drawings:
    """The case's drawings, each once, where the queries hold the trajectory; else as `apart`."""
    pictures, labels = case.query
    rest = list(range(len(labels)))
    for picture, label in zip(*case.trajectory, strict=True):
        same = (i for i in rest if labels[i] == label and torch.equal(pictures[i], picture))
        found = next(same, None)
        if found is None:
            return apart(case)
        rest.remove(found)
    support = len(case.trajectory[1])
    return Drawings(
        torch.cat([case.trajectory[0], pictures[rest]]), torch.cat([case.trajectory[1], labels[rest]]), support
    )


def restated(case: Case, order: Literal["first", "second"], adapt: Literal["pln", "head"] = "pln") -> MetaStep:
    """The meta-step of the re-statement."""
    return MetaStep(*restated_step(*case, order, adapt))


def assert_same_step(ours: MetaStep, expected: MetaStep, tolerance: float = TOLERANCE) -> None:
    """Loss, accuracy and every gradient, to `tolerance` of the gradient's largest element.

    A gradient that is zero up to rounding is compared at the scale of the largest of all.
    """
    torch.testing.assert_close(ours.loss, expected.loss, rtol=tolerance, atol=0)
    torch.testing.assert_close(ours.accuracy, expected.accuracy, rtol=tolerance, atol=0)
    assert set(ours.gradient) == set(expected.gradient)
    largest = max(gradient.abs().max() for gradient in expected.gradient.values())
    for name, gradient in expected.gradient.items():
        scale = gradient.abs().max()
        scale = largest if scale < tolerance * largest else scale
        error = (ours.gradient[name] - gradient).abs().max() / scale
        assert error < tolerance, f"gradient of {name} is off by {error:.1e} of its largest element"
