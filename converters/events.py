"""Spikes as events: which neuron spiked when, as event cameras, cochleas and neuromorphic chips say it.

An event list is an array of dtype `EVENT`, one element a spike: `sample` counts from 0, `time` is the step from 0, and
`address` the index of the neuron in C order of (channels, height, width). Lists made here are sorted by sample, time
and address; any order is taken. `np.save` and `np.load` keep them as they are.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from converters.graph import Shape
from snn_anml.errors import UserError

EVENT = np.dtype([("sample", np.int64), ("time", np.int64), ("address", np.int64)])

_REMEDIES = {
    "sample": "say how many samples there are, with those that have no event",
    "time": "simulate for longer, with drive_by_spikes(graph, steps=T), or leave out what comes later",
    "address": "an address is the index of the neuron in C order of (channels, height, width)",
}


class EventInput(NamedTuple):
    """Events to drive a graph with.

    Attributes:
        events: (N,) `EVENT`.
        samples: B. The events cannot say it, since a sample may have none.
    """

    events: np.ndarray
    samples: int


class Binned(NamedTuple):
    """Events in steps, and what did not fit.

    Attributes:
        events: (N,) `EVENT`, sorted.
        late: number of events dropped because they came after the last step.
        taken: number of events dropped because their neuron had spiked in that step already.
    """

    events: np.ndarray
    late: int
    taken: int


def events_of(spikes: np.ndarray) -> np.ndarray:
    """The events of spike trains.

    Args:
        spikes: (B, T, ...), bool or 0 and 1.

    Returns:
        (N,) `EVENT`, sorted.

    Raises:
        UserError: other values than 0 and 1, or no axes for samples and steps.
    """
    spikes = np.asarray(spikes)
    if spikes.ndim < 2:
        raise UserError(f"Spike trains have shape {spikes.shape}; it must be (samples, steps, ...).")
    check_binary(spikes)
    samples, steps, *shape = spikes.shape
    indices = np.nonzero(spikes.reshape(samples, steps, int(np.prod(shape))))
    return _events(len(indices[0]), *indices)


def spikes_of(events: np.ndarray, samples: int, steps: int, shape: Shape) -> np.ndarray:
    """The spike trains of events, (B, T, *shape) float32; the inverse of `events_of`.

    Args:
        events: (N,) `EVENT`, in any order.
        samples: B; those without an event are silent.
        steps: T.
        shape: of the neurons, per sample and step.

    Raises:
        UserError: another dtype; a sample, time or address out of range; or two events in one slot, since a spike is
            binary.
    """
    return spikes_in(slots_of(events, samples, steps, int(np.prod(shape))), 0, samples, steps, shape)


def binned(time: np.ndarray, address: np.ndarray, dt: float, steps: int, sample: int | np.ndarray = 0) -> Binned:
    """Events with physical times, as event cameras and cochleas give them, in steps: step = floor(time / dt).

    A time that is a multiple of dt but for rounding, by which floor would be a step early, is taken for that multiple.

    Args:
        time: (N,), s, from the start of the sample; of floats of few bits, the rounding is that of their type.
        address: (N,) int.
        dt: length of a step, s. (Both times may be in another unit, if it is the same.)
        steps: T.
        sample: to which the events belong, one or (N,) int.

    Returns:
        Events, and how many of those given are not among them.

    Raises:
        UserError: arrays that do not belong together; a time that is negative or not finite, a dt that is not above 0;
            an address or a sample that is negative or no integer.
    """
    time, address, sample = np.asarray(time), np.asarray(address), np.asarray(sample)
    if time.ndim != 1 or address.shape != time.shape or sample.shape not in ((), time.shape):
        raise UserError(
            f"time, address and sample have shapes {time.shape}, {address.shape} and {sample.shape}; every event needs "
            "one of each."
        )
    if not (np.isfinite(dt) and dt > 0):
        raise UserError(f"dt = {dt}; a step is a positive number of seconds.")
    wrong = ~(np.isfinite(time) & (time >= 0))
    if wrong.any():
        raise UserError(f"An event is at time {time[wrong][0]}; count times from the start of the sample.")
    for name, values in (("address", address), ("sample", sample)):
        if values.size and not (np.issubdtype(values.dtype, np.integer) and values.min() >= 0):
            raise UserError(f"{name} holds {values.min()} ({values.dtype}); it must hold integers from 0 on.")
    step = _floor(time, dt)
    kept = step < steps
    events = _events(int(kept.sum()), np.broadcast_to(sample, time.shape)[kept], step[kept], address[kept])
    events = events[np.lexsort([events[name] for name in ("address", "time", "sample")])]
    first = np.ones(len(events), bool)
    first[1:] = events[1:] != events[:-1]
    return Binned(events[first], len(time) - len(events), int((~first).sum()))


def check_binary(spikes: np.ndarray) -> None:
    """Refuses (B, T, ...) with a value other than 0 and 1."""
    wrong = (spikes != 0) & (spikes != 1)
    if wrong.any():
        slot = tuple(int(i) for i in np.unravel_index(wrong.argmax(), wrong.shape))
        raise UserError(
            f"Spike trains are 0 or 1, but there is {spikes[slot]} at {slot}, that is (sample, step, ...); intensities "
            "need another encoding."
        )


def slots_of(events: np.ndarray, samples: int, steps: int, size: int) -> np.ndarray:
    """Where events stand in (B, T, n) in C order, (N,) int64, sorted; see `spikes_of` for what is refused."""
    if not isinstance(events, np.ndarray) or events.dtype != EVENT or events.ndim != 1:
        found = f"{events.dtype} of shape {events.shape}" if isinstance(events, np.ndarray) else type(events).__name__
        raise UserError(
            f"Events are {found}, but must be a list of dtype converters.EVENT, such as binned(...).events."
        )
    for name, limit in (("sample", samples), ("time", steps), ("address", size)):
        values = events[name]
        wrong = (values < 0) | (values >= limit)
        if wrong.any():
            raise UserError(f"An event has {name} {values[wrong][0]}, not in 0 to {limit - 1}; {_REMEDIES[name]}.")
    slots = np.sort((events["sample"] * steps + events["time"]) * size + events["address"])
    twice = slots[1:] == slots[:-1]
    if twice.any():
        sample, time, address = np.unravel_index(slots[1:][twice][0], (samples, steps, size))
        raise UserError(
            f"Two events have sample {sample}, time {time} and address {address}, and a neuron spikes once a step; "
            "drop one, as binned does."
        )
    return slots


def spikes_in(slots: np.ndarray, start: int, samples: int, steps: int, shape: Shape) -> np.ndarray:
    """Spike trains (b, T, *shape) float32 of the b samples from `start` on, of sorted slots."""
    spikes = np.zeros((samples, steps, *shape), np.float32)
    each = steps * int(np.prod(shape))
    first, last = np.searchsorted(slots, (start * each, (start + samples) * each))
    spikes.reshape(-1)[slots[first:last] - start * each] = 1
    return spikes


def _floor(time: np.ndarray, dt: float) -> np.ndarray:
    """floor(time / dt), (N,) float64, with quotients within 4 eps of an integer taken for that integer.

    eps is that of the coarser of both types. Times made as k * dt or us * 1e-6 are within 2: four operations, of which
    each rounds by half an eps.
    """
    quotient = time.astype(np.float64) / float(dt)
    eps = max(np.finfo(kind).eps for kind in (np.dtype(float), time.dtype, np.asarray(dt).dtype) if kind.kind == "f")
    nearest = np.rint(quotient)
    return np.where(np.isclose(quotient, nearest, rtol=4 * float(eps), atol=0), nearest, np.floor(quotient))


def _events(count: int, *fields: np.ndarray) -> np.ndarray:
    events = np.empty(count, EVENT)
    for name, values in zip(("sample", "time", "address"), fields, strict=True):
        events[name] = values
    return events
