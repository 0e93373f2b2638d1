"""ANML: a prediction network whose synaptic currents are gated by a neuromodulatory network.

    gates = NM(x)
    for each layer l:  J_l = gate_l * norm(conv(s_{l-1})),   s_l = LIF(J_l)
    features f = mean over t of the spikes of the last layer
    logits = W f + b

The gates of the last layer are one a neuron; those of the layers before it are one a channel. With
`neuron = "relu"` the same configuration gives the conventional twin.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from snn_anml.config import NetworkConfig
from snn_anml.encoding import Encoding, encode
from snn_anml.networks.activity import Activity
from snn_anml.networks.layers import NormedConv, channels_last, make_neuron, over_time
from snn_anml.networks.neuromodulation import Neuromodulation


class ANML(nn.Module):
    """The network of this module's equation.

    Args:
        config: layers, neurons, encoding and modulation.
        classes: outputs of the head.
        size: height and width of the pictures, pixels.
        seed: of the initial weights.
    """

    def __init__(self, config: NetworkConfig, classes: int, size: int = 28, seed: int = 0) -> None:
        super().__init__()
        self.config, self.classes, self.size = config, classes, size
        with torch.random.fork_rng(devices=[]):  # torch's initialisers draw from the global generator only
            torch.default_generator.manual_seed(seed)  # and not that of a GPU, which is not restored here
            widths = (1, *config.widths)
            kernels = (5, *[3] * (len(config.widths) - 1))
            self.convs = nn.ModuleList(
                NormedConv(i, o, k) for i, o, k in zip(widths[:-1], widths[1:], kernels, strict=True)
            )
            self.neurons = nn.ModuleList(make_neuron(config, config.neuron == "lif") for _ in config.widths)
            for _ in config.widths:
                size = (size + 1) // 2
            self.feature_count = widths[-1] * size * size
            self.modulation = None
            if config.modulation != "none":
                self.modulation = Neuromodulation(config, self.size, [*config.widths[:-1], self.feature_count])
            self.head = nn.Linear(self.feature_count, classes)
            nn.init.zeros_(self.head.weight)
            nn.init.zeros_(self.head.bias)

    @property
    def steps(self) -> int:
        """T, time steps an inference; 1 for the conventional twin."""
        return self.config.steps if self.config.neuron == "lif" else 1

    @property
    def encoding(self) -> Encoding:
        """How pictures enter, see `snn_anml.encoding`."""
        return self.config.encoding

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of a picture."""
        return 1, self.size, self.size

    def fan_out(self, outputs: int) -> list[float]:
        """Mean number of synapses that a spike of each LIF layer enters: of the PLN's, then of a spiking NM network's.

        Args:
            outputs: of the head.
        """
        pln = _fan_out(self.convs, self.size, outputs)
        if self.modulation is None or not self.modulation.spiking:
            return pln
        gates = sum(self.config.widths[:-1]) + self.feature_count
        return pln + _fan_out(self.modulation.convs, self.size, gates)

    def activity(self, x: Tensor, generator: torch.Generator | None = None) -> Activity:
        """Runs all steps on pictures x (B, 1, H, W) in [0, 1]; `generator` is needed for rate encoding."""
        x = encode(x, self.config.encoding, self.steps, generator)
        gates, nm = self.modulation(x) if self.modulation is not None else ([], [])
        pln = []
        for layer, (conv, neuron) in enumerate(zip(self.convs, self.neurons, strict=True)):
            current = conv(x)
            gate = None
            if gates:
                last = layer == len(self.convs) - 1
                gate = gates[layer].unflatten(2, current.shape[2:]) if last else gates[layer][..., None, None]
                gate = over_time(channels_last, gate)
            x, _ = neuron(current, self.steps if len(current) == 1 else None, gate)
            pln.append(x)
        return Activity(x.flatten(2).mean(0), pln, nm, gates)

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Logits (B, classes) of pictures x (B, 1, H, W) in [0, 1]."""
        return self.head(self.activity(x, generator).features)


def _fan_out(convs: Iterable[Any], size: int, outputs: int) -> list[float]:
    """Of the layers behind these `NormedConv`, of which the last enters `outputs` neurons."""
    found = []
    for conv, following in pairwise(convs):
        size = (size + 1) // 2
        found.append(following.synapses(size) / (conv.conv.out_channels * size * size))
    return [*found, float(outputs)]
