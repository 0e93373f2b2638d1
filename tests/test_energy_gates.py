"""What gates cost, and that gating the current leaves accumulates what they are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from converters.energy import count
from converters.graph import LIF, Activation, Affine, Gate, Graph, Input, Readout
from tests.energy_helpers import lif, normal, recording_of


def gated(gate_encoding="constant", current="spikes", reader=LIF, steps=5):
    """Twelve gated neurons; the gate comes from the input, the current from spikes or from the input."""
    rng = np.random.default_rng(4)
    nodes = [
        Input("input", (), (2, 3, 2), gate_encoding),
        Affine("nm.fc", ("input",), normal(rng, (12, 12)), normal(rng, (12,))),
        Activation("nm.gate", ("nm.fc",), "sigmoid"),
        lif("pln.lif1", "input"),
        Affine(
            "pln.fc",
            ("pln.lif1" if current == "spikes" else "input",),
            normal(rng, (12, 12)),
            normal(rng, (12,)),
        ),
        Gate("pln.gated", ("pln.fc", "nm.gate")),
        lif("pln.out", "pln.gated") if reader is LIF else Activation("pln.out", ("pln.gated",), "relu"),
        Readout("output", ("pln.out",)),
    ]
    graph = Graph(tuple(nodes), steps)
    return graph, recording_of(graph, 2, rng)


@pytest.mark.parametrize(
    ("case", "multiplies", "folded"),
    [
        ({}, 60, 12),  # static gate, current that changes: folded into thresholds
        ({"current": "input"}, 12, 12),  # the product never changes
        ({"gate_encoding": "rate"}, 60, 60),  # a gate that changes cannot be folded
        ({"reader": Activation}, 60, 60),  # no threshold to fold into
    ],
)
def test_gate_multiplies(case, multiplies, folded):
    row = count(*gated(**case))["pln.gated"]
    assert row.gate_multiplies.tolist() == [multiplies] * 2
    assert row.gate_multiplies_folded.tolist() == [folded] * 2


def test_a_negative_gate_does_not_fold():
    graph, recording = gated()
    values = {**recording.values, "nm.gate": -recording.values["nm.gate"]}
    assert (values["nm.gate"] < 0).any()
    row = count(graph, replace(recording, values=values))["pln.gated"]
    assert row.gate_multiplies_folded.tolist() == [60, 60]


def test_gating_the_current_leaves_accumulates():
    counts = count(*gated())
    assert counts["pln.fc"].effective_acs.sum() > 0
    assert counts["pln.fc"].effective_macs.sum() == 0
