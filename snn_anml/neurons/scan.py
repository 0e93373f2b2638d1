"""What the three scans, forward, adjoint and tangent, say to each other, on whatever device."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from snn_anml.neurons.equation import RESETS, LIFParameters
from snn_anml.neurons.surrogate import Surrogate

Operand = float | Tensor | None
OPERANDS = ("alpha", "beta", "threshold", "rho", "adaptation", "membrane", "current", "adaptation_start")


class Scan(NamedTuple):
    """Which of the equation's variants is meant."""

    reset: str
    surrogate: Surrogate
    delay: bool
    detach: bool
    filtered: bool
    adaptive: bool

    @property
    def reset_index(self) -> int:
        """Place of the reset in `RESETS`."""
        return RESETS.index(self.reset)

    @property
    def plain(self) -> bool:
        """Whether nothing but the surrogate couples the steps: all that r_t changes is a constant."""
        return self.delay and self.detach and not self.adaptive and self.reset != "zero"

    @property
    def outputs(self) -> tuple[bool, ...]:
        """Which of `Saved` the forward scan gives."""
        return True, True, not self.delay, self.filtered, self.adaptive

    @property
    def through_spikes(self) -> bool:
        """Whether a gradient flows from later steps into a spike."""
        return self.adaptive or (not self.detach and self.reset != "none")


class Saved(NamedTuple):
    """One tensor (T, B, ...) or None for each output of the forward scan: s, v, u, i, a.

    `before` is u, the membrane before the reset of its own step; without one, with reset delay, None.
    """

    spikes: Tensor | None
    membrane: Tensor | None
    before: Tensor | None
    current: Tensor | None
    adaptation: Tensor | None


def scan_of(p: LIFParameters) -> Scan:
    """The variant that parameters ask for. Without a reset of anything, its delay and gradient mean nothing."""
    adaptive = p.rho is not None
    nothing = p.reset == "none"
    return Scan(
        p.reset,
        p.surrogate,
        p.reset_delay or (nothing and not adaptive),
        p.detach_reset or nothing,
        p.alpha is not None,
        adaptive,
    )
