"""One meta-step of the conventional ANML: the published function, first and second order, and its fast forms.

The inner loop takes an SGD step on each drawing of the trajectory, the meta-loss is the mean cross-entropy of the
queries with what it left. `adapt = "pln"` changes the whole prediction network (`snn_anml.meta.unrolled`);
`adapt = "head"` its output layer alone, in the dual (`snn_anml.meta.inner`). `order = "first"` takes the inner
gradients for constants, as the published code does; `"second"` differentiates through them; `"none"` is the same
gradient as `"first"`, to be applied to the weights that the inner loop left and not to those it started from.

Gates, and everything else that the inner loop does not change, are computed once for all drawings.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from snn_anml.meta.inner import dual_sgd, sgd_
from snn_anml.meta.unrolled import Start, adapt_all, query_gradient, through_inner_loop
from snn_anml.networks.first_block import windows
from snn_anml.networks.published import Weights, gates, tower, tower_features

Order = Literal["none", "first", "second"]
Adapt = Literal["pln", "head"]


class Drawings(NamedTuple):
    """What one meta-step sees; the trajectory comes first.

    pictures: (N, 1, H, H) in [0, 1]; labels: (N,) int64; support: S, drawings of the trajectory, learned from in
    their order; query_from: the loss is taken on the drawings from here on, 0 (all, as published) up to S.
    """

    pictures: Tensor
    labels: Tensor
    support: int
    query_from: int = 0


class MetaStep(NamedTuple):
    """Loss and accuracy on the queries, scalars, and the loss's gradient in every weight, by name.

    adapted: the weights that the inner loop changed, for `order = "none"`, which keeps them.
    """

    loss: Tensor
    accuracy: Tensor
    gradient: dict[str, Tensor]
    adapted: dict[str, Tensor] | None = None


def check_step(drawings: Drawings, order: Order, adapt: Adapt) -> None:
    """Raises `ValueError` for an unknown order or adaptation, or a trajectory that is not among the drawings."""
    if order not in get_args(Order) or adapt not in get_args(Adapt):
        raise ValueError(
            f'order = "{order}", adapt = "{adapt}"; order is one of {get_args(Order)}, adapt of {get_args(Adapt)}.'
        )
    S, start, N = drawings.support, drawings.query_from, len(drawings.labels)
    if not (0 < S <= N and 0 <= start <= S and start < N):
        raise ValueError(f"support = {S}, query_from = {start} of {N} drawings; expected 0 <= query_from <= support.")


def meta_step(
    weights: Weights, drawings: Drawings, inner_lr: float, order: Order = "first", adapt: Adapt = "pln"
) -> MetaStep:
    """Loss, accuracy and meta-gradient of one trajectory.

    Args:
        weights: of the network, by published name (see `snn_anml.networks.published`); rows of the output layer that
            are to be re-drawn are so already. Not changed.
        drawings: trajectory and queries.
        inner_lr: learning rate of the inner SGD of batch 1.
        order: of the meta-gradient.
        adapt: what the inner loop changes, the whole prediction network or its output layer.

    Returns:
        Loss, accuracy, gradient; biases of convolutions have a gradient of zero.

    Raises:
        ValueError: an unknown order or adaptation, or a trajectory that is not among the drawings.
    """
    check_step(drawings, order, adapt)
    S, start, N = drawings.support, drawings.query_from, len(drawings.labels)
    leaves = {name: value.detach().requires_grad_() for name, value in weights.items()}
    head, bias = leaves["pln.out.weight"], leaves["pln.out.bias"]
    q, labels = windows(drawings.pictures[:, 0]), drawings.labels[start:]
    gate, net = gates(leaves, q), tower(leaves, "pln")
    adapted: dict[str, Tensor] | None = None
    if adapt == "head":
        features = tower_features(q, net)
        features = features if gate is None else features * gate
        support = drawings.labels[None, :S]
        logits = F.linear(features, head, bias)[None]
        logits = dual_sgd(features[None], support, logits, inner_lr, "second" if order == "second" else "first")
        logits = logits[0, start:]
        loss = F.cross_entropy(logits, labels)
        if order == "none":
            changed = head.detach().clone(), bias.detach().clone()
            sgd_(*changed, features[:S].detach(), drawings.labels[:S], inner_lr)
            adapted = {"pln.out.weight": changed[0], "pln.out.bias": changed[1]}
        outputs, pulls = [loss], [torch.ones_like(loss)]
    else:
        channels = leaves["pln.conv1.weight"].shape[1]
        with torch.no_grad():
            open_gate = q.centred.new_ones(()).expand(N, head.shape[1]) if gate is None else gate.detach()
            start_at = Start(net, head, bias, inner_lr, channels)
            inner = adapt_all(start_at, q.pick(slice(S)), open_gate[:S], drawings.labels[:S], order == "second")
            loss, logits, pull = query_gradient(inner, q.pick(slice(start, N)), open_gate[start:], labels)
            gate_pull = torch.zeros_like(open_gate)
            gate_pull[start:] = pull.gate
            if order == "second":
                pull, support_gate = through_inner_loop(inner, pull)
                gate_pull[:S] += support_gate
            if order == "none":
                adapted = inner.adapted(weights)
        outputs = [head, bias, *(tensor for block in net for tensor in block)]
        pulls = [pull.head, pull.bias, *(tensor for block in pull.net for tensor in block)]
        if gate is not None:
            outputs, pulls = [*outputs, gate], [*pulls, gate_pull]
    gradients = torch.autograd.grad(outputs, list(leaves.values()), pulls, allow_unused=True, materialize_grads=True)
    accuracy = (logits.argmax(1) == labels).to(loss.dtype).mean()
    return MetaStep(loss.detach(), accuracy, dict(zip(leaves, gradients, strict=True)), adapted)
