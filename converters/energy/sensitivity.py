"""How far the ratio of two energies depends on every constant.

A modelled energy is a sum over constants, E = sum_c J_c, in which J_c is proportional to the constant c. With every
constant scaled by a factor f_c the ratio of two energies is

    R(f) = sum_c f_c A_c / sum_c f_c B_c

A constant of both (the same device, the same memory) moves both. In each f_c alone R is (a + b f) / (c + d f), whose
derivative (b c - a d) / (c + d f)^2 has one sign: R is monotone in each constant, whatever the others are. So over a
range of one constant the extremes lie at its ends; and over the ranges of all together at corners, since from any
point one can move each constant in turn to one of its ends without lowering (raising) R. All corners are evaluated.

A range is a factor of two either way where nothing else is published: constants of one technology and voltage do not
tell more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from converters.energy.devices import (
    DAVIES_PAPER,
    DEVICES,
    HOROWITZ,
    LOIHI_INACTIVE,
    LOIHI_SYNOP,
    PRICES,
    Device,
    constants,
    integer,
)
from converters.energy.estimate import Estimate, estimate
from converters.energy.memory import (
    ADDRESSING,
    MemoryEstimate,
    access_shares,
    addressing_joules,
    arithmetic_joules,
)
from converters.energy.memory_curve import DRAM
from snn_anml.errors import UserError

FACTOR = 2.0
ALL = "all together"

CSV_COLUMNS = (
    "arm",
    "form",
    "reference",
    "reference_form",
    "device",
    "reference_device",
    "constant",
    "low",
    "high",
    "ratio",
    "ratio_low",
    "ratio_high",
)


@dataclass(frozen=True)
class Range:
    """What a constant may be, in J, and why."""

    low: float
    high: float
    source: str


def usual(joules: float) -> Range:
    """The range of a constant of which one value is published."""
    return Range(joules / FACTOR, joules * FACTOR, f"a factor of {FACTOR:g} either way")


RANGES: dict[str, Range] = {
    "loihi: synaptic operation": Range(
        LOIHI_SYNOP, usual(DEVICES["loihi"].accumulate).high, f"from no hop between tiles, {DAVIES_PAPER}"
    ),
    "loihi: neuron update": Range(
        LOIHI_INACTIVE,
        usual(DEVICES["loihi"].neuron_update).high,
        f"from the update of an inactive neuron, table 2 of {DAVIES_PAPER}",
    ),
    "horowitz-dram: beyond": Range(*DRAM, f"as published, {HOROWITZ}"),
} | {
    f"{integer(bits).name}: {name}": Range(usual(price).low, bound, f"up to the published price of 8 bits, {HOROWITZ}")
    for bits in range(1, 8)
    for name, price, bound in (
        ("add", integer(bits).add, integer(8).add),
        ("multiply", integer(bits).gate_multiply, integer(8).gate_multiply),
    )
}
"""Ranges that are published; all other constants have the `usual` one."""


@dataclass(frozen=True, eq=False)
class Bill:
    """An energy by constant.

    Attributes:
        device: whose constants these are.
        values: the constants, J per operation or access, by name (`loihi: neuron update`).
        joules: what each contributes, J per inference.
    """

    device: str
    values: Mapping[str, float]
    joules: Mapping[str, float]

    @property
    def total(self) -> float:
        """J per inference."""
        return sum(self.joules.values())


@dataclass(frozen=True)
class Variation:
    """The ratio of two energies over the range of one constant, or of all together (`ALL`, without a range)."""

    constant: str
    range: Range | None
    low: float
    high: float


@dataclass(frozen=True)
class Sensitivity:
    """Ratio of two energies, and its range for every constant and for all together (the last row)."""

    device: str
    reference_device: str
    ratio: float
    rows: tuple[Variation, ...]

    @property
    def joint(self) -> Variation:
        """The extremes over all corners."""
        return self.rows[-1]


def constant_values(device: Device) -> dict[str, float]:
    """The constants of a device by the names that bills have them under (`loihi: neuron update`), J."""
    return {_name(device.name, name): max(parts.values()) for name, parts in constants(device).items()}


def bill(result: Estimate | MemoryEstimate) -> Bill:
    """An estimate, by constant: what is left of it where all other constants are zero."""
    if isinstance(result, Estimate):
        again = {"convention": result.convention, "fold_gates": result.fold_gates}
        joules = {
            name: estimate(result.counts, one, **again).joules for name, one in _one_by_one(result.device).items()
        }
        return Bill(result.device.name, constant_values(result.device), joules)
    joules = {_name(result.curve.name, size): share for size, share in access_shares(result).items()}
    for device, price in ((result.device, arithmetic_joules), (ADDRESSING, addressing_joules)):
        for name, one in _one_by_one(device).items():
            joules[name] = joules.get(name, 0.0) + sum(price(row, one) for row in result.traffic)
    accesses = {_name(result.curve.name, size): price for size, price in result.curve.constants.items()}
    return Bill(result.name, accesses | constant_values(result.device) | constant_values(ADDRESSING), joules)


def sensitivity(first: Bill, second: Bill, ranges: Mapping[str, Range] = RANGES) -> Sensitivity:
    """Ratio of `first` to `second`, and how far it moves with every constant.

    Args:
        first: the energy in question.
        second: the energy it is compared with.
        ranges: by name of the constant; others have the `usual` range.

    Raises:
        UserError: a constant of both that has two values, or an energy to compare with that may be zero.
    """
    values = {**second.values, **first.values}
    unequal = [name for name in second.values if values[name] != second.values[name]]
    if unequal:
        raise UserError(f"The constant {unequal[0]!r} has two values in this comparison; name devices differently.")
    names = [name for name in values if first.joules.get(name, 0.0) or second.joules.get(name, 0.0)]
    parts = np.array([[bill.joules.get(name, 0.0) for name in names] for bill in (first, second)]).reshape(2, -1)
    taken = [ranges.get(name, usual(values[name])) for name in names]
    factors = np.array(
        [(one.low / values[name], one.high / values[name]) for one, name in zip(taken, names, strict=True)]
    )
    rows = []
    for i, (name, one) in enumerate(zip(names, taken, strict=True)):
        ends = np.ones((2, len(names)))
        ends[:, i] = factors[i]
        rows.append(Variation(name, one, *_extremes(parts @ ends.T)))
    corners = np.zeros((2, 1))
    for part, ends in zip(parts.T, factors, strict=True):
        corners = np.concatenate([corners + (part * end)[:, None] for end in ends], axis=1)
    rows.append(Variation(ALL, None, *_extremes(corners)))
    return Sensitivity(first.device, second.device, first.total / second.total, tuple(rows))


def csv_rows(
    result: Sensitivity, arm: str, form: str, reference: str, reference_form: str
) -> list[dict[str, str | float]]:
    """Rows of `sensitivity.csv` with the columns `CSV_COLUMNS`, one per constant, the last for all together.

    Args:
        result: the ratio of `arm` to `reference`.
        arm: name of the network in question.
        form: its numbers, such as `float32` or `int8`.
        reference: name of the network it is compared with.
        reference_form: likewise.
    """
    return [
        {
            "arm": arm,
            "form": form,
            "reference": reference,
            "reference_form": reference_form,
            "device": result.device,
            "reference_device": result.reference_device,
            "constant": row.constant,
            "low": "" if row.range is None else row.range.low,
            "high": "" if row.range is None else row.range.high,
            "ratio": result.ratio,
            "ratio_low": row.low,
            "ratio_high": row.high,
        }
        for row in result.rows
    ]


def _extremes(energies: np.ndarray) -> tuple[float, float]:
    """Least and largest ratio of (2, n) energies."""
    if not energies.size or energies[1].min() <= 0:
        raise UserError(
            "The energy to compare with is not above zero over the ranges of the constants; no ratio exists."
        )
    ratios = energies[0] / energies[1]
    return float(ratios.min()), float(ratios.max())


def _name(table: str, constant: str) -> str:
    return f"{table}: {constant}"


def _one_by_one(device: Device) -> dict[str, Device]:
    """For each constant, the device if all others were zero."""
    return {
        _name(device.name, name): replace(device, **(dict.fromkeys(PRICES, 0.0) | parts))
        for name, parts in constants(device).items()
    }
