"""The Triton kernels as functions of torch tensors on a CUDA device; see `snn_anml.neurons.scans` for what they take.

Kernels go to the current stream of the tensors' device, and nothing waits for them.
"""

# pyright: reportMissingImports=false

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
import triton
from torch import Tensor

from snn_anml.errors import UserError
from snn_anml.neurons.gpu.adjoint import Adjoints, adjoint_kernel
from snn_anml.neurons.gpu.forward import forward_kernel
from snn_anml.neurons.gpu.parts import How, Operand, Operands, Steps
from snn_anml.neurons.gpu.tangent import tangent_kernel
from snn_anml.neurons.layout import Layout, Pattern
from snn_anml.neurons.scan import Operand as Given
from snn_anml.neurons.scan import Saved, Scan

WARPS = 4
# Bytes of a row that a program has in registers: 16 for each thread are one load. Kernels that carry many rows over
# the steps take half, lest few programs fit on a processor, or rows spill into memory.
ROW = 16 * 32 * WARPS
MOST_NEURONS = 2**31 - ROW


def how_of(scan: Scan) -> How:
    """The variant as kernels read it."""
    return How(
        scan.reset,
        scan.delay,
        scan.detach,
        scan.filtered,
        scan.adaptive,
        scan.through_spikes,
        scan.surrogate.name,
        float(scan.surrogate.slope),
    )


def block_size(dtype: torch.dtype, many_rows: bool) -> int:
    """Neurons of a program."""
    return ROW // dtype.itemsize // (2 if many_rows else 1)


@lru_cache(maxsize=1024)
def parts_of(value: float) -> tuple[float, ...]:
    """A number as the sum of three of float32: kernels take no numbers of float64, and would be compiled for each."""
    parts = []
    for _ in range(3):
        parts.append(torch.tensor(value, dtype=torch.float32).item())
        value = value - parts[-1] if math.isfinite(parts[-1]) else 0.0
    return tuple(parts)


def _pattern(p: Pattern, neurons: int) -> Pattern:
    """The pattern with sizes of 1 where they do not matter: Triton compiles a 1 in, and drops what divides by it."""
    if (p.so, p.sm) == (0, 0):
        p = p._replace(M=1)
        if neurons == p.K and p.sk == 1:
            p = Pattern(1, 1, 1, 0, 0)
    return p


class _Call:
    """The tensors of one call, flattened."""

    def __init__(self, layout: Layout, like: Tensor) -> None:
        self.layout, self.like = layout, like
        if layout.neurons > MOST_NEURONS:
            raise UserError(f"A step has {layout.neurons} neurons in all samples; kernels take at most {MOST_NEURONS}.")

    def steps(self, x: Tensor | None) -> Tensor | None:
        """x (T or 1, B, ...) as a matrix."""
        return None if x is None else self.layout.flat(x.detach())

    def operand(self, x: Given) -> Operand | None:
        """x (...), a number or None, which is 0."""
        if isinstance(x, Tensor):
            return self.gate(x[(None,) * (1 + len(self.layout.shape) - x.dim())])
        return None if x is None else Operand(None, None, parts_of(x))

    def gate(self, gate: Tensor | None) -> Operand | None:
        """gate (T or 1, ...)."""
        if gate is None:
            return None
        flat, pattern = self.layout.operand(gate.detach())
        return Operand(flat, _pattern(pattern, self.layout.neurons), None)

    def operands(self, operands: Sequence[Given]) -> Operands:
        return Operands(*map(self.operand, operands))

    def new(self, rows: int, there: bool = True) -> Tensor | None:
        return self.like.new_empty(rows, self.layout.neurons) if there else None

    def past(self, saved: Saved) -> Steps:
        v, i, a = (self.steps(x) for x in (saved.membrane, saved.current, saved.adaptation))
        return Steps(None, v, v if saved.before is None else self.steps(saved.before), i, a)

    def gradients(self, operands: Sequence[Given], learned: bool) -> tuple[Tensor | None, Operands | None]:
        """A matrix (8, N) for the gradients of operands, and its rows for those that are tensors."""
        dp = self.new(len(operands), learned)
        if dp is None:
            return None, None
        return dp, Operands(*(row if isinstance(x, Tensor) else None for row, x in zip(dp, operands, strict=True)))

    def unflat(self, x: Tensor | None) -> Tensor | None:
        return None if x is None else self.layout.unflat(x)

    def run(self, kernel: Any, *arguments: Any, many_rows: bool, **constants: Any) -> None:
        """Runs a kernel on all neurons."""
        if not self.layout.neurons:
            return
        block = block_size(self.like.dtype, many_rows)
        grid = (triton.cdiv(self.layout.neurons, block),)
        with torch.cuda.device_of(self.like):
            # Without fused multiply-add every operation rounds as torch's does, and membranes equal the definition's.
            kernel[grid](*arguments, **constants, BLOCK=block, num_warps=WARPS, enable_fp_fusion=False)


def forward(
    currents: Tensor, gate: Tensor | None, operands: Sequence[Given], steps: int, scan: Scan, layout: Layout
) -> Saved:
    """Spikes and states of all steps."""
    call = _Call(layout, currents)
    out = [call.new(steps, one) for one in scan.outputs]
    gates = call.gate(gate)
    call.run(
        forward_kernel,
        call.steps(currents),
        gates,
        0 if gates is None else gates.data.shape[1],
        call.operands(operands),
        Steps(*out),
        steps,
        layout.neurons,
        many_rows=False,
        how=how_of(scan),
        MANY_CURRENTS=len(currents) > 1,
        MANY_GATES=gate is not None and len(gate) > 1,
    )
    return Saved(*map(call.unflat, out))


def adjoint(
    upstream: Saved,
    saved: Saved,
    currents: Tensor | None,
    gate: Tensor | None,
    current_steps: int,
    operands: Sequence[Given],
    learned: bool,
    gate_learned: bool,
    scan: Scan,
    layout: Layout,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Gradients of currents, of gates and of the eight operands, these two not yet summed to shape.

    Of the operands' rows, those of numbers are left as they are found in memory.
    """
    v = saved.membrane
    assert v is not None
    call = _Call(layout, v)
    dx = v.new_empty(current_steps, layout.neurons)
    dgate = call.new(len(gate) if gate is not None else 0, gate_learned)
    dp, rows = call.gradients(operands, learned)
    gates = call.gate(gate)
    call.run(
        adjoint_kernel,
        Steps(*map(call.steps, upstream)),
        call.past(saved),
        call.steps(currents),
        gates,
        0 if gates is None else gates.data.shape[1],
        call.operands(operands),
        dx,
        dgate,
        rows,
        None,
        len(v),
        layout.neurons,
        many_rows=learned or scan.adaptive,
        how=how_of(scan),
        MANY_CURRENTS=current_steps > 1,
        MANY_GATES=gate is not None and len(gate) > 1,
    )
    return layout.unflat(dx), call.unflat(dgate), call.unflat(dp)


def _kept(call: _Call, g: Steps, past: Steps, operands: Operands, learned: bool, scan: Scan) -> Adjoints:
    """Those of the adjoints that enter the tangent scan, from the adjoint scan done once more."""
    steps, undetached = len(past.v), not scan.detach
    kept = Adjoints(
        S=call.new(steps, scan.through_spikes),
        U=call.new(steps, learned or (undetached and scan.delay)),
        V=call.new(steps, undetached and not scan.delay),
        H=call.new(steps, learned and scan.adaptive),
        A1=call.new(steps, learned and scan.adaptive),
        A=call.new(steps, learned and scan.adaptive and not scan.delay),
        I=call.new(steps, learned and scan.filtered),
        R=call.new(1, learned and scan.through_spikes and scan.delay),
    )
    if any(x is not None for x in kept):
        call.run(
            adjoint_kernel,
            g,
            past,
            None,
            None,
            0,
            operands,
            None,
            None,
            None,
            kept,
            steps,
            call.layout.neurons,
            many_rows=learned or scan.adaptive,
            how=how_of(scan),
            MANY_CURRENTS=True,
            MANY_GATES=False,
        )
    return kept if scan.through_spikes else kept._replace(S=g.s)


def tangent(
    direction: Tensor | None,
    operands_direction: Sequence[Given],
    upstream: Saved,
    saved: Saved,
    operands: Sequence[Given],
    learned: bool,
    scan: Scan,
    layout: Layout,
) -> tuple[Saved, Saved, Tensor | None]:
    """Gradients of the upstream gradients, of the saved outputs, and of the eight operands, these not yet summed.

    Of the operands' rows, those of numbers are left as they are found in memory.
    """
    v = saved.membrane
    assert v is not None
    call, steps = _Call(layout, v), len(v)
    g, past, own = Steps(*map(call.steps, upstream)), call.past(saved), call.operands(operands)
    dots = [call.new(steps, x is not None) for x in upstream]
    bars = [call.new(steps, one) for one in (scan.through_spikes, *scan.outputs[1:])]
    dp, rows = call.gradients(operands, learned)
    call.run(
        tangent_kernel,
        past,
        _kept(call, g, past, own, learned, scan),
        own,
        call.steps(direction),
        call.operands(operands_direction),
        Steps(*dots),
        Steps(*bars),
        rows,
        steps,
        layout.neurons,
        many_rows=learned or scan.adaptive,
        how=how_of(scan),
    )
    return Saved(*map(call.unflat, dots)), Saved(*map(call.unflat, bars)), call.unflat(dp)
