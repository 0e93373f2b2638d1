"""What an operation costs on a device: published constants, each once and with its source.

Two kinds of rows:

`chip`        energies of a whole device per synaptic operation and neuron update. Nothing finer is
              published, so a multiply-accumulate and a gate multiply each cost one synaptic operation, and
              adding a bias is part of the neuron update.
`arithmetic`  energies of the adders and multipliers alone: an accumulate is an addition, a
              multiply-accumulate a multiplication and an addition, a gate multiply a multiplication, a
              neuron update (leak and input) one multiply-accumulate, a bias an addition.

The rules depend on the device alone, never on the network, so that a spiking network and its conventional
twin are priced alike.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Literal

from snn_anml.errors import UserError

NANO, PICO = 1e-9, 1e-12

DEGNAN = "Degnan, Marr, Hasler 2016 (IEEE Trans. VLSI Syst. 24(1)), as in KerasSpiking 0.3"
DAVIES = "Davies et al. 2018 (IEEE Micro 38(1)), as in KerasSpiking 0.3"
HOEPPNER = "Hoeppner et al. 2019 (arXiv 1903.08941), as in KerasSpiking 0.3"
HOROWITZ = "Horowitz 2014 (ISSCC, 45 nm, 0.9 V)"

_PROCESSOR_LEAVES_OUT = (
    "what the processor does beyond one multiply-accumulate each for every connection and neuron update "
    "(so a sigmoid costs as much as a relu); memory traffic and idle power beyond what the published figure "
    "contains; overhead of batches too small to fill the device"
)
_CHIP_LEAVES_OUT = (
    "static power, input and output of the chip, mapping and spike routing beyond the published figure; "
    "analogue inputs, pooling and gate multiplies, which the chip may not support as such, are charged as "
    "synaptic operations; what the chip's few bits do to accuracy"
)
_ARITHMETIC_LEAVES_OUT = (
    "everything but arithmetic: memory traffic, control, routing, clock and static power; of a neuron also "
    "the comparison with the threshold, the reset and the exponential of a sigmoid; what fewer bits than float32 "
    "do to accuracy"
)


@dataclass(frozen=True, kw_only=True)
class Device:
    """Prices of operations on one device.

    Attributes:
        name: key in the registry.
        description: what the device is.
        kind: `chip` or `arithmetic`, see the module.
        spiking: pays for events only (input and weight not zero); otherwise for every connection in
            every evaluation.
        accumulate: J per synaptic operation with a spike.
        multiply_accumulate: J per synaptic operation with an analogue input.
        gate_multiply: J per multiplication of a current by its gate.
        neuron_update: J per neuron and update.
        add: J per addition in average pooling.
        bias_add: J per bias added.
        source: where the numbers are from.
        leaves_out: what they do not contain.

    Raises:
        UserError: a price that is negative or not finite, or no source.
    """

    name: str
    description: str
    kind: Literal["chip", "arithmetic"]
    spiking: bool
    accumulate: float
    multiply_accumulate: float
    gate_multiply: float
    neuron_update: float
    add: float
    bias_add: float
    source: str
    leaves_out: str

    def __post_init__(self) -> None:
        for f in fields(self):
            price = getattr(self, f.name)
            if isinstance(price, float) and not (math.isfinite(price) and price >= 0):
                raise UserError(f"Device {self.name!r}: {f.name} = {price} J; give a finite energy of at least 0.")
        if not self.source or not self.leaves_out:
            raise UserError(f"Device {self.name!r} needs a source and what its numbers leave out; give both.")


def chip(
    name: str,
    description: str,
    synop: float,
    neuron_update: float,
    *,
    spiking: bool,
    source: str,
    leaves_out: str,
) -> Device:
    """A device of which only the energies (J) per synaptic operation and neuron update are published."""
    return Device(
        name=name,
        description=description,
        kind="chip",
        spiking=spiking,
        accumulate=synop,
        multiply_accumulate=synop,
        gate_multiply=synop,
        neuron_update=neuron_update,
        add=synop,
        bias_add=0.0,
        source=source,
        leaves_out=leaves_out,
    )


def arithmetic(name: str, description: str, add: float, multiply: float, *, source: str, leaves_out: str) -> Device:
    """Bare adders and multipliers (J per operation) that skip zeros, of spikes and analogue inputs alike."""
    return Device(
        name=name,
        description=description,
        kind="arithmetic",
        spiking=True,
        accumulate=add,
        multiply_accumulate=add + multiply,
        gate_multiply=multiply,
        neuron_update=add + multiply,
        add=add,
        bias_add=add,
        source=source,
        leaves_out=leaves_out,
    )


def _processor(name: str, description: str, operation: float) -> Device:
    return chip(
        name,
        description,
        operation,
        operation,
        spiking=False,
        source=DEGNAN,
        leaves_out=_PROCESSOR_LEAVES_OUT,
    )


def _neuromorphic(name: str, description: str, synop: float, neuron_update: float, source: str) -> Device:
    return chip(name, description, synop, neuron_update, spiking=True, source=source, leaves_out=_CHIP_LEAVES_OUT)


def _cmos(name: str, description: str, add: float, multiply: float) -> Device:
    return arithmetic(name, description, add, multiply, source=HOROWITZ, leaves_out=_ARITHMETIC_LEAVES_OUT)


DEVICES: dict[str, Device] = {
    device.name: device
    for device in (
        _processor("cpu", "Intel i7-4960X", 8.6 * NANO),
        _processor("gpu", "Nvidia GTX Titan Black", 0.3 * NANO),
        _processor("arm", "ARM Cortex-A", 0.9 * NANO),
        # A synaptic operation, and one hop of the spike between tiles.
        _neuromorphic("loihi", "Intel Loihi", (23.6 + 3.5) * PICO, 81 * PICO, DAVIES),
        _neuromorphic("spinnaker", "SpiNNaker", 13.3 * NANO, 26 * NANO, HOEPPNER),
        _neuromorphic("spinnaker2", "SpiNNaker 2", 450 * PICO, 2.19 * NANO, HOEPPNER),
        _cmos("cmos45-fp32", "45 nm CMOS, 32-bit floating point", 0.9 * PICO, 3.7 * PICO),
        _cmos("cmos45-int8", "45 nm CMOS, 8-bit integers", 0.03 * PICO, 0.2 * PICO),
        _cmos("cmos45-int32", "45 nm CMOS, 32-bit integers", 0.1 * PICO, 3.1 * PICO),
    )
}


def register(device: Device) -> None:
    """Adds a device to the registry.

    Raises:
        UserError: the name is taken.
    """
    if device.name in DEVICES:
        raise UserError(f"A device called {device.name!r} is registered already; choose another name.")
    DEVICES[device.name] = device


def find(device: str | Device) -> Device:
    """The device of that name; a `Device` is returned as it is.

    Raises:
        UserError: no device is called so.
    """
    if isinstance(device, Device):
        return device
    try:
        return DEVICES[device]
    except KeyError:
        raise UserError(f"Unknown device {device!r}; known are {', '.join(DEVICES)}.") from None
