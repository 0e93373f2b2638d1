"""Fresh rows of an output layer, normal(0, 2 / fan_in) as in ANML: in a fast copy, or on the meta-parameter."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

REDRAW_GAIN = 2.0  # variance of a re-drawn output row times its fan-in (He et al. 2015), as in ANML


def drawn_rows(count: int, like: Tensor, generator: torch.Generator) -> Tensor:
    """`count` rows (count, F) for an output layer of weights `like` (C, F), on its device."""
    features = like.shape[1]
    return torch.randn((count, features), generator=generator).to(like) * math.sqrt(REDRAW_GAIN / features)


def redrawn(
    head: tuple[Tensor, Tensor], trajectories: Iterable[Tensor], generators: Iterable[torch.Generator]
) -> list[tuple[Tensor, Tensor]]:
    """An output layer with other rows re-drawn for each trajectory, their biases 0; nothing flows into those rows.

    Args:
        head: weight (C, F) and bias (C,).
        trajectories: labels (S,) of each.
        generators: one of each.
    """
    weight, bias = head
    layers = []
    for labels, generator in zip(trajectories, generators, strict=True):
        rows = labels.unique()
        fresh = drawn_rows(len(rows), weight, generator)
        layers.append((weight.index_put((rows,), fresh), bias.index_fill(0, rows, 0.0)))
    return layers


@torch.no_grad()
def redraw_(head: nn.Linear, labels: Tensor, generator: torch.Generator) -> None:
    """Re-draws the weights of these outputs in place, and leaves their biases, as the published code does."""
    rows = labels.unique()
    head.weight[rows] = drawn_rows(len(rows), head.weight, generator)
