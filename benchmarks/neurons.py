"""Time of one LIF layer over many steps, beside the same layer in other libraries.

    python -m benchmarks.neurons [--batches 1 84 1024] [--steps 4 16 64] [--repeats N] [--device cpu|cuda] [--save]

The layer is the default network's first: 32 channels of 14 x 14, on random currents x (T, B, 32, 14, 14), float32. Of
its spikes s, with random weights w of their shape,

    forward         s, without a graph
    first order     s, then g = grad(w . s)
    second order    s, then g = grad(w . s) with its graph, then grad(|g|^2 / 2)

with respect to x, and to the gate where there is one (one value for each sample and channel). The contenders, and
in what they differ, are those of `benchmarks.rivals`; SpikingJelly and Norse come with
`pip install 'snn-anml[benchmarks]'`.

Before anything is timed, spikes and gradients of each are compared with an unrolled loop in float64. One of ours,
or of snnTorch, that differs ends the benchmark; a derivative of another that differs or raises is a dash.

Times are ns for a neuron and step: medians of repeats that alternate between contenders, in one process, on one
thread of a CPU. `times ours` is relative to the first row with, or without, a gate. The floor is the time to read the
currents and write spikes and membranes once, and, to first order, to read membranes and w and write g once, at the
speed at which a large tensor is copied; cells that fit into a cache can be below it. `too large` is a cell that
would need more than --memory, by what its tensors hold on a smaller batch and, on a CPU, by what the process holds
beyond that, which keeps what is freed.
"""

from __future__ import annotations

import argparse
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.profiler import ProfilerActivity, profile, record_function

from benchmarks import machine
from benchmarks.rivals import (
    LAYER,
    OPTIONAL,
    Contender,
    check,
    contenders,
    derivatives,
    leaves,
    make_inputs,
    versions,
)
from experiments.allocator import keep_large_buffers

NEURONS = LAYER[0] * LAYER[1] * LAYER[2]
ORDERS = ("forward", "first order", "second order")
FLOOR_TENSORS = {"forward": 3, "first order": 6}  # (T, B, ...) of float32 that have to be read or written
PROBE = 2**20  # neurons x steps of the cell on which memory is measured: far above any fixed scratch buffer
SECONDS = 0.02  # a repeat calls as often as this takes, so that clock and launch of a first kernel do not count
BYTES = 4
# Memory of the process for each byte of tensors: 2 to 5 were seen on a CPU, where freed pieces of the heap are kept.
HELD = {"cpu": 4.0, "cuda": 1.0}


class Cell(NamedTuple):
    """One table entry for each contender.

    Args:
        order: one of `ORDERS`.
        batch: B, samples.
        steps: T.
        times: of each contender that was timed, all repeats, ns for a neuron and step.
        missing: why each of the others was not, by name.
    """

    order: str
    batch: int
    steps: int
    times: dict[str, list[float]]
    missing: dict[str, str]

    def median(self, name: str) -> float | None:
        """ns for a neuron and step; None where that contender was not timed."""
        return statistics.median(self.times[name]) if name in self.times else None


def call(contender: Contender, x: tuple[Tensor, ...], weights: Tensor, order: str) -> None:
    """What is timed."""
    gate = x[1] if contender.gated else None
    if order == "forward":
        with torch.no_grad():
            contender.run(x[0], gate)
    else:
        derivatives(contender.run(x[0], gate)[0], x, weights, order)


def peaks(calls: dict[str, Callable[[], None]], device: torch.device) -> dict[str, int]:
    """The most that each call allocates at a time, bytes."""
    found = {}
    if device.type == "cuda":
        for name, function in calls.items():
            before = torch.cuda.memory_allocated()
            torch.cuda.reset_peak_memory_stats()
            function()
            found[name] = torch.cuda.max_memory_allocated() - before
        return found
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        for name, function in calls.items():
            with record_function(name):
                function()
    assert profiler.profiler is not None
    result: Any = profiler.profiler.kineto_results
    events = sorted(result.events(), key=lambda event: event.start_ns())
    spans = {event.name(): (event.start_ns(), event.end_ns()) for event in events if event.name() in calls}
    changes = [(event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]"]
    for name, (start, end) in spans.items():
        held, found[name] = 0, 0
        for at, size in changes:
            if start <= at <= end:
                held += size
                found[name] = max(found[name], held)
    return found


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def seconds(function: Callable[[], Any], calls: int, device: torch.device) -> float:
    """Mean time of some calls, s."""
    wait(device)
    start = time.perf_counter()
    for _ in range(calls):
        function()
    wait(device)
    return (time.perf_counter() - start) / calls


def alternate(
    functions: Mapping[str, Callable[[], object]], repeats: int, device: torch.device
) -> dict[str, list[float]]:
    """Times of each function, s, in turns. The first call, which may compile, does not count."""
    calls = {}
    for name, function in functions.items():
        function()
        calls[name] = max(1, min(1000, round(SECONDS / seconds(function, 1, device))))
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            times[name].append(seconds(function, calls[name], device))
    return times


def copy_bandwidth(device: torch.device, repeats: int) -> float:
    """Bytes read and written in a second by copying a tensor far larger than any cache."""
    source = torch.ones(2**26 if device.type == "cpu" else 2**29, device=device)
    target = torch.zeros_like(source)
    times = alternate({"copy": partial(target.copy_, source)}, max(3, repeats), device)["copy"]
    return 2 * source.numel() * BYTES / statistics.median(times)


def tensors_needed(ways: list[Contender], steps: list[int], device: torch.device, last: bool) -> dict[str, float]:
    """Memory beyond the inputs, as a multiple of that of the currents, by `key`."""
    calls, sizes = {}, {}
    for T in steps:
        inputs = make_inputs(-(-PROBE // (T * NEURONS)), T, device, last)
        for order in ORDERS:
            for way in ways:
                calls[key(T, order, way)] = partial(call, way, leaves(way, inputs), inputs.weights, order)
                sizes[key(T, order, way)] = inputs.currents.numel() * BYTES
    return {name: peak / sizes[name] for name, peak in peaks(calls, device).items()}


def key(steps: int, order: str, way: Contender) -> str:
    return f"{order} of {way.name}, T = {steps}"


def measure(
    ways: list[Contender],
    order: str,
    batch: int,
    steps: int,
    missing: dict[str, str],
    repeats: int,
    device: torch.device,
    last: bool,
) -> Cell:
    """Times those contenders that are not missing."""
    chosen = [way for way in ways if way.name not in missing]
    if not chosen:
        return Cell(order, batch, steps, {}, missing)
    if device.type == "cuda":
        torch.cuda.empty_cache()  # blocks of other sizes than this cell's
    inputs = make_inputs(batch, steps, device, last)
    functions = {way.name: partial(call, way, leaves(way, inputs), inputs.weights, order) for way in chosen}
    times = alternate(functions, repeats, device)
    scale = 1e9 / (steps * batch * NEURONS)
    return Cell(order, batch, steps, {name: [t * scale for t in each] for name, each in times.items()}, missing)


def first_row(way: Contender) -> str:
    """The contender that one is compared with."""
    return "ours, gated" if way.gated else "ours"


def ratio(value: float | None, base: float | None) -> float | None:
    return None if value is None or base is None else value / base


def tabulate(cells: list[Cell], ways: list[Contender], floor: float | None) -> Table:
    """One order and batch: a row for each contender, two columns for each number of steps."""
    columns = [column for cell in cells for column in (f"T = {cell.steps}", "times ours")]
    table = Table(
        "ns for a neuron and step", *columns, title=f"{cells[0].order}, batch {cells[0].batch}", title_justify="left"
    )

    def entry(value: float | None, base: float | None) -> list[str]:
        times = ratio(value, base)
        return [f"{value:.2f}", "" if times is None else f"{times:.2f}"]

    for i, way in enumerate(ways):
        row = []
        for cell in cells:
            value = cell.median(way.name)
            row += [cell.missing[way.name], ""] if value is None else entry(value, cell.median(first_row(way)))
        last = i + 1 == len(ways) or ways[i + 1].gated != way.gated
        table.add_row(way.name, *row, end_section=last)
    if floor is not None:
        table.add_row("floor", *[text for cell in cells for text in entry(floor, cell.median("ours"))])
    return table


def records(cell: Cell, ways: list[Contender], floor: float | None) -> list[dict[str, Any]]:
    """The cell for a file of results."""
    return [
        {
            "order": cell.order,
            "batch": cell.batch,
            "steps": cell.steps,
            "contender": way.name,
            "ns": cell.median(way.name),
            "range": [min(cell.times[way.name]), max(cell.times[way.name])] if way.name in cell.times else None,
            "times_ours": ratio(cell.median(way.name), cell.median(first_row(way))),
            "times_floor": None if way.gated else ratio(cell.median(way.name), floor),
            "missing": cell.missing.get(way.name),
        }
        for way in ways
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="Time of one LIF layer, beside other libraries.")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 84, 1024], metavar="B")
    parser.add_argument("--steps", type=int, nargs="+", default=[4, 16, 64], metavar="T")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--memory", type=float, default=8, metavar="GiB", help="leave out cells that need more")
    parser.add_argument(
        "--channels-last", action="store_true", help="currents as this project's convolutions give them"
    )
    parser.add_argument(
        "--save", action="store_true", help="write benchmarks/results/neurons.json, or neurons_cuda.json"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_large_buffers()
    device, console = torch.device(options.device), Console()
    ways = contenders(device)
    wrong = check(ways, device)
    bandwidth = copy_bandwidth(device, options.repeats)
    needed = tensors_needed(ways, options.steps, device, options.channels_last)
    # Currents and weights, and every copy of the currents in another unit, are there while any contender runs.
    standing = 2 + sum(way.current_scale != 1 for way in ways)
    saved: list[dict[str, Any]] = []
    for batch in options.batches:
        for order in ORDERS:
            floor = FLOOR_TENSORS[order] * BYTES / bandwidth * 1e9 if order in FLOOR_TENSORS else None
            cells = []
            for steps in options.steps:
                budget = options.memory * 2**30 / (steps * batch * NEURONS * BYTES) - standing
                missing = {
                    way.name: "too large" for way in ways if HELD[device.type] * needed[key(steps, order, way)] > budget
                }
                missing |= {name: "-" for name, orders in wrong.items() if order in orders}
                cells.append(
                    measure(ways, order, batch, steps, missing, options.repeats, device, options.channels_last)
                )
                saved += records(cells[-1], ways, floor)
            console.print(tabulate(cells, ways, floor))
    found = versions()
    notes = [f"{name}, {order}: {how}" for name, orders in wrong.items() for order, how in orders.items()]
    notes += [f"{name}: not installed: pip install 'snn-anml[benchmarks]'" for name in OPTIONAL if not found[name]]
    for note in notes:
        console.print(note, markup=False)
    console.print(f"copying: {bandwidth / 1e9:.1f} GB/s, read and written")
    console.print({**machine.describe(), "rivals": found})
    if options.save:
        results = {
            "command": f"python -m benchmarks.neurons {shlex.join(sys.argv[1:])}",
            "layer": LAYER,
            "copy_gb_per_s": bandwidth / 1e9,
            "tensors_needed": needed,
            "rivals": found,
            "notes": notes,
            "cells": saved,
        }
        console.print(machine.save("neurons" if device.type == "cpu" else f"neurons_{device.type}", results))


if __name__ == "__main__":
    main()
