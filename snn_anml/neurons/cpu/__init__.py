"""The fused scans on the CPU: C++, compiled on first use."""

from __future__ import annotations

import ctypes
from pathlib import Path

from snn_anml import compiled

SOURCE = Path(__file__).with_name("scans.cpp")


def library() -> ctypes.CDLL | None:
    """The compiled scans; None, with a warning, where they cannot be built."""
    return compiled.library(SOURCE, "Neurons run step by step, 5 to 10 times slower")
