"""The inner loop on the output layer, in the dual form.

SGD of batch 1 on a softmax layer changes the logits of *every* drawing only through the Gram matrix of the
features. With features f, G = f_support f^T + 1 (the 1 is the bias) and L the logits of all drawings, step k is

    L <- L - lr G[k] (x) (softmax(L[k]) - onehot(y[k])).

The features are computed once; differentiating this recursion once gives the exact second-order meta-gradient.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def dual_sgd(features: Tensor, labels: Tensor, logits: Tensor, learning_rate: Tensor | float) -> Tensor:
    """Logits of all drawings after one SGD step of batch 1 on each of the first S, in their order.

    Args:
        features: (M, N, F) of M trajectories; the first S of the N drawings are learned from.
        labels: (M, S) int64, in [0, C).
        logits: (M, N, C) before the first step.
        learning_rate: of the inner SGD; a scalar tensor takes part in the gradient.

    Returns:
        (M, N, C) logits after S steps, differentiable in features, logits and learning rate.
    """
    steps = labels.shape[1]
    gram = features[:, :steps] @ features.transpose(1, 2) + 1
    gram = gram * learning_rate
    targets = F.one_hot(labels, logits.shape[-1]).to(logits.dtype)
    for k in range(steps):
        error = torch.softmax(logits[:, k], -1) - targets[:, k]
        logits = logits - gram[:, k, :, None] * error[:, None, :]
    return logits
