"""What both networks are made of: a convolution with foldable norm, and neurons that spike or do not."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from snn_anml.config import NetworkConfig
from snn_anml.networks.shared_norm import SharedBatchNorm2d
from snn_anml.neurons import Leaky


def over_time(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Applies a function of a batch to x (T, B, ...) with time folded into the batch."""
    return function(x.flatten(0, 1)).unflatten(0, x.shape[:2])


def channels_last(x: Tensor) -> Tensor:
    """x (B, C, H, W) with the channels innermost in memory, in which convolutions are fastest."""
    return x.to(memory_format=torch.channels_last)


class NormedConv(nn.Module):
    """Convolution without bias and batch norm over time and batch, which folds into it at inference.

    Args:
        channels_in: input channels.
        channels_out: output channels.
        kernel: height and width of the kernel, odd; the padding keeps the picture's edges.
    """

    def __init__(self, channels_in: int, channels_out: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, kernel, stride=2, padding=kernel // 2, bias=False)
        self.norm = SharedBatchNorm2d(channels_out)

    def synapses(self, size: int) -> int:
        """Connections from pictures `size` pixels high and wide; those from the padding are none."""
        side = self.conv.kernel_size[0]
        starts = range(-(side // 2), size - side // 2, 2)
        taps = sum(0 <= start + k < size for start in starts for k in range(side))  # along one edge of the picture
        return self.conv.in_channels * self.conv.out_channels * taps**2

    def forward(self, x: Tensor) -> Tensor:
        """x (T, B, C, H, W) to float32 currents (T, B, C', H', W')."""
        return over_time(lambda x: self.norm(self.conv(channels_last(x)).float()), x)


class ReLU(nn.Module):
    """The conventional neuron under the spiking one's interface: no steps, no membrane."""

    def forward(self, currents: Tensor, steps: int | None = None, gate: Tensor | None = None) -> tuple[Tensor, Tensor]:
        activation = torch.relu(currents if gate is None else currents * gate)
        return activation, activation


def make_neuron(config: NetworkConfig, spiking: bool) -> nn.Module:
    """`Leaky` as configured, or `ReLU`."""
    if not spiking:
        return ReLU()
    return Leaky(config.beta, config.threshold, config.reset, True, config.surrogate, config.slope)
