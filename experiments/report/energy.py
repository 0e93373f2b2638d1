"""Totals, parts and break-even rates from the rows of energy.csv."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from converters import energy

EXACT, KERAS_SPIKING = "exact", "keras-spiking"
PARTS: tuple[str, ...] = ("PLN", "NM", "gates", "head")


@dataclass(frozen=True)
class Total:
    """Modelled energy of one network on one device, J per inference.

    parts: of the prediction network (its gates apart; with it the encoding of pictures as spikes), the neuromodulatory
    network, the multiplications by gates, and the head; `layers`: the same by layer, as (layer, part, J);
    `spike_joules`: of synapses that spikes of the network's own neurons drive.
    """

    network: str
    device: str
    convention: str
    source: str
    parts: Mapping[str, float]
    layers: tuple[tuple[str, str, float], ...]
    spike_joules: float

    @property
    def joules(self) -> float:
        """J per inference."""
        return sum(self.parts.values())

    def share(self, *names: str) -> float:
        """Share of these parts in the total."""
        return sum(self.parts[name] for name in names) / self.joules if self.joules else 0.0


def totals(rows: Iterable[Mapping[str, Any]]) -> list[Total]:
    """One total for every network, device and convention, in the order of the rows."""
    groups: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["network"], row["device"], row["convention"]), []).append(row)
    return [_total(*key, group) for key, group in groups.items()]


def _total(network: str, device: str, convention: str, rows: list[Mapping[str, Any]]) -> Total:
    parts = dict.fromkeys(PARTS, 0.0)
    layers = []
    for row in rows:
        gates, rest = row["joules_gates"], row["joules"] - row["joules_gates"]
        name = {"pln": "PLN", "input": "PLN", "nm": "NM"}.get(row["part"], "head")
        parts["gates"] += gates
        parts[name] += rest
        if row["joules"]:
            layers.append((row["layer"], "gates" if gates > rest else name, row["joules"]))
    neurons = {row["layer"] for row in rows if _spiking(row)}
    by_event = device in energy.DEVICES and energy.DEVICES[device].spiking
    driven = sum(row["joules_synapses"] for row in rows if _driven(row, neurons)) if by_event else 0.0
    return Total(network, device, convention, rows[0]["source"], parts, tuple(layers), driven)


def _spiking(row: Mapping[str, Any]) -> bool:
    """Whether a row is a layer of spiking neurons; a file without kinds tells only those that spiked."""
    return row["kind"] == "LIF" if "kind" in row else row["spikes"] > 0


def _driven(row: Mapping[str, Any], neurons: set[str]) -> bool:
    """Whether spikes of these layers drive a row; a file that does not say has accumulates there."""
    return row["spikes_of"] in neurons if "spikes_of" in row else row["effective_acs"] > 0


def find(every: Iterable[Total], network: str, device: str, convention: str = EXACT) -> Total | None:
    """The total of that network, device and convention, if it was computed."""
    wanted = network, device, convention
    return next((t for t in every if (t.network, t.device, t.convention) == wanted), None)


def spike_rate(rows: Iterable[Mapping[str, Any]], network: str) -> float | None:
    """Mean spikes per spiking neuron and inference, silent layers included, or None without such neurons."""
    seen = {row["layer"]: row for row in rows if row["network"] == network and row["convention"] == EXACT}
    spiking = [row for row in seen.values() if _spiking(row)]
    neurons = sum(row["neurons"] for row in spiking)
    return sum(row["spikes"] for row in spiking) / neurons if neurons else None


def break_even(spiking: Total, twin: Total, rate: float) -> float | None:
    """Spikes per neuron and inference at which both networks cost the same on this device, or None.

    See `converters.energy.break_even`; `rate` is that of the spiking network.
    """
    cost = energy.SpikeCost(rate, spiking.joules - spiking.spike_joules, spiking.spike_joules)
    return energy.break_even(cost, twin.joules)
