"""Which device has which fused scans."""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType

from torch import Tensor


def scans_for(x: Tensor) -> ModuleType:
    """The module with `forward`, `adjoint` and `tangent` for the device of x."""
    return import_module(f"snn_anml.neurons.{'cpu' if x.device.type == 'cpu' else 'gpu'}.scans")


def has_scans(x: Tensor) -> bool:
    """Whether there are any; where not, the definition runs."""
    if x.device.type == "cpu":
        return import_module("snn_anml.neurons.cpu").library() is not None
    return x.device.type == "cuda" and _has_triton()


@lru_cache
def _has_triton() -> bool:
    """Whether there is a Triton whose kernels take None within tuples, as those here do: 3.7 or later."""
    try:
        return tuple(map(int, version("triton").split(".")[:2])) >= (3, 7)
    except (PackageNotFoundError, ValueError):
        return False
