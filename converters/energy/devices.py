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
DAVIES_PAPER = "Davies et al. 2018 (IEEE Micro 38(1))"
DAVIES = f"{DAVIES_PAPER}, as in KerasSpiking 0.3"
HOEPPNER = "Hoeppner et al. 2019 (arXiv 1903.08941), as in KerasSpiking 0.3"
HOROWITZ = "Horowitz 2014 (ISSCC, 45 nm, 0.9 V)"

# A synaptic operation, one hop of the spike between tiles; the update of a neuron, and of an inactive one.
LOIHI_SYNOP, LOIHI_HOP, LOIHI_UPDATE, LOIHI_INACTIVE = 23.6 * PICO, 3.5 * PICO, 81 * PICO, 52 * PICO

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
    "the comparison with the threshold, the reset and the exponential of a sigmoid; of integers the bits by which "
    "sums are wider than values; what fewer bits than float32 do to accuracy"
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


PRICES = tuple(f.name for f in fields(Device) if f.type == "float")
"""The fields of a `Device` that are energies."""

DEVICES: dict[str, Device] = {
    device.name: device
    for device in (
        _processor("cpu", "Intel i7-4960X", 8.6 * NANO),
        _processor("gpu", "Nvidia GTX Titan Black", 0.3 * NANO),
        _processor("arm", "ARM Cortex-A", 0.9 * NANO),
        _neuromorphic("loihi", "Intel Loihi", LOIHI_SYNOP + LOIHI_HOP, LOIHI_UPDATE, DAVIES),
        _neuromorphic("spinnaker", "SpiNNaker", 13.3 * NANO, 26 * NANO, HOEPPNER),
        _neuromorphic("spinnaker2", "SpiNNaker 2", 450 * PICO, 2.19 * NANO, HOEPPNER),
        _cmos("cmos45-fp32", "45 nm CMOS, 32-bit floating point", 0.9 * PICO, 3.7 * PICO),
        _cmos("cmos45-int8", "45 nm CMOS, 8-bit integers", 0.03 * PICO, 0.2 * PICO),
        _cmos("cmos45-int32", "45 nm CMOS, 32-bit integers", 0.1 * PICO, 3.1 * PICO),
    )
}


def integer(bits: int) -> Device:
    """Adders and multipliers for integers of `bits` bits in 45 nm CMOS.

    8 and 32 bits are published, and are the rows `cmos45-int8` and `cmos45-int32`. Fewer than 8 are an extrapolation
    from 8, by how the gates of a ripple adder and of an array multiplier grow:

        add(b) = add(8) * b / 8        multiply(b) = multiply(8) * (b / 8)^2

    Between the published rows this holds well (32 bits: 0.12 and 3.2 pJ, published 0.1 and 3.1 pJ), below them nobody
    has published whether it does. So `cmos45-int8` is the upper bound with a source, to be shown beside it.

    Raises:
        UserError: neither 1 to 8 nor 32 bits.
    """
    if f"cmos45-int{bits}" in DEVICES:
        return DEVICES[f"cmos45-int{bits}"]
    if bits not in range(1, 8):
        raise UserError(f"No price is known for integers of {bits} bits; take 1 to 8, or 32 as the upper bound.")
    published = DEVICES["cmos45-int8"]
    return arithmetic(
        f"cmos45-int{bits}-extrapolated",
        f"45 nm CMOS, {bits}-bit integers, extrapolated",
        published.add * bits / 8,
        published.gate_multiply * (bits / 8) ** 2,
        source=f"not published: extrapolated from 8 bits of {published.source}, adders linear and multipliers "
        "quadratic in bits",
        leaves_out=f"{published.leaves_out}; whatever does not shrink with the bits, for which {published.name} is "
        "the upper bound",
    )


def constants(device: Device) -> dict[str, dict[str, float]]:
    """The independent numbers behind the prices of a device: name -> J that it adds to each of `PRICES`.

    A `chip` has two, one where both are the same published number; `arithmetic` has two; a `Device` whose prices follow
    neither rule has as many as prices.
    """
    ac, multiply, update = device.accumulate, device.gate_multiply, device.neuron_update
    parts: dict[str, dict[str, float]]
    if device.kind == "arithmetic":
        parts = {
            "add": _each("accumulate multiply_accumulate neuron_update add bias_add", ac),
            "multiply": _each("multiply_accumulate gate_multiply neuron_update", multiply),
        }
    elif not device.spiking and ac == update:
        parts = {"operation": _each("accumulate multiply_accumulate gate_multiply neuron_update add", ac)}
    else:
        parts = {
            "synaptic operation": _each("accumulate multiply_accumulate gate_multiply add", ac),
            "neuron update": _each("neuron_update", update),
        }
    prices = {name: getattr(device, name) for name in PRICES}
    if {name: sum(part.get(name, 0.0) for part in parts.values()) for name in PRICES} == prices:
        return parts
    return {name.replace("_", " "): {name: price} for name, price in prices.items()}


def _each(names: str, price: float) -> dict[str, float]:
    return dict.fromkeys(names.split(), price)


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
