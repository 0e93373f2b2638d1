"""The compiled scans as functions of torch tensors on the CPU; see `snn_anml.neurons.scans` for what they take."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from ctypes import c_double, c_int64, c_void_p
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from snn_anml.neurons.cpu import library
from snn_anml.neurons.layout import Layout, Pattern
from snn_anml.neurons.scan import OPERANDS, Operand, Saved, Scan

PARALLEL = 2**17  # neurons x steps from which a second thread pays for its start, about 50 us


class _Pattern(ctypes.Structure):
    _fields_ = [(name, c_int64) for name in Pattern._fields]


class _Variant(ctypes.Structure):
    _fields_ = [
        ("delay", c_int64), ("detach", c_int64), ("reset", c_int64), ("filtered", c_int64), ("adaptive", c_int64),
        ("kind", c_int64), ("slope", c_double),
    ]  # fmt: skip


class _Steps(ctypes.Structure):
    _fields_ = [("data", c_void_p), ("steps", c_int64), ("neurons", c_int64)]


class _Operands(ctypes.Structure):
    _fields_ = [("data", c_void_p * len(OPERANDS)), ("patterns", _Pattern * len(OPERANDS))]


def _steps(*names: str) -> list[tuple[str, type]]:
    return [(name, _Steps) for name in names]


PAST = ("gs", "gv", "gu", "gi", "ga", "v", "u", "i", "a")


class _Forward(ctypes.Structure):
    _fields_ = [
        ("how", _Variant), *_steps("x", "gate"), ("pattern", _Pattern), ("operands", _Operands),
        *_steps("s", "v", "u", "i", "a"),
    ]  # fmt: skip


class _Adjoint(ctypes.Structure):
    _fields_ = [
        ("how", _Variant), *_steps(*PAST, "x", "gate"), ("pattern", _Pattern), ("operands", _Operands),
        ("plain", c_int64), *_steps("dx", "dgate", "dp"),
    ]  # fmt: skip


class _Tangent(ctypes.Structure):
    _fields_ = [
        ("how", _Variant), *_steps(*PAST), ("operands", _Operands), *_steps("x_dot"), ("operands_dot", _Operands),
        *_steps("s_dot", "v_dot", "u_dot", "i_dot", "a_dot", "s_bar", "v_bar", "u_bar", "i_bar", "a_bar", "dp"),
    ]  # fmt: skip


ABSENT = _Steps(None, 0, 0)


def _variant(scan: Scan) -> _Variant:
    surrogate = scan.surrogate
    return _Variant(
        scan.delay, scan.detach, scan.reset_index, scan.filtered, scan.adaptive, surrogate.index, surrogate.slope
    )


@lru_cache(maxsize=1024)
def _number(value: float, dtype: torch.dtype) -> Tensor:
    return torch.full((1,), value, dtype=dtype, device="cpu")


class _Call:
    """The tensors of one call, flattened, and kept alive until it is over."""

    def __init__(self, layout: Layout, dtype: torch.dtype) -> None:
        self.layout, self.dtype, self.alive = layout, dtype, []

    def steps(self, x: Tensor | None) -> _Steps:
        """x (T or 1, B, ...) as a matrix."""
        return ABSENT if x is None else self.matrix(self.layout.flat(x.detach()))

    def matrix(self, x: Tensor | None) -> _Steps:
        """x (rows, columns), contiguous."""
        if x is None:
            return ABSENT
        self.alive.append(x)
        return _Steps(x.data_ptr(), *x.shape)

    def gate(self, gate: Tensor | None) -> tuple[_Steps, _Pattern]:
        if gate is None:
            return ABSENT, _Pattern(1, 1, 0, 0, 0)
        flat, pattern = self.layout.operand(gate.detach())
        return self.matrix(flat), _Pattern(*pattern)

    def operands(self, operands: Sequence[Operand]) -> _Operands:
        """None is 0."""
        out = _Operands()
        for k, operand in enumerate(operands):
            if isinstance(operand, Tensor):
                x = operand.detach()[(None,) * (1 + len(self.layout.shape) - operand.dim())]
                flat, pattern = self.layout.operand(x)
                self.alive.append(flat)
            else:
                flat, pattern = _number(operand or 0.0, self.dtype), (1, self.layout.neurons, 0, 0, 0)
            out.data[k], out.patterns[k] = flat.data_ptr(), _Pattern(*pattern)
        return out

    def new(self, rows: int, there: bool = True) -> Tensor | None:
        return torch.empty(rows, self.layout.neurons, dtype=self.dtype, device="cpu") if there else None

    def past(self, upstream: Saved, saved: Saved) -> list[_Steps]:
        """The fields of `PAST`."""
        v, i, a = (self.steps(x) for x in (saved.membrane, saved.current, saved.adaptation))
        return [*(self.steps(x) for x in upstream), v, v if saved.before is None else self.steps(saved.before), i, a]

    def unflat(self, x: Tensor | None) -> Tensor | None:
        return None if x is None else self.layout.unflat(x)


@lru_cache
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    """One for each process: a forked one inherits the object, but no threads."""
    return ThreadPoolExecutor(threads, thread_name_prefix="neurons")


def _run(name: str, structure: ctypes.Structure, dtype: torch.dtype, neurons: int, steps: int) -> None:
    """Runs a scan on all neurons: ranges of them on as many threads as torch may use."""
    compiled: Any = library()
    function, block = compiled[f"{name}_{str(dtype).removeprefix('torch.')}"], compiled.block_size()
    blocks = -(-neurons // block)  # threads take whole ones
    threads = min(torch.get_num_threads(), blocks) if neurons * steps >= PARALLEL else 1
    if threads == 1:
        failed = function(ctypes.byref(structure), c_int64(0), c_int64(neurons))
        _check(failed)
        return
    bounds = [c_int64(min(neurons, block * (blocks * k // threads))) for k in range(threads + 1)]
    pool, pointer = _pool(threads, os.getpid()), ctypes.byref(structure)
    futures = [pool.submit(function, pointer, *bounds[k : k + 2]) for k in range(threads)]
    try:
        _check(sum(future.result() for future in futures))
    finally:
        wait(futures)  # also where the user interrupts: they write into tensors that would go


def _check(failed: int) -> None:
    if failed:
        raise MemoryError("There is no memory for the scratch rows of a scan; use fewer steps or fewer threads.")


def forward(
    currents: Tensor, gate: Tensor | None, operands: Sequence[Operand], steps: int, scan: Scan, layout: Layout
) -> Saved:
    """Spikes and states of all steps."""
    call = _Call(layout, currents.dtype)
    out = [call.new(steps, one) for one in scan.outputs]
    s, v, u, i, a = (call.matrix(x) for x in out)
    structure = _Forward(
        _variant(scan), call.steps(currents), *call.gate(gate), call.operands(operands), s, v,
        v if scan.delay else u, i, a,
    )  # fmt: skip
    _run("forward", structure, currents.dtype, layout.neurons, steps)
    return Saved(*(call.unflat(x) for x in out))


def adjoint(
    upstream: Saved,
    saved: Saved,
    currents: Tensor | None,
    gate: Tensor | None,
    current_steps: int,
    operands: Sequence[Operand],
    learned: bool,
    gate_learned: bool,
    scan: Scan,
    layout: Layout,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Gradients of currents, of gates and of the eight operands, these two not yet summed to shape."""
    v = saved.membrane
    assert v is not None
    call = _Call(layout, v.dtype)
    dx = v.new_empty(current_steps, layout.neurons)
    dgate = call.new(len(gate) if gate is not None else 0, gate_learned)
    dp = call.new(len(OPERANDS), learned)
    x = _Steps(None, current_steps, 0) if currents is None else call.steps(currents)
    structure = _Adjoint(
        _variant(scan), *call.past(upstream, saved), x, *call.gate(gate), call.operands(operands),
        scan.plain and not learned, *(call.matrix(d) for d in (dx, dgate, dp)),
    )  # fmt: skip
    _run("adjoint", structure, v.dtype, layout.neurons, len(v))
    return layout.unflat(dx), call.unflat(dgate), call.unflat(dp)


def tangent(
    direction: Tensor | None,
    operands_direction: Sequence[Operand],
    upstream: Saved,
    saved: Saved,
    operands: Sequence[Operand],
    learned: bool,
    scan: Scan,
    layout: Layout,
) -> tuple[Saved, Saved, Tensor | None]:
    """Gradients of the upstream gradients, of the saved outputs, and of the eight operands, these not yet summed."""
    v = saved.membrane
    assert v is not None
    call, steps = _Call(layout, v.dtype), len(v)
    dots = [call.new(steps, g is not None) for g in upstream]
    bars = [call.new(steps, one) for one in (scan.through_spikes, *scan.outputs[1:])]
    dp = call.new(len(OPERANDS), learned or not scan.plain)
    structure = _Tangent(
        _variant(scan), *call.past(upstream, saved), call.operands(operands), call.steps(direction),
        call.operands(operands_direction), *(call.matrix(x) for x in (*dots, *bars, dp)),
    )  # fmt: skip
    _run("tangent", structure, v.dtype, layout.neurons, steps)
    return Saved(*map(call.unflat, dots)), Saved(*map(call.unflat, bars)), call.unflat(dp)
