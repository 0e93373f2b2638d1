"""The inner loop over a whole prediction network, and the exact derivative of the meta-loss through it.

SGD of batch 1 on weights w_k with gradients g_k(w_k, gate_k), of learning rate lr:

    w_{k+1} = w_k - lr g_k.

From the meta-gradient l_S in the adapted weights the second order goes backwards through the steps,

    l_k = l_{k+1} - lr H_k l_{k+1},   pull on gate_k: - lr (d g_k / d gate_k)^T l_{k+1},

and since second derivatives are symmetric, both are tangents: the derivative of gradient k in the weights and in the
gate, as the weights move along l_{k+1}. So forward and backward of a step are moved once along one direction, which
costs twice what they cost themselves. First order is l_0 = l_S.

The output layer never is copied: with errors e_j and features f_j it is W - lr sum_j e_j f_j^T at every step, and its
meta-gradient is a sum of such products too until it is asked for.

One kernel w learns as `channels` identical ones of the same sum do, if its learning rate is `channels` times lr.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from snn_anml.networks import first_block, norm_pool, normed_block
from snn_anml.networks.first_block import Windows
from snn_anml.networks.norm_pool import Block
from snn_anml.networks.published import (
    Tower,
    Weights,
    by_channel,
    by_position,
    in_cache,
    inside,
    kernels,
    nothing,
    outside,
    tower_backward,
    tower_forward,
)


class Start(NamedTuple):
    """Where the inner loop starts, and how it learns.

    net: blocks of the prediction network; head (C, F), bias (C,): output layer; lr: learning rate; channels: input
    channels that the first kernel is the sum of.
    """

    net: Tower
    head: Tensor
    bias: Tensor
    lr: float
    channels: int


class _States(NamedTuple):
    """A step's forward pass, block by block."""

    first: first_block.State
    second: normed_block.State
    third: normed_block.State


class _Pulled(NamedTuple):
    """A step's backward pass, block by block."""

    first: first_block.Pulled
    second: norm_pool.Pulled
    third: norm_pool.Pulled


class Step(NamedTuple):
    """One step: weights before it, its forward and backward pass, probabilities (C,), gradient in the features (F,)."""

    net: Tower
    states: _States
    pulled: _Pulled
    probability: Tensor
    pull: Tensor


class Inner(NamedTuple):
    """After the inner loop: adapted blocks, errors (S, C) and gated features (S, F) of all steps, gates (S, F).

    steps: all of them if they are to be differentiated through, none otherwise.
    """

    start: Start
    q: Windows
    gate: Tensor
    net: Tower
    errors: Tensor
    features: Tensor
    steps: list[Step]

    def adapted(self, weights: Weights) -> dict[str, Tensor]:
        """The prediction network after the inner loop by published name, from all weights before it."""
        head = {
            "pln.out.weight": torch.addmm(self.start.head, self.errors.T, self.features, alpha=-self.start.lr),
            "pln.out.bias": torch.sub(self.start.bias, self.errors.sum(0), alpha=self.start.lr),
        }
        return kernels(self.net, weights, "pln") | head


def _descend(block: Block, gradient: Block, lr: float, channels: int) -> Block:
    """The first block after a step of SGD."""
    rates = (lr * channels, lr, lr)
    return Block(*(torch.sub(w, g, alpha=rate) for w, g, rate in zip(block, gradient, rates, strict=True)))


def adapt_all(start: Start, q: Windows, gate: Tensor, labels: Tensor, keep: bool) -> Inner:
    """The inner loop.

    Args:
        start: weights before it, and how they learn.
        q: windows of the S drawings.
        gate: (S, F).
        labels: (S,).
        keep: keep every step, to differentiate through them.
    """
    S, lr, net = len(labels), start.lr, start.net
    errors = start.head.new_empty(S, len(start.bias))
    features = start.head.new_empty(S, start.head.shape[1])
    targets = F.one_hot(labels, len(start.bias)).to(errors)
    steps = []
    for k in range(S):
        picture, past, seen = q.pick(slice(k, k + 1)), errors[:k], features[:k]
        first = first_block.forward(picture, net.first)
        second = normed_block.forward(first.y, net.second, True)
        states = _States(first, second, normed_block.forward(second.y, net.third, False))
        feature = torch.mul(by_channel(states.third.y)[0], gate[k], out=features[k])
        logits = torch.addmv(start.bias, start.head, feature).addmv_(past.T, seen @ feature + 1, alpha=-lr)
        probability = torch.softmax(logits, 0)
        error = torch.sub(probability, targets[k], out=errors[k])
        pull = (error @ start.head).addmv_(seen.T, past @ error, alpha=-lr)
        back = by_position((pull * gate[k])[None], states.third.y)
        back, third, pulled_third = normed_block.descend(back, states.third, net.third, net.third, lr)
        back, second, pulled_second = normed_block.descend(back, states.second, net.second, net.second, lr)
        gradient, pulled_first = first_block.backward(back, picture, states.first, net.first)
        if keep:
            steps.append(Step(net, states, _Pulled(pulled_first, pulled_second, pulled_third), probability, pull))
        net = Tower(_descend(net.first, gradient, lr, start.channels), second, third)
    return Inner(start, q, gate, net, errors, features, steps)


class Pull(NamedTuple):
    """Meta-gradient: in the blocks; in the output layer, as left^T right, (R, C) and (R, F), and bias; in the gates."""

    net: Tower
    left: Tensor
    right: Tensor
    bias: Tensor
    gate: Tensor

    @property
    def head(self) -> Tensor:
        """Gradient (C, F) in the weights of the output layer."""
        return self.left.T @ self.right


def query_gradient(inner: Inner, q: Windows, gate: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Pull]:
    """Mean cross-entropy of the queries with the adapted weights, logits (Q, C), and its gradient in these.

    Args:
        inner: the inner loop's result.
        q: windows of the Q queries.
        gate: (Q, F).
        labels: (Q,).
    """
    start, lr = inner.start, inner.start.lr
    net = inside(inner.net)
    total, parts = nothing(net), []
    for part in in_cache(q, net):
        share = q.pick(part)
        states = tower_forward(share, net)
        plain = by_channel(states.third.y)
        features = plain * gate[part]
        logits = torch.addmm(start.bias, features, start.head.T)
        logits.addmm_(features @ inner.features.T + 1, inner.errors, alpha=-lr)
        errors = torch.softmax(logits, 1).sub_(F.one_hot(labels[part], logits.shape[1])).div_(len(labels))
        pull = (errors @ start.head).addmm_(errors @ inner.errors.T, inner.features, alpha=-lr)
        total = tower_backward(pull * gate[part], share, states, net, total)
        parts.append((logits, errors, features, pull * plain))
    logits, errors, features, gate_pull = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    loss = F.cross_entropy(logits, labels)
    return loss, logits, Pull(outside(total), errors, features, errors.sum(0), gate_pull)


def through_inner_loop(inner: Inner, pull: Pull) -> tuple[Pull, Tensor]:
    """From the meta-gradient in the adapted weights to that in the weights before the inner loop.

    Args:
        inner: the inner loop, its steps kept.
        pull: gradient in the adapted weights.

    Returns:
        Gradient in the first weights, and in the gates (S, F) of the inner loop's drawings.
    """
    start, lr, gate_pull = inner.start, inner.start.lr, torch.empty_like(inner.gate)
    R, S = len(pull.left), len(inner.steps)
    left = torch.cat([pull.left, pull.left.new_empty(2 * S, pull.left.shape[1])])
    right = torch.cat([pull.right, pull.right.new_empty(2 * S, pull.right.shape[1])])
    net, bias = pull.net, pull.bias.clone()
    for k in reversed(range(S)):
        step, q, gate = inner.steps[k], inner.q.pick(slice(k, k + 1)), inner.gate[k]
        error, feature, past, seen = inner.errors[k], inner.features[k], inner.errors[:k], inner.features[:k]
        moves = Tower(net.first._replace(kernel=net.first.kernel * start.channels), net.second, net.third)
        states, weights = step.states, step.net

        first = first_block.tangent(moves.first, q, states.first, weights.first)
        second = normed_block.tangent(first.y, moves.second, states.second, weights.second)
        third = normed_block.tangent(second.y, moves.third, states.third, weights.third)
        d_plain = by_channel(third.y)[0]
        d_feature = d_plain * gate
        d_logits = torch.addmv(bias, start.head, d_feature).addmv_(past.T, seen @ d_feature, alpha=-lr)
        d_logits += (right[:R] @ feature) @ left[:R]
        d_error = step.probability * (d_logits - step.probability @ d_logits)
        d_pull = (d_error @ start.head).addmv_(seen.T, past @ d_error, alpha=-lr)
        d_pull += (left[:R] @ error) @ right[:R]
        gate_pull[k] = -lr * (d_pull * by_channel(states.third.y)[0] + step.pull * d_plain)

        back = by_position((d_pull * gate)[None], states.third.y)
        back, l_third = normed_block.descend_tangent(
            back, third, step.pulled.third, moves.third, states.third, weights.third, lr
        )
        back, l_second = normed_block.descend_tangent(
            back, second, step.pulled.second, moves.second, states.second, weights.second, lr
        )
        d_first = first_block.backward_tangent(
            back, first, step.pulled.first, moves.first, q, states.first, weights.first
        )
        net = Tower(_descend(net.first, d_first, lr, 1), l_second, l_third)
        left[R], left[R + 1] = d_error * -lr, error * -lr
        right[R], right[R + 1] = feature, d_feature
        bias.sub_(d_error, alpha=lr)
        R += 2
    return Pull(net, left, right, bias, pull.gate), gate_pull
