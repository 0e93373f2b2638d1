"""Memory traffic against loops over every spike and connection, and what the accesses cost."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from converters.energy import CURVES, MemoryCurve, count, estimate_memory, memory
from converters.energy.memory import access_energy
from converters.energy.traffic import MEMORIES, OPERATIONS
from converters.graph import (
    LIF,
    Affine,
    AvgPool2d,
    Conv2d,
)
from snn_anml.errors import UserError
from tests.energy_helpers import anml_like, connections_by_loops, normal, recording_of
from tests.memory_helpers import rows_of, spiking_layer, twin

PICO = 1e-12


@st.composite
def spiking_layers(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    pair = st.tuples(st.integers(1, 3), st.integers(1, 3))
    groups, outputs = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    shape = (2 * groups, draw(st.integers(3, 5)), draw(st.integers(3, 5)))
    bias = normal(rng, (groups * outputs,), draw(st.sampled_from([0.0, 1.0])))
    kind = draw(st.sampled_from(["conv", "affine", "pool"]))
    if kind == "conv":
        kernel, padding = draw(pair), draw(st.tuples(st.integers(0, 2), st.integers(0, 2)))
        weight = normal(rng, (groups * outputs, 2, *kernel), 0.7)
        layer = Conv2d("layer", ("input",), weight, bias, draw(pair), padding, (1, 1), groups)
    elif kind == "affine":
        layer = Affine("layer", ("input",), normal(rng, (len(bias), int(np.prod(shape))), 0.7), bias)
    else:
        layer = AvgPool2d("layer", ("input",), draw(pair), draw(pair))
    return spiking_layer(layer, shape, draw(st.integers(1, 3)), draw(st.sampled_from(["lif", "integrator"]))), rng


@settings(max_examples=40, deadline=None)
@given(spiking_layers())
def test_exact_equals_loops_over_every_spike_and_connection(case):
    graph, rng = case
    recording = recording_of(graph, 1, rng)
    node, n, steps = graph["layer"], graph.size("layer"), graph.steps
    connections = connections_by_loops(node, graph.shapes["input"], graph.shapes["layer"])
    reads, writes = dict.fromkeys(MEMORIES, 0), dict.fromkeys(MEMORIES, 0)
    adds = address_macs = address_adds = leaks = 0
    synapse, spiking = isinstance(node, (Conv2d, Affine)), isinstance(graph["end"], LIF)
    for t in range(steps):
        for pixel in recording.source("input")[0, t]:  # is encoded
            reads["inputs"] += 1
            adds += 1
            writes["outputs"] += bool(pixel)
        for source in np.flatnonzero(recording.source("input")[0, t]):
            reads["inputs"] += 1
            address_macs += 0 if isinstance(node, Affine) else 2
            for i, _ in connections:
                if i == source:
                    reads["weights"] += synapse
                    reads["potentials"] += 1
                    writes["potentials"] += 1
                    adds += 1
                    address_adds += 1
        for neuron in range(n):
            reads["potentials"] += 1
            writes["potentials"] += 1
            leaks += 1
            if synapse and node.bias.any():
                reads["biases"] += 1
                adds += 1
            if spiking and recording.spikes["end"][0, t, neuron]:
                writes["outputs"] += 1
                adds += 1
    rows = rows_of(graph, recording)
    for found, expected in (("reads", reads), ("writes", writes)):
        parts = [getattr(row, found) for row in rows.values()]
        assert {name: sum(part.get(name, 0) for part in parts) for name in MEMORIES} == expected
    total = {name: sum(getattr(row, name) for row in rows.values()) for name in OPERATIONS}
    assert total == {
        "macs": leaks,
        "accumulates": adds,
        "multiplies": 0,
        "address_macs": address_macs,
        "address_accumulates": address_adds,
    }


def test_accesses_cost_what_is_published():
    for size, price in (
        (0, 0),
        (8192, 10),
        (32768, 20),
        (2**20, 100),
        (4096, 5),
        (20480, 15),
        (2 * 2**20 - 32768, 180),
    ):
        assert access_energy(size) == pytest.approx(price * PICO, rel=1e-12)
    for size in (0, 1000, 2**20, 2**22):
        assert access_energy(size, "qualia") == pytest.approx((1.09e-5 * 8 * size + 13.2) * PICO, rel=1e-12)
    dram = CURVES["horowitz-dram"]
    assert dram.access(2**20) == pytest.approx(100 * PICO)
    assert dram.access(2**20 + 1) == pytest.approx(1300 * PICO)


def test_joules_by_hand():
    """The formal network `twin`: operations times 0.1 and 3.1 pJ, accesses times their memory."""
    graph, recording = twin()
    result = estimate_memory(graph, count(graph, recording), curve="qualia")

    def e(words):
        return (1.09e-5 * 32 * words + 13.2) * PICO

    conv, relu, fc = result.layers
    taps = 50
    assert conv.arithmetic == pytest.approx((3.2 * taps + 0.1 * 8) * PICO)
    assert conv.addressing == pytest.approx(0.1 * 42 * PICO)
    assert conv.memory == pytest.approx(taps * e(16) + taps * e(18) + 8 * e(2))
    assert relu.joules == pytest.approx(3.2 * 8 * PICO + 8 * e(8))
    assert fc.memory == pytest.approx(8 * e(8) + 24 * e(24) + 3 * e(3) + 3 * e(3))
    assert result.joules == pytest.approx(sum(row.joules for row in result.layers), rel=1e-12)
    assert sum(result.breakdown().values()) == pytest.approx(result.joules, rel=1e-12)
    assert sum(result.by_memory().values()) == pytest.approx(result.breakdown()["memory"], rel=1e-12)
    assert sum(memory.access_shares(result).values()) == pytest.approx(result.breakdown()["memory"], rel=1e-12)
    for text in ("2210.13107", "Horowitz", "Leaves out"):
        assert text in str(result)


def test_few_bits_make_small_memories_and_cheap_arithmetic_but_not_cheap_addresses():
    rng = np.random.default_rng(6)
    graph = anml_like(rng)
    counts = count(graph, recording_of(graph, 2, rng))
    wide, narrow = (
        estimate_memory(graph, counts, bits=bits, device=device)
        for bits, device in ((32, "cmos45-int32"), (8, "cmos45-int8"))
    )
    # All memories are below 8 kB, where an access costs in proportion to the size.
    assert narrow.breakdown()["memory"] == pytest.approx(wide.breakdown()["memory"] / 4)
    assert narrow.breakdown()["addressing"] == wide.breakdown()["addressing"]
    assert narrow.breakdown()["arithmetic"] < wide.breakdown()["arithmetic"] / 3


def test_csv_rows_hold_what_was_counted():
    rng = np.random.default_rng(7)
    graph = anml_like(rng)
    counts = count(graph, recording_of(graph, 2, rng))
    result = estimate_memory(graph, counts)
    rows = memory.csv_rows(result, "snn")
    assert [row["layer"] for row in rows] == [row.layer for row in counts.layers]
    assert all(tuple(row) == memory.CSV_COLUMNS for row in rows)
    assert sum(row["joules"] for row in rows) == pytest.approx(result.joules, rel=1e-12)
    assert result.by_part().keys() == {"nm", "pln", "head"}
    for row in rows:
        assert row["reads"] + row["writes"] == sum(row[f"accesses_{name}"] for name in MEMORIES)
    assert next(row for row in rows if row["layer"] == "head")["bytes_weights"] == 4 * 60


def test_mistakes_are_named():
    rng = np.random.default_rng(8)
    graph = anml_like(rng)
    counts = count(graph, recording_of(graph, 1, rng))
    with pytest.raises(UserError, match="Unknown accounting 'neurobench'; known are lemaire, exact"):
        estimate_memory(graph, counts, accounting="neurobench")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="Unknown memory curve 'sram'; known are horowitz"):
        estimate_memory(graph, counts, curve="sram")
    with pytest.raises(UserError, match="The prices of 'loihi' contain its memory"):
        estimate_memory(graph, counts, device="loihi")
    with pytest.raises(UserError, match="bits = 0"):
        estimate_memory(graph, counts, bits=0)
    with pytest.raises(UserError, match="not of this graph"):
        estimate_memory(graph, replace(counts, steps=9))
    with pytest.raises(UserError, match="sizes that rise from 0"):
        MemoryCurve("mine", (1, 2), (1e-12, 2e-12), "a data sheet")
    with pytest.raises(UserError, match="finite and at least 0"):
        MemoryCurve("mine", (0, 2), (1e-12, -2e-12), "a data sheet")
