"""The range of a ratio against a dense grid and against linear programming."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from converters.energy import DEVICES, Bill, Range, bill, chip, count, estimate, estimate_memory, integer, sensitivity
from converters.energy.devices import PRICES, constants
from converters.energy.sensitivity import ALL, CSV_COLUMNS, RANGES, csv_rows, usual
from snn_anml.errors import UserError
from tests.energy_helpers import anml_like, recording_of


@pytest.fixture(scope="module")
def networks():
    found = []
    for seed in (0, 1):
        rng = np.random.default_rng(seed)
        graph = anml_like(rng)
        found.append((graph, count(graph, recording_of(graph, 2, rng, density=0.2 + 0.3 * seed))))
    return found


@st.composite
def bills(draw):
    """Two energies of up to four constants; each lacks some."""
    n = draw(st.integers(1, 4))
    values = {f"device: {i}": draw(st.floats(0.1, 10)) for i in range(n)}
    parts = st.one_of(st.just(0.0), st.floats(0.01, 100))
    first, second = ({name: draw(parts) for name in values} for _ in range(2))
    second["device: 0"] = draw(st.floats(0.1, 10))
    return Bill("one", values, first), Bill("other", values, second)


@settings(max_examples=60, deadline=None)
@given(bills())
def test_extremes_are_those_of_linear_programming(pair):
    """A ratio of two lines over a box is a linear programme (Charnes, Cooper 1962): x = f t, b x = 1."""
    first, second = pair
    names = list(first.values)
    a, b = (np.array([one.joules[name] for name in names]) for one in pair)
    n = len(names)
    # Least and most of a.x with b.x = 1, t / 2 <= x <= 2 t.
    bounds = np.block([[np.eye(n), np.full((n, 1), -2.0)], [-np.eye(n), np.full((n, 1), 0.5)]])
    ends = []
    for sign in (1, -1):
        solved = linprog(sign * np.append(a, 0), bounds, np.zeros(2 * n), np.append(b, 0)[None], [1])
        ends.append(sign * solved.fun)
    result = sensitivity(first, second)
    assert (result.joint.low, result.joint.high) == pytest.approx(tuple(ends), rel=1e-6, abs=1e-9)
    assert result.ratio == pytest.approx(a.sum() / b.sum())


@settings(max_examples=40, deadline=None)
@given(bills())
def test_one_constant_alone_against_a_grid(pair):
    first, second = pair
    result = sensitivity(first, second)
    assert result.joint.constant == ALL
    for row in result.rows[:-1]:
        factors = np.geomspace(0.5, 2, 41)
        others = [sum(v for k, v in one.joules.items() if k != row.constant) for one in pair]
        ratios = (others[0] + factors * first.joules[row.constant]) / (
            others[1] + factors * second.joules[row.constant]
        )
        assert (row.low, row.high) == pytest.approx((ratios.min(), ratios.max()), rel=1e-9)
        assert result.joint.low <= row.low * (1 + 1e-12)
        assert result.joint.high >= row.high * (1 - 1e-12)


@pytest.mark.parametrize("device", [*DEVICES, "cmos45-int3-extrapolated"])
@pytest.mark.parametrize("convention", ["exact", "keras-spiking"])
def test_a_bill_adds_up_and_each_constant_moves_its_part(networks, device, convention):
    counts = networks[0][1]
    prices = integer(3) if device not in DEVICES else DEVICES[device]
    result = estimate(counts, prices, convention=convention)
    whole = bill(result)
    assert whole.total == pytest.approx(result.joules, rel=1e-12)
    assert all(value > 0 for value in whole.values.values())
    for name, parts in constants(prices).items():
        tripled = {price: getattr(prices, price) + 2 * part for price, part in parts.items()}
        moved = estimate(counts, replace(prices, **tripled), convention=convention).joules
        assert moved == pytest.approx(result.joules + 2 * whole.joules[f"{device}: {name}"], rel=1e-9)


def test_folded_gates_stay_folded(networks):
    counts = networks[0][1]
    result = estimate(counts, "loihi", fold_gates=True)
    assert result.joules < estimate(counts, "loihi").joules
    assert bill(result).total == pytest.approx(result.joules, rel=1e-12)


@pytest.mark.parametrize("curve", ["horowitz", "horowitz-dram", "qualia"])
@pytest.mark.parametrize("device", ["cmos45-int32", "cmos45-fp32"])
def test_a_bill_with_memory_traffic(networks, curve, device):
    graph, counts = networks[0]
    result = estimate_memory(graph, counts, curve=curve, device=device)
    whole = bill(result)
    assert whole.total == pytest.approx(result.joules, rel=1e-12)
    used = {name for name, joules in whole.joules.items() if joules}
    assert {f"{device}: add", f"{device}: multiply", "cmos45-int32: add"} <= used
    for i, (size, price) in enumerate(result.curve.constants.items()):
        energies = [e + (i == k) * price for k, e in enumerate(result.curve.energies)]
        if size != "beyond":
            doubled = estimate_memory(
                graph, counts, curve=replace(result.curve, energies=tuple(energies)), device=device
            )
            assert doubled.joules == pytest.approx(result.joules + whole.joules[f"{curve}: {size}"], rel=1e-9)


def test_the_same_network_on_the_same_device_has_a_ratio_of_one_whatever_it_costs(networks):
    graph, counts = networks[0]
    for result in (estimate(counts, "loihi"), estimate_memory(graph, counts)):
        found = sensitivity(bill(result), bill(result))
        assert len(found.rows) > 2
        for row in found.rows:
            assert (row.low, row.high) == pytest.approx((1, 1), rel=1e-12)


def test_published_ranges_and_rows(networks):
    (_, counts), (_, others) = networks
    result = sensitivity(bill(estimate(counts, "loihi")), bill(estimate(others, "arm")))
    rows = csv_rows(result, "spiking", "int8", "twin", "float32")
    assert all(tuple(row) == CSV_COLUMNS for row in rows)
    by_name = {row["constant"]: row for row in rows}
    assert set(by_name) == {"loihi: synaptic operation", "loihi: neuron update", "arm: operation", ALL}
    assert by_name["loihi: synaptic operation"]["low"] == pytest.approx(23.6e-12)
    assert by_name["loihi: neuron update"]["low"] == pytest.approx(52e-12)
    assert by_name["loihi: neuron update"]["high"] == pytest.approx(162e-12)
    assert by_name["arm: operation"]["ratio_low"] == pytest.approx(result.ratio / 2)
    assert (by_name[ALL]["low"], by_name[ALL]["high"]) == ("", "")
    dram = RANGES["horowitz-dram: beyond"]
    assert (dram.low, dram.high) == pytest.approx((1.3e-9, 2.6e-9))
    # Extrapolated prices are at most the published ones of 8 bits.
    assert RANGES["cmos45-int3-extrapolated: multiply"].high == DEVICES["cmos45-int8"].gate_multiply
    mine = {"arm: operation": Range(1e-12, 2e-12, "a data sheet")}
    row = next(
        r
        for r in sensitivity(bill(estimate(counts, "loihi")), bill(estimate(others, "arm")), mine).rows
        if r.range == mine["arm: operation"]
    )
    assert row.low == pytest.approx(result.ratio * 0.9e-9 / 2e-12)


def test_a_device_by_hand_has_a_constant_for_every_price(networks):
    mine = chip("mine", "my chip", 1e-12, 2e-12, spiking=True, source="a data sheet", leaves_out="all else")
    assert set(constants(mine)) == {"synaptic operation", "neuron update"}
    odd = replace(mine, bias_add=5e-13)
    assert {name.replace(" ", "_") for name in constants(odd)} == set(PRICES)
    assert bill(estimate(networks[0][1], odd)).total == pytest.approx(estimate(networks[0][1], odd).joules, rel=1e-12)


def test_mistakes_are_named(networks):
    counts = networks[0][1]
    loihi = bill(estimate(counts, "loihi"))
    other = bill(estimate(counts, replace(DEVICES["loihi"], neuron_update=1e-12)))
    with pytest.raises(UserError, match="'loihi: neuron update' has two values"):
        sensitivity(loihi, other)
    nothing = Bill("nothing", {}, {})
    with pytest.raises(UserError, match="no ratio exists"):
        sensitivity(loihi, nothing)
    assert usual(4.0) == Range(2.0, 8.0, "a factor of 2 either way")
