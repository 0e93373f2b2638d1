"""What a simulation leaves behind, in the same form from every backend."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np

from converters.events import events_of
from snn_anml.errors import UserError


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
        host: names of the graph's nodes that the backend's target leaves to the host computer.
        cores: on a chip, how many each `LIF` node takes.
    """

    backend: str
    output: np.ndarray
    spikes: dict[str, np.ndarray]
    membrane: dict[str, np.ndarray]
    values: dict[str, np.ndarray] = field(default_factory=dict)
    threshold: dict[str, np.ndarray] = field(default_factory=dict)
    build_seconds: float = 0.0
    run_seconds: float = 0.0
    host: tuple[str, ...] = ()
    cores: dict[str, int] = field(default_factory=dict)

    def source(self, name: str) -> np.ndarray:
        """What node `name` sends on: spikes as float32, or values; (B, T or 1, n)."""
        if name in self.spikes:
            return self.spikes[name].astype(np.float32)
        return self.values[name]

    def events(self, name: str) -> np.ndarray:
        """The spikes of `LIF` node `name` as events, (N,) `converters.EVENT`, sorted by sample, time and address."""
        check_layer(name, self.spikes)
        return events_of(self.spikes[name])


def check_layer(name: str, layers: Collection[str]) -> None:
    """Refuses a name that is not among those of the layers of spiking neurons."""
    if name not in layers:
        known = f"there are {', '.join(layers)}" if layers else "this network has no LIF neurons, so none sends spikes"
        raise UserError(f"No layer of spiking neurons is called {name!r}; {known}.")
