"""Prices against the published tables, and joules against sums by hand."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import numpy as np
import pytest

from converters.energy import (
    CSV_COLUMNS,
    DEVICES,
    Device,
    arithmetic,
    chip,
    count,
    csv_rows,
    devices,
    estimate,
    integer,
    register,
)
from converters.energy.table import PER_SAMPLE
from converters.graph import Activation, Affine, Conv2d, Graph, Input, Readout
from converters.recording import Recording
from snn_anml.errors import UserError
from tests.energy_helpers import anml_like, lif, normal, recording_of

# Per device: spiking; accumulate, multiply-accumulate, gate multiply, neuron update, addition, bias, in J.
TABLE = {
    "cpu": (False, 8.6e-9, 8.6e-9, 8.6e-9, 8.6e-9, 8.6e-9, 0),
    "gpu": (False, 0.3e-9, 0.3e-9, 0.3e-9, 0.3e-9, 0.3e-9, 0),
    "arm": (False, 0.9e-9, 0.9e-9, 0.9e-9, 0.9e-9, 0.9e-9, 0),
    "loihi": (True, 27.1e-12, 27.1e-12, 27.1e-12, 81e-12, 27.1e-12, 0),
    "spinnaker": (True, 13.3e-9, 13.3e-9, 13.3e-9, 26e-9, 13.3e-9, 0),
    "spinnaker2": (True, 450e-12, 450e-12, 450e-12, 2.19e-9, 450e-12, 0),
    "cmos45-fp32": (True, 0.9e-12, 4.6e-12, 3.7e-12, 4.6e-12, 0.9e-12, 0.9e-12),
    "cmos45-int8": (True, 0.03e-12, 0.23e-12, 0.2e-12, 0.23e-12, 0.03e-12, 0.03e-12),
    "cmos45-int32": (True, 0.1e-12, 3.2e-12, 3.1e-12, 3.2e-12, 0.1e-12, 0.1e-12),
}
PRICES = ("accumulate", "multiply_accumulate", "gate_multiply", "neuron_update", "add", "bias_add")


@pytest.fixture
def counts():
    rng = np.random.default_rng(0)
    graph = anml_like(rng)
    return count(graph, recording_of(graph, 3, rng))


@pytest.fixture
def registry(monkeypatch):
    monkeypatch.setattr(devices, "DEVICES", dict(DEVICES))


def test_prices_are_the_published_ones():
    assert set(DEVICES) == set(TABLE)
    for name, (spiking, *prices) in TABLE.items():
        device = DEVICES[name]
        assert device.name == name
        assert device.spiking is spiking
        np.testing.assert_allclose([getattr(device, price) for price in PRICES], prices, rtol=1e-12)


@pytest.mark.parametrize("name", TABLE)
def test_joules_by_hand(counts, name):
    """Totals of every count times its price."""
    spiking, ac, mac, multiply, update, add, bias = TABLE[name]
    n = {
        key: counts.per_sample(key).sum() / 3
        for key in PER_SAMPLE
        if key not in ("input_events", "gate_multiplies_folded", "spikes")
    }
    assert min(n.values()) > 0
    if spiking:
        synapses = ac * n["effective_acs"] + mac * n["effective_macs"] + add * n["pool_adds"]
    else:
        synapses = mac * n["dense"] + add * n["dense_pool_adds"]
    neurons = update * n["neuron_updates"] + bias * n["bias_adds"]
    result = estimate(counts, name)
    assert result.breakdown() == pytest.approx(
        {"synapses": synapses, "neurons": neurons, "gates": multiply * n["gate_multiplies"]}, rel=1e-9
    )
    assert result.joules == pytest.approx(sum(result.breakdown().values()), rel=1e-12)
    assert result.joules == pytest.approx(sum(result.by_part().values()), rel=1e-12)
    assert set(result.by_part()) == {"nm", "pln", "head"}
    assert estimate(counts.of_part("nm"), name).joules == pytest.approx(result.by_part()["nm"], rel=1e-12)


def test_folded_gates_cost_once(counts):
    open_, folded = (estimate(counts, "loihi", fold_gates=fold).breakdown()["gates"] for fold in (False, True))
    assert open_ == pytest.approx(27.1e-12 * 12 * 4)
    assert folded == pytest.approx(27.1e-12 * 12)


def test_the_conventional_twin_follows_the_same_rules():
    """The same weights once as a spiking layer over T steps, once as a relu layer evaluated once."""
    rng, steps = np.random.default_rng(1), 6
    weights = normal(rng, (4, 10)), np.zeros(4, np.float32)
    x = np.abs(normal(rng, (2, 1, 10), 0.5))
    spiking = Graph(
        (
            Input("input", (), (10,), "spikes"),
            Affine("fc", ("input",), *weights),
            lif("out", "fc"),
            Readout("y", ("out",)),
        ),
        steps,
    )
    trains = (rng.random((2, steps, 10)) < 0.3).astype(np.float32)
    spikes = {"out": rng.random((2, steps, 4)) < 0.3}
    twin = Graph(
        (
            Input("input", (), (10,)),
            Affine("fc", ("input",), *weights),
            Activation("out", ("fc",), "relu"),
            Readout("y", ("out",)),
        ),
        1,
    )
    output = np.zeros((2, 4), np.float32)
    snn = count(spiking, Recording("made up", output, spikes, {}, {"input": trains}))
    ann = count(twin, Recording("made up", output, {}, {}, {"input": x}))
    # Every weight is not zero, so an event costs its four connections.
    events, active = np.count_nonzero(trains) / 2, np.count_nonzero(x) / 2
    assert estimate(snn, "cmos45-fp32").joules == pytest.approx(0.9e-12 * 4 * events + 4.6e-12 * 4 * steps)
    assert estimate(ann, "cmos45-fp32").joules == pytest.approx(4.6e-12 * 4 * active + 4.6e-12 * 4)
    assert estimate(snn, "gpu").joules == pytest.approx(0.3e-9 * (40 + 4) * steps)
    assert estimate(ann, "gpu").joules == pytest.approx(0.3e-9 * (40 + 4))


def test_zero_weights_are_free_on_spiking_devices_only():
    rng = np.random.default_rng(2)

    def joules(weight, device):
        conv = Conv2d("conv", ("input",), weight, np.zeros(2, np.float32))
        graph = Graph((Input("input", (), (1, 4, 4)), conv, Readout("y", ("conv",))), 3)
        return estimate(count(graph, recording_of(graph, 2, np.random.default_rng(3))), device).joules

    full = normal(rng, (2, 1, 3, 3))
    assert joules(full, "loihi") > 0
    assert joules(0 * full, "loihi") == 0
    assert joules(0 * full, "cpu") == joules(full, "cpu") == pytest.approx(8.6e-9 * 2 * 9 * 4)


def test_every_device_says_its_source_and_what_it_leaves_out(counts):
    for name, device in DEVICES.items():
        text = str(estimate(counts, name))
        assert device.source in text
        assert device.leaves_out in text
        assert f"on {name} (" in text
    assert "gates" in estimate(counts, "loihi", convention="keras-spiking").leaves_out


def test_csv_rows_hold_what_was_counted(counts):
    result = estimate(counts, "spinnaker2")
    rows = csv_rows(result, "snn")
    file = io.StringIO()
    writer = csv.DictWriter(file, CSV_COLUMNS)
    writer.writeheader()
    writer.writerows(rows)
    read = list(csv.DictReader(io.StringIO(file.getvalue())))
    assert [row["layer"] for row in read] == [row.layer for row in counts.layers]
    assert {row["source"] for row in read} == {result.source}
    assert {(row["network"], row["device"], row["convention"]) for row in read} == {("snn", "spinnaker2", "exact")}
    assert sum(float(row["joules"]) for row in read) == pytest.approx(result.joules, rel=1e-12)
    assert sum(float(row["dense"]) for row in read) == float(counts.mean("dense"))


def test_a_user_adds_a_device(counts, registry):
    mine = arithmetic("mine", "my chip", 1e-12, 2e-12, source="a data sheet", leaves_out="all else")
    register(mine)
    assert estimate(counts, "mine").joules == estimate(counts, mine).joules > 0
    double = replace(mine, name="double", **{price: 2 * getattr(mine, price) for price in PRICES})
    assert estimate(counts, double).joules == pytest.approx(2 * estimate(counts, mine).joules)
    with pytest.raises(UserError, match="'mine' is registered already"):
        register(mine)


def test_integers_of_few_bits_are_extrapolated_and_say_so(counts):
    assert integer(8) is DEVICES["cmos45-int8"]
    assert integer(32) is DEVICES["cmos45-int32"]
    joules = estimate(counts, "cmos45-int8").joules
    for bits in range(7, 0, -1):
        device = integer(bits)
        assert device.name not in DEVICES
        assert device.add == pytest.approx(0.03e-12 * bits / 8)
        assert device.gate_multiply == pytest.approx(0.2e-12 * bits * bits / 64)
        assert device.multiply_accumulate == pytest.approx(device.add + device.gate_multiply)
        assert all("extrapolated" in text for text in (device.name, device.description, device.source))
        assert "cmos45-int8 is the upper bound" in device.leaves_out
        assert estimate(counts, device).joules < joules
        joules = estimate(counts, device).joules
    for bits in (0, 9, 16, 31, 64):
        with pytest.raises(UserError, match=f"integers of {bits} bits"):
            integer(bits)


def test_the_extrapolation_meets_the_published_32_bits():
    """Adders linear, multipliers quadratic in bits: 8 bits give 32 to a fifth and to a twentieth."""
    eight, wide = DEVICES["cmos45-int8"], DEVICES["cmos45-int32"]
    assert eight.add * 4 == pytest.approx(wide.add, rel=0.2 + 1e-9)
    assert eight.gate_multiply * 16 == pytest.approx(wide.gate_multiply, rel=0.05)


def test_mistakes_are_named(counts):
    with pytest.raises(UserError, match=r"Unknown device 'lohi'; known are cpu, gpu, arm, loihi"):
        estimate(counts, "lohi")
    with pytest.raises(UserError, match="Unknown convention 'nengo'; known are exact, keras-spiking"):
        estimate(counts, "loihi", convention="nengo")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="no gates to fold"):
        estimate(counts, "loihi", convention="keras-spiking", fold_gates=True)
    for bad in (-1e-12, float("nan"), float("inf")):
        with pytest.raises(UserError, match="neuron_update = "):
            chip("mine", "", 1e-12, bad, spiking=True, source="a data sheet", leaves_out="all else")
    with pytest.raises(UserError, match="needs a source"):
        chip("mine", "", 1e-12, 1e-12, spiking=True, source="", leaves_out="all else")


def test_devices_are_frozen():
    assert isinstance(DEVICES["loihi"], Device)
    with pytest.raises(AttributeError):
        DEVICES["loihi"].accumulate = 0.0  # type: ignore[misc]
