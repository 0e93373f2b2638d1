"""What an inference leaves behind."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Activity(NamedTuple):
    """What an inference of B samples leaves behind.

    features: (B, F), mean spike count of the last layer over the steps (its activation, for ReLU).
    pln: spikes (or activations) of each PLN layer, (T, B, C, H, W); empty for the published layers.
    nm: the same for each NM layer; (1, B, C, H, W) for a conventional one, empty without one.
    gates: of each PLN layer, (T or 1, B, channels or neurons); empty without an NM network.
    """

    features: Tensor
    pln: list[Tensor]
    nm: list[Tensor]
    gates: list[Tensor]


def spikes_per_neuron(layers: list[Tensor]) -> Tensor:
    """Mean number of spikes a neuron and inference, summed over the T steps; layers (T, B, ...), scalar."""
    neurons = sum(layer[0, 0].numel() for layer in layers)
    batch = layers[0].shape[1]
    return torch.stack([layer.sum() for layer in layers]).sum() / (neurons * batch)


def spikes_per_synapse(layers: list[Tensor], fan_out: list[float]) -> Tensor:
    """Mean number of spikes a synapse and inference: synaptic operations over synapses, scalar.

        sum_l c_l S_l / sum_l c_l N_l,   S_l spikes of layer l an inference, N_l its neurons, c_l its `fan_out`

    The operations are those that Sorbaro et al. 2020 (doi 10.3389/fnins.2020.00662) add to the loss.

    Args:
        layers: spikes of each layer, (T, B, ...).
        fan_out: mean number of synapses that a spike of each layer enters.
    """
    synapses = sum(c * layer[0, 0].numel() for c, layer in zip(fan_out, layers, strict=True))
    operations = torch.stack([c * layer.sum() for c, layer in zip(fan_out, layers, strict=True)]).sum()
    return operations / (synapses * layers[0].shape[1])
