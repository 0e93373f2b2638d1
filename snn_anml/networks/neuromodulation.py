"""The neuromodulatory (NM) network: from the input to a gate for every current of the prediction network."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from snn_anml.config import NetworkConfig
from snn_anml.networks.layers import NormedConv, make_neuron, over_time
from snn_anml.neurons import integrate


def hard_sigmoid(x: Tensor) -> Tensor:
    """min(max(x / 4 + 1 / 2, 0), 1): the tangent of the sigmoid, without an exponential."""
    return (x * 0.25 + 0.5).clamp(0, 1)


class Neuromodulation(nn.Module):
    """Three (or so) convolutions and one linear layer to the gates of each PLN layer.

    Conventional: ReLU, gate = sigmoid(W h + b), one gate an inference. Spiking: LIF layers, and at every step
    gate_t = sigmoid(u_t) with the leaky sum u_t = nm_beta u_{t-1} + W s_t + b.

    Args:
        config: widths, neurons and gate function.
        size: height and width of the input, pixels.
        gates: number of gates for each PLN layer.
    """

    def __init__(self, config: NetworkConfig, size: int, gates: list[int]) -> None:
        super().__init__()
        self.spiking = config.modulation == "spiking"
        self.steps, self.beta, self.gate = config.steps, config.nm_beta, config.gate
        widths = (1, *config.nm_widths)
        self.convs = nn.ModuleList(NormedConv(i, o, 3) for i, o in pairwise(widths))
        self.neurons = nn.ModuleList(make_neuron(config, self.spiking) for _ in config.nm_widths)
        for _ in config.nm_widths:
            size = (size + 1) // 2
        self.gates = nn.ModuleList(nn.Linear(widths[-1] * size * size, n) for n in gates)

    def forward(self, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Encoded input (T or 1, B, 1, H, W) to the gates of each PLN layer, (T or 1, B, n), and the spikes or
        activations of each NM layer, (T or 1, B, C, H, W)."""
        activity = []
        for conv, neuron in zip(self.convs, self.neurons, strict=True):
            x, _ = neuron(conv(x), self.steps if len(x) == 1 else None)
            activity.append(x)
        gates = []
        for linear in self.gates:
            drive = over_time(linear, x.flatten(2)).float()
            if self.spiking:
                drive = integrate(drive, self.beta)
            gates.append(torch.sigmoid(drive) if self.gate == "sigmoid" else hard_sigmoid(drive))
        return gates, activity
