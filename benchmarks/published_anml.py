"""Time of one full-width meta-step of the conventional ANML, beside the same written as it was published.

    python -m benchmarks.published_anml [--published PATH] [--repeats N] [--save]

In one process on one core, the same weights and drawings (NM 112, PLN 256, 1000 classes, 20 drawings in the inner
loop, 84 queries), forward and backward without the optimiser:

    published, first    `benchmarks.restated_anml`: a re-statement with the published code's structure (one picture at a
    published, second   time, gradients of all tensors, three input channels), which the tests hold against it
    ours, first         the same function in its fast form, `snn_anml.meta.published`
    ours, second
    ours, head          the inner loop on the output layer alone, exact second order
    s, floor            floating-point operations of plain convolutions at the measured rate of the second block's
                        (ours takes fewer multiplications there, by Winograd's scheme for many pictures)

With --published, `published, first` is the published code itself, from the checkout at PATH
(`benchmarks.published_checkout`), held to our loss before it is timed; `re-stated, first` is then the re-statement
beside it. Second order is the re-statement's in any case: the code's inner gradients are constants.

Medians of alternating repeats; ratios are medians of the ratios within a repeat.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks import machine
from benchmarks.published_checkout import Published, load, require_same
from benchmarks.restated_anml import restated_step
from experiments.allocator import keep_large_buffers
from snn_anml.errors import UserError
from snn_anml.meta.published import Drawings, meta_step
from snn_anml.networks.normed_block import KERNEL
from snn_anml.networks.published import PublishedANML

NM, PLN, CLASSES, SUPPORT, QUERY, SIZE, INNER_LR = 112, 256, 1000, 20, 84, 28, 0.1
TARGETS = {"first": 3, "second": 6, "head": 20}  # times as fast as published, the last two as its second order


def work(width: int, outputs: int) -> float:
    """Floating-point operations of one picture's forward pass through a network's convolutions and output layer."""
    side, channels, total = SIZE, 1, 0.0
    for layer in (1, 2, 3):
        side -= KERNEL - 1
        total += 2 * side**2 * KERNEL**2 * channels * width
        channels, side = width, side // 2 if layer < 3 else side
    return total + 2 * side**2 * width * outputs


def floors() -> dict[str, float]:
    """Operations of a meta-step; backward is twice a forward, and a step's tangent twice a forward and backward."""
    nm, pln = work(NM, PLN * 9), work(PLN, CLASSES)
    both, inner = 3 * QUERY * (nm + pln), 3 * SUPPORT * pln
    return {"first": both + inner, "second": both + 3 * inner, "head": both}


def convolution_rate() -> float:
    """Operations a second of the PLN's second convolution on all queries, forward, channels last; best of five."""
    x = torch.randn(QUERY, PLN, 13, 13).to(memory_format=torch.channels_last)
    kernel = torch.randn(PLN, PLN, KERNEL, KERNEL).to(memory_format=torch.channels_last)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        F.conv2d(x, kernel)
        times.append(time.perf_counter() - start)
    return 2 * QUERY * 11**2 * KERNEL**2 * PLN**2 / min(times)


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def against(published: Published | None) -> str:
    """What stands under `published`."""
    if published is None:
        return "re-statement"
    return f"first order: published code at git commit {published.commit}; second order: re-statement"


def ways(published: Published | None) -> dict[str, Callable[[], object]]:
    """Every meta-step, on the same random drawings.

    Raises:
        UserError: the published code is of other sizes, or has another loss.
    """
    generator = torch.Generator().manual_seed(0)
    model = PublishedANML(NM, PLN, CLASSES, SIZE, channels=3, conv_bias=True)
    weights: dict[str, Tensor] = {name: value.detach() for name, value in model.weights.items()}
    x = torch.rand(QUERY, 1, SIZE, SIZE, generator=generator)
    y = torch.randint(CLASSES, (QUERY,), generator=generator)
    y[:SUPPORT] = y[0]
    drawings, support = Drawings(x, y, SUPPORT), (x[:SUPPORT], y[:SUPPORT])

    def restated() -> object:
        return restated_step(weights, support, (x, y), INNER_LR, "first")

    first: dict[str, Callable[[], object]] = {"published, first": restated}
    if published is not None:
        step = published.ready(weights, drawings, INNER_LR)
        require_same(step(), meta_step(weights, drawings, INNER_LR, "first"))
        first = {"published, first": step, "re-stated, first": restated}
    return {
        **first,
        "ours, first": lambda: meta_step(weights, drawings, INNER_LR, "first"),
        "published, second": lambda: restated_step(weights, support, (x, y), INNER_LR, "second"),
        "ours, second": lambda: meta_step(weights, drawings, INNER_LR, "second"),
        "ours, head": lambda: meta_step(weights, drawings, INNER_LR, "second", "head"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/published_anml.json")
    parser.add_argument("--published", type=Path, metavar="PATH", help="a checkout of the published code, to time it")
    options = parser.parse_args()
    try:
        published = load(options.published) if options.published else None
        calls = ways(published)
    except UserError as error:
        parser.error(str(error))
    torch.set_num_threads(1)
    keep_large_buffers()
    times: dict[str, list[float]] = {name: [] for name in calls}
    for i in range(options.repeats + 1):
        for name, call in calls.items():
            spent = seconds(call)
            if i:  # the first round warms up
                times[name].append(spent)
    rate = convolution_rate()
    results = {"rate": rate, "seconds": {}, "ratios": {}, "floors": {}}
    columns = ("meta-step", "s, median", "published / ours", "to reach", "s, floor")
    table = Table(*columns, title=f"published: {against(published)}")
    for name, spent in times.items():
        kind = name.split(", ")[1]
        results["seconds"][name] = statistics.median(spent)
        row = [name, f"{statistics.median(spent):.3f}"]
        if name.startswith("ours"):
            theirs = times["published, first" if kind == "first" else "published, second"]
            ratio = statistics.median(a / b for a, b in zip(theirs, spent, strict=True))
            results["ratios"][name], results["floors"][name] = ratio, floors()[kind] / rate
            row += [f"{ratio:.1f}", f"{TARGETS[kind]}", f"{floors()[kind] / rate:.3f}"]
        table.add_row(*row)
    console = Console()
    console.print(table)
    console.print(f"floor: operations at the measured {rate / 1e9:.0f} GFLOP/s of the PLN's second convolution")
    console.print(machine.describe())
    if options.save:
        command = f"python -m benchmarks.published_anml{' --published PATH' if published else ''} --save"
        console.print(machine.save("published_anml", {"command": command, "against": against(published), **results}))


if __name__ == "__main__":
    main()
