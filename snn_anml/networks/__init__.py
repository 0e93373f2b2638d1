"""Networks: ANML, spiking or conventional, from one configuration."""

from snn_anml.networks.anml import ANML, Activity, spikes_per_neuron

__all__ = ["ANML", "Activity", "spikes_per_neuron"]
