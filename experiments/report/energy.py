"""Totals, parts and break-even rates from the rows of energy.csv."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from converters.energy import DEVICES

EXACT, KERAS_SPIKING = "exact", "keras-spiking"
PARTS: tuple[str, ...] = ("PLN", "NM", "gates", "head")


@dataclass(frozen=True)
class Total:
    """Modelled energy of one network on one device, J per inference.

    parts: of the prediction network (its gates apart), the neuromodulatory network, the multiplications by
    gates, and the head; `layers`: the same by layer, as (layer, part, J).
    """

    network: str
    device: str
    convention: str
    source: str
    parts: Mapping[str, float]
    layers: tuple[tuple[str, str, float], ...]
    accumulate_joules: float

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
        name = {"pln": "PLN", "nm": "NM"}.get(row["part"], "head")
        parts["gates"] += gates
        parts[name] += rest
        if row["joules"]:
            layers.append((row["layer"], "gates" if gates > rest else name, row["joules"]))
    price = DEVICES[device].accumulate if device in DEVICES and DEVICES[device].spiking else 0.0
    accumulates = price * sum(row["effective_acs"] for row in rows)
    return Total(network, device, convention, rows[0]["source"], parts, tuple(layers), accumulates)


def find(every: Iterable[Total], network: str, device: str, convention: str = EXACT) -> Total | None:
    """The total of that network, device and convention, if it was computed."""
    wanted = network, device, convention
    return next((t for t in every if (t.network, t.device, t.convention) == wanted), None)


def spike_rate(rows: Iterable[Mapping[str, Any]], network: str) -> float | None:
    """Mean spikes per spiking neuron (layers that hold a membrane and spike) and inference, or None without any."""
    seen = {row["layer"]: row for row in rows if row["network"] == network and row["convention"] == EXACT}
    spiking = [row for row in seen.values() if row["spikes"] > 0]
    neurons = sum(row["neurons"] for row in spiking)
    return sum(row["spikes"] for row in spiking) / neurons if neurons else None


def break_even(spiking: Total, twin: Total, rate: float) -> float | None:
    """Spikes per neuron and inference at which both networks cost the same on this device.

    E_spiking(r) = E_fixed + E_AC r / rate, with the accumulates' energy E_AC proportional to the rate, so
    r* = rate (E_twin - E_fixed) / E_AC. None where the device does not pay by spike, or where the spiking network
    costs more than its twin even without a spike.
    """
    if spiking.accumulate_joules <= 0:
        return None
    fixed = spiking.joules - spiking.accumulate_joules
    even = rate * (twin.joules - fixed) / spiking.accumulate_joules
    return even if even > 0 else None
