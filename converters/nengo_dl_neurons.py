"""TensorFlow builders of our neuron types and operators. Imports TensorFlow: use through `converters.nengo_dl`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from nengo_dl.builder import Builder, OpBuilder
from nengo_dl.neuron_builders import SimNeuronsBuilder, TFNeuronBuilder

from converters.dynamics import integrator_step, lif_step
from converters.nengo_neurons import LIF_TYPES, HardSigmoid, LeakyIntegrator, Quantizer
from converters.nengo_nodes import SimMaxPool


def exact_constant(arrays: Sequence[np.ndarray], sizes: Sequence[int]) -> tf.Tensor:
    """Parameters of merged ensembles side by side, float32, (1, sum of sizes), or () if all are equal.

    NengoDL's own `signals.op_constant` takes the first value for all where they are merely close.
    """
    parts = [np.broadcast_to(np.asarray(a, np.float32), (n,)) for a, n in zip(arrays, sizes, strict=True)]
    values = np.concatenate(parts)
    return tf.constant(values[0] if (values == values[0]).all() else values[None])


class _Builder(TFNeuronBuilder):
    """What the builders with parameters share."""

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


class QuantizerBuilder(_Builder):
    """`converters.nengo_neurons.Quantizer`."""

    def build_pre(self, signals, config):
        """Collects the parameters."""
        super().build_pre(signals, config)
        self.step_size, self.levels = self.parameter("step_size"), self.parameter("levels")

    def step(self, J, dt):
        """The rate. Of a plain division by a constant TensorFlow's optimiser makes a product with its reciprocal."""
        steps = tf.round(tf.math.divide_no_nan(J, self.step_size))
        return self.step_size * tf.minimum(tf.maximum(steps, 0.0), self.levels)


@Builder.register(SimMaxPool)
class SimMaxPoolBuilder(OpBuilder):
    """`converters.nengo_nodes.SimMaxPool`."""

    def build_pre(self, signals, config):
        """Finds the signals."""
        super().build_pre(signals, config)
        (op,) = self.ops
        self.pool, self.shape = op.pool, op.shape
        self.source, self.maxima = signals[op.reads[0]], signals[op.sets[0]]

    def build_step(self, signals):
        """Sets the maxima."""
        x = tf.reshape(signals.gather(self.source), (-1, *self.shape))
        around = ((0, 0), *((pad, pad) for pad in self.pool.padding), (0, 0))
        # On the CPU, TensorFlow pools with channels last alone.
        y = tf.nn.max_pool2d(tf.transpose(x, (0, 2, 3, 1)), self.pool.kernel, self.pool.stride, around)
        signals.scatter(self.maxima, tf.reshape(tf.transpose(y, (0, 3, 1, 2)), (-1, *self.maxima.shape)))


SimNeuronsBuilder.TF_NEURON_IMPL.update(
    {
        **dict.fromkeys(LIF_TYPES.values(), StepLIFBuilder),
        LeakyIntegrator: LeakyIntegratorBuilder,
        HardSigmoid: HardSigmoidBuilder,
        Quantizer: QuantizerBuilder,
    }
)
