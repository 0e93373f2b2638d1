"""The spike rate at which a network costs as much as a rival.

Every charge of `converters.energy.estimate` and of `converters.energy.memory` is either fixed (neuron updates, leaks,
biases, gates, what is analogue) or proportional to spikes. So the energy is a line in the spike rate r, in spikes per
neuron and inference, where all neurons spike more or less often in proportion,

    E(r) = fixed + driven * r / rate        r* = rate * (E_rival - fixed) / driven

and two evaluations give it: at the counts, and at the same counts without spikes. Spikes that encode the picture are
no neuron's and stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from converters.energy.table import Counts

_OF_SPIKES = (
    "effective_acs",
    "effective_macs",
    "input_events",
    "event_connections",
    "input_rate",
    "pool_adds",
)


@dataclass(frozen=True)
class SpikeCost:
    """Energy of an inference as a line in the spike rate.

    Attributes:
        rate: spikes per neuron and inference, over all spiking neurons, silent ones too.
        fixed: J without any spike.
        driven: J that spikes cost at this rate.
    """

    rate: float
    fixed: float
    driven: float

    @property
    def joules(self) -> float:
        """J at this rate."""
        return self.fixed + self.driven

    def at(self, rate: float) -> float:
        """J at another rate, in spikes per neuron and inference."""
        return self.fixed + self.driven * rate / self.rate if self.rate else self.fixed


def break_even(cost: SpikeCost, rival: float) -> float | None:
    """Spikes per neuron and inference at which a network costs `rival` J.

    None where spikes cost nothing (a device that pays for every connection, or a network without a spike), or where the
    network costs more than the rival even without a spike.
    """
    if cost.driven <= 0:
        return None
    even = cost.rate * (rival - cost.fixed) / cost.driven
    return even if even > 0 else None


def spike_cost(counts: Counts, joules: Callable[[Counts], float]) -> SpikeCost | None:
    """The line of a network, or None if it has no spiking neurons.

    Args:
        counts: what was counted.
        joules: price of counts, such as `lambda c: estimate(c, "loihi").joules` or
            `lambda c: estimate_memory(graph, c).joules`.
    """
    rate = spike_rate(counts)
    if rate is None:
        return None
    fixed = joules(without_spikes(counts))
    return SpikeCost(rate, fixed, joules(counts) - fixed)


def spike_rate(counts: Counts) -> float | None:
    """Mean spikes per spiking neuron and inference, layers without a spike included; None without such neurons."""
    neurons = [row for row in counts.layers if row.kind == "LIF"]
    if not neurons:
        return None
    return float(sum(row.mean("spikes") for row in neurons) / sum(row.neurons for row in neurons))


def without_spikes(counts: Counts) -> Counts:
    """The same counts if no neuron had sent a spike."""
    neurons = {row.layer for row in counts.layers if row.kind == "LIF"}
    rows = []
    for row in counts.layers:
        silent = ("spikes",) if row.layer in neurons else ()
        silent += _OF_SPIKES if row.spikes_of in neurons else ()
        rows.append(replace(row, **{name: np.zeros_like(getattr(row, name)) for name in silent}))
    return replace(counts, layers=tuple(rows))
