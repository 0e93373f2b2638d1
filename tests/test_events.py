"""Events against plain loops: as trains, from files, binned in time."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import array_shapes, arrays

from converters import (
    EVENT,
    binned,
    events_of,
    spikes_of,
)
from snn_anml.errors import UserError


def events(*rows):
    return np.array(list(rows), EVENT)


TRAINS = arrays(bool, array_shapes(min_dims=2, max_dims=5, max_side=5))


@given(spikes=TRAINS, kind=st.sampled_from([bool, np.uint8, np.float32]), seed=st.integers(0, 99))
def test_trains_and_events_are_the_same_spikes(spikes, kind, seed):
    samples, steps, *shape = spikes.shape
    found = events_of(spikes.astype(kind))
    flat = spikes.reshape(samples, steps, -1)
    assert found.dtype == EVENT
    assert found.tolist() == [
        (b, t, n) for b in range(samples) for t in range(steps) for n in range(flat.shape[2]) if flat[b, t, n]
    ]
    mixed = np.random.default_rng(seed).permutation(found)
    for some in (found, mixed):
        back = spikes_of(some, samples, steps, tuple(shape))
        assert back.dtype == np.float32
        np.testing.assert_array_equal(back, spikes)


def test_files_of_numpy_keep_events(tmp_path):
    found = events_of(np.random.default_rng(0).random((2, 3, 4)) < 0.5)
    np.save(tmp_path / "events.npy", found)
    read = np.load(tmp_path / "events.npy", allow_pickle=False)
    assert read.dtype == EVENT
    np.testing.assert_array_equal(read, found)


@given(
    raw=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 40), st.integers(0, 3)), max_size=30),
    dt=st.sampled_from([0.25, 1.0, 4.0]),
    steps=st.integers(1, 12),
    whole=st.booleans(),
)
def test_binned_drops_what_is_late_and_what_finds_its_slot_taken(raw, dt, steps, whole):
    """Times are quarters of a second, so that a plain loop over integers says the step."""
    sample, quarters, address = (np.array([r[i] for r in raw], np.int64) for i in range(3))
    kept, late, taken = set(), 0, 0
    for b, q, n in raw:
        step = q // int(4 * dt)
        slot = (b, step, n)
        late += step >= steps
        taken += step < steps and slot in kept
        kept |= {slot} if step < steps else set()
    # The same in another unit: quarters and 4 dt.
    found = (
        binned(quarters, address, int(4 * dt), steps, sample)
        if whole
        else binned(quarters / 4, address, dt, steps, sample)
    )
    assert found.events.tolist() == sorted(kept)
    assert (found.late, found.taken) == (late, taken)
    if raw:
        spikes_of(found.events, 3, steps, (4,))


MICROSECONDS = {1e-3: (1e-6, 1000), 1e-4: (1e-6, 100), 2.5e-4: (1e-6, 250), 1.0: (1e-3, 1000)}  # unit, units a step


@pytest.mark.parametrize("kind", [np.float64, np.float32])
@pytest.mark.parametrize("dt", MICROSECONDS)
def test_times_on_the_grid_come_back(dt, kind):
    """However a grid time was made, it is in the step it begins; a hundredth of a step before and behind stay."""
    k = np.arange(1000)
    unit, units = MICROSECONDS[dt]
    grids = (k * units * unit, k * units / round(1 / unit), k * dt)
    if dt == 1e-3:
        assert any((np.floor(grid.astype(kind) / dt) != k).any() for grid in grids)  # floor alone would not do
    for grid in grids:
        for length in (dt, kind(dt)):
            found = binned(grid.astype(kind), np.zeros(1000, int), length, 1000)
            assert (found.events["time"].tolist(), found.late, found.taken) == (k.tolist(), 0, 0)
        for shift, step in ((-0.01, k[1:] - 1), (0.01, k[1:])):
            found = binned((grid[1:] + shift * dt).astype(kind), k[1:], dt, 1000)
            assert found.events["time"].tolist() == step.tolist()


def test_half_precision_and_times_that_no_step_counts():
    k = np.arange(1000)
    assert binned((k * 0.001).astype(np.float16), k, 0.001, 1000).events["time"].tolist() == k.tolist()
    assert binned(np.array([0, 999, 1000, 2999]), np.arange(4), 1000, 3).events["time"].tolist() == [0, 0, 1, 2]
    with np.errstate(over="ignore"):
        assert binned([1.0], [0], 1e-320, 3).late == 1


def test_binned_of_one_sample():
    found = binned([0.0011, 0.0004, 0.0019], np.array([3, 1, 2], np.uint16), dt=0.001, steps=2, sample=5)
    assert found.events.tolist() == [(5, 0, 1), (5, 1, 2), (5, 1, 3)]
    assert binned([], [], 0.001, 4).events.tolist() == []


WRONG = {
    "sample": (lambda: spikes_of(events((2, 0, 0)), 2, 3, (4,)), "sample 2, not in 0 to 1; say how many samples"),
    "time": (lambda: spikes_of(events((0, 0, 0), (0, 3, 0)), 2, 3, (4,)), "time 3, not in 0 to 2; simulate for longer"),
    "before": (lambda: spikes_of(events((0, -1, 0)), 2, 3, (4,)), "time -1, not in 0 to 2"),
    "address": (lambda: spikes_of(events((0, 0, 4)), 2, 3, (2, 2)), "address 4, not in 0 to 3; .* C order"),
    "twice": (
        lambda: spikes_of(events((1, 2, 3), (0, 0, 0), (1, 2, 3)), 2, 3, (4,)),
        "Two events have sample 1, time 2 and address 3",
    ),
    "dtype": (lambda: spikes_of(np.zeros((5, 3), np.int64), 2, 3, (4,)), r"Events are int64 of shape \(5, 3\)"),
    "fields": (
        lambda: spikes_of(np.zeros(5, [("time", np.int64), ("address", np.int64)]), 2, 3, (4,)),
        "must be a list of dtype converters.EVENT",
    ),
    "list": (lambda: spikes_of([(0, 0, 0)], 2, 3, (4,)), "Events are list"),
    "two dimensions": (lambda: spikes_of(np.zeros((2, 2), EVENT), 2, 3, (4,)), "of shape .2, 2."),
    "value": (lambda: events_of(np.array([[[0, 1], [0, 0.5]]])), r"there is 0.5 at \(0, 1, 1\)"),
    "nan": (lambda: events_of(np.array([[np.nan]])), r"there is nan at \(0, 0\)"),
    "axes": (lambda: events_of(np.zeros(4)), r"shape \(4,\)"),
    "shapes": (lambda: binned([0.0, 1.0], [0], 1.0, 3), r"shapes \(2,\), \(1,\) and \(\)"),
    "dt": (lambda: binned([0.0], [0], 0.0, 3), "dt = 0.0"),
    "negative time": (lambda: binned([0.0, -0.5], [0, 0], 1.0, 3), "at time -0.5"),
    "no time": (lambda: binned([np.nan], [0], 1.0, 3), "at time nan"),
    "address of floats": (lambda: binned([0.0], [0.5], 1.0, 3), r"address holds 0.5 \(float64\)"),
    "negative sample": (lambda: binned([0.0], [0], 1.0, 3, sample=-1), "sample holds -1"),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_mistakes_are_named(mistake):
    make, message = WRONG[mistake]
    with pytest.raises(UserError, match=message):
        make()
