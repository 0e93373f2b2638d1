"""Joules per inference by arm: sums over the layers of energy.csv and memory.csv, and ratios to the twin."""

from __future__ import annotations

import re
from typing import NamedTuple

from converters.energy import DEVICES, Device, learning, memory
from converters.energy.devices import integer
from converters.energy.sensitivity import ALL
from experiments.compare.folder import FLOAT
from experiments.compare.long_tables import Rows
from experiments.compare.results import Arm, Results, interval_of
from experiments.compare.shares import ACCOUNTINGS, BOUND
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
UPPER = "cmos45-int32"
"""The 45 nm row that bounds a spiking network of integers from above."""
MODELLED = {
    "energy": "inference",
    "memory": "inference, memory-aware",
    "learning": "learning a class",
    "training": "meta-training",
}
"""Long tables of modelled joules, and of what they are."""


class Ratio(NamedTuple):
    """Mean energy of an arm over that of a comparator, with the `seeds` that both have.

    low, high: as far as the constants in their ranges take it; seed_low, seed_high: of the seeds, least and most.
    """

    arm: Arm
    comparator: Arm
    device: str
    comparator_device: str
    value: float
    low: float
    high: float
    seeds: int
    seed_low: float
    seed_high: float

    @property
    def bound(self) -> str:
        """`lower` or `upper` for a spiking network of integers, whose membranes have more bits than its weights, and
        no more than 32; else nothing."""
        if self.arm.form == FLOAT or not self.arm.spiking:
            return ""
        return "upper" if self.device == UPPER or self.device.endswith(BOUND) else "lower"

    @property
    def verdict(self) -> str:
        """`less` or `more` where constants in their ranges and the seed that differs most do not turn it round, both
        at once (a seed's range taken for as wide as that of the mean, in proportion), and where it is no bound that
        lies on the wrong side for that; else `undecided`."""
        if self.high * self.seed_high < self.value and self.bound != "lower":
            return "less"
        if self.low * self.seed_low > self.value and self.bound != "upper":
            return "more"
        return "undecided"


def device_of(arm: Arm, device: str) -> str:
    """The device itself, or the one that a stand-in means for this arm."""
    if device == DEPLOYED:
        return "loihi" if arm.spiking else "arm"
    if device != ARITHMETIC:
        return device
    return "cmos45-fp32" if arm.form == FLOAT else integer(int(arm.form.removeprefix("int"))).name


def as_if_integers(form: str, device: str) -> bool:
    """Whether a network of float32 is priced on a row of integers: nobody measured what it would know in them."""
    return form == FLOAT and device.startswith("cmos45-int")


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
        if arm is None or comparator is None or as_if_integers(form, device):
            continue
        joint = its[its["constant"] == ALL]
        rows = joint if len(joint) else its
        ends = rows[["ratio", "ratio_low", "ratio_high"]].to_numpy()
        first = its.iloc[0]
        spread = (int(first["seeds"]), float(first["seed_low"]), float(first["seed_high"]))
        ratio = (float(first["ratio"]), float(ends.min()), float(ends.max()))
        found.append(Ratio(arm, comparator, device, other, *ratio, *spread))
    return found


def headline_ratios(results: Results) -> list[Ratio]:
    """Ratios of the first arm that the summary shows: at 45 nm, each in its own numbers; with memory, in both
    accountings; on one chip, and on chip against processor. Quantised comparators stand against every form of the first
    arm, with the bounds of a quantised one."""

    def wanted(one: Ratio) -> bool:
        numbers = device_of(one.comparator, ARITHMETIC)
        memories = [f"memory-{accounting}" for accounting in ACCOUNTINGS]
        pairs = [(device_of(one.arm, ARITHMETIC), numbers), *((name, name) for name in memories)]
        if one.arm.form != FLOAT:
            pairs += [(UPPER, numbers), *((f"{name}{BOUND}", name) for name in memories)]
        elif one.comparator.form == FLOAT:
            pairs += [("loihi", "loihi"), ("loihi", "arm")]
        return one.arm.name == results.main.name and (one.device, one.comparator_device) in pairs

    return [one for one in ratios(results) if wanted(one)]
