"""Batch norm whose statistics are those of the whole batch, also where several processes hold a part of it each."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


class _SumOverProcesses(torch.autograd.Function):
    """Every process's loss depends on the sum, so that a process's gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        return total


class SharedBatchNorm2d(nn.BatchNorm2d):
    """`torch.nn.BatchNorm2d`; in training with `torch.distributed`, over the parts of all processes.

        mean = sum x / n,   var = sum (x - mean)^2 / n   over all pictures and positions of all processes.

    Torch's own such norm (`SyncBatchNorm`) is for GPUs alone.
    """

    def forward(self, input: Tensor) -> Tensor:
        """input: (B, C, H, W); B the same in every process."""
        processes = dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
        if not self.training or processes == 1:
            return super().forward(input)
        n = processes * input.numel() // input.shape[1]
        sum_over_processes: Any = _SumOverProcesses.apply
        mean = sum_over_processes(input.sum((0, 2, 3))) / n
        centred = input - mean[:, None, None]
        var = sum_over_processes((centred * centred).sum((0, 2, 3))) / n
        if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
            with torch.no_grad():
                self.num_batches_tracked += 1
                rate = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
                self.running_mean.lerp_(mean, rate)
                self.running_var.lerp_(var * (n / (n - 1)), rate)
        scale = torch.rsqrt(var + self.eps) * self.weight
        return centred * scale[:, None, None] + self.bias[:, None, None]
