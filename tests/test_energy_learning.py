"""Joules to learn a class, against sums by hand."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest

from converters.energy import DEVICES, count, estimate, integer
from converters.energy.head_counts import count as count_head
from converters.energy.learning import CSV_COLUMNS, csv_rows
from converters.energy.learning import estimate as estimate_learning
from converters.energy.memory import access_energy, estimate_memory
from snn_anml.errors import UserError
from snn_anml.meta.heads import HEADS
from tests.energy_helpers import anml_like, recording_of

F, OUTPUTS, SHOTS = 5, 3, 2
FEATURES = np.array([[[1, 0, 0, 0.5, 0], [0, 0, 0, 2, 1]]], np.float32)  # two of five active in both, three in either


@pytest.fixture
def network():
    rng = np.random.default_rng(0)
    graph = anml_like(rng)
    return graph, count(graph, recording_of(graph, 3, rng))


def head(name):
    return count_head(name, FEATURES, known=2, outputs=OUTPUTS)


def test_sgd_by_hand():
    """Two drawings, two active features in each, three outputs."""
    add, multiply, mac = 0.9e-12, 3.7e-12, 4.6e-12
    result = estimate_learning(head("sgd"), "cmos45-fp32")
    joules = {row.item: row.operations for row in result.items}
    logits, pairs = 3 * 2, 3 * 4
    assert joules == pytest.approx(
        {
            "forward": mac * pairs,
            "softmax": add * 2 * logits + mac * 10 * logits + mac * 5 * 2 + multiply * logits,
            "gradient": add * 2,
            "update": mac * pairs + (add + multiply) * logits,
        },
        rel=1e-12,
    )
    access = access_energy(4 * 3 * 6)
    accesses = {row.item: row.memory / access for row in result.items}
    assert accesses == pytest.approx({"forward": 18, "softmax": 0, "gradient": 0, "update": 36}, rel=1e-12)
    assert result.joules == pytest.approx(sum(joules.values()) + access * 54, rel=1e-12)


def test_a_chip_charges_every_operation_as_a_synaptic_one():
    """Roots and divisions of class `cosine` too; its writes cost nothing more."""
    result = estimate_learning(head("cosine"), "loihi")
    forward, update = result.items
    # |f|: 4 MACs, f / |f|: 4, w . x: 2 of the second drawing; a root and a division each.
    assert forward.operations == pytest.approx(27.1e-12 * (4 + 4 + 2 + 2 * (8 + 5)), rel=1e-12)
    # Three features of the row, by the second drawing alone.
    assert update.operations == pytest.approx(27.1e-12 * (3 * 3 + 3 + 8 + 5), rel=1e-12)
    assert result.joules == forward.operations + update.operations


def test_processors_skip_no_zero():
    dense = np.ones_like(FEATURES)
    for name in HEADS:
        full = count_head(name, dense, known=2, outputs=OUTPUTS)
        assert estimate_learning(head(name), "gpu").joules == estimate_learning(full, "gpu").joules
        assert estimate_learning(head(name), "loihi").joules < estimate_learning(full, "loihi").joules


def test_features_are_inferences_without_the_output_layer(network):
    graph, counts = network
    for device in ("loihi", "gpu", "cmos45-fp32"):
        parts = estimate(counts, device).by_part()
        alone = estimate_learning(head("adam"), device)
        whole = estimate_learning(head("adam"), device, inference=counts)
        assert parts["head"] > 0
        assert whole.items[0].item == "features"
        assert whole.items[0].joules == pytest.approx(SHOTS * (parts["nm"] + parts["pln"]), rel=1e-12)
        assert whole.items[1:] == alone.items
        with_traffic = estimate_learning(
            head("adam"), device, inference=counts, traffic=estimate_memory(graph, counts)
        ).items[0]
        assert with_traffic.operations == whole.items[0].operations
        layers = estimate_memory(graph, counts).layers
        accesses = sum(row.memory for row in layers if row.part != "head")
        expected = SHOTS * accesses if device == "cmos45-fp32" else 0
        assert with_traffic.memory == pytest.approx(expected, rel=1e-12)


def test_adam_costs_its_moments():
    """Every weight, active or not: a third of its memory is weights."""
    sgd, adam = (estimate_learning(head(name), "cmos45-int32") for name in ("sgd", "adam"))
    assert adam.counts.resident_bytes == 3 * sgd.counts.resident_bytes
    memory = {row.item: row.memory for row in adam.items}
    # Per drawing both moments of 18 weights are read and written, and the weights themselves.
    assert memory["state"] == pytest.approx(2 * memory["update"], rel=1e-12)
    assert memory["update"] == pytest.approx(access_energy(4 * 54) * 2 * 2 * 18, rel=1e-12)


@pytest.mark.parametrize("device", [name for name in DEVICES if name != "cmos45-int8"])
def test_csv_rows_hold_what_was_priced(network, device):
    results = [estimate_learning(head(name), device, inference=network[1]) for name in HEADS]
    file = io.StringIO()
    writer = csv.DictWriter(file, CSV_COLUMNS)
    writer.writeheader()
    for result in results:
        writer.writerows(csv_rows(result))
    read = list(csv.DictReader(io.StringIO(file.getvalue())))
    for result in results:
        rows = [row for row in read if row["head"] == result.counts.head]
        assert [row["item"] for row in rows] == ["features", *result.counts.effective]
        assert sum(float(row["joules"]) for row in rows) == pytest.approx(result.joules, rel=1e-12)
        assert {row["resident_bytes"] for row in rows} == {str(result.counts.resident_bytes)}
        assert {row["source"] for row in rows} == {result.source}
        assert rows[0]["macs"] == ""
        update = result.counts.dense if not DEVICES[device].spiking else result.counts.effective
        assert float(rows[-1]["write_bytes"]) == 4 * update["update"].writes


def test_what_is_left_out_is_said():
    assert "learning on the chip" in estimate_learning(head("sgd"), "loihi").leaves_out
    assert "learning on the chip" not in estimate_learning(head("sgd"), "cmos45-fp32").leaves_out
    assert DEVICES["loihi"].leaves_out in estimate_learning(head("sgd"), "loihi").leaves_out
    assert "SRAM" in estimate_learning(head("sgd"), "cmos45-fp32").source
    for bits in (8, 3):
        with pytest.raises(UserError, match=f"not priced on cmos45-int{bits}"):
            estimate_learning(head("sgd"), integer(bits))
    with pytest.raises(UserError, match="Unknown memory curve"):
        estimate_learning(head("sgd"), "loihi", curve="flash")
