"""The inner loop on the output layer, in the dual form.

SGD of batch 1 on a softmax layer changes the logits of *every* drawing only through the Gram matrix of the
features. With features f, G = lr (f_support f^T + 1) (the 1 is the bias) and L the logits of all drawings, step k is

    L <- L - G[k] (x) e_k,     e_k = softmax(L[k]) - onehot(y[k]).

The features are computed once, and the exact second-order meta-gradient is that of this recursion. Written out,
with g = dloss/dL' of the result L', h = G g at first, and J_k the Jacobian of softmax k: for k = S-1 ... 0

    q_k = J_k h_k,     h_j <- h_j - G[j,k] q_k  (j < k),

and then dloss/dL = g - q and dloss/dG[j,n] = -e_j . (g_n - [n > j] q_n), where q_n = 0 outside the support.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


def _descend(gram: Tensor, targets: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (M, N, C) after all steps, and the error (M, S, C) of each."""
    logits, errors = logits.clone(), torch.empty_like(targets)
    rows = zip(
        *(x.unsqueeze(2).unbind(1) for x in (logits[:, : targets.shape[1]], targets, errors)),
        gram.unsqueeze(3).unbind(1),
        strict=True,
    )
    for logit, target, error, influence in rows:
        torch.sub(torch.softmax(logit, -1), target, out=error)
        logits.addcmul_(influence, error, value=-1)
    return logits, errors


class _DualSGD(torch.autograd.Function):
    """gram (M, S, N), targets (M, S, C), logits (M, N, C) to logits; autograd costs several times the arithmetic."""

    @staticmethod
    def forward(ctx: Any, gram: Tensor, targets: Tensor, logits: Tensor) -> Tensor:
        logits, errors = _descend(gram, targets, logits)
        ctx.save_for_backward(gram, targets, errors)
        return logits

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, Tensor]:
        (g,), (gram, targets, errors) = grads, ctx.saved_tensors
        steps = targets.shape[1]
        h, reversed_q = gram @ g, []
        rows = zip(
            *(x.unsqueeze(2).unbind(1) for x in (errors + targets, h)),
            gram[:, :, :steps].unsqueeze(3).unbind(2),
            strict=True,
        )
        for probability, pull, influence in reversed(list(rows)):
            inner = torch.linalg.vecdot(probability, pull).unsqueeze(-1)
            reversed_q.append(probability * (pull - inner))
            h.addcmul_(influence, reversed_q[-1], value=-1)  # rows from k on are no longer read
        q = torch.cat(reversed_q[::-1], 1)
        g_gram, g_logits = -errors @ g.mT, g.clone()
        g_gram[:, :, :steps] += (errors @ q.mT).triu_(1)
        g_logits[:, :steps] -= q
        return g_gram, None, g_logits


def dual_sgd(
    features: Tensor,
    labels: Tensor,
    logits: Tensor,
    learning_rate: Tensor | float,
    order: Literal["first", "second"] = "second",
    bias: bool = True,
) -> Tensor:
    """Logits of all drawings after one SGD step of batch 1 on each of the first S, in their order.

    Args:
        features: (M, N, F) of M trajectories; the first S of the N drawings are learned from.
        labels: (M, S) int64, in [0, C).
        logits: (M, N, C) before the first step.
        learning_rate: of the inner SGD; a scalar tensor takes part in the gradient.
        order: of the gradient; `first` takes the inner gradients e_k f_k^T for constants.
        bias: of the output layer; without one, the Gram matrix lacks its 1.

    Returns:
        (M, N, C) logits after S steps, differentiable once in features, logits and learning rate.
    """
    S = labels.shape[1]
    support = features[:, :S] if order == "second" else features[:, :S].detach()
    gram = (support @ features.mT + float(bias)) * learning_rate
    targets = F.one_hot(labels, logits.shape[-1]).to(logits.dtype)
    if order == "first":
        _, errors = _descend(gram[:, :, :S].detach(), targets, logits[:, :S].detach())
        return logits - gram.mT @ errors
    result: Any = _DualSGD.apply(gram, targets, logits)
    return result


@torch.no_grad()
def sgd_(weight: Tensor, bias: Tensor, features: Tensor, labels: Tensor, learning_rate: float) -> None:
    """The same steps on an output layer itself, in place.

    Args:
        weight: (C, F); changed.
        bias: (C,); changed.
        features: (S, F), learned from in their order.
        labels: (S,) int64, in [0, C).
        learning_rate: of the SGD.
    """
    for feature, target in zip(features, F.one_hot(labels, len(bias)).to(weight), strict=True):
        error = torch.softmax(torch.addmv(bias, weight, feature), 0) - target
        weight.addr_(error, feature, alpha=-learning_rate)
        bias.sub_(error, alpha=learning_rate)
