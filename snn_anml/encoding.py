"""From a picture to what enters the network at every step.

`constant`  x_t = x: an analogue current, the same at every step (the first layer is then computed once).
`rate`      s_t ~ Bernoulli(x): one independent draw a step (snnTorch's `spikegen.rate`).
`latency`   one spike, at step round((1 - x) (T - 1)), the earlier the stronger; none where x = 0
            (snnTorch's `spikegen.latency` with `linear=True, normalize=True`).
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from snn_anml.errors import UserError

Encoding = Literal["constant", "rate", "latency"]


def encode(x: Tensor, encoding: Encoding, steps: int, generator: torch.Generator | None = None) -> Tensor:
    """Encodes samples as what enters the network step by step.

    Args:
        x: (B, ...), intensities in [0, 1], dimensionless.
        encoding: `constant`, `rate` or `latency`.
        steps: T, number of time steps.
        generator: source of randomness, on the CPU; needed for `rate` alone.

    Returns:
        (T, B, ...) of the type of x; for `constant` (1, B, ...), since every step is the same.

    Raises:
        UserError: an unknown encoding, or `rate` without a generator.
    """
    if encoding == "constant":
        return x.unsqueeze(0)
    if encoding == "rate":
        if generator is None:
            raise UserError("Rate encoding draws random spikes; pass a torch.Generator.")
        uniform = torch.rand((steps, *x.shape), generator=generator, device=generator.device)
        return (uniform.to(x.device) < x).to(x.dtype)
    if encoding == "latency":
        when = ((1 - x) * (steps - 1)).round()
        t = torch.arange(steps, device=x.device, dtype=x.dtype).view(-1, *[1] * x.dim())
        return ((t == when) & (x > 0)).to(x.dtype)
    raise UserError(f"Unknown encoding {encoding!r}; known are {', '.join(get_args(Encoding))}.")
