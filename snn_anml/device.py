"""Where to compute."""

from __future__ import annotations

import torch

from snn_anml.errors import UserError


def parse_device(device: str) -> torch.device:
    """The torch device of that name, which may be on another machine; `UserError` where there is no such name."""
    try:
        found = torch.device(device)
    except RuntimeError:
        found = None
    if found is None or found.type not in ("cpu", "cuda"):
        raise UserError(f"Unknown device {device!r}; use cpu or cuda.")
    return found


def check_device(device: str) -> torch.device:
    """The torch device of that name, or `UserError` where this machine has none."""
    found = parse_device(device)
    if found.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"Device {device} was asked for, but torch sees no GPU here; use --device cpu.")
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise UserError(f"Device {device} was asked for, but torch sees {torch.cuda.device_count()} GPUs; use cuda:0.")
    return found
