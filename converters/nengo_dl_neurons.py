"""TensorFlow builders of our neuron types. Imports NengoDL and TensorFlow: use through `converters.nengo_dl`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from nengo_dl.builder import NengoBuilder  # noqa: F401  (NengoDL's builders must be loaded first)
from nengo_dl.neuron_builders import SimNeuronsBuilder, TFNeuronBuilder

from converters.dynamics import integrator_step, lif_step
from converters.nengo_neurons import LIF_TYPES, HardSigmoid, LeakyIntegrator


def exact_constant(arrays: Sequence[np.ndarray], sizes: Sequence[int]) -> tf.Tensor:
    """Parameters of merged ensembles side by side, float32, (1, sum of sizes), or () if all are equal.

    NengoDL's own `signals.op_constant` takes the first value for all where they are merely close.
    """
    parts = [np.broadcast_to(np.asarray(a, np.float32), (n,)) for a, n in zip(arrays, sizes, strict=True)]
    values = np.concatenate(parts)
    return tf.constant(values[0] if (values == values[0]).all() else values[None])


class _Builder(TFNeuronBuilder):
    """What both stateful builders share."""

    def parameter(self, name: str) -> tf.Tensor:
        """A parameter of the neurons of all merged ensembles."""
        return exact_constant([getattr(op.neurons, name) for op in self.ops], [op.J.shape[0] for op in self.ops])


class StepLIFBuilder(_Builder):
    """`converters.nengo_neurons.StepLIF`. Not trained in TensorFlow, so there is no smooth version."""

    def build_pre(self, signals, config):
        """Collects the parameters."""
        super().build_pre(signals, config)
        self.beta, self.threshold = self.parameter("beta"), self.parameter("threshold")

    def step(self, J, dt, voltage):
        """Spikes and membrane."""
        neurons = self.ops[0].neurons
        spikes, voltage = lif_step(
            voltage,
            J,
            self.beta,
            self.threshold,
            neurons.reset_mode,
            neurons.reset_delay,
            lambda truth: tf.cast(truth, J.dtype),
        )
        return spikes / dt, voltage


class LeakyIntegratorBuilder(_Builder):
    """`converters.nengo_neurons.LeakyIntegrator`."""

    def build_pre(self, signals, config):
        """Collects the parameters."""
        super().build_pre(signals, config)
        self.beta = self.parameter("beta")

    def step(self, J, dt, voltage):
        """The membrane, as output and as state."""
        voltage = integrator_step(voltage, J, self.beta)
        return voltage, voltage


class HardSigmoidBuilder(TFNeuronBuilder):
    """`converters.nengo_neurons.HardSigmoid`."""

    def step(self, J, dt):
        """The rate."""
        return tf.minimum(tf.maximum(J * 0.25 + 0.5, 0.0), 1.0)


SimNeuronsBuilder.TF_NEURON_IMPL.update(
    {
        **dict.fromkeys(LIF_TYPES.values(), StepLIFBuilder),
        LeakyIntegrator: LeakyIntegratorBuilder,
        HardSigmoid: HardSigmoidBuilder,
    }
)
