"""Spiking neurons: layers over many steps in one call, differentiable twice, and what they are made of."""

from snn_anml.neurons.equation import LIFParameters, State, lif_eager, lif_step
from snn_anml.neurons.from_snntorch import from_snntorch
from snn_anml.neurons.integrator import LeakyIntegrator, integrate
from snn_anml.neurons.leaky import AdaptiveLeaky, Leaky, Synaptic
from snn_anml.neurons.lif import lif
from snn_anml.neurons.surrogate import SURROGATES, Surrogate, spike

__all__ = [
    "SURROGATES",
    "AdaptiveLeaky",
    "LIFParameters",
    "Leaky",
    "LeakyIntegrator",
    "State",
    "Surrogate",
    "Synaptic",
    "from_snntorch",
    "integrate",
    "lif",
    "lif_eager",
    "lif_step",
    "spike",
]
