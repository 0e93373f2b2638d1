"""What each constant contributes to an energy, and each spike: kept beside a run, to set it against others later."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import get_args

from converters.energy import Counts, Estimate
from converters.energy.break_even import SpikeCost, spike_cost
from converters.energy.memory import MemoryEstimate
from converters.energy.sensitivity import Bill, bill
from converters.energy.traffic import Accounting
from experiments.csv_files import read_csv, write_csv
from experiments.run_folder import RunFolder

SHARES, SPIKE_COSTS = "constants.csv", "spike_costs.csv"
BOUND = "-int32"
"""Ends the names of memory-aware energies in which everything has 32 bits: the bound of a spiking network of integers,
whose membranes need more bits than its weights."""
ACCOUNTINGS: tuple[Accounting, ...] = tuple(sorted(get_args(Accounting)))


Models = Mapping[str, Callable[[Counts], Estimate | MemoryEstimate]]
"""What prices counts, by the name of the device that stands in the tables."""


def write_shares(folder: RunFolder, counts: Counts, models: Models) -> None:
    """Writes constants.csv: for every device and constant its value (J), and what it contributes (J per inference)."""
    rows = [
        {"device": name, "constant": constant, "value": found.values[constant], "joules": joules}
        for name, found in ((name, bill(model(counts))) for name, model in models.items())
        for constant, joules in found.joules.items()
    ]
    write_csv(folder.path / SHARES, ("device", "constant", "value", "joules"), rows)


def read_bills(folder: RunFolder) -> dict[str, Bill]:
    """By device what `write_shares` wrote; none where there is no file."""
    found: dict[str, Bill] = {}
    for row in read_csv(folder.path / SHARES):
        of_device = found.setdefault(row["device"], Bill(row["device"], {}, {}))
        found[row["device"]] = Bill(
            row["device"],
            {**of_device.values, row["constant"]: float(row["value"])},
            {**of_device.joules, row["constant"]: float(row["joules"])},
        )
    return found


def mean_bill(bills: Sequence[Bill]) -> Bill:
    """The mean over runs of one arm."""
    first = bills[0]
    joules = {name: sum(one.joules[name] for one in bills) / len(bills) for name in first.joules}
    return Bill(first.device, first.values, joules)


def write_spike_costs(folder: RunFolder, counts: Counts, models: Models) -> None:
    """Writes spike_costs.csv: for every device J without a spike, and J that spikes cost at their rate."""
    costs = {name: spike_cost(counts, lambda c, model=model: model(c).joules) for name, model in models.items()}
    rows = [
        {"device": name, "rate": cost.rate, "fixed": cost.fixed, "driven": cost.driven}
        for name, cost in costs.items()
        if cost is not None
    ]
    write_csv(folder.path / SPIKE_COSTS, ("device", "rate", "fixed", "driven"), rows)


def read_spike_costs(folder: RunFolder) -> dict[str, SpikeCost]:
    """By device what `write_spike_costs` wrote; none where there is no file, or nothing spikes."""
    return {
        row["device"]: SpikeCost(float(row["rate"]), float(row["fixed"]), float(row["driven"]))
        for row in read_csv(folder.path / SPIKE_COSTS)
    }
