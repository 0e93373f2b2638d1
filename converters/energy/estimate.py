"""Joules per inference: counts times the published prices of a device.

E = synapses + neurons + gates
synapses  spiking device:   accumulate * ACs + multiply_accumulate * MACs + add * pool adds (effective)
          other devices:    multiply_accumulate * dense operations + add * dense pool adds
neurons   neuron_update * updates + bias_add * biases
gates     gate_multiply * multiplies
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from converters.energy import keras_spiking_convention
from converters.energy.devices import Device, find
from converters.energy.table import PER_SAMPLE, STATIC, Counts, LayerCount
from snn_anml.errors import UserError

Convention = Literal["exact", "keras-spiking"]

CSV_COLUMNS = (
    "network",
    "layer",
    "part",
    "kind",
    "spikes_of",
    "device",
    "convention",
    "source",
    *STATIC,
    *PER_SAMPLE,
    "joules_synapses",
    "joules_neurons",
    "joules_gates",
    "joules",
)


@dataclass(frozen=True)
class LayerEnergy:
    """Mean energy of one layer, J per inference: its synapses, neurons (with biases) and gates."""

    layer: str
    part: str
    synapses: float
    neurons: float
    gates: float

    @property
    def joules(self) -> float:
        """Mean energy of the layer, J per inference."""
        return self.synapses + self.neurons + self.gates


@dataclass(frozen=True, eq=False)
class Estimate:
    """Modelled energy of one inference, the mean over all samples counted.

    Attributes:
        device: the prices used, with their source and what they leave out.
        convention: `exact` or `keras-spiking`.
        layers: one row per layer, in the order of computation.
        counts: what was counted.
        fold_gates: gates that can move into the threshold are charged once per inference.
    """

    device: Device
    convention: Convention
    layers: tuple[LayerEnergy, ...]
    counts: Counts
    fold_gates: bool = False

    @property
    def joules(self) -> float:
        """Mean energy, J per inference."""
        return sum(row.joules for row in self.layers)

    @property
    def source(self) -> str:
        """Where the prices are from."""
        return self.device.source

    @property
    def leaves_out(self) -> str:
        """What the estimate does not contain."""
        if self.convention == "keras-spiking":
            return f"{self.device.leaves_out}; gates, biases and pooling"
        return self.device.leaves_out

    def by_part(self) -> dict[str, float]:
        """J per inference of every network, such as `pln` and `nm`."""
        return {name: sum(row.joules for row in self.layers if row.part == name) for name in self.counts.parts}

    def breakdown(self) -> dict[str, float]:
        """J per inference of `synapses`, `neurons` and `gates`."""
        return {name: sum(getattr(row, name) for row in self.layers) for name in ("synapses", "neurons", "gates")}

    def __str__(self) -> str:
        shares = ", ".join(f"{name} {joules:.3g} J" for name, joules in self.by_part().items())
        return (
            f"{self.joules:.4g} J per inference on {self.device.name} ({self.device.description}; {shares}). "
            f"Convention: {self.convention}. Source: {self.source}. Leaves out: {self.leaves_out}."
        )


def estimate(
    counts: Counts, device: str | Device, *, convention: Convention = "exact", fold_gates: bool = False
) -> Estimate:
    """Mean energy of one inference.

    Args:
        counts: what was counted, by `converters.energy.count`.
        device: name of a registered device, or a `Device`.
        convention: `exact`, our border-aware counts; or `keras-spiking`, the formula of KerasSpiking.
        fold_gates: charge a gate that can move into the threshold once per inference, not once per step.

    Returns:
        The estimate, in total and per layer, with the device and the source of its prices.

    Raises:
        UserError: an unknown device or convention, or gates to fold in a convention that has none.
    """
    prices = find(device)
    if convention not in get_args(Convention):
        raise UserError(f"Unknown convention {convention!r}; known are {', '.join(get_args(Convention))}.")
    if convention == "keras-spiking":
        if fold_gates:
            raise UserError("The convention 'keras-spiking' has no gates to fold; leave fold_gates out.")
        layers = tuple(_keras_spiking_layer(row, prices, counts.steps) for row in counts.layers)
    else:
        layers = tuple(_exact_layer(row, prices, fold_gates) for row in counts.layers)
    return Estimate(prices, convention, layers, counts, fold_gates)


def csv_rows(result: Estimate, network: str) -> list[dict[str, str | int | float]]:
    """Rows of `energy.csv` with the columns `CSV_COLUMNS`, one per layer: mean counts and J per inference."""
    return [
        {
            "network": network,
            "layer": energy.layer,
            "part": energy.part,
            "kind": row.kind,
            "spikes_of": row.spikes_of,
            "device": result.device.name,
            "convention": result.convention,
            "source": result.source,
            **{name: getattr(row, name) for name in STATIC},
            **{name: float(row.mean(name)) for name in PER_SAMPLE},
            "joules_synapses": energy.synapses,
            "joules_neurons": energy.neurons,
            "joules_gates": energy.gates,
            "joules": energy.joules,
        }
        for row, energy in zip(result.counts.layers, result.layers, strict=True)
    ]


def _exact_layer(row: LayerCount, device: Device, fold_gates: bool) -> LayerEnergy:
    def mean(name: str) -> float:
        return float(row.mean(name))

    if device.spiking:
        synapses = (
            device.accumulate * mean("effective_acs")
            + device.multiply_accumulate * mean("effective_macs")
            + device.add * mean("pool_adds")
        )
    else:
        synapses = device.multiply_accumulate * mean("dense") + device.add * mean("dense_pool_adds")
    return LayerEnergy(
        row.layer,
        row.part,
        synapses,
        neurons=device.neuron_update * mean("neuron_updates") + device.bias_add * mean("bias_adds"),
        gates=device.gate_multiply * mean("gate_multiplies_folded" if fold_gates else "gate_multiplies"),
    )


def _keras_spiking_layer(row: LayerCount, device: Device, steps: int) -> LayerEnergy:
    return LayerEnergy(
        row.layer,
        row.part,
        keras_spiking_convention.synapse_energy(device, row, steps),
        keras_spiking_convention.neuron_energy(device, row, steps),
        gates=0.0,
    )
