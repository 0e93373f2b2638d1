"""Networks: ANML, spiking or conventional, from one configuration."""

from __future__ import annotations

from snn_anml.config import NetworkConfig
from snn_anml.networks.activity import Activity, spikes_per_neuron, spikes_per_synapse
from snn_anml.networks.anml import ANML
from snn_anml.networks.published import PublishedANML

Network = ANML | PublishedANML


def make_network(config: NetworkConfig, classes: int, size: int = 28, seed: int = 0) -> Network:
    """The network of a configuration.

    Args:
        config: layers, neurons, encoding and modulation.
        classes: outputs of the head.
        size: height and width of the pictures, pixels.
        seed: of the initial weights.

    Raises:
        ValueError: pictures too small for the layers.
    """
    if config.layers == "published":
        nm_width = 0 if config.modulation == "none" else config.nm_widths[0]
        return PublishedANML(nm_width, config.widths[0], classes, size, seed=seed)
    return ANML(config, classes, size, seed)


__all__ = ["ANML", "Activity", "Network", "PublishedANML", "make_network", "spikes_per_neuron", "spikes_per_synapse"]
