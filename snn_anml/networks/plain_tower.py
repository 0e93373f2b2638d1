"""The published networks by torch's own convolutions: any device, any precision, differentiable any number of times.

Slower on a processor than the functions of `snn_anml.networks.published`, and the same function; convolutions and
products follow autocast, norms are float32.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from snn_anml.networks.layers import channels_last
from snn_anml.networks.norm_pool import NORM_EPS


def plain_tower(weights: Mapping[str, Tensor], net: str, pictures: Tensor) -> Tensor:
    """Features (N, F) of network `nm` or `pln`, before any gate, of pictures (N, 1, H, H)."""
    x = channels_last(pictures)
    for layer in (1, 2, 3):
        kernel, norm = weights[f"{net}.conv{layer}.weight"], f"{net}.norm{layer}"
        if layer == 1:
            kernel = kernel.sum(1, keepdim=True)  # all input channels receive the same picture
        x = F.conv2d(x, channels_last(kernel))
        x = _instance_norm(x, weights[f"{norm}.weight"], weights[f"{norm}.bias"])
        x = torch.relu(F.max_pool2d(x, 2) if layer < 3 else x)
    return x.flatten(1)


def _instance_norm(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """The norm of x (N, C, H, W), which keeps its layout; torch's own would turn it into channels first."""
    x = x if x.dtype == torch.float64 else x.float()
    variance, mean = torch.var_mean(x, (2, 3), correction=0, keepdim=True)
    return torch.addcmul(shift[:, None, None], x - mean, torch.rsqrt(variance + NORM_EPS) * scale[:, None, None])


def plain_gates(weights: Mapping[str, Tensor], pictures: Tensor) -> Tensor | None:
    """Gates (N, F); None without an NM network."""
    if "nm.out.weight" not in weights:
        return None
    features = plain_tower(weights, "nm", pictures)
    return torch.sigmoid(F.linear(features, weights["nm.out.weight"], weights["nm.out.bias"]))


def plain_features(weights: Mapping[str, Tensor], pictures: Tensor) -> tuple[Tensor, Tensor | None]:
    """What the output layer sees, and the gates, both (N, F), of pictures (N, 1, H, H)."""
    features, gate = plain_tower(weights, "pln", pictures), plain_gates(weights, pictures)
    return (features if gate is None else features * gate), gate
