"""Memory traffic against the article's formulas and small networks, counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from converters.energy import count, estimate_memory
from converters.energy.traffic import traffic
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
from tests.energy_helpers import anml_like, normal, recording_of, scalar
from tests.memory_helpers import only, operations, rows_of, spiking_layer, twin


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


def test_decays_of_a_filter_are_read_one_a_neuron_and_step():
    rng = np.random.default_rng(6)
    nodes = (
        Input("input", (), (6,), "rate"),
        Integrator("filter", ("input",), rng.random(6).astype(np.float32)),
        Readout("y", ("filter",)),
    )
    graph = Graph(nodes, 5)
    row = rows_of(graph, recording_of(graph, 1, rng))["filter"]
    assert (row.reads["weights"], row.words["weights"]) == (5 * 6, 6)


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
