"""Operations of a network counted exactly, and their energy by published constants of devices."""

from converters.energy.counts import count
from converters.energy.devices import DEVICES, Device, arithmetic, chip, register
from converters.energy.estimate import CSV_COLUMNS, Convention, Estimate, LayerEnergy, csv_rows, estimate
from converters.energy.table import Counts, LayerCount, concatenate

__all__ = [
    "CSV_COLUMNS",
    "DEVICES",
    "Convention",
    "Counts",
    "Device",
    "Estimate",
    "LayerCount",
    "LayerEnergy",
    "arithmetic",
    "chip",
    "concatenate",
    "count",
    "csv_rows",
    "estimate",
    "register",
]
