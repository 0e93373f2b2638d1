"""What an access to a memory costs, by the size of the memory: published curves, each once and with its source."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from converters.energy.devices import HOROWITZ, NANO, PICO
from snn_anml.errors import UserError

KIB, MIB = 1024, 1024**2


@dataclass(frozen=True)
class MemoryCurve:
    """Energy of one 64-bit read or write, linear in the size of the memory between the given sizes.

    Attributes:
        name: key in `CURVES`.
        sizes: bytes, from 0 upwards.
        energies: J per access at these sizes.
        source: where they are from.
        beyond: J per access to a memory larger than the last size; None continues the last segment.

    Raises:
        UserError: fewer than two sizes, not from 0 upwards, as many energies as sizes, or energies that are negative
            or not finite.
    """

    name: str
    sizes: tuple[float, ...]
    energies: tuple[float, ...]
    source: str
    beyond: float | None = None

    def __post_init__(self) -> None:
        rising = len(self.sizes) > 1 and self.sizes[0] == 0 and all(a < b for a, b in pairwise(self.sizes))
        if not rising or len(self.sizes) != len(self.energies):
            raise UserError(f"Memory curve {self.name!r}: give an energy for each size, and sizes that rise from 0.")
        if not all(math.isfinite(price) and price >= 0 for price in self.constants.values()):
            raise UserError(f"Memory curve {self.name!r}: energies are finite and at least 0 J.")

    @property
    def constants(self) -> dict[str, float]:
        """The energies by the size they belong to, J per access."""
        named = {_label(size): price for size, price in zip(self.sizes, self.energies, strict=True)}
        return named if self.beyond is None else named | {"beyond": self.beyond}

    def shares(self, size: float) -> np.ndarray:
        """Shares of the `constants`, in their order, in the energy of an access: e(size) = shares @ constants.

        Beyond the last size the last segment goes on, and the share of the energy before the last is negative.
        """
        shares = np.zeros(len(self.constants))
        if self.beyond is not None and size > self.sizes[-1]:
            shares[-1] = 1.0
            return shares
        i = min(int(np.searchsorted(self.sizes, size, side="right")) - 1, len(self.sizes) - 2)
        part = (size - self.sizes[i]) / (self.sizes[i + 1] - self.sizes[i])
        shares[i : i + 2] = 1.0 - part, part
        return shares

    def access(self, size: float) -> float:
        """J of one access to a memory of `size` bytes."""
        return float(self.shares(size) @ np.array(list(self.constants.values())))


def _label(size: float) -> str:
    return f"{size / MIB:g} MB" if size >= MIB else f"{size / KIB:g} kB"


_SIZES, _ENERGIES = (0, 8 * KIB, 32 * KIB, MIB), (0.0, 10 * PICO, 20 * PICO, 100 * PICO)

# The program's line, a least-squares fit to the same points, is a price per bit and one per access.
_PER_BIT, _PER_ACCESS = 1.09e-5 * PICO, 13.2 * PICO

DRAM = 1.3 * NANO, 2.6 * NANO
"""J of a 64-bit access, least and most."""

CURVES: dict[str, MemoryCurve] = {
    curve.name: curve
    for curve in (
        MemoryCurve("horowitz", _SIZES, _ENERGIES, f"SRAM of {HOROWITZ}, as in Lemaire et al. 2022"),
        MemoryCurve("horowitz-dram", _SIZES, _ENERGIES, f"SRAM, beyond 1 MB DRAM, of {HOROWITZ}", DRAM[0]),
        MemoryCurve(
            "qualia",
            (0, MIB),
            (_PER_ACCESS, _PER_ACCESS + _PER_BIT * 8 * MIB),
            f"line through the SRAM of {HOROWITZ}, in Qualia's EnergyEstimationMetric",
        ),
    )
}
"""`horowitz` is the article's, `qualia` that of its authors' program."""


def find_curve(curve: str | MemoryCurve) -> MemoryCurve:
    """The curve of that name; a `MemoryCurve` is returned as it is.

    Raises:
        UserError: no curve is called so.
    """
    if isinstance(curve, MemoryCurve):
        return curve
    try:
        return CURVES[curve]
    except KeyError:
        raise UserError(f"Unknown memory curve {curve!r}; known are {', '.join(CURVES)}.") from None
