"""What a simulation leaves behind, in the same form from every backend."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True, eq=False)
class Recording:
    """One simulation of B samples over T steps.

    Attributes:
        backend: name of the backend that made it.
        output: (B, classes) float32, the graph's `Readout`.
        spikes: for every `LIF` node, (B, T, n) bool.
        membrane: for every `LIF` node, (B, T, n) float32; after the reset where there is no reset delay.
        values: for every other node that feeds a synapse or a gate (`Input`, `Activation`, `AvgPool2d`, ...),
            float32 (B, T, n), or (B, 1, n) where the graph says that the node is static.
        threshold: for every `LIF` node, its threshold, () or (n,), so that two recordings can be compared alone.
        build_seconds: time to make the simulator ready, s.
        run_seconds: time to simulate all samples, s.
    """

    backend: str
    output: np.ndarray
    spikes: dict[str, np.ndarray]
    membrane: dict[str, np.ndarray]
    values: dict[str, np.ndarray] = field(default_factory=dict)
    threshold: dict[str, np.ndarray] = field(default_factory=dict)
    build_seconds: float = 0.0
    run_seconds: float = 0.0

    def source(self, name: str) -> np.ndarray:
        """What node `name` sends on: spikes as float32, or values; (B, T or 1, n)."""
        if name in self.spikes:
            return self.spikes[name].astype(np.float32)
        return self.values[name]
