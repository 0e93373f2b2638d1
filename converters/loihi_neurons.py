"""Neurons of a chip with the dynamics of the graph. Imports nengo-loihi: use through `converters.loihi`."""

from __future__ import annotations

from typing import Any

import numpy as np
from nengo.neurons import NeuronType
from nengo.params import NdarrayParam
from nengo_loihi.builder.builder import Builder
from nengo_loihi.builder.inputs import ChipReceiveNeurons

from converters.loihi_chip import DECAY_STEPS


class ChipLIF(NeuronType):
    """`v_t = beta v_{t-1} + x_t`, a spike above the threshold, after which v is 0: compartments of a core.

    Args:
        beta: decay of the membrane in one step, (n,), dimensionless.
        threshold: (n,).
    """

    spiking = True
    beta = NdarrayParam("beta", shape=("*",))
    threshold = NdarrayParam("threshold", shape=("*",))

    def __init__(self, beta: np.ndarray, threshold: np.ndarray) -> None:
        super().__init__()
        self.beta, self.threshold = beta, threshold

    def gain_bias(self, max_rates, intercepts):
        """Gain and bias are given where the ensemble is made."""
        return np.ones_like(max_rates, dtype=float), np.zeros_like(intercepts, dtype=float)

    def max_rates_intercepts(self, gain, bias):
        """The tuning curve is not used."""
        return np.ones_like(gain), np.zeros_like(bias)


@Builder.register(ChipLIF)
def build_chip_lif(model: Any, neuron: ChipLIF, neurons: Any, block: Any) -> None:
    """Sets the compartments. A bare sum of weights enters the membrane, which is therefore not scaled."""
    compartment = block.compartment
    compartment.configure_lif(tau_ref=0, vth=neuron.threshold, dt=model.dt, min_voltage=-np.inf)
    # nengo-loihi writes round(decay * 4095); the chip keeps (4096 - that) / 4096 of the membrane.
    kept = np.clip(np.round(np.asarray(neuron.beta) * DECAY_STEPS), 1, DECAY_STEPS)
    compartment.decay_v[:] = (DECAY_STEPS - kept) / (DECAY_STEPS - 1)
    compartment.scale_v = False


def spike_source(n: int, label: str) -> Any:
    """A node from which spikes enter the chip, as they are put into its `SpikeInput`."""
    options: dict[str, Any] = {"label": label}
    return ChipReceiveNeurons(n, **options)
