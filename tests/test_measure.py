"""Measured joules, by meters and a clock that are made up; and that a machine without a meter gives no number."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError

import pytest
import torch
from scipy import stats

import experiments.measure as module
from experiments.measure import CSV_COLUMNS, NO_METER, Clock, Measurement, measure, measure_inference
from experiments.meters import RAPL
from snn_anml.config import NetworkConfig
from snn_anml.errors import UserError
from snn_anml.networks import make_network


class Machine:
    """Time, a power that depends on what is done, and a counter of its energy."""

    name, covers = "made up", "all of it"

    def __init__(self, drift=0.0, piece=0.3, joules=(6.0,)):
        self.seconds, self.energy, self.drift = 0.0, 0.0, drift
        self.piece, self.joules, self.pieces = piece, joules, 0
        self.clock = Clock(lambda: self.seconds, self.pass_)
        self.open = None
        self.windows = []

    def pass_(self, seconds):
        """At rest: 10 W, and what has been added by the drift."""
        begin = self.seconds
        self.seconds += seconds
        self.energy += 10 * seconds + self.drift * (self.seconds**2 - begin**2) / 2

    def work(self):
        """Four inferences in `piece` seconds, that take some joules above rest."""
        self.pass_(self.piece)
        self.energy += self.joules[self.pieces % len(self.joules)]
        self.pieces += 1
        return 4

    def start(self):
        assert self.open is None
        self.open = self.energy, self.seconds

    def stop(self):
        (energy, begin), self.open = self.open, None
        self.windows.append(self.seconds - begin)
        return self.energy - energy


def test_rest_is_taken_off():
    machine = Machine()
    result = measure(machine.work, machine, "work", repetitions=3, window=2.0, rest=2.5, clock=machine.clock)
    assert (result.meter, result.what, result.repetitions) == ("made up", "work", 3)
    assert result.inferences == 3 * 7 * 4  # seven pieces of 0.3 s to fill 2 s
    assert result.seconds == pytest.approx(6.3)
    assert result.idle_watts == pytest.approx(10)
    assert result.joules == pytest.approx(6 / 4)
    assert result.low == pytest.approx(result.joules)
    assert result.high == pytest.approx(result.joules)
    assert machine.windows == pytest.approx(3 * [2.5, 2.1, 2.5])
    assert "10 W at rest taken off" in result.note
    assert "all of it" in result.note
    with pytest.raises(FrozenInstanceError):
        result.joules = 1.0  # type: ignore[misc]


def test_a_power_that_drifts_is_taken_off_where_it_was():
    """Rests before and after each window give its power at rest, if that rises evenly."""
    machine = Machine(drift=0.5)
    result = measure(machine.work, machine, "work", repetitions=4, window=3.0, rest=3.0, clock=machine.clock)
    assert result.joules == pytest.approx(6 / 4)
    assert result.idle_watts > 14


def test_a_disturbed_rest_disturbs_one_repetition():
    """8 J more in the third rest, of two a window: 4 J less for the four inferences of the second window alone."""
    machine = Machine(piece=2.0)
    rests = []

    def sleep(seconds):
        machine.pass_(seconds)
        rests.append(seconds)
        machine.energy += 8.0 if len(rests) == 3 else 0.0

    clock = Clock(machine.clock.now, sleep)
    result = measure(machine.work, machine, "work", repetitions=3, window=2.0, rest=2.0, clock=clock)
    each = [6 / 4, (6 - 8 / 2) / 4, 6 / 4]
    assert result.joules == pytest.approx(sum(each) / 3)
    assert result.high - result.low == pytest.approx(2 * stats.t.ppf(0.975, 2) * stats.sem(each))


def test_the_interval_is_that_of_student():
    """Windows of one piece each, of known joules."""
    joules = [4.0, 8.0, 5.0, 7.0, 6.0]
    machine = Machine(piece=2.0, joules=(1.0, *joules))  # the first piece is work before any window
    result = measure(machine.work, machine, "work", repetitions=5, window=2.0, rest=2.0, clock=machine.clock)
    each = [j / 4 for j in joules]
    mean = sum(each) / 5
    error = math.sqrt(sum((e - mean) ** 2 for e in each) / 4 / 5)
    assert result.joules == pytest.approx(mean)
    assert (result.low, result.high) == pytest.approx(stats.t.interval(0.95, 4, mean, error))
    assert "not to be told from rest" not in result.note


def test_work_that_costs_nothing_is_said_to():
    machine = Machine(joules=(0.1, -0.1), piece=2.0)
    result = measure(machine.work, machine, "work", repetitions=4, window=2.0, rest=2.0, clock=machine.clock)
    assert result.low < 0 < result.high
    assert "not to be told from rest" in result.note


def test_a_meter_that_stands_still_gives_no_number():
    machine = Machine()
    machine.stop = lambda: 0.0
    machine.start = lambda: None
    result = measure(machine.work, machine, "work", repetitions=2, clock=machine.clock)
    assert result == Measurement(None, "work", note=f"{NO_METER}: the counter of made up stands still")


def test_a_window_is_ended_when_the_work_fails():
    machine = Machine()

    def work():
        if machine.open is not None:
            raise RuntimeError("out of memory")
        return 1

    with pytest.raises(RuntimeError, match="out of memory"):
        measure(work, machine, "work", clock=machine.clock)
    assert machine.open is None


def test_mistakes_are_named():
    machine = Machine()
    with pytest.raises(UserError, match="1 repetitions have no interval"):
        measure(machine.work, machine, "work", repetitions=1, clock=machine.clock)
    for options in ({"window": 1.9}, {"rest": 0.0}, {"window": math.nan}):
        with pytest.raises(UserError, match="at least 2 s for each"):
            measure(machine.work, machine, "work", clock=machine.clock, **options)


@pytest.fixture
def model():
    return make_network(NetworkConfig(widths=(2, 2), nm_widths=(2,), steps=2, encoding="rate"), 3, 12, seed=0)


def test_inference_is_measured_per_drawing(model):
    machine, calls = Machine(), []
    machine.covers = "CPU"

    def counted(*_):
        calls.append(machine.work())

    model.register_forward_hook(counted)  # copied with the model; runs once a batch
    model.train()
    result = measure_inference(
        model, torch.rand(5, 1, 12, 12), meter=machine, repetitions=2, window=2.1, rest=2.0, clock=machine.clock
    )
    assert result.joules == pytest.approx(6 / 5)
    assert result.inferences == 5 * (len(calls) - 1)  # one batch before the first window
    assert result.what == "inference in torch on cpu, 5 drawings at a time"
    assert model.training
    row = result.csv_row()
    assert tuple(row) == CSV_COLUMNS
    assert row["joules"] == result.joules


def test_without_a_meter_there_is_no_number(model, monkeypatch, tmp_path):
    monkeypatch.setattr(module, "find_meter", lambda device: RAPL(tmp_path))
    result = measure_inference(model, torch.rand(2, 1, 12, 12))
    assert result.meter is None
    assert result.joules is None
    assert result.note.startswith(f"{NO_METER}: ")
    row = result.csv_row()
    assert row["what"] == "inference in torch on cpu, 2 drawings at a time"
    assert [row[name] for name in ("meter", "repetitions", "seconds", "joules", "low", "high")] == [""] * 6
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.undo()
    if not torch.cuda.is_available():
        assert "no NVIDIA GPU" in measure_inference(model, torch.rand(2, 1, 12, 12), "cuda").note
