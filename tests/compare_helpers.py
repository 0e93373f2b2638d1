"""A comparison small enough to run many times: one spiking network and its twin."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest

DEVICE = {
    "description": "a chip of my own",
    "kind": "chip",
    "spiking": True,
    "accumulate": 1e-12,
    "multiply_accumulate": 2e-12,
    "gate_multiply": 2e-12,
    "neuron_update": 5e-12,
    "add": 1e-12,
    "bias_add": 1e-12,
    "source": "data sheet",
    "leaves_out": "static power",
}
SETTINGS: dict[str, Any] = {
    "data": {"name": "glyphs", "size": 14, "glyph_classes": 60, "meta_test_classes": 10, "selection_classes": 4},
    "network": {"widths": [6, 8], "nm_widths": [4, 4], "steps": 3, "gate": "hard_sigmoid", "threshold": 0.5},
    "train": {"warm_steps": 20, "warm_batch": 8, "meta_steps": 20, "log_every": 5, "checkpoint_every": 8},
    "meta": {"classes": 4, "shots": 2},
    "meta_test": {
        "milestones": [2, 5, 10],
        "heads": ["sgd", "class-mean"],
        "protocols": ["strict"],
        "draws": 2,
        "selection_draws": 1,
    },
    "export": {"samples": 12, "classes": 5, "backends": ["interpreter"]},
}

COMPARISON: dict[str, Any] = {
    "title": "A small comparison",
    "seeds": [0],
    "reference": "twin",
    "settings": SETTINGS,
    "arms": {
        "spiking": {"title": "spiking, conventional NM"},
        "twin": {"title": "conventional twin", "settings": {"network": {"neuron": "relu"}}},
    },
}


def without_report(patch: pytest.MonkeyPatch) -> None:
    """Stands in for the report, whose tests are elsewhere, and which would take most of the time."""
    page = ModuleType("experiments.compare.page")
    page.write_comparison = lambda folder: folder.report  # pyright: ignore[reportAttributeAccessIssue]
    patch.setitem(sys.modules, page.__name__, page)
