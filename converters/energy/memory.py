"""Joules per inference with the traffic of memories: the model of Lemaire et al. 2022.

    E = arithmetic + addressing + memory

    arithmetic   multiply_accumulate * MACs + accumulate * additions + gate_multiply * multiplies
    addressing   the same of addresses, which are 32-bit integers whatever the values are
    memory       sum over memories of (reads + writes) * e(size of the memory)

`converters.energy.traffic` counts, and says for each kind of layer how; `converters.energy.memory_curve` has e.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from converters.energy.devices import DEVICES, Device, find
from converters.energy.memory_curve import MemoryCurve, find_curve
from converters.energy.table import Counts
from converters.energy.traffic import MEMORIES, OPERATIONS, Accounting, LayerTraffic, traffic
from converters.graph import Graph
from snn_anml.errors import UserError

LEMAIRE = "Lemaire et al. 2022 (ICONIP, arXiv 2210.13107)"
ADDRESSING = DEVICES["cmos45-int32"]

LEAVES_OUT = (
    "control, routing, clock and static power; comparisons, maxima and rounding, random numbers and the mean of the "
    "readout; caches, reuse of a value within a layer and several values in one access, from which formal layers would "
    "gain most; zeros that formal layers might skip; what fewer bits than float32 do to accuracy"
)

CSV_COLUMNS = (
    "network",
    "layer",
    "part",
    "kind",
    "accounting",
    "curve",
    "device",
    "bits",
    "source",
    *OPERATIONS,
    "reads",
    "writes",
    *(f"accesses_{name}" for name in MEMORIES),
    *(f"bytes_{name}" for name in MEMORIES),
    "joules_arithmetic",
    "joules_addressing",
    "joules_memory",
    "joules",
)


def access_energy(size: float, curve: str | MemoryCurve = "horowitz") -> float:
    """J of one 64-bit access to a memory of `size` bytes."""
    return find_curve(curve).access(size)


@dataclass(frozen=True)
class LayerMemory:
    """Mean energy of one layer, J per inference: operations on values, on addresses, and accesses to memory."""

    layer: str
    part: str
    arithmetic: float
    addressing: float
    memory: float

    @property
    def joules(self) -> float:
        """Mean energy of the layer, J per inference."""
        return self.arithmetic + self.addressing + self.memory


@dataclass(frozen=True, eq=False)
class MemoryEstimate:
    """Modelled energy of one inference with its memory traffic, the mean over all samples counted.

    Attributes:
        device: the prices of arithmetic.
        curve: the price of an access by size of the memory.
        accounting: `exact` or `lemaire`.
        bits: of every value, which with the number of values gives the size of a memory.
        layers: one row per layer, in the order of computation.
        traffic: what was counted, row by row.
    """

    device: Device
    curve: MemoryCurve
    accounting: Accounting
    bits: int
    layers: tuple[LayerMemory, ...]
    traffic: tuple[LayerTraffic, ...]

    @property
    def name(self) -> str:
        """What stands for a device in a table: the accounting, the curve and the prices of arithmetic."""
        return f"memory-{self.accounting} ({self.curve.name}, {self.device.name})"

    @property
    def joules(self) -> float:
        """Mean energy, J per inference."""
        return sum(row.joules for row in self.layers)

    @property
    def source(self) -> str:
        """Where the model and the prices are from."""
        return f"{LEMAIRE}; accesses: {self.curve.source}; arithmetic: {self.device.source}"

    @property
    def leaves_out(self) -> str:
        """What the estimate does not contain."""
        return LEAVES_OUT

    def by_part(self) -> dict[str, float]:
        """J per inference of every network, such as `pln` and `nm`."""
        parts = dict.fromkeys((row.part for row in self.layers), 0.0)
        for row in self.layers:
            parts[row.part] += row.joules
        return parts

    def breakdown(self) -> dict[str, float]:
        """J per inference of `arithmetic`, `addressing` and `memory`."""
        return {name: sum(getattr(r, name) for r in self.layers) for name in ("arithmetic", "addressing", "memory")}

    def by_memory(self) -> dict[str, float]:
        """J per inference of the accesses to each of `MEMORIES`."""
        return {name: sum(_access(row, name, self.curve, self.bits) for row in self.traffic) for name in MEMORIES}

    def __str__(self) -> str:
        shares = ", ".join(f"{name} {joules:.3g} J" for name, joules in (self.by_part() | self.breakdown()).items())
        return (
            f"{self.joules:.4g} J per inference with memory traffic ({shares}). Accounting: {self.accounting}, "
            f"{self.bits} bits. Source: {self.source}. Leaves out: {self.leaves_out}."
        )


def estimate_memory(
    graph: Graph,
    counts: Counts,
    *,
    accounting: Accounting = "exact",
    curve: str | MemoryCurve = "horowitz",
    device: str | Device = "cmos45-int32",
    bits: int = 32,
) -> MemoryEstimate:
    """Mean energy of one inference with its memory traffic.

    Args:
        graph: the network.
        counts: of this graph, by `converters.energy.count`.
        accounting: `exact`, what is really touched; or `lemaire`, the article's formulas. See
            `converters.energy.traffic`.
        curve: name in `converters.energy.memory_curve.CURVES`, or a `MemoryCurve`.
        device: prices of arithmetic: an `arithmetic` device, as `converters.energy.integer(bits)`.
        bits: of every value.

    Raises:
        UserError: an unknown accounting, curve or device; a device whose prices contain its memory; bits outside 1
            to 64; or counts of another graph.
    """
    prices, price = find(device), find_curve(curve)
    if prices.kind != "arithmetic":
        raise UserError(f"The prices of {prices.name!r} contain its memory; take a device of adders and multipliers.")
    if bits not in range(1, 65):
        raise UserError(f"bits = {bits}; give a whole number from 1 to 64, which one access reads.")
    rows = traffic(graph, counts, accounting)
    layers = tuple(
        LayerMemory(
            row.layer,
            row.part,
            arithmetic_joules(row, prices),
            addressing_joules(row, ADDRESSING),
            sum(_access(row, name, price, bits) for name in row.words),
        )
        for row in rows
    )
    return MemoryEstimate(prices, price, accounting, bits, layers, rows)


def csv_rows(result: MemoryEstimate, network: str) -> list[dict[str, str | int | float]]:
    """Rows of `memory.csv` with the columns `CSV_COLUMNS`, one per layer: mean counts and J per inference."""
    return [
        {
            "network": network,
            "layer": energy.layer,
            "part": energy.part,
            "kind": row.kind,
            "accounting": result.accounting,
            "curve": result.curve.name,
            "device": result.device.name,
            "bits": result.bits,
            "source": result.source,
            **{name: float(getattr(row, name)) for name in OPERATIONS},
            "reads": float(sum(row.reads.values())),
            "writes": float(sum(row.writes.values())),
            **{f"accesses_{name}": float(row.accesses(name)) for name in MEMORIES},
            **{f"bytes_{name}": _bytes(row, name, result.bits) for name in MEMORIES},
            "joules_arithmetic": energy.arithmetic,
            "joules_addressing": energy.addressing,
            "joules_memory": energy.memory,
            "joules": energy.joules,
        }
        for row, energy in zip(result.traffic, result.layers, strict=True)
    ]


def arithmetic_joules(row: LayerTraffic, device: Device) -> float:
    """J per inference of the operations on values in one layer."""
    return float(
        device.multiply_accumulate * row.macs
        + device.accumulate * row.accumulates
        + device.gate_multiply * row.multiplies
    )


def addressing_joules(row: LayerTraffic, device: Device) -> float:
    """J per inference of the operations on addresses in one layer."""
    return float(device.multiply_accumulate * row.address_macs + device.accumulate * row.address_accumulates)


def access_shares(result: MemoryEstimate) -> dict[str, float]:
    """J per inference that each constant of the curve contributes; their sum is the `memory` of the breakdown."""
    constants = result.curve.constants
    total = np.zeros(len(constants))
    for row in result.traffic:
        for name in row.words:
            total += float(row.accesses(name)) * result.curve.shares(_bytes(row, name, result.bits))
    return {name: float(price * times) for (name, price), times in zip(constants.items(), total, strict=True)}


def _bytes(row: LayerTraffic, memory: str, bits: int) -> float:
    return row.words.get(memory, 0) * bits / 8


def _access(row: LayerTraffic, memory: str, curve: MemoryCurve, bits: int) -> float:
    return float(row.accesses(memory)) * curve.access(_bytes(row, memory, bits))
