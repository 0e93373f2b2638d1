"""What each constant contributes to an energy, and each spike: kept beside a run, to set it against others later."""

from __future__ import annotations

from collections.abc import Sequence

from converters import Graph, energy
from converters.energy.break_even import SpikeCost, spike_cost
from converters.energy.memory import MemoryEstimate, estimate_memory
from converters.energy.sensitivity import Bill, bill
from converters.energy.traffic import Accounting
from experiments.pipeline import read_csv, write_csv
from experiments.run_folder import RunFolder

SHARES, SPIKE_COSTS = "constants.csv", "spike_costs.csv"


def write_shares(folder: RunFolder, devices: Sequence[energy.Estimate], memories: Sequence[MemoryEstimate]) -> None:
    """Writes constants.csv: for every device and constant its value (J), and what it contributes (J per inference)."""
    named = [(one.device.name, one) for one in devices] + [(f"memory-{one.accounting}", one) for one in memories]
    rows = [
        {"device": name, "constant": constant, "value": found.values[constant], "joules": joules}
        for name, found in ((name, bill(one)) for name, one in named)
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


def write_spike_costs(
    folder: RunFolder, graph: Graph, counts: energy.Counts, accountings: Sequence[Accounting]
) -> None:
    """Writes spike_costs.csv: for every device J without a spike, and J that spikes cost at their rate."""
    costs = {name: spike_cost(counts, lambda c, name=name: energy.estimate(c, name).joules) for name in energy.DEVICES}
    costs |= {
        f"memory-{one}": spike_cost(counts, lambda c, one=one: estimate_memory(graph, c, accounting=one).joules)
        for one in accountings
    }
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
