"""The graph in `torch.nn.functional`, float32 on the CPU: the arithmetic that the network was trained with."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from converters.dynamics import integrator_step, lif_step
from converters.graph import (
    LIF,
    Activation,
    Affine,
    AvgPool2d,
    Conv2d,
    Gate,
    Graph,
    Input,
    Integrator,
    MaxPool2d,
    Node,
    Quantize,
    Readout,
    gate_index,
)
from converters.recorder import Recorder
from converters.recording import Recording
from snn_anml.errors import UserError

NAME = "torch"


def activation(x: Tensor, function: str) -> Tensor:
    """`relu`, `sigmoid` or `hard_sigmoid` of `converters.graph.Activation`."""
    if function == "relu":
        return x.relu()
    if function == "hard_sigmoid":
        return (x * 0.25 + 0.5).clamp(0, 1)
    return x.sigmoid()


class TorchEngine:
    """Runs a graph step by step; the parameters are tensors made once."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.parameters = {
            node.name: {
                key: torch.from_numpy(np.array(value))
                for key, value in vars(node).items()
                if isinstance(value, np.ndarray)
            }
            for node in graph.nodes
        }
        self.index = {
            node.name: torch.from_numpy(gate_index(graph, node)) for node in graph.nodes if isinstance(node, Gate)
        }

    @torch.no_grad()
    def run(self, encoded: np.ndarray) -> Recording:
        """Runs from rest; encoded (T or 1, b, *shape) float32."""
        graph, samples = self.graph, encoded.shape[1]
        x = torch.from_numpy(np.ascontiguousarray(encoded))
        recorder = Recorder(graph, samples)
        outputs: dict[str, Tensor] = {}
        state = {node.name: torch.zeros(samples, graph.size(node.name)) for node in graph.of_type(LIF, Integrator)}
        for t in range(graph.steps):
            for node in graph.nodes:
                if t == 0 or node.name not in graph.static:
                    outputs[node.name] = self._compute(node, outputs, state, x[t % len(x)])
            recorder.step(
                t,
                {name: value.numpy() for name, value in outputs.items()},
                {name: value.numpy() for name, value in state.items()},
            )
        return recorder.recording(NAME)

    def close(self) -> None:
        """Holds nothing."""

    def _compute(self, node: Node, outputs: dict[str, Tensor], state: dict[str, Tensor], encoded: Tensor) -> Tensor:
        sources = [outputs[name] for name in node.inputs]
        of = self.parameters[node.name]
        if isinstance(node, Input):
            return encoded.view(len(encoded), *self.graph.shapes[node.name])
        if isinstance(node, Conv2d):
            weight, bias = of["weight"], of["bias"]
            return F.conv2d(sources[0], weight, bias, node.stride, node.padding, node.dilation, node.groups)
        if isinstance(node, Affine):
            return F.linear(sources[0].flatten(1), of["weight"], of["bias"])
        if isinstance(node, AvgPool2d):
            total = F.avg_pool2d(sources[0], node.kernel, node.stride, divisor_override=1)
            return total * float(np.float32(1 / np.prod(node.kernel)))
        if isinstance(node, MaxPool2d):
            return F.max_pool2d(sources[0], node.kernel, node.stride, node.padding)
        if isinstance(node, Activation):
            return activation(sources[0], node.function)
        if isinstance(node, Quantize):
            return node.step * (sources[0] / node.step).round().clamp(0, node.levels)
        if isinstance(node, Gate):
            values = sources[1].flatten(1)[:, self.index[node.name]]
            return sources[0] * values.view_as(sources[0])
        if isinstance(node, LIF):
            spikes, state[node.name] = lif_step(
                state[node.name],
                sources[0].flatten(1),
                of["beta"],
                of["threshold"],
                node.reset,
                node.reset_delay,
                Tensor.float,
            )
            return spikes.view_as(sources[0])
        if isinstance(node, Integrator):
            state[node.name] = integrator_step(state[node.name], sources[0].flatten(1), of["beta"])
            return state[node.name].view_as(sources[0])
        if isinstance(node, Readout):
            return sources[0]
        raise UserError(f"{node.name} is a {type(node).__name__}, which the torch backend does not know.")


def build(graph: Graph, minibatch: int) -> TorchEngine:
    """The engine of backend `torch`; any minibatch will do."""
    return TorchEngine(graph)
