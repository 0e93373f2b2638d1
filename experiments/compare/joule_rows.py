"""Joules per inference by arm: sums over the layers of energy.csv and memory.csv, and ratios to the twin."""

from __future__ import annotations

import re
from typing import NamedTuple

from converters.energy import DEVICES, Device, learning, memory
from converters.energy.devices import integer
from experiments.compare.cells import bracketed
from experiments.compare.long_tables import Rows
from experiments.compare.results import FLOAT, Arm, Results, interval_of
from experiments.compare.shares import BOUND
from experiments.compare.statistics import Interval
from experiments.report.energy import EXACT
from experiments.report.tables import DASH

ARITHMETIC = "45 nm arithmetic"
"""Stands for the 45 nm row of an arm's own numbers: cmos45-fp32 for float32, cmos45-int8 for int8."""
MEMORY_AWARE = "memory-aware"
"""Stands in the place of a device for the model of memory.csv, its first accounting and curve."""
DEPLOYED = "loihi or arm"
"""Stands for the chip that an arm is made for: loihi for spiking arms, arm for conventional ones."""
FOCUS = (ARITHMETIC, MEMORY_AWARE, "loihi", "arm")
"""What the summary shows."""
ALL_TOGETHER = "all together"
MODELLED = {
    "energy": "inference",
    "memory": "inference, memory-aware",
    "learning": "learning a class",
    "training": "meta-training",
}
"""Long tables of modelled joules, and of what they are."""


class Ratio(NamedTuple):
    """Energy of an arm over that of a comparator; low, high: as far as the constants in their ranges take it."""

    arm: Arm
    comparator: Arm
    device: str
    comparator_device: str
    value: float
    low: float
    high: float


def device_of(arm: Arm, device: str) -> str:
    """The device itself, or the one that a stand-in means for this arm."""
    if device == DEPLOYED:
        return "loihi" if arm.spiking else "arm"
    if device != ARITHMETIC:
        return device
    return "cmos45-fp32" if arm.form == FLOAT else integer(int(arm.form.removeprefix("int"))).name


def energy_rows(results: Results, arm: Arm, device: str) -> Rows:
    """Rows of all layers of an arm on a device, in the exact convention, or under the memory-aware model."""
    if device != MEMORY_AWARE:
        return results.rows("energy", arm, device=device_of(arm, device), convention=EXACT)
    rows = results.rows("memory", arm)
    for column in ("accounting", "curve", "device", "bits"):
        rows = rows[rows[column] == rows[column].iloc[0]] if len(rows) else rows
    return rows


def energy(results: Results, arm: Arm, device: str) -> Interval | None:
    """J per inference over seeds; None without rows."""
    rows = energy_rows(results, arm, device)
    return interval_of(rows.groupby("seed", as_index=False)[["joules"]].sum(), "joules")


def devices(results: Results) -> list[str]:
    """Devices with exact counts, in the order of the table, and the memory-aware model where it was computed."""
    rows = results.tables["energy"]
    found = list(dict.fromkeys(rows[rows["convention"] == EXACT]["device"]))
    return found + ([MEMORY_AWARE] if len(results.tables["memory"]) else [])


def focus(results: Results) -> list[str]:
    """Those of `FOCUS` that were computed for any arm."""
    return [device for device in FOCUS if any(len(energy_rows(results, arm, device)) for arm in results.arms)]


def sources(results: Results) -> list[tuple[str, str, str, str]]:
    """(what, devices, source, what is left out) of every modelled joule; devices that share all three on one row."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for table, what in MODELLED.items():
        rows = results.tables[table]
        for name, source in dict.fromkeys(zip(rows["device"], rows["source"], strict=True)):
            device = _device(name)
            described = f"{name} ({device.description})" if device else name
            found.setdefault((what, source, _left_out(table, device)), []).append(described)
    return [(what, "; ".join(names), source, left_out) for (what, source, left_out), names in found.items()]


def _left_out(table: str, device: Device | None) -> str:
    if table == "memory":
        return memory.LEAVES_OUT
    if device is None:
        return DASH
    if table == "learning":
        of_chips = (learning.CHIP_LEAVES_OUT,) if device.kind == "chip" else ()
        return "; ".join((device.leaves_out, learning.LEAVES_OUT, *of_chips))
    return device.leaves_out


def _device(name: str) -> Device | None:
    few_bits = re.fullmatch(r"cmos45-int(\d)-extrapolated", name)
    return integer(int(few_bits[1])) if few_bits else DEVICES.get(name)


def ratios(results: Results) -> list[Ratio]:
    """Every ratio of sensitivity.csv, with its range over all constants together where that was computed, or else the
    widest that one of them gives."""
    keys = ["arm", "form", "reference", "reference_form", "device", "reference_device"]
    arms = {(arm.name, arm.form): arm for arm in results.arms}
    found = []
    for (name, form, reference, its_form, device, other), its in results.tables["sensitivity"].groupby(
        keys, sort=False
    ):
        arm, comparator = arms.get((name, form)), arms.get((reference, its_form))
        if arm is None or comparator is None:
            continue
        joint = its[its["constant"] == ALL_TOGETHER]
        rows = joint if len(joint) else its
        ends = rows[["ratio", "ratio_low", "ratio_high"]].to_numpy()
        ratio = float(its["ratio"].iloc[0])
        found.append(Ratio(arm, comparator, device, other, ratio, float(ends.min()), float(ends.max())))
    return found


def headline_ratios(results: Results) -> list[Ratio]:
    """Ratios of the first arm that the text speaks of: at 45 nm, each in its own numbers; with memory; on chip against
    processor. A quantised comparator stands against the quantised form of the first arm, if any, with its bounds."""
    found = [one for one in ratios(results) if one.arm.name == results.main.name]
    has_integers = any(one.arm.form != FLOAT for one in found)

    def wanted(one: Ratio) -> bool:
        integers = has_integers and one.comparator.form != FLOAT
        numbers = device_of(one.comparator, ARITHMETIC)
        pairs = [(device_of(one.arm, ARITHMETIC), numbers), ("memory-exact", "memory-exact")]
        if integers:
            pairs += [("cmos45-int32", numbers), (f"memory-exact{BOUND}", "memory-exact")]
        else:
            pairs += [("loihi", "arm")]
        return (one.device, one.comparator_device) in pairs and (one.arm.form != FLOAT) == integers

    return [one for one in found if wanted(one)]


def ratio_verdict(one: Ratio) -> str:
    """`less` or `more`, where the whole range lies on one side of 1; else `undecided`."""
    return "less" if one.high < 1 else "more" if one.low > 1 else "undecided"


def ratio_sentence(one: Ratio) -> str:
    """What the range of a ratio carries."""
    verdict = ratio_verdict(one)
    if verdict == "undecided":
        said = "the constants do not decide which takes less"
    else:
        said = f"{verdict} wherever the constants lie in their ranges"
    times = bracketed((one.value, one.low, one.high))
    return (
        f"“{one.arm.label}” on {one.device} takes {times} times the modelled energy of “{one.comparator.label}” "
        f"on {one.comparator_device}: {said}."
    )
