"""Memory traffic against loops over every spike and connection, and against the article's formulas by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from converters.energy import CURVES, MemoryCurve, count, estimate_memory, memory
from converters.energy.memory import access_energy
from converters.energy.traffic import MEMORIES, OPERATIONS, traffic
from converters.graph import (
    LIF,
    Activation,
    Affine,
    AvgPool2d,
    Conv2d,
    Gate,
    Graph,
    Input,
    Integrator,
    MaxPool2d,
    Quantize,
    Readout,
)
from snn_anml.errors import UserError
from tests.energy_helpers import anml_like, connections_by_loops, lif, normal, recording_of, scalar

PICO = 1e-12


def only(found):
    """Counts that are not zero, as numbers."""
    return {name: float(times) for name, times in found.items() if times}


def rows_of(graph, recording, accounting="exact"):
    return {row.layer: row for row in traffic(graph, count(graph, recording), accounting)}


def operations(row):
    return only({name: getattr(row, name) for name in OPERATIONS})


def spiking_layer(layer, shape, steps, reader="lif"):
    """Spikes, a layer, neurons."""
    end = lif("end", "layer") if reader == "lif" else Integrator("end", ("layer",), scalar(0.9))
    return Graph((Input("input", (), shape, "rate"), layer, end, Readout("y", ("end",))), steps)


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


def test_lemaire_of_a_spiking_conv_by_hand():
    """5 spikes in, 3 out; 4 outputs of 3x3, k = 3, s = 2, 3 steps: n = 4 x 3 x 3 = 36."""
    conv = Conv2d("layer", ("input",), np.ones((4, 2, 3, 3), np.float32), np.ones(4, np.float32), (2, 2), (1, 1))
    graph = spiking_layer(conv, (2, 6, 6), 3)
    recording = recording_of(graph, 1, np.random.default_rng(0), density=0.0)
    recording.values["input"][0, [0, 0, 1, 2, 2], [0, 7, 40, 3, 71]] = 1
    recording.spikes["end"][0, [0, 1, 1], [5, 6, 7]] = True
    rows = rows_of(graph, recording, "lemaire")
    layer, end = rows["layer"], rows["end"]
    assert only(layer.reads) == {"inputs": 5, "weights": 5 * 4 * 9, "biases": 3 * 36, "potentials": 5 * 4 * 9}
    assert only(layer.writes) == {"potentials": 180}
    assert operations(layer) == {
        "accumulates": 5 * 2 * 2 * 4 + 3 * 36,
        "address_macs": 2 * 5,
        "address_accumulates": 180,
    }
    assert layer.words == {"inputs": 72, "weights": 72, "biases": 4, "potentials": 36}
    assert only(end.reads) == {"potentials": 3 * 36}
    assert only(end.writes) == {"potentials": 3 * 36, "outputs": 3}
    assert operations(end) == {"macs": 3 * 36, "accumulates": 3}
    # Along an axis an even pixel is in one window, an odd one in two (the last in one): 1 + 4 + 1 + 2 + 1 for 5 x 9.
    assert rows_of(graph, recording)["layer"].reads["weights"] == 4 * 9


def test_lemaire_of_a_spiking_linear_layer_by_hand():
    affine = Affine("layer", ("input",), np.ones((4, 6), np.float32), np.zeros(4, np.float32))
    graph = spiking_layer(affine, (6,), 3)
    recording = recording_of(graph, 1, np.random.default_rng(0), density=0.0)
    recording.values["input"][0, [0, 1], [0, 5]] = 1
    rows = rows_of(graph, recording, "lemaire")
    # No biases: none are read, but their additions stay.
    assert only(rows["layer"].reads) == {"inputs": 2, "weights": 8, "potentials": 8}
    assert operations(rows["layer"]) == {"accumulates": 8 + 12, "address_accumulates": 8}
    assert operations(rows_of(graph, recording)["layer"]) == {"accumulates": 8, "address_accumulates": 8}


def twin(pool=None):
    """Formal layers: conv, relu, (pool,) linear."""
    pooled = [pool] if pool else []
    last = pool.name if pool else "relu"
    n = 2 * (1 if pool else 4)
    nodes = (
        Input("input", (), (1, 4, 4)),
        Conv2d("conv", ("input",), np.ones((2, 1, 3, 3), np.float32), np.ones(2, np.float32), (2, 2), (1, 1)),
        Activation("relu", ("conv",), "relu"),
        *pooled,
        Affine("fc", (last,), np.ones((3, n), np.float32), np.ones(3, np.float32)),
        Readout("y", ("fc",)),
    )
    graph = Graph(nodes, 1)
    return graph, recording_of(graph, 2, np.random.default_rng(0))


def test_formal_layers_by_hand():
    """conv: n = 2 x 2 x 2 = 8, k = 3, s = 2, padding 1: 72 taps, of which 22 fall on padding."""
    graph, recording = twin()
    taps = {"lemaire": 72, "exact": count(graph, recording)["conv"].connections}
    assert taps["exact"] == 2 * (2 * 2 + 2 * 3 + 3 * 2 + 3 * 3)
    for accounting, conv in taps.items():
        rows = rows_of(graph, recording, accounting)
        assert only(rows["conv"].reads) == {"inputs": conv, "weights": conv, "biases": 8}
        assert only(rows["conv"].writes) == {}  # handed on to the relu
        assert operations(rows["conv"]) == {
            "macs": conv,
            "accumulates": 8,
            "address_accumulates": 16 + 8 + 2 * 9,
        }
        assert operations(rows["relu"]) == ({} if accounting == "lemaire" else {"macs": 8})
        assert (only(rows["relu"].reads), only(rows["relu"].writes)) == ({}, {"outputs": 8})
        assert only(rows["fc"].reads) == {"inputs": 8, "weights": 24, "biases": 3}
        assert only(rows["fc"].writes) == {"outputs": 3}
        assert operations(rows["fc"]) == {"macs": 24, "accumulates": 3, "address_accumulates": 24}
        assert rows["fc"].words == {"inputs": 8, "weights": 24, "biases": 3, "outputs": 3}


def test_pools_of_values():
    graph, recording = twin(AvgPool2d("pool", ("relu",), (2, 2), (2, 2)))
    row = rows_of(graph, recording)["pool"]
    assert (only(row.reads), only(row.writes)) == ({"inputs": 8}, {"outputs": 2})
    assert operations(row) == {"accumulates": 8, "address_accumulates": 8 + 2}
    graph, recording = twin(MaxPool2d("pool", ("relu",), (2, 2), (2, 2)))
    rows = rows_of(graph, recording)
    assert operations(rows["pool"]) == only(rows["relu"].writes) == {}
    assert only(rows["pool"].writes) == {"outputs": 2}


@pytest.mark.parametrize("kernel", ["inner", "linear"])
def test_both_accountings_agree_where_there_is_neither_border_nor_stride(kernel):
    """Spikes away from the border, stride 1; and any spikes of a linear layer."""
    rng = np.random.default_rng(1)
    layer = (
        Conv2d("layer", ("input",), normal(rng, (3, 2, 3, 3)), normal(rng, (3,)), (1, 1), (1, 1))
        if kernel == "inner"
        else Affine("layer", ("input",), normal(rng, (3, 72)), normal(rng, (3,)))
    )
    graph = spiking_layer(layer, (2, 6, 6), 4)
    recording = recording_of(graph, 3, rng)
    if kernel == "inner":
        inside = np.zeros((2, 6, 6), bool)
        inside[:, 1:-1, 1:-1] = True
        recording.values["input"][:, :, ~inside.reshape(-1)] = 0
    exact, lemaire = (estimate_memory(graph, count(graph, recording), accounting=a) for a in ("exact", "lemaire"))
    assert exact.joules == lemaire.joules > 0
    for mine, theirs in zip(exact.traffic, lemaire.traffic, strict=True):
        assert (mine.reads, mine.writes, operations(mine)) == (theirs.reads, theirs.writes, operations(theirs))


def test_a_static_first_layer_gates_and_pools():
    """`anml_like`: 4 steps, a static NM network and first conv, a pool of spikes, a gate with one value a channel."""
    rng = np.random.default_rng(2)
    graph = anml_like(rng)
    recording = recording_of(graph, 1, rng)
    counts = count(graph, recording)
    for accounting in ("exact", "lemaire"):
        rows = {row.layer: row for row in traffic(graph, counts, accounting)}
        first = rows["pln.conv1"]
        taps = counts["pln.conv1"].connections if accounting == "exact" else 3 * 42 * 18
        assert only(first.reads) == {"inputs": taps, "weights": taps, "biases": 126}
        assert only(first.writes) == {"outputs": 126}  # once, and read at each of 4 steps:
        assert only(rows["pln.lif1"].reads) == {"potentials": 4 * 126, "currents": 4 * 126}
        spikes = recording.spikes["pln.lif1"].sum()
        assert only(rows["pln.lif1"].writes) == {"potentials": 4 * 126, "outputs": spikes}
        # 3x3 windows over 7x6, as many additions as spikes in them: the last row meets no window.
        pooled = int(recording.spikes["pln.lif1"].reshape(4, 3, 7, 6)[:, :, :6].sum())
        pool = rows["pln.pool1"]
        assert only(pool.reads) == {"inputs": spikes, "currents": pooled + 4 * 27}
        assert only(pool.writes) == {"currents": pooled + 4 * 27}
        assert operations(pool) == {
            "accumulates": pooled,
            "address_macs": 2 * spikes,
            "address_accumulates": pooled,
        }
        # Fractions: a multiplication for every connection; a gate behind it: summed up as currents.
        conv, sums = rows["pln.conv2"], counts["pln.conv2"]
        touched = sums.event_connections[0] if accounting == "exact" else sums.input_events[0] * 12
        assert operations(conv)["macs"] == touched
        assert operations(conv)["accumulates"] == 4 * 12
        assert only(conv.reads)["currents"] == only(conv.writes)["currents"] == touched + 4 * 12
        gate = rows["pln.gated"]
        assert operations(gate) == {"multiplies": 4 * 12}
        assert (only(gate.reads), gate.words["gates"]) == ({"gates": 4 * 12}, 3)
        assert only(rows["nm.gate"].writes) == {"outputs": 3}
        assert operations(rows["nm.gate"]) == ({"macs": 3} if accounting == "exact" else {})
        assert only(rows["head.membrane"].reads) == {"potentials": 4 * 5}


def test_a_head_that_is_read_out_without_a_membrane():
    """Currents are read and cleared at each step; without biases they are summed up over all steps, and read once."""
    rng = np.random.default_rng(3)
    for bias, exact in ((0, 1), (1, 4)):
        affine = Affine("head", ("input",), normal(rng, (5, 6)), np.full(5, bias, np.float32))
        graph = Graph((Input("input", (), (6,), "rate"), affine, Readout("y", ("head",))), 4)
        recording = recording_of(graph, 1, rng)
        touched = 5 * int(recording.values["input"].sum())
        for accounting, passes in (("exact", exact), ("lemaire", 4)):
            row = rows_of(graph, recording, accounting)["head"]
            assert row.reads["currents"] == row.writes["currents"] == touched + passes * 5


def test_rounded_gates_that_change_and_currents_that_do_not():
    """A gate of every step on a static current: the current is read at each step, its product handed on."""
    rng = np.random.default_rng(4)
    graph = Graph(
        (
            Input("input", (), (6,)),
            Affine("fc", ("input",), normal(rng, (5, 6)), normal(rng, (5,))),
            LIF("nm.lif", ("fc",), np.full(5, 0.5, np.float32), np.ones(5, np.float32), "none"),
            Affine("nm.fc", ("nm.lif",), normal(rng, (5, 5)), normal(rng, (5,))),
            Activation("nm.gate", ("nm.fc",), "sigmoid"),
            Quantize("nm.levels", ("nm.gate",), 0.25, 4),
            Gate("gated", ("fc", "nm.levels")),
            LIF("end", ("gated",), scalar(1), scalar(1)),
            Readout("y", ("end",)),
        ),
        3,
    )
    rows = rows_of(graph, recording_of(graph, 1, rng))
    assert only(rows["gated"].reads) == {"gates": 15, "currents": 15}
    assert (only(rows["nm.gate"].writes), only(rows["nm.levels"].writes)) == ({}, {"outputs": 15})
    assert operations(rows["nm.levels"]) == {}
    # One beta and threshold a neuron are read at each step; without a reset no spike is subtracted.
    assert only(rows["nm.lif"].reads) == {"potentials": 15, "currents": 15, "weights": 30}
    assert operations(rows["nm.lif"]) == {"macs": 15}
    # No leak, and a product that comes in a register: nothing but resets.
    assert set(operations(rows["end"])) <= {"accumulates"}


def test_formal_layers_that_change_are_computed_at_every_step():
    rng = np.random.default_rng(5)
    graph = Graph(
        (
            Input("input", (), (6,), "rate"),
            Affine("first", ("input",), normal(rng, (5, 6)), normal(rng, (5,))),
            Activation("relu", ("first",), "relu"),
            Affine("second", ("relu",), normal(rng, (4, 5)), np.zeros(4, np.float32)),
            LIF("end", ("second",), scalar(1), scalar(1)),
            Readout("y", ("end",)),
        ),
        3,
    )
    rows = rows_of(graph, recording_of(graph, 1, rng))
    assert only(rows["relu"].writes) == {"outputs": 15}
    assert only(rows["second"].reads) == {"inputs": 15, "weights": 60}
    assert operations(rows["second"]) == {"macs": 60, "address_accumulates": 60}
    assert only(rows["second"].writes) == {}


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
    """The formal network above: operations times 0.1 and 3.1 pJ, accesses times their memory."""
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
