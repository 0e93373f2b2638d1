"""From a torch module to a graph."""

from __future__ import annotations

import numpy as np
from torch import Tensor, nn

import converters.torch_modules  # noqa: F401  registers the modules that are known from the start
from converters.graph import Encoding, Graph, Readout
from converters.graph_builder import GraphBuilder, Wire, lowering, supported
from snn_anml.errors import UserError

__all__ = ["GraphBuilder", "Wire", "from_torch", "lowering", "supported"]


def from_torch(
    module: nn.Module, *, steps: int, example_input: Tensor | np.ndarray, encoding: Encoding = "constant"
) -> Graph:
    """Converts a module, which must be in evaluation mode, to a graph.

    The graph's output is the mean over the steps of what the module returns at each step (for a last layer of
    `snntorch.Leaky`, of its spikes).

    Args:
        module: a `torch.nn.Sequential`, nested at will, of the classes in `supported()`.
        steps: T, number of time steps.
        example_input: (B, ...), only for the shape of one sample.
        encoding: how a sample enters, see `snn_anml.encoding`.

    Returns:
        The graph; nodes are named after the modules' paths.

    Raises:
        UserError: a module, or an option of a module, that cannot be converted exactly; it is named.
    """
    if len(example_input.shape) < 2:
        shape = tuple(example_input.shape)
        raise UserError(f"example_input has shape {shape}; give a batch of samples, (samples, ...).")
    builder = GraphBuilder(encoding, tuple(int(n) for n in example_input.shape[1:]))
    last = builder.lower(module, builder.input)
    builder.add(Readout, last, name="readout")
    return Graph(tuple(builder.nodes.values()), steps)
