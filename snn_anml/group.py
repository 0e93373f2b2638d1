"""Processes that train together, each on its share of a step's drawings, as `torchrun` starts them.

Gradients are averaged over the processes, so that the result is that of one process, to rounding. The processes talk
through gloo on CPUs and NCCL on GPUs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from snn_anml.device import check_device
from snn_anml.errors import UserError

T = TypeVar("T")


@dataclass(frozen=True)
class Group:
    """This process among its equals. rank: its number, 0 for the one that writes files; size: how many there are."""

    rank: int = 0
    size: int = 1

    def share(self, count: int, name: str) -> slice:
        """This process's part of `count` things; `UserError` where they cannot be shared out evenly."""
        if count % self.size:
            raise UserError(f"{name} = {count} cannot be shared out evenly among {self.size} processes.")
        each = count // self.size
        return slice(self.rank * each, (self.rank + 1) * each)

    @torch.no_grad()
    def average_(self, tensors: Iterable[Tensor]) -> None:
        """Puts into every tensor its mean over the processes."""
        if self.size == 1:
            return
        tensors = list(tensors)
        together = torch.cat([tensor.reshape(-1) for tensor in tensors])
        dist.all_reduce(together)
        parts = (together / self.size).split([tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view_as(tensor))

    def from_first(self, make: Callable[[], T]) -> T:
        """What `make` returns or raises in process 0, in all of them; it is called there alone."""
        if self.size == 1:
            return make()
        message: list[Any] = [None, None]
        if self.rank == 0:
            try:
                message[0] = make()
            except (UserError, OSError) as error:
                message[1] = error
        dist.broadcast_object_list(message)
        if message[1] is not None:
            raise message[1]
        return message[0]


ALONE = Group()


@contextmanager
def joined(device: str) -> Iterator[tuple[Group, str]]:
    """The group that `torchrun` made this process a part of, for as long as the block runs; alone without `torchrun`.

    Args:
        device: `cpu` or `cuda`, the latter with a GPU for each process of a machine.

    Yields:
        the group, and the device of this process.
    """
    if int(os.environ.get("WORLD_SIZE") or 1) == 1:
        yield ALONE, device
        return
    if device == "cuda":
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(check_device(device))
    try:
        dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    except ValueError as error:
        raise UserError(f"WORLD_SIZE is set, but this is no process of torchrun ({error}); unset it.") from None
    try:
        yield Group(dist.get_rank(), dist.get_world_size()), device
    finally:
        dist.destroy_process_group()
