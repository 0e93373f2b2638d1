"""One meta-step of the conventional ANML, and of MAML, by automatic differentiation over plain convolutions.

The same function as `snn_anml.meta.published`, whose inner loop takes drawings one at a time, where `batch = passes =
1`. It is slower on a processor, but runs under autocast and learns from minibatches too: with `batch = 0`, the whole
trajectory, and several passes it is MAML (Finn et al. 2017, arXiv 1703.03400, algorithm 2).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from snn_anml.meta.published import Adapt, Drawings, MetaStep, Order, check_step
from snn_anml.networks.layers import channels_last
from snn_anml.networks.plain_tower import plain_gates, plain_tower
from snn_anml.networks.published import Weights


def plain_meta_step(
    weights: Weights,
    drawings: Drawings,
    inner_lr: float,
    order: Order = "first",
    adapt: Adapt = "pln",
    batch: int = 1,
    passes: int = 1,
) -> MetaStep:
    """Loss, accuracy and meta-gradient of one trajectory.

    Under autocast convolutions and the gates' product are rounded, forward and backward; weights, norms, the output
    layer and losses are not.

    Args:
        weights: of the network, by published name. Not changed.
        drawings: trajectory and queries.
        inner_lr: learning rate of the inner SGD.
        order: of the meta-gradient.
        adapt: what the inner loop changes, the whole prediction network or its output layer.
        batch: drawings of the trajectory in an inner step, whose loss is their mean; 0 for all of them.
        passes: times that the inner loop goes through the trajectory.

    Returns:
        Loss, accuracy, gradient; biases of convolutions have a gradient of zero.

    Raises:
        ValueError: an unknown order or adaptation, or a trajectory that is not among the drawings.
    """
    check_step(drawings, order, adapt)
    x, labels, S, start = drawings
    device, size = x.device.type, batch or S
    leaves = {name: value.detach().requires_grad_() for name, value in weights.items()}
    gate = plain_gates(leaves, x)
    features = plain_tower(leaves, "pln", x) if adapt == "head" else None

    def loss_of(net: Weights, which: slice) -> tuple[Tensor, Tensor]:
        seen = plain_tower(net, "pln", x[which]) if features is None else features[which]
        seen = seen if gate is None else seen * gate[which]
        with torch.autocast(device, enabled=False):
            logits = F.linear(seen, net["pln.out.weight"], net["pln.out.bias"])
            return F.cross_entropy(logits, labels[which]), logits

    def gradient(loss: Tensor, net: Weights, differentiable: bool = False) -> tuple[Tensor, ...]:
        with torch.autocast(device, enabled=False):  # it would round what backward does in single precision
            return torch.autograd.grad(
                loss, list(net.values()), create_graph=differentiable, allow_unused=True, materialize_grads=True
            )

    prefix = "pln." if adapt == "pln" else "pln.out."
    fast = {name: channels_last(w) if w.dim() == 4 else w for name, w in leaves.items() if name.startswith(prefix)}
    for first in [*range(0, S, size)] * passes:
        loss, _ = loss_of(fast, slice(first, min(first + size, S)))
        gradients = gradient(loss, fast, order == "second")
        fast = {name: w - inner_lr * g for (name, w), g in zip(fast.items(), gradients, strict=True)}
    loss, logits = loss_of(fast, slice(start, None))
    accuracy = (logits.argmax(1) == labels[start:]).to(loss.dtype).mean()
    adapted = {name: w.detach() for name, w in fast.items()} if order == "none" else None
    return MetaStep(loss.detach(), accuracy, dict(zip(leaves, gradient(loss, leaves), strict=True)), adapted)
