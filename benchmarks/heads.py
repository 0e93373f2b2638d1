"""Heads that learn hundreds of classes in sequence: compiled, by their definition, and as torch alone would.

    python -m benchmarks.heads [--classes 600] [--features 1024] [--save]

One trial of a meta-test with 15 drawings a class, a quarter of the features not zero, one thread. `torch` is the
ordinary way: a linear layer, cross-entropy, autograd and torch's optimiser, with an output for every class from the
start, as the published code does; it learns the first tenth of the classes only, and its time is scaled up.
The three are interleaved, and of each the median is taken.
"""

from __future__ import annotations

import argparse
import shlex
import statistics
import sys
import time
from collections.abc import Callable
from unittest.mock import patch

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks import machine
from snn_anml import compiled
from snn_anml.meta.heads import learn_in_sequence

RATES = {"adam": 1e-3, "sgd": 1e-3, "unit-sgd": 1e-3}
SHOTS, ACTIVE = 15, 0.25


def few(classes: int) -> int:
    """A tenth of them."""
    return max(1, classes // 10)


def by_torch(head: str, features: Tensor) -> None:
    """The first classes, as many as `few` says."""
    layer = torch.nn.Linear(features.shape[2], len(features), bias=head != "unit-sgd")
    optimizer = (torch.optim.Adam if head == "adam" else torch.optim.SGD)(layer.parameters(), lr=RATES[head])
    for c, drawings in enumerate(features[: few(len(features))]):
        for x in F.normalize(drawings, dim=1) if head == "unit-sgd" else drawings:
            optimizer.zero_grad()
            F.cross_entropy(layer(x)[None], torch.tensor([c])).backward()
            optimizer.step()


def seconds(work: Callable[[], object]) -> float:
    """Of the clock."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description="Heads that learn hundreds of classes in sequence.")
    parser.add_argument("--classes", type=int, default=600)
    parser.add_argument("--features", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/heads.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    generator = torch.Generator().manual_seed(0)
    size = (options.classes, SHOTS, options.features)
    features = torch.rand(size, generator=generator) * (torch.rand(size, generator=generator) < ACTIVE)

    def ours(head: str) -> None:
        list(learn_in_sequence(head, features, RATES[head], (options.classes,)))

    found = {}
    for head in RATES:
        ours(head)  # compiled by now
        by_torch(head, features[:10])
        times: dict[str, list[float]] = {"compiled": [], "definition": [], "torch": []}
        for _ in range(options.repeats):
            times["compiled"].append(seconds(lambda head=head: ours(head)))
            with patch.object(compiled, "library", lambda source, without: None):
                times["definition"].append(seconds(lambda head=head: ours(head)))
            taken = seconds(lambda head=head: by_torch(head, features))
            times["torch"].append(taken * options.classes / few(options.classes))
        found[head] = {way: statistics.median(each) for way, each in times.items()}
    table = Table("head", "compiled", "definition", "torch", "definition / compiled", "torch / compiled")
    for head, of in found.items():
        cells = [f"{of[way]:.2f} s" for way in of] + [f"{of[way] / of['compiled']:.1f}" for way in list(of)[1:]]
        table.add_row(head, *cells)
    Console().print(table)
    if options.save:
        command = shlex.join(["python", "-m", "benchmarks.heads", *sys.argv[1:]])
        settings = {"classes": options.classes, "features": options.features, "repeats": options.repeats}
        print(machine.save("heads", {"command": command, **settings, "seconds": found}))


if __name__ == "__main__":
    main()
