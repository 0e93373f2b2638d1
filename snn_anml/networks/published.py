"""The conventional ANML as published: a prediction network (PLN) and a neuromodulatory one (NM) that gates it.

    block(x) = relu(pool(norm(conv3x3(x))))      three a network; no padding; 2x2 max-pool in the first two
    gate = sigmoid(W_nm NM(x) + b_nm),   logits = W (gate * PLN(x)) + b

The norm is batch norm in training mode on one picture at a time, that is instance norm. Biases of the convolutions
cancel in it: they are kept where weights are loaded with them, and their gradient is zero. Several input channels all
receive the same picture, and one with their summed kernels is the same function (but see `snn_anml.meta.unrolled`
for how fast they learn).

Weights are a dictionary with the published names (`nm.conv1.weight`, ..., `pln.out.bias`), shapes as torch's layers
have them; without the names of the NM network there is no gate.

Source: Beaulieu et al. 2020, arXiv 2002.09571.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from snn_anml.config import NetworkConfig
from snn_anml.networks import first_block, normed_block, winograd_block
from snn_anml.networks.activity import Activity
from snn_anml.networks.first_block import Windows
from snn_anml.networks.norm_pool import Block
from snn_anml.networks.normed_block import KERNEL
from snn_anml.networks.plain_tower import plain_features

Weights = Mapping[str, Tensor]

CACHE_BYTES = 2**23  # of one map; some such maps are in use at a time


class Tower(NamedTuple):
    """The three blocks of a network, or a gradient or direction of that form."""

    first: Block
    second: Block
    third: Block


class States(NamedTuple):
    """What each block's gradient needs."""

    first: first_block.State
    second: winograd_block.State
    third: normed_block.State


def tower(weights: Weights, net: str) -> Tower:
    """The blocks of network `nm` or `pln`, input channels summed into one; differentiable."""
    blocks = []
    for layer in (1, 2, 3):
        kernel = weights[f"{net}.conv{layer}.weight"]
        if layer == 1:
            kernel = kernel.sum(1, keepdim=True)
        scale, shift = weights[f"{net}.norm{layer}.weight"], weights[f"{net}.norm{layer}.bias"]
        blocks.append(Block(kernel.permute(0, 2, 3, 1).flatten(1), scale, shift))
    return Tower(*blocks)


def kernels(net: Tower, weights: Weights, name: str) -> dict[str, Tensor]:
    """The inverse of `tower`: the blocks as weights of network `name`, of the shapes that `weights` have there.

    Where several input channels had been summed, each gets an equal share of what the sum has changed by.
    """
    before, named = tower(weights, name), {}
    for layer, (block, was) in enumerate(zip(net, before, strict=True), 1):
        kernel = weights[f"{name}.conv{layer}.weight"]
        channels = 1 if layer == 1 else kernel.shape[1]
        change = (block.kernel - was.kernel).unflatten(1, (KERNEL, KERNEL, channels)).permute(0, 3, 1, 2)
        named[f"{name}.conv{layer}.weight"] = kernel + change * channels / kernel.shape[1]
        named[f"{name}.norm{layer}.weight"], named[f"{name}.norm{layer}.bias"] = block.scale, block.shift
    return named


def by_channel(y: Tensor) -> Tensor:
    """A map (N, H, W, C) as features (N, C H W), in the published order."""
    return y.permute(0, 3, 1, 2).flatten(1)


def by_position(features: Tensor, like: Tensor) -> Tensor:
    """The inverse of `by_channel`, for a map of the shape of `like`."""
    return features.unflatten(1, (like.shape[3], *like.shape[1:3])).permute(0, 2, 3, 1)


def inside(net: Tower) -> Tower:
    """A tower as the functions on many pictures take it, the second block's kernel in Winograd's form."""
    return net._replace(second=winograd_block.inside(net.second))


def outside(gradient: Tower) -> Tower:
    """The gradient in a tower from that in `inside` of it."""
    return gradient._replace(second=winograd_block.outside(gradient.second))


def tower_forward(q: Windows, net: Tower) -> States:
    """All three blocks on N pictures; the features are the last one's `y`."""
    first = first_block.forward(q, net.first)
    second = winograd_block.forward(first.y, net.second, True)
    return States(first, second, normed_block.forward(second.y, net.third, False))


def tower_backward(gradient: Tensor, q: Windows, states: States, net: Tower, total: Tower) -> Tower:
    """`total` plus the gradient in the blocks from that in the features (N, F)."""
    back = by_position(gradient, states.third.y)
    back, third, _ = normed_block.descend(back, states.third, net.third, total.third, -1)
    back, second = winograd_block.backward(back, states.second, net.second, total.second)
    first, _ = first_block.backward(back, q, states.first, net.first)
    return Tower(Block(*(a + b for a, b in zip(total.first, first, strict=True))), second, third)


def nothing(like: Tower) -> Tower:
    """A gradient of zeros."""
    return Tower(*(Block(*map(torch.zeros_like, block)) for block in like))


def in_cache(q: Windows, net: Tower) -> list[slice]:
    """The pictures in shares whose largest map stays in a processor's cache; all at once on an accelerator."""
    N, P = q.centred.shape[:2]
    share = N
    if q.centred.device.type == "cpu":
        most = CACHE_BYTES // (P * len(net.first.scale) * q.centred.element_size())
        share = -(-N // -(-N // max(most, 1)))  # of equal size
    return [slice(i, min(i + share, N)) for i in range(0, N, share)]


class _Features(torch.autograd.Function):
    """Windows and the nine tensors of a tower to features; the windows are constants."""

    @staticmethod
    def forward(ctx: Any, centred: Tensor, covariance: Tensor, *weights: Tensor) -> Tensor:
        q, net = Windows(centred, covariance), inside(Tower(*(Block(*weights[i : i + 3]) for i in (0, 3, 6))))
        states = [tower_forward(q.pick(part), net) for part in in_cache(q, net)]
        ctx.saved = q, net, states
        return torch.cat([by_channel(state.third.y) for state in states])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        q, net, states = ctx.saved
        total = nothing(net)
        for part, state in zip(in_cache(q, net), states, strict=True):
            total = tower_backward(gradients[0][part], q.pick(part), state, net, total)
        total = outside(total)
        return None, None, *total.first, *total.second, *total.third


def tower_features(q: Windows, net: Tower) -> Tensor:
    """Features (N, F) of N pictures before the gate, differentiable once in the weights."""
    if not torch.is_grad_enabled():  # nothing is kept, so that whole data sets pass
        many = inside(net)
        return torch.cat([by_channel(tower_forward(q.pick(part), many).third.y) for part in in_cache(q, net)])
    features: Any = _Features.apply(*q, *net.first, *net.second, *net.third)
    return features


def gates(weights: Weights, q: Windows) -> Tensor | None:
    """Gates (N, F) of N pictures, differentiable once; None without an NM network."""
    if "nm.out.weight" not in weights:
        return None
    features = tower_features(q, tower(weights, "nm"))
    return torch.sigmoid(F.linear(features, weights["nm.out.weight"], weights["nm.out.bias"]))


def gated_features(weights: Weights, q: Windows) -> tuple[Tensor, Tensor | None]:
    """What the output layer sees, and the gates, both (N, F), of N pictures; differentiable once."""
    features, gate = tower_features(q, tower(weights, "pln")), gates(weights, q)
    return (features if gate is None else features * gate), gate


class _Layers(nn.Module):
    """Holds one network's tensors under their published names."""

    def __init__(self, width: int, channels: int, features: int, outputs: int, conv_bias: bool) -> None:
        super().__init__()
        for layer in (1, 2, 3):
            conv = nn.Conv2d(channels if layer == 1 else width, width, KERNEL, bias=conv_bias)
            self.add_module(f"conv{layer}", conv)
            self.add_module(f"norm{layer}", nn.BatchNorm2d(width, track_running_stats=False))
        self.out = nn.Linear(features, outputs)
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)


def map_side(size: int) -> int:
    """Side of the last block's square map for pictures of `size` x `size` pixels.

    Raises:
        ValueError: pictures too small for three convolutions and a last map of more than one position, which the
            norm needs.
    """
    side = ((size - 2) // 2 - 2) // 2 - 2
    if side < 2:
        raise ValueError(f"Pictures of {size} x {size} pixels are too small for three blocks; 22 x 22 is the least.")
    return side


class PublishedANML(nn.Module):
    """A shell over this module's functions; `state_dict` has the published names.

    Args:
        nm_width: channels of each NM convolution; 0 for no gate.
        pln_width: channels of each PLN convolution.
        classes: outputs.
        size: height and width of the pictures, pixels.
        channels: identical input channels; 3 as published, 1 is the same function.
        conv_bias: hold biases of the convolutions, which do nothing, so that weights can be loaded with them.
        seed: of the initial weights, normal with variance 2 / fan-in (He et al. 2015); biases 0, norms 1.
    """

    def __init__(
        self,
        nm_width: int = 112,
        pln_width: int = 256,
        classes: int = 1000,
        size: int = 28,
        channels: int = 1,
        conv_bias: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.nm_width, self.pln_width, self.classes, self.size = nm_width, pln_width, classes, size
        positions = map_side(size) ** 2
        self.feature_count = pln_width * positions
        with torch.random.fork_rng(devices=[]):  # torch's initialisers draw from the global generator only
            torch.default_generator.manual_seed(seed)
            if nm_width:
                self.nm = _Layers(nm_width, channels, nm_width * positions, self.feature_count, conv_bias)
            self.pln = _Layers(pln_width, channels, self.feature_count, classes, conv_bias)

    @property
    def weights(self) -> dict[str, Tensor]:
        """The parameters by published name, for the pure functions."""
        return dict(self.named_parameters())

    @property
    def config(self) -> NetworkConfig:
        """The configuration that `snn_anml.networks.make_network` makes this network from."""
        modulation = "conventional" if self.nm_width else "none"
        nm_width = self.nm_width or self.pln_width  # of no consequence without an NM network
        widths, nm_widths = (self.pln_width,) * 3, (nm_width,) * 3
        return NetworkConfig("relu", "published", widths=widths, modulation=modulation, nm_widths=nm_widths)

    @property
    def head(self) -> nn.Linear:
        """The output layer."""
        return self.pln.out

    @property
    def modulation(self) -> nn.Module | None:
        """The NM network, if there is one."""
        return getattr(self, "nm", None)

    def activity(self, x: Tensor, generator: torch.Generator | None = None) -> Activity:
        """Features and gates of pictures x (N, 1, H, H) in [0, 1], as `snn_anml.networks.ANML.activity` returns them.

        Under autocast they come from plain convolutions. There are no spikes; `generator` is not used.
        """
        if torch.is_autocast_enabled(x.device.type):
            features, gate = plain_features(self.weights, x)
        else:
            features, gate = gated_features(self.weights, first_block.windows(x[:, 0]))
        return Activity(features, [], [], [] if gate is None else [gate[None]])

    def forward(self, pictures: Tensor) -> Tensor:
        """Logits (N, classes) of pictures (N, 1, H, H) in [0, 1]."""
        return self.head(self.activity(pictures).features)


def from_published(weights: Weights, size: int = 28) -> PublishedANML:
    """The network that holds the given weights, its sizes read from them.

    Args:
        weights: by published name, with or without biases of the convolutions.
        size: height and width of the pictures, pixels.

    Raises:
        ValueError: a name or a shape that does not belong to such a network.
    """
    if missing := {"pln.conv1.weight", "pln.out.weight"} - set(weights):
        raise ValueError(f"No weights named {sorted(missing)}, only {sorted(weights)}; expected the published names.")
    width, channels = weights["pln.conv1.weight"].shape[:2]
    model = PublishedANML(
        nm_width=len(weights["nm.conv1.weight"]) if "nm.conv1.weight" in weights else 0,
        pln_width=width,
        classes=len(weights["pln.out.weight"]),
        size=size,
        channels=channels,
        conv_bias="pln.conv1.bias" in weights,
    ).to(weights["pln.conv1.weight"])
    try:
        model.load_state_dict(dict(weights))
    except RuntimeError as error:
        raise ValueError(f"These weights are not a published ANML's for {size} x {size} pictures: {error}") from error
    return model
