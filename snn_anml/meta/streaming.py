"""Read-outs that keep statistics of each class alone: they cannot forget, and an episode trains the network for them.

A class of which n drawings have been seen, with features f_1 ... f_n and their mean m, scores features f by

    class-mean  2 m . f - |m|^2: minus the squared distance to the mean, but for |f|^2
    cosine      w . f / |f|, with w the unit row that each drawing turned towards itself: w = f_1 / |f_1|, then
                w <- u / |u|,  u = w + (lr / k) (x - (w . x) w),  x = f_k / |f_k|,
                a gradient step on 1 - cos(w, f_k) for its own row alone (PGLR: prototypes learned by gradients)
    gaussian    sum over the features of log N(f; m, 1 / p), with p = (a + n / 2) / (a v + sum_k (f_k - m)^2 / 2):
                the most probable precision under a Gamma prior that weighs as 2 a drawings of variance v (GeMCL, MAP)

In an episode, queries ask what the support taught. Or every drawing asks (`left_out_scores`), and is left out of what
its own class has learned: as many questions as drawings, for the same features.

Banayeeanzade et al., NeurIPS 2021, "Generative vs. Discriminative: Rethinking the Meta-Continual Learning".
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SMALLEST = 1e-12
"""Norm below which a vector of features has no direction."""


def class_mean_scores(support: Tensor, queries: Tensor) -> Tensor:
    """Scores (..., Q, C) of queries (..., Q, F) for support (..., C, n, F)."""
    means = support.mean(-2)
    return 2 * queries @ means.mT - means.pow(2).sum(-1).unsqueeze(-2)


def turned(support: Tensor, learning_rate: Tensor | float) -> Tensor:
    """Unit rows (..., C, F) learned from support (..., C, n, F), drawing after drawing."""
    row, *others = F.normalize(support, dim=-1, eps=SMALLEST).unbind(-2)
    for k, x in enumerate(others, 2):
        change = x - (row * x).sum(-1, keepdim=True) * row
        row = F.normalize(row + learning_rate / k * change, dim=-1, eps=SMALLEST)
    return row


def cosine_scores(support: Tensor, queries: Tensor, learning_rate: Tensor | float) -> Tensor:
    """Scores (..., Q, C) of queries (..., Q, F) for support (..., C, n, F)."""
    return F.normalize(queries, dim=-1, eps=SMALLEST) @ turned(support, learning_rate).mT


def precisions(support: Tensor, strength: Tensor | float, variance: Tensor | float) -> Tensor:
    """p (..., C, F) for support (..., C, n, F), prior strength a and variance v."""
    squares = (support - support.mean(-2, keepdim=True)).pow(2).sum(-2)
    return (strength + support.shape[-2] / 2) / (strength * variance + squares / 2)


def normal_scores(means: Tensor, precision: Tensor, queries: Tensor) -> Tensor:
    """Log density (..., Q, C) of queries (..., Q, F) under normals (..., C, F), but for a constant."""
    constant = (precision.log() - precision * means.pow(2)).sum(-1) / 2
    return queries @ (precision * means).mT - queries.pow(2) @ precision.mT / 2 + constant.unsqueeze(-2)


def gaussian_scores(support: Tensor, queries: Tensor, strength: Tensor | float, variance: Tensor | float) -> Tensor:
    """Scores (..., Q, C) of queries (..., Q, F) for support (..., C, n, F)."""
    return normal_scores(support.mean(-2), precisions(support, strength, variance), queries)


def left_out_scores(kind: str, drawings: Tensor, strength: Tensor | float, variance: Tensor | float) -> Tensor:
    """Scores of every drawing for every class, as if it had not been seen itself.

    The row of `cosine` is the unit mean of unit features, whatever their order; a rate of 1 / k comes close to it.

    Args:
        kind: of the read-outs above.
        drawings: (..., C, n, F), n at least 2.
        strength: a, of the prior of `gaussian`.
        variance: v, of the same.

    Returns:
        (..., C n, C), class after class.
    """
    n, queries = drawings.shape[-2], drawings.flatten(-3, -2)
    mean = drawings.mean(-2)
    others = (n * mean.unsqueeze(-2) - drawings) / (n - 1)  # their mean
    if kind == "class-mean":
        scores = class_mean_scores(drawings, queries)
        own = (2 * others * drawings - others.pow(2)).sum(-1)
    elif kind == "cosine":
        unit = F.normalize(drawings, dim=-1, eps=SMALLEST)
        total = unit.sum(-2)
        scores = unit.flatten(-3, -2) @ F.normalize(total, dim=-1, eps=SMALLEST).mT
        own = (unit * F.normalize(total.unsqueeze(-2) - unit, dim=-1, eps=SMALLEST)).sum(-1)
    else:
        scores = gaussian_scores(drawings, queries, strength, variance)
        distance = (drawings - others).pow(2)
        squares = (drawings - mean.unsqueeze(-2)).pow(2).sum(-2, keepdim=True) - distance * ((n - 1) / n)
        precision = (strength + (n - 1) / 2) / (strength * variance + squares.clamp(min=0) / 2)
        own = (precision.log() - precision * distance).sum(-1) / 2
    asked = torch.arange(scores.shape[-2], device=scores.device)
    scores = scores.clone()
    scores[..., asked, asked // n] = own.flatten(-2)
    return scores


class Readouts(nn.Module):
    """What is meta-learned of the read-outs: the scale of their scores, the rate of `cosine`, the prior of `gaussian`.

    All are positive, and kept as logarithms.
    """

    def __init__(self) -> None:
        super().__init__()

        def positive(value: float) -> nn.Parameter:
            return nn.Parameter(torch.tensor(math.log(value)))

        self.log_scale = nn.ParameterDict(
            {"class-mean": positive(0.3), "cosine": positive(20.0), "gaussian": positive(0.1)}
        )
        self.log_rate, self.log_strength, self.log_variance = positive(1.0), positive(4.0), positive(0.05)

    def logits(self, kind: str, support: Tensor, queries: Tensor) -> Tensor:
        """Scaled scores (..., Q, C) of read-out `kind`."""
        if kind == "class-mean":
            scores = class_mean_scores(support, queries)
        elif kind == "cosine":
            scores = cosine_scores(support, queries, self.log_rate.exp())
        else:
            scores = gaussian_scores(support, queries, self.log_strength.exp(), self.log_variance.exp())
        return self.log_scale[kind].exp() * scores

    def left_out_logits(self, kind: str, drawings: Tensor) -> Tensor:
        """Scaled scores (..., C n, C) of read-out `kind`, see `left_out_scores`."""
        scores = left_out_scores(kind, drawings, self.log_strength.exp(), self.log_variance.exp())
        return self.log_scale[kind].exp() * scores
