"""All steps of a layer as one differentiable function, right to second order.

`_Fused` is the forward scan. Its backward is the adjoint scan, and where a second derivative is wanted that is a
Function too, `_Adjoint`, whose own backward is the tangent scan, `_Tangent`. The saved states are *outputs* of
`_Fused`: if they were only stashed on its `ctx`, the paths through s'(v) would be lost without a word. A third
derivative is refused: `_Tangent` is a Function only so that it can say so.

All three treat their tensors as one big elementwise operation with broadcasting, (T, ...) over the steps and
(...) for parameters, so that `torch.func.vmap` is one more dimension.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from snn_anml.neurons.layout import layout_of
from snn_anml.neurons.scan import Operand, Saved, Scan
from snn_anml.neurons.scans import scans_for


def _spread(values: tuple[Any, ...], there: tuple[bool, ...]) -> list[Any]:
    """The values at the places that are there, None elsewhere."""
    rest = iter(values)
    return [next(rest) if one else None for one in there]


def _save(ctx: Any, *values: Any) -> None:
    """Saves tensors where autograd can see them, and the rest beside."""
    ctx.save_for_backward(*(value for value in values if isinstance(value, Tensor)))
    ctx.others = [None if isinstance(value, Tensor) else (value,) for value in values]


def _saved(ctx: Any) -> list[Any]:
    tensors = iter(ctx.saved_tensors)
    return [next(tensors) if other is None else other[0] for other in ctx.others]


def _sum_to(x: Tensor, operands: list[Operand], wanted: tuple[bool, ...]) -> list[Tensor | None]:
    """Gradients (8, B, ...) of the expanded operands, summed over what each was broadcast over."""
    return [
        x[k].sum_to_size(operand.shape) if want and isinstance(operand, Tensor) else None
        for k, (operand, want) in enumerate(zip(operands, wanted, strict=True))
    ]


def _batched_steps(x: Any, dim: int | None, size: int) -> Any:
    """x (T, ...) with the dimension that vmap maps over made its second, of `size`."""
    if not isinstance(x, Tensor):
        return x
    return x.unsqueeze(1).expand(-1, size, *x.shape[1:]) if dim is None else x.movedim(dim, 1)


def _batched_operand(x: Any, dim: int | None, size: int, rank: int) -> Any:
    """x (...), broadcast to a step of `rank` dimensions, as (size, 1, ..., 1, ...)."""
    if not isinstance(x, Tensor):
        return x
    x = x.expand(size, *x.shape) if dim is None else x.movedim(dim, 0)
    return x.reshape(size, *[1] * (rank + 1 - x.dim()), *x.shape[1:])


def _batched(
    tensors: Sequence[Any], dims: Sequence[int | None], size: int, count: int
) -> tuple[list[Any], list[Any], list[tuple[int, ...] | None]]:
    """The first `count` tensors as `_batched_steps`, the others as `_batched_operand`; and the shape that the
    gradient of each of these has under vmap: (size, ...) of its own."""
    steps = [_batched_steps(x, dim, size) for x, dim in zip(tensors[:count], dims[:count], strict=True)]
    rank = next(x for x in reversed(steps) if x is not None).dim() - 2
    rest = list(zip(tensors[count:], dims[count:], strict=True))
    shapes = [
        (size, *(x.shape if dim is None else x.movedim(dim, 0).shape[1:])) if isinstance(x, Tensor) else None
        for x, dim in rest
    ]
    return steps, [_batched_operand(x, dim, size, rank) for x, dim in rest], shapes


def _shaped(gradients: Sequence[Tensor | None], shapes: Sequence[Any]) -> list[Tensor | None]:
    return [None if g is None else g.reshape(shape) for g, shape in zip(gradients, shapes, strict=True)]


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(currents: Tensor, gate: Tensor | None, steps: int, scan: Scan, *operands: Operand) -> Any:
        layout = layout_of(currents)
        out = scans_for(currents).forward(currents, gate, operands, steps, scan, layout)
        return tuple(x for x in out if x is not None)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
        currents, gate, _, scan, *operands = inputs
        ctx.scan, ctx.current_steps = scan, len(currents)
        ctx.set_materialize_grads(False)
        s, *states = _spread(output, scan.outputs)
        _save(ctx, currents if gate is not None else None, gate, s if scan.through_spikes else None, *states, *operands)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        currents, gate, *rest = _saved(ctx)
        saved, operands = Saved(*rest[:5]), rest[5:]
        upstream = Saved(*_spread(grads, ctx.scan.outputs))
        wants = ctx.needs_input_grad
        if all(g is None for g in upstream):
            return (None,) * len(wants)
        if torch.is_grad_enabled() or torch._C._are_functorch_transforms_active():
            a, *dp = _Adjoint.apply(ctx.scan, wants[4:], *upstream, *saved, *operands)
            return *_through_gate(a, currents, gate, ctx.current_steps), None, None, *dp
        assert saved.membrane is not None
        layout = layout_of(saved.membrane)
        dx, dg, dp = scans_for(saved.membrane).adjoint(
            upstream, saved, currents, gate, ctx.current_steps, operands, any(wants[4:]), wants[1], ctx.scan, layout
        )
        if dg is not None:
            dg = dg.sum_to_size(gate.shape)
        return dx, dg, None, None, *([None] * 8 if dp is None else _sum_to(dp, operands, wants[4:]))

    @staticmethod
    def vmap(info: Any, in_dims: tuple, currents: Tensor, gate: Any, steps: int, scan: Scan, *operands: Any) -> Any:
        size = info.batch_size
        currents = _batched_steps(currents, in_dims[0], size)
        gate = _batched_steps(gate, in_dims[1], size)
        rank = currents.dim() - 2
        operands = tuple(
            _batched_operand(x, dim, size, rank) if dim is not None else x
            for x, dim in zip(operands, in_dims[4:], strict=True)
        )
        out = _Fused.apply(currents, gate, steps, scan, *operands)
        return out, (1,) * len(out)


def _through_gate(a: Tensor, currents: Any, gate: Any, current_steps: int) -> tuple[Tensor, Tensor | None]:
    """From the gradient of the gated currents (T, ...) to those of currents and gate."""
    shape = (current_steps, *a.shape[1:])
    if gate is None:
        return a.sum_to_size(shape), None
    return (a * gate).sum_to_size(shape), (a * currents).sum_to_size(gate.shape)


class _Adjoint(torch.autograd.Function):
    """Gradients of the gated currents, (T, B, ...), and of the operands wanted, each in its shape."""

    @staticmethod
    def forward(scan: Scan, wanted: tuple[bool, ...], *tensors: Any) -> Any:
        upstream, saved, operands = Saved(*tensors[:5]), Saved(*tensors[5:10]), list(tensors[10:])
        v = saved.membrane
        assert v is not None
        a, _, dp = scans_for(v).adjoint(
            upstream, saved, None, None, len(v), operands, any(wanted), False, scan, layout_of(v)
        )
        return a, *([None] * 8 if dp is None else _sum_to(dp, operands, wanted))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
        ctx.scan, _, *tensors = inputs
        ctx.set_materialize_grads(False)
        _save(ctx, *tensors)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        return None, None, *_Tangent.apply(ctx.scan, ctx.needs_input_grad[12:], *grads, *_saved(ctx))

    @staticmethod
    def vmap(info: Any, in_dims: tuple, scan: Scan, wanted: tuple[bool, ...], *tensors: Any) -> Any:
        steps, operands, shapes = _batched(tensors, in_dims[2:], info.batch_size, 10)
        a, *dp = _Adjoint.apply(scan, wanted, *steps, *operands)
        return (a, *_shaped(dp, shapes)), (1, *(None if g is None else 0 for g in dp))


class _Tangent(torch.autograd.Function):
    """Gradients of the upstream gradients and of the saved outputs, (T, B, ...), and of the operands wanted.

    Takes the direction of `_Adjoint`'s outputs, and its inputs.
    """

    @staticmethod
    def forward(scan: Scan, wanted: tuple[bool, ...], direction: Tensor | None, *tensors: Any) -> Any:
        of_operands, upstream, saved = tensors[:8], Saved(*tensors[8:13]), Saved(*tensors[13:18])
        operands, v = list(tensors[18:]), saved.membrane
        assert v is not None
        # Under torch.func a direction may come for operands of which no gradient is wanted here.
        moved = any(wanted) or any(x is not None for x in of_operands)
        dot, bar, dp = scans_for(v).tangent(
            direction, of_operands, upstream, saved, operands, moved, scan, layout_of(v)
        )
        return *dot, *bar, *([None] * 8 if dp is None else _sum_to(dp, operands, wanted))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        raise NotImplementedError("Fused neurons have first and second derivatives only; use lif_eager for a third.")

    @staticmethod
    def vmap(info: Any, in_dims: tuple, scan: Scan, wanted: tuple[bool, ...], *tensors: Any) -> Any:
        dims = in_dims[2:]
        order = (0, *range(9, 19), *range(1, 9), *range(19, 27))  # those with steps first
        steps, operands, shapes = _batched([tensors[k] for k in order], [dims[k] for k in order], info.batch_size, 11)
        out = _Tangent.apply(scan, wanted, steps[0], *operands[:8], *steps[1:], *operands[8:])
        out = (*out[:10], *_shaped(out[10:], shapes[8:]))
        return out, (*(None if x is None else 1 for x in out[:10]), *(None if x is None else 0 for x in out[10:]))


def fused(
    currents: Tensor, gate: Tensor | None, steps: int, scan: Scan, operands: tuple[Operand, ...]
) -> list[Tensor | None]:
    """Spikes, membrane, current and adaptation of all steps, each (T, B, ...) or None where it is not there.

    Args:
        currents: (T, B, ...), or (1, B, ...): the same current at every step.
        gate: what multiplies them, (T or 1, ...), each further size that of the currents or 1; or None.
        steps: T.
        scan: the variant of the equation.
        operands: in the order of `scan.OPERANDS`; tensors broadcast to (B, ...), of the currents' type and device.
    """
    forward_mode = torch.autograd.forward_ad._current_level >= 0  # which a Function refuses with a sentence
    if torch.is_grad_enabled() or torch._C._are_functorch_transforms_active() or forward_mode:
        result: Any = _Fused.apply(currents, gate, steps, scan, *operands)
        s, v, _, i, a = _spread(result, scan.outputs)
    else:  # the same without the cost of a Function, which small layers feel
        s, v, _, i, a = scans_for(currents).forward(currents, gate, operands, steps, scan, layout_of(currents))
    return [s, v, i, a]
