"""Small random distortions of drawings, so that a network learns shapes and not the drawings themselves.

A drawing is seen through the affine map of output to input coordinates, both in [-1, 1],

    (x, y) -> ((1 + s) cos(a) x + (h - sin(a)) y + u,  sin(a) x + (1 + s) cos(a) y + v)

with a, s, h, u and v uniform in -+ `strength` times the most there is of each, and pixels between pixels interpolated.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

TURN, SCALE, SHEAR, SHIFT = 0.26, 0.15, 0.15, 0.14
"""At strength 1: 15 degrees in rad; shares of the size; 2 of 28 pixels, in halves of the picture."""


def distorted(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Pictures x (B, C, H, W), each distorted by a map of its own; x itself at strength 0.

    Args:
        x: of any device; pixels outside are 0.
        strength: 0 or more, dimensionless; 1 is what people do when they write a character twice.
        generator: on the CPU.
    """
    if not strength:
        return x
    most = torch.tensor([TURN, SCALE, SHEAR, SHIFT, SHIFT])
    turn, scale, shear, u, v = ((torch.rand(len(x), 5, generator=generator) * 2 - 1) * most * strength).unbind(1)
    along = (1 + scale) * turn.cos()
    rows = torch.stack([along, shear - turn.sin(), u, turn.sin(), along, v], 1).unflatten(1, (2, 3))
    grid = F.affine_grid(rows.to(x), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, align_corners=False)
