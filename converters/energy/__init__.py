"""Operations of a network counted exactly, and their energy by published constants of devices."""

from converters.energy.break_even import SpikeCost, break_even, spike_cost, spike_rate
from converters.energy.counts import activation_sparsity, count
from converters.energy.devices import DEVICES, Device, arithmetic, chip, integer, register
from converters.energy.estimate import CSV_COLUMNS, Convention, Estimate, LayerEnergy, csv_rows, estimate
from converters.energy.memory import MemoryEstimate, estimate_memory
from converters.energy.memory_curve import CURVES, MemoryCurve
from converters.energy.sensitivity import Bill, Range, Sensitivity, bill, sensitivity
from converters.energy.table import Counts, LayerCount, concatenate

__all__ = [
    "CSV_COLUMNS",
    "CURVES",
    "DEVICES",
    "Bill",
    "Convention",
    "Counts",
    "Device",
    "Estimate",
    "LayerCount",
    "LayerEnergy",
    "MemoryCurve",
    "MemoryEstimate",
    "Range",
    "Sensitivity",
    "SpikeCost",
    "activation_sparsity",
    "arithmetic",
    "bill",
    "break_even",
    "chip",
    "concatenate",
    "count",
    "csv_rows",
    "estimate",
    "estimate_memory",
    "integer",
    "register",
    "sensitivity",
    "spike_cost",
    "spike_rate",
]
