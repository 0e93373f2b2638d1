"""The machine that a benchmark ran on, in one line, and results as a JSON file beside the others."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import Any

import torch

from experiments.run_folder import versions

RESULTS = Path(__file__).parent / "results"


def describe() -> dict[str, Any]:
    """Processor, cores, threads in use, accelerator and versions."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        model = names[0] if names else model
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": f"{platform.system()} {platform.release()}",
        "versions": versions(),
    }


def save(name: str, results: dict[str, Any]) -> Path:
    """Writes results with the machine's description to benchmarks/results/NAME.json."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"machine": describe(), **results}, indent=2) + "\n")
    return path
