"""Leaky integrator: a membrane that does not spike, v_t = beta v_{t-1} + x_t."""

from __future__ import annotations

import torch
from torch import Tensor


def integrate(currents: Tensor, beta: float) -> Tensor:
    """Membrane of a leaky integrator that starts at 0. currents (T, ...); returns (T, ...)."""
    v = [currents[0]]
    for current in currents[1:]:
        v.append(beta * v[-1] + current)
    return torch.stack(v)
