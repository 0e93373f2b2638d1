"""Spiking neurons: surrogates, LIF over many steps, leaky integrator."""

from snn_anml.neurons.integrator import integrate
from snn_anml.neurons.leaky import Leaky
from snn_anml.neurons.lif import LIFParameters, lif, lif_eager, lif_step
from snn_anml.neurons.surrogate import SURROGATES, Surrogate, spike

__all__ = ["SURROGATES", "LIFParameters", "Leaky", "Surrogate", "integrate", "lif", "lif_eager", "lif_step", "spike"]
