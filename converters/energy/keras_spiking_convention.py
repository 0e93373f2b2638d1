"""The estimate of KerasSpiking 0.3 (`keras_spiking.ModelEnergy`), for comparison with published numbers.

    E = e_synop * connections * rate * dt * T + e_neuron * neurons * T

It differs from our counts in four points: taps on zero padding are connections, a zero weight costs like any
other, a layer's mean input rate stands for its single events, and gates and pooling are free. Devices that
do not spike run the network once (T = 1) with every connection (rate = 1 / dt), however many steps it has.

An input value of 1 at every step is one spike a step, a rate of 1 / dt: the step length cancels. To get the
same number from KerasSpiking, hand it x / dt.
"""

from __future__ import annotations

from converters.energy.devices import Device
from converters.energy.table import LayerCount


def synapse_energy(device: Device, row: LayerCount, steps: int) -> float:
    """J per inference for the connections of one layer; `steps` is T."""
    events = float(row.input_rate.mean()) * steps if device.spiking else 1.0
    return device.accumulate * row.connections_with_padding * events


def neuron_energy(device: Device, row: LayerCount, steps: int) -> float:
    """J per inference for the neuron updates of one layer; `steps` is T."""
    return device.neuron_update * row.neurons * (steps if device.spiking else 1)
