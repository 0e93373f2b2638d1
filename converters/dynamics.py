"""The arithmetic of stateful nodes, written once with operators alone.

The same functions run on numpy arrays, torch tensors and TensorFlow tensors. One formula means one order of
additions, and so the same rounding on every simulator.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from converters.graph import Reset


def lif_step(
    v: Any, x: Any, beta: Any, threshold: Any, reset: Reset, reset_delay: bool, as_float: Callable[[Any], Any]
) -> tuple[Any, Any]:
    """One step of `converters.graph.LIF`, in the order of operations of `snntorch.Leaky`.

    Args:
        v: membrane after the step before, (..., n), in units of the threshold.
        x: input current of this step, (..., n).
        beta: decay of the membrane in one step, () or (n,), dimensionless.
        threshold: () or (n,).
        reset: `subtract`, `zero` or `none`.
        reset_delay: whether the reset waits for the next step.
        as_float: turns a truth array into 0 and 1 in the framework's float32.

    Returns:
        The spikes (0 or 1) and the membrane of this step, each (..., n).
    """
    was_above = as_float(v > threshold)
    if reset == "subtract":
        v = (beta * v + x) - was_above * threshold
    elif reset == "zero":
        v = beta * ((1 - was_above) * v) + x
    else:
        v = beta * v + x
    spikes = as_float(v > threshold)
    if not reset_delay and reset == "subtract":
        v = v - (spikes - was_above) * threshold
    elif not reset_delay and reset == "zero":
        v = v - (spikes - was_above) * v
    return spikes, v


def integrator_step(v: Any, x: Any, beta: Any) -> Any:
    """One step of `converters.graph.Integrator`: `beta * v + x`, each (..., n)."""
    return beta * v + x
