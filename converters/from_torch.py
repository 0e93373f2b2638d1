"""From a torch module to a graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from torch import Tensor, nn

import converters.anml
import converters.torch_modules
import converters.torch_neurons  # noqa: F401  all three register the modules that are known from the start
from converters.graph import Encoding, Graph, Readout, Shape
from converters.graph_builder import GraphBuilder, Wire, lowering, supported
from snn_anml.errors import UserError

__all__ = ["GraphBuilder", "Wire", "from_torch", "lowering", "supported"]


@runtime_checkable
class KnowsItsInput(Protocol):
    """A module that says by itself what a sample is and how long it is looked at, as `snn_anml.ANML` does."""

    @property
    def steps(self) -> int: ...
    @property
    def encoding(self) -> Encoding: ...
    @property
    def input_shape(self) -> Shape: ...


def from_torch(
    module: nn.Module,
    *,
    steps: int | None = None,
    example_input: Tensor | np.ndarray | None = None,
    encoding: Encoding | None = None,
    order: Sequence[str | nn.Module] | None = None,
) -> Graph:
    """Converts a module, which must be in evaluation mode, to a graph.

    The graph's output is the mean over the steps of what the module returns at each step (for a last layer of
    spiking neurons, of their spikes). All neurons start from 0.

    Args:
        module: an `snn_anml.ANML`; or a `torch.nn.Sequential`, nested at will, of the classes in `supported()`; or
            any module of such, if the order in which it runs them is stated, here or in its `forward_order`.
        steps: T, number of time steps; may be left out for a module that knows it, as ANML does.
        example_input: (B, ...), only for the shape of one sample; likewise. (B, channels, length) for `Conv1d`. With
            encoding `spikes` it is (B, T, ...), samples first; snnTorch has steps first: `x.transpose(0, 1)`.
        encoding: how a sample enters, see `snn_anml.encoding`, or `spikes` for samples that are spike trains, see
            `converters.events`; likewise, otherwise `constant`.
        order: the modules that one step of the module runs, each fed by the one before: dotted names, and modules
            where forward calls a function instead, as in `["conv1", "lif1", nn.Flatten(), "fc1", "lif2"]`. A
            module says the same by an attribute, or a method without arguments, `forward_order`. It is taken at its
            word: forward is not run, so that a sum or a loop within it goes unseen.

    Returns:
        The graph; nodes are named after the modules' paths.

    Raises:
        UserError: a module, or an option of a module, that cannot be converted exactly; it is named. An order that
            names what is not there, or leaves out what is. Or steps or example_input left out for a module that
            does not know them.
    """
    if isinstance(module, KnowsItsInput):
        steps = module.steps if steps is None else steps
        encoding = module.encoding if encoding is None else encoding
        shape = module.input_shape if example_input is None else _shape_of(example_input, encoding, steps)
    elif steps is None or example_input is None:
        raise UserError(
            f"A {type(module).__name__} does not say how it is run; give from_torch steps=T and example_input=x."
        )
    else:
        shape = _shape_of(example_input, encoding, steps)
    builder = GraphBuilder(encoding or "constant", shape)
    if order is None:
        last = builder.lower(module, builder.input)
    else:
        last = builder.lower_in_order(module, order, builder.input)
    builder.add(Readout, last, name="readout")
    return Graph(tuple(builder.nodes.values()), steps)


def _shape_of(example_input: Tensor | np.ndarray, encoding: Encoding | None, steps: int) -> Shape:
    """Of one sample at one step."""
    shape = tuple(int(n) for n in example_input.shape)
    if encoding != "spikes":
        if len(shape) < 2:
            raise UserError(f"example_input has shape {shape}; give a batch of samples, (samples, ...).")
        return shape[1:]
    if len(shape) < 3 or shape[1] != steps:
        raise UserError(
            f"example_input has shape {shape}, but spike trains are (samples, {steps}, ...) for steps={steps}; of "
            "(T, samples, ...), as snnTorch has them, give x.transpose(0, 1)."
        )
    return shape[2:]
