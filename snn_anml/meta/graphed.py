"""A meta-step as a CUDA graph: its many small kernels are launched all at once, not one by one from Python.

Written from the documentation of `torch.cuda.graph`, and not yet run on a GPU. A step can be captured if it reads
nothing back to the processor, makes no tensor from Python's numbers, draws nothing, and never branches on a value.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from snn_anml.meta.published import Drawings, MetaStep
from snn_anml.networks.published import Weights

WARM_UPS = 3  # before the capture, as torch's own wrapper does: libraries set themselves up on first use

Step = Callable[[Weights, Drawings], MetaStep]


class _Captured(NamedTuple):
    """A graph, the buffers that it reads from, and those that it writes to."""

    graph: torch.cuda.CUDAGraph
    inputs: dict[str, Tensor]
    result: MetaStep


def _captured(step: Step, weights: Weights, drawings: Drawings) -> _Captured:
    """Warms up on a side stream and captures there, since what the warm-up sets up belongs to a stream."""
    inputs = _copies(_inputs(weights, drawings))
    buffers = {name: inputs[name] for name in weights}, Drawings(inputs["pictures"], inputs["labels"], *drawings[2:])
    graph, side = torch.cuda.CUDAGraph(), torch.cuda.Stream(drawings.labels.device)
    current = torch.cuda.current_stream(drawings.labels.device)
    side.wait_stream(current)
    with torch.cuda.stream(side):
        for _ in range(WARM_UPS):
            step(*buffers)
    current.wait_stream(side)
    with torch.cuda.graph(graph, stream=side):
        result = step(*buffers)
    return _Captured(graph, inputs, result)


def _inputs(weights: Weights, drawings: Drawings) -> dict[str, Tensor]:
    return {**weights, "pictures": drawings.pictures, "labels": drawings.labels}


def _copies(tensors: Weights) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


class Graphed:
    """Calls a meta-step: through its graph, captured anew when shapes change, or as it is where there is no GPU."""

    def __init__(self) -> None:
        self._shapes, self._last = None, None

    def __call__(self, step: Step, weights: Weights, drawings: Drawings) -> MetaStep:
        """The step's result; `step` must be the same function of weights and drawings at every call."""
        if drawings.labels.device.type != "cuda":
            return step(weights, drawings)
        inputs = _inputs(weights, drawings)
        shapes = drawings[2:], {name: (x.shape, x.dtype, x.device) for name, x in inputs.items()}
        if self._last is None or shapes != self._shapes:
            self._last = None  # it gives its memory back before the next takes some
            self._shapes, self._last = shapes, _captured(step, weights, drawings)
        graph, buffers, (loss, accuracy, gradient, adapted) = self._last
        for name, buffer in buffers.items():
            buffer.copy_(inputs[name])
        graph.replay()
        return MetaStep(loss.clone(), accuracy.clone(), _copies(gradient), adapted and _copies(adapted))
