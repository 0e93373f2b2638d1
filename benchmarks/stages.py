"""Time and memory of the stages after training, on a trained run.

    python -m benchmarks.stages RUN [--save]

Meta-test (protocol strict: the heads of the run, ten draws, to the last milestone, features and the picking of learning
rates included), and NengoDL on 200 held-out drawings, building and the import of TensorFlow included. Each runs in a
process of its own, so that peak memory is its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import machine

META_TEST = """
config = replace(config, meta_test=replace(config.meta_test, protocols=("strict",), draws=10))
data = load_data(config)
start = time.perf_counter()
model = load(folder.path)
features, _ = extract_features(model, data.images, data.split.meta_test, config.seed)
turned = torch.from_numpy(with_rotations(data.dataset.images[data.split.selection]))
selection, _ = extract_features(model, turned, np.arange(len(turned)), config.seed)
outcomes, _ = meta_test(features, selection, data.split.meta_test, config.meta_test, config.seed)
what = f"meta-test, {config.meta_test.milestones[-1]} classes, {len(config.meta_test.heads)} heads, 10 draws"
"""

NENGO_DL = """
data = load_data(config)
model, classes = pipeline.exported(config, folder)
x, _ = held_out_drawings(config, data, classes, 200)
graph = pipeline.to_graph(model)
start = time.perf_counter()
converters.simulate(graph, x, backend="nengo-dl")
what = "NengoDL, 200 drawings, import and building included"
"""

HEAD = """
import json, resource, sys, time
from dataclasses import replace
from pathlib import Path
import numpy as np, torch
import converters
from experiments import pipeline
from experiments.allocator import keep_large_buffers
from experiments.run_data import held_out_drawings, load_data
from experiments.run_folder import RunFolder
from snn_anml.data import with_rotations
from snn_anml.meta import extract_features, meta_test
from snn_anml.model_io import load
keep_large_buffers()
folder = RunFolder(Path(sys.argv[1]))
config = folder.require()
"""

TAIL = """
seconds = time.perf_counter() - start
peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
print(json.dumps({"what": what, "seconds": seconds, "peak_gb": peak / 2**20}))
"""


def measure(body: str, run: Path) -> dict[str, float | str]:
    """Runs a stage in a process of its own; returns what it was, its seconds and its peak memory, GiB."""
    command = [sys.executable, "-c", HEAD + body + TAIL, str(run)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(output.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description="Time and memory of meta-test and simulation on a trained run.")
    parser.add_argument("run", type=Path)
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/stages.json")
    options = parser.parse_args()
    results = [measure(body, options.run) for body in (META_TEST, NENGO_DL)]
    table = Table("stage", "s", "peak memory, GiB")
    for result in results:
        table.add_row(str(result["what"]), f"{result['seconds']:.1f}", f"{result['peak_gb']:.2f}")
    console = Console()
    console.print(table)
    console.print(machine.describe())
    if options.save:
        console.print(machine.save("stages", {"command": "python -m benchmarks.stages RUN --save", "stages": results}))


if __name__ == "__main__":
    main()
