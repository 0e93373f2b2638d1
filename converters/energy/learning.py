"""Joules to learn one more class: counts of `converters.energy.head_counts` times published prices.

    E = shots * E_features + operations + memory

    E_features   one inference of the network by `converters.energy.estimate`, without its output layer
    operations   multiply_accumulate * macs + gate_multiply * multiplies + add * adds
                 + multiply_accumulate * (5 divisions + 8 roots + 10 exponentials)
    memory       (values read and written) * e(bytes that the head keeps), one access for each value as in
                 `converters.energy.traffic`, and the accesses of the shots inferences; on `arithmetic` devices
                 alone, for a chip's synaptic operation contains the access to its weight

A device that skips zeros pays for features that are not zero; a `cpu`, `gpu` or `arm` as if none were. Replay costs
nothing, since no head replays.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from converters.energy.counts import FLOAT32_BYTES
from converters.energy.devices import Device, find, integer
from converters.energy.estimate import estimate as estimate_inference
from converters.energy.head_counts import LearningCounts, Operations
from converters.energy.memory import MemoryEstimate
from converters.energy.memory_curve import MemoryCurve, find_curve
from converters.energy.table import Counts
from snn_anml.errors import UserError

FUNCTION_MACS = {"divisions": 5, "roots": 8, "exponentials": 10}
"""Multiply-accumulates that a function is charged as, since no device has a price for it: a reciprocal or reciprocal
root by two Newton iterations from a table, times a value; the range reduction and polynomial of degree 5 of `expf` in
S. Moshier's Cephes library."""

UNSUITED = tuple(integer(bits).name for bits in range(1, 9))
"""Devices that learning is not priced on: steps of a learning rate vanish in 8 bits and fewer."""

OUTPUT_LAYER = "head"
"""The part of a network's counts that is no part of its features."""

LEAVES_OUT = (
    "comparisons, addresses, traffic of the features and errors of the drawing at hand, that of the network where its "
    "memory-aware estimate is not given"
)
CHIP_LEAVES_OUT = (
    "learning on the chip, which its published constants do not price: every operation is charged as a synaptic "
    "operation with the access to its weight, and writes cost nothing more"
)

_COUNTS = tuple(f.name for f in fields(Operations))
_OPERATIONS = _COUNTS[: _COUNTS.index("reads")]

CSV_COLUMNS = (
    "head",
    "known",
    "outputs",
    "shots",
    "features",
    "active",
    "device",
    "source",
    "item",
    *_OPERATIONS,
    "read_bytes",
    "write_bytes",
    "resident_bytes",
    "joules_operations",
    "joules_memory",
    "joules",
)


@dataclass(frozen=True)
class ItemEnergy:
    """Mean energy of one item, J for one new class: its operations, and its traffic with the head's memory."""

    item: str
    operations: float
    memory: float

    @property
    def joules(self) -> float:
        """Both, J for one new class."""
        return self.operations + self.memory


@dataclass(frozen=True, eq=False)
class LearningEnergy:
    """Modelled energy to learn one class, the mean over the classes counted.

    Attributes:
        device: the prices used.
        source: where they and those of the memory are from.
        items: `features` where they were counted, then those of `converters.energy.head_counts`.
        counts: what the head does.
    """

    device: Device
    source: str
    items: tuple[ItemEnergy, ...]
    counts: LearningCounts

    @property
    def joules(self) -> float:
        """Mean energy, J for one new class."""
        return sum(row.joules for row in self.items)

    @property
    def leaves_out(self) -> str:
        """What the estimate does not contain."""
        own = [self.device.leaves_out, LEAVES_OUT] + [CHIP_LEAVES_OUT] * (self.device.kind == "chip")
        return "; ".join(own)


def estimate(
    counts: LearningCounts,
    device: str | Device,
    *,
    inference: Counts | None = None,
    traffic: MemoryEstimate | None = None,
    curve: str | MemoryCurve = "horowitz",
) -> LearningEnergy:
    """Mean energy to learn one class.

    Args:
        counts: what the head does, by `converters.energy.head_counts.count`.
        device: name of a registered device, or a `Device`.
        inference: counts of the network that gives the features; its output layer is left out. None leaves out the
            features.
        traffic: the memory-aware estimate of the same network, whose accesses are added to the features on
            `arithmetic` devices; None leaves them out.
        curve: what an access to the head's memory costs, by its size: of `converters.energy.memory_curve`.

    Raises:
        UserError: an unknown device or curve, or a device of `UNSUITED`.
    """
    prices, price = find(device), find_curve(curve)
    if prices.name in UNSUITED:
        raise UserError(f"Learning is not priced on {prices.name}, whose bits are too few for it; use cmos45-fp32.")
    arithmetic = prices.kind == "arithmetic"
    items = []
    if inference is not None:
        parts = estimate_inference(inference, prices).by_part()
        once = sum(joules for part, joules in parts.items() if part != OUTPUT_LAYER)
        rows = traffic.layers if traffic is not None and arithmetic else ()
        accesses = sum(row.memory for row in rows if row.part != OUTPUT_LAYER)
        items.append(ItemEnergy("features", counts.shots * once, counts.shots * accesses))
    access = price.access(counts.resident_bytes) if arithmetic else 0.0
    for item in counts.effective:
        n = _means(counts, item, prices)
        functions = sum(FUNCTION_MACS[name] * n[name] for name in FUNCTION_MACS)
        operations = (
            prices.multiply_accumulate * (n["macs"] + functions)
            + prices.gate_multiply * n["multiplies"]
            + prices.add * n["adds"]
        )
        items.append(ItemEnergy(item, operations, access * (n["reads"] + n["writes"])))
    source = f"{prices.source}; {price.source}" if arithmetic else prices.source
    return LearningEnergy(prices, source, tuple(items), counts)


def csv_rows(result: LearningEnergy) -> list[dict[str, str | int | float]]:
    """Rows of `learning.csv` with the columns `CSV_COLUMNS`, one per item: mean counts, J for one new class.

    What the item `features` computes stands in `energy.csv`; here its counts are empty.
    """
    counts = result.counts
    rows = []
    for row in result.items:
        n = _means(counts, row.item, result.device) if row.item in counts.effective else {}
        rows.append(
            {
                "head": counts.head,
                "known": counts.known,
                "outputs": counts.outputs,
                "shots": counts.shots,
                "features": counts.features,
                "active": float(counts.active),
                "device": result.device.name,
                "source": result.source,
                "item": row.item,
                **{name: n.get(name, "") for name in _OPERATIONS},
                **{f"{way}_bytes": FLOAT32_BYTES * n[f"{way}s"] if n else "" for way in ("read", "write")},
                "resident_bytes": counts.resident_bytes,
                "joules_operations": row.operations,
                "joules_memory": row.memory,
                "joules": row.joules,
            }
        )
    return rows


def _means(counts: LearningCounts, item: str, device: Device) -> dict[str, float]:
    """Mean counts of one item as the device pays for them."""
    return {name: float(counts.mean(item, name, dense=not device.spiking)) for name in _COUNTS}
