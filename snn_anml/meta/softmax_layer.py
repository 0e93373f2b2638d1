"""A softmax layer that learns one drawing after another: cross-entropy, one step of SGD or Adam each.

    p = softmax(W x),  e = p - 1[own],  W <- W - step(e x^T)

With hundreds of rows and thousands of drawings this is most of a meta-test. It runs as C++ (softmax_layer.cpp) where
that can be compiled, and by its definition where not; they differ by rounding.
"""

from __future__ import annotations

import math
from ctypes import c_double, c_int64, c_void_p
from pathlib import Path

import torch
from torch import Tensor

from snn_anml import compiled

ADAM_BETAS, ADAM_EPS = (0.9, 0.999), 1e-8  # Kingma & Ba 2015, the values recommended there
SOURCE = Path(__file__).with_suffix(".cpp")


class SoftmaxLayer:
    """Weights and what the optimiser keeps of each.

    Args:
        weights: (rows, F), changed in place; compiled where they are float32, contiguous and on the CPU.
        learning_rate: dimensionless.
        adam: Adam (Kingma & Ba 2015, algorithm 1) and not SGD.
    """

    def __init__(self, weights: Tensor, learning_rate: float, adam: bool) -> None:
        self.weights, self.learning_rate, self.steps = weights, learning_rate, 0
        self.moments = [torch.zeros_like(weights), torch.zeros_like(weights)] if adam else []

    def copy_row(self, source: int, target: int) -> None:
        """Makes one row and its moments those of another."""
        for tensor in (self.weights, *self.moments):
            tensor[target] = tensor[source]

    def learn(self, rows: slice, inputs: Tensor, own: Tensor, waiting: int = 0) -> None:
        """Learns inputs (n, F) in turn.

        Args:
            rows: that compete; the others stay as they are.
            inputs: like the weights.
            own: (n,) int64, the right row of each, counted from the first of `rows`.
            waiting: number of equal outputs that the first of `rows` stands for; 0 for itself alone.

        Raises:
            IndexError: a right row that there is not.
        """
        now = [tensor[rows] for tensor in (self.weights, *self.moments)]
        if len(own) and not 0 <= int(own.min()) <= int(own.max()) < len(now[0]):
            raise IndexError(f"own holds {int(own.min())} to {int(own.max())}; there are {len(now[0])} rows.")
        library = compiled.library(SOURCE, "Heads learn step by step, several times slower")
        if library is None or not _compiled_for(inputs, own, *now):
            _learn_by_definition(self, rows, inputs, own, waiting)
        else:
            error = torch.empty(len(now[0]))
            first, second = (c_void_p(moment.data_ptr()) for moment in now[1:]) if self.moments else (None, None)
            library.learn(
                *(c_void_p(now[0].data_ptr()), first, second),
                *(c_void_p(tensor.data_ptr()) for tensor in (error, inputs, own)),
                *(c_int64(size) for size in (len(inputs), len(now[0]), inputs.shape[1], waiting)),
                *(c_double(self.learning_rate), c_int64(self.steps)),
                *(c_double(constant) for constant in (*ADAM_BETAS, ADAM_EPS)),
            )
        self.steps += len(inputs)


def _compiled_for(inputs: Tensor, own: Tensor, *now: Tensor) -> bool:
    """Whether the compiled loop takes these tensors."""
    tensors = (inputs, own, *now)
    plain = all(tensor.device.type == "cpu" and tensor.is_contiguous() for tensor in tensors)
    return plain and own.dtype == torch.int64 and {inputs.dtype, *(each.dtype for each in now)} == {torch.float32}


def _learn_by_definition(layer: SoftmaxLayer, rows: slice, inputs: Tensor, own: Tensor, waiting: int) -> None:
    now = layer.weights[rows]
    multiplicity = now.new_ones(len(now))
    if waiting:
        multiplicity[0] = waiting
    for steps, (x, i) in enumerate(zip(inputs.unbind(), own.tolist(), strict=True), layer.steps + 1):
        error = torch.softmax(torch.addmv(multiplicity.log(), now, x), 0) / multiplicity
        error[i] -= 1
        if layer.moments:
            first, second = layer.moments[0][rows], layer.moments[1][rows]
            now.sub_(_adam(first, second, error, x, steps), alpha=layer.learning_rate)
        else:
            now.addr_(error, x, alpha=-layer.learning_rate)


def _adam(first: Tensor, second: Tensor, error: Tensor, x: Tensor, steps: int) -> Tensor:
    """The step for the gradient e x^T. Its rank is one, and so is that of its square, e^2 (x^2)^T: both moments are
    updated in one pass each."""
    (b1, b2), correction = ADAM_BETAS, math.sqrt(1 - ADAM_BETAS[1] ** steps)
    first.addr_(error, x, beta=b1, alpha=1 - b1)
    second.addr_(error * error, x * x, beta=b2, alpha=1 - b2)
    # m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps), with both corrections taken out of the division
    return first * (correction / (1 - b1**steps)) / (second.sqrt() + ADAM_EPS * correction)
