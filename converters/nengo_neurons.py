"""Neuron types of Nengo with the dynamics of the graph, step by step. Imports Nengo: use through `nengo_network`.

NengoDL merges ensembles by the exact type of their neurons, so there is one class for every reset mode and delay.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from nengo.dists import Choice
from nengo.neurons import NeuronType
from nengo.params import IntParam, NdarrayParam, NumberParam

from converters.dynamics import integrator_step, lif_step
from converters.graph import Reset
from converters.interpreter import activation, quantize


class StepLIF(NeuronType):
    """`converters.graph.LIF`; one step of Nengo is one step of the graph, and a spike is 1 high at dt = 1.

    Args:
        beta: decay of the membrane in one step, (1,) or (n,), dimensionless.
        threshold: (1,) or (n,).
    """

    state: ClassVar = {"voltage": Choice([0.0])}
    spiking = True
    negative = False
    reset_mode: ClassVar[Reset] = "subtract"
    reset_delay: ClassVar[bool] = True

    beta = NdarrayParam("beta", shape=("*",))
    threshold = NdarrayParam("threshold", shape=("*",))

    def __init__(self, beta: np.ndarray, threshold: np.ndarray) -> None:
        super().__init__()
        self.beta = np.atleast_1d(beta)
        self.threshold = np.atleast_1d(threshold)

    def gain_bias(self, max_rates, intercepts):
        """Gain and bias are given where the ensemble is made; there is nothing to solve for."""
        return np.ones_like(max_rates, dtype=float), np.zeros_like(intercepts, dtype=float)

    def max_rates_intercepts(self, gain, bias):
        """The tuning curve is not used."""
        return np.ones_like(gain), np.zeros_like(bias)

    def step(self, dt, J, output, voltage):
        """Advances one step in place."""
        kind = J.dtype.type
        output[...], voltage[...] = lif_step(
            voltage,
            J,
            np.asarray(self.beta, kind),
            np.asarray(self.threshold, kind),
            self.reset_mode,
            self.reset_delay,
            lambda truth: truth.astype(kind),
        )
        output /= kind(dt)


def _variant(reset: Reset, delay: bool) -> type[StepLIF]:
    name = f"{reset.capitalize()}LIF" if delay else f"{reset.capitalize()}ImmediatelyLIF"
    doc = f"`StepLIF` with reset {reset!r}, {'one step later' if delay else 'in the same step'}."
    return type(name, (StepLIF,), {"reset_mode": reset, "reset_delay": delay, "__doc__": doc, "__module__": __name__})


_RESETS: tuple[Reset, ...] = ("subtract", "zero", "none")
LIF_TYPES: dict[tuple[Reset, bool], type[StepLIF]] = {
    (reset, delay): _variant(reset, delay) for reset in _RESETS for delay in (True, False)
}


class LeakyIntegrator(NeuronType):
    """`converters.graph.Integrator`: the output is the membrane. beta is (1,) or (n,)."""

    state: ClassVar = {"voltage": Choice([0.0])}
    spiking = False
    negative = True
    beta = NdarrayParam("beta", shape=("*",))

    def __init__(self, beta: np.ndarray) -> None:
        super().__init__()
        self.beta = np.atleast_1d(beta)

    def gain_bias(self, max_rates, intercepts):
        """Gain and bias are given where the ensemble is made."""
        return np.ones_like(max_rates, dtype=float), np.zeros_like(intercepts, dtype=float)

    def max_rates_intercepts(self, gain, bias):
        """The tuning curve is not used."""
        return np.ones_like(gain), np.zeros_like(bias)

    def step(self, dt, J, output, voltage):
        """Advances one step in place."""
        voltage[...] = integrator_step(voltage, J, np.asarray(self.beta, J.dtype))
        output[...] = voltage


class HardSigmoid(NeuronType):
    """`min(max(x / 4 + 1 / 2, 0), 1)`, a rate."""

    state: ClassVar = {}
    spiking = False
    negative = False

    def gain_bias(self, max_rates, intercepts):
        """Gain and bias are given where the ensemble is made."""
        return np.ones_like(max_rates, dtype=float), np.zeros_like(intercepts, dtype=float)

    def max_rates_intercepts(self, gain, bias):
        """The tuning curve is not used."""
        return np.ones_like(gain), np.zeros_like(bias)

    def step(self, dt, J, output):
        """Writes the rate."""
        output[...] = activation(J, "hard_sigmoid")


class Quantizer(NeuronType):
    """`converters.graph.Quantize`, a rate."""

    state: ClassVar = {}
    spiking = False
    negative = False
    step_size: Any = NumberParam("step_size", low=0, low_open=True)
    levels: Any = IntParam("levels", low=1)

    def __init__(self, step_size: float, levels: int) -> None:
        super().__init__()
        self.step_size, self.levels = step_size, levels

    def gain_bias(self, max_rates, intercepts):
        """Gain and bias are given where the ensemble is made."""
        return np.ones_like(max_rates, dtype=float), np.zeros_like(intercepts, dtype=float)

    def max_rates_intercepts(self, gain, bias):
        """The tuning curve is not used."""
        return np.ones_like(gain), np.zeros_like(bias)

    def step(self, dt, J, output):
        """Writes the rate."""
        output[...] = quantize(J, self.step_size, self.levels)
