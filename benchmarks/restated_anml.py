"""One meta-step of ANML with the structure of the published code: what the fast form must equal, and is timed against.

One picture at a time through both networks, three input channels, batch norm in training mode on that picture,
gradients of every tensor at every inner step, a full copy of the adapted weights. Written anew from the paper
(Beaulieu et al. 2020, arXiv 2002.09571, algorithm 1) and from what is known of its code; nothing is taken over.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Weights = dict[str, Tensor]

NORM_EPS = 1e-5


def _tower(x: Tensor, weights: Weights, net: str) -> Tensor:
    """Features (1, F) of one picture x (1, channels, H, W)."""
    for layer in (1, 2, 3):
        conv, norm = f"{net}.conv{layer}", f"{net}.norm{layer}"
        x = F.conv2d(x, weights[f"{conv}.weight"], weights.get(f"{conv}.bias"))
        x = F.batch_norm(x, None, None, weights[f"{norm}.weight"], weights[f"{norm}.bias"], True, eps=NORM_EPS)
        x = F.relu(x)
        if layer < 3:
            x = F.max_pool2d(x, 2)
    return x.flatten(1)


def restated_logits(weights: Weights, pictures: Tensor) -> Tensor:
    """Logits (N, classes) of pictures (N, 1, H, W), one after another."""
    channels = weights["pln.conv1.weight"].shape[1]
    logits = []
    for picture in pictures:
        x = picture.expand(channels, -1, -1)[None]
        features = _tower(x, weights, "pln")
        if "nm.out.weight" in weights:
            gate = F.linear(_tower(x, weights, "nm"), weights["nm.out.weight"], weights["nm.out.bias"])
            features = features * torch.sigmoid(gate)
        logits.append(F.linear(features, weights["pln.out.weight"], weights["pln.out.bias"]))
    return torch.cat(logits)


def restated_step(
    weights: Weights,
    trajectory: tuple[Tensor, Tensor],
    query: tuple[Tensor, Tensor],
    inner_lr: float,
    order: Literal["first", "second"] = "first",
    adapt: Literal["pln", "head"] = "pln",
) -> tuple[Tensor, Tensor, Weights]:
    """Meta-loss, accuracy and meta-gradient by plain automatic differentiation.

    Args:
        weights: by published name; not changed.
        trajectory: pictures (S, 1, H, W) and labels (S,), learned from one after another.
        query: pictures (Q, 1, H, W) and labels (Q,), the loss is taken on.
        inner_lr: learning rate of the inner SGD.
        order: whether the inner gradients are constants for the meta-gradient.
        adapt: what the inner loop changes, all of the prediction network or its output layer.

    Returns:
        Scalar loss and accuracy, and the gradient of every weight under its name.
    """
    prefix = "pln." if adapt == "pln" else "pln.out."
    meta = {name: value.detach().requires_grad_() for name, value in weights.items()}
    fast = dict(meta)
    for picture, label in zip(*trajectory, strict=True):
        loss = F.cross_entropy(restated_logits(fast, picture[None]), label[None])
        gradients = torch.autograd.grad(loss, list(fast.values()), create_graph=order == "second")
        fast = {
            name: value - inner_lr * gradient if name.startswith(prefix) else value
            for (name, value), gradient in zip(fast.items(), gradients, strict=True)
        }
    logits = restated_logits(fast, query[0])
    loss = F.cross_entropy(logits, query[1])
    gradients = torch.autograd.grad(loss, list(meta.values()))
    accuracy = (logits.argmax(1) == query[1]).to(loss.dtype).mean()
    return loss.detach(), accuracy, dict(zip(meta, gradients, strict=True))
