"""A graph as nodes of NIR, and what those have no room for as metadata.

    Input, Readout          Input; Output, without the mean
    Conv2d                  Conv2d, or Conv1d in a network of samples (channels, length)
    Affine                  Affine, behind a Flatten where its input is no vector
    AvgPool2d               AvgPool2d
    MaxPool2d               AvgPool2d, so that shapes are right
    LIF                     LIF, or LI and Threshold where it has no reset
    Integrator              LI; one that feeds a single LIF alone makes it a CubaLIF (without reset: CubaLI, Threshold)
    Gate                    Scale: by the gate where it is a constant (`converters.gates`), otherwise by 1
    Activation, Quantize    Scale by 1
    a node that none reads  and an Output

Neurons are those of NIR's differential equation under forward Euler with time step dt, as snnTorch reads them:

    tau = dt / (1 - beta),  r = tau / dt,  v_leak = v_reset = 0,  v_threshold = threshold

so that beta = 1 - dt / tau and the current enters with the weight r dt / tau = 1; likewise tau_syn, and w_in =
tau_syn / dt. Parameters of neurons are float64 arrays of the layer's full shape, weights are float32 as in the graph.

Under `snn_anml` the metadata of the file hold the graph but for its weights: its description with the schema version,
its hash, dt, T, the encoding, and the parameters of neurons as the graph has them. A neuron's own metadata name its
reset, those of a gate the node it is driven by, those of an activation or a maximum the function, those of a `Quantize`
its step and levels. `converters.nir_read` reads it all back.
"""

from __future__ import annotations

import json
from types import ModuleType
from typing import Any
from urllib.parse import quote

import numpy as np

from converters.gates import constant_gate, hidden_constants
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
    Shape,
)
from converters.graph_io import FORMAT, graph_hash, take_apart
from snn_anml.errors import MissingExtraError, UserError

KEY = "snn_anml"
"""Of the file's metadata."""

NEVER = 2.0**60
"""tau / dt of a neuron that does not leak: 1 - dt / tau is 1 in float64, and the weight of the current still is."""


def import_nir() -> ModuleType:
    """The package nir, or `MissingExtraError`."""
    try:
        import nir
    except ImportError:
        raise MissingExtraError("A NIR file", "nir") from None
    return nir


def to_nir(graph: Graph, dt: float) -> Any:
    """The `nir.NIRGraph` that `save_nir` writes."""
    writer = _Writer(import_nir(), graph, dt)
    for node in graph.nodes:
        writer.add(node)
    return writer.finish()


def node_key(name: str) -> str:
    """Name of a node as HDF5 takes it: `/` would make a folder, and `.` is one."""
    return "%" + name if name in ("", ".") else quote(name, safe=" ")


def readers(graph: Graph) -> dict[str, list[Node]]:
    """For every node, those that read it."""
    found: dict[str, list[Node]] = {node.name: [] for node in graph.nodes}
    for node in graph.nodes:
        for name in dict.fromkeys(node.inputs):
            found[name].append(node)
    return found


def fused_synapses(graph: Graph) -> dict[str, Integrator]:
    """Integrators that are the synaptic current of one LIF and of nothing else, by their names."""
    read_by = readers(graph)
    return {
        node.name: node
        for node in graph.nodes
        if isinstance(node, Integrator) and [type(reader) for reader in read_by[node.name]] == [LIF]
    }


def is_long(graph: Graph) -> bool:
    """Whether samples are (channels, length) and all layers are such as NIR has for them."""
    first = graph.nodes[0]
    flat = all(
        (n.weight.shape[2], n.stride[0], n.padding[0]) == (1, 1, 0) for n in graph.nodes if isinstance(n, Conv2d)
    )
    return isinstance(first, Input) and len(first.shape) == 2 and flat and not graph.of_type(AvgPool2d, MaxPool2d)


class _Writer:
    """Adds one node of the graph after the other; `ends` are the keys of what sends a node's value."""

    def __init__(self, nir: ModuleType, graph: Graph, dt: float) -> None:
        self.nir, self.graph, self.dt = nir, graph, dt
        self.long = is_long(graph)
        self.hidden, self.fused = hidden_constants(graph), fused_synapses(graph)
        self.reserved = {node_key(node.name) for node in graph.nodes}
        self.nodes: dict[str, Any] = {}
        self.edges: list[tuple[str, str]] = []
        self.ends: dict[str, str] = {}
        self.flat: dict[str, str] = {}
        self.tensors: dict[str, Any] = {}

    def add(self, node: Node) -> None:
        if isinstance(node, (LIF, Integrator)) or node.name in self.hidden:
            self._keep(node)
        if node.name in self.hidden:
            return
        source = self.ends[node.inputs[0]] if node.inputs else None
        if node.name not in self.fused:
            if isinstance(node, Affine) and len(self._shape(node.inputs[0])) > 1:
                source = self._flattened(node.inputs[0])
            *inner, outer = self._made(node)
            for made in inner:
                source = self._put(self._unused(f"{node_key(node.name)}.membrane"), made, source)
            source = self._put(node_key(node.name), outer, source)
        assert source is not None
        self.ends[node.name] = source

    def finish(self) -> Any:
        """The NIR graph, in which every value that nothing reads has an Output."""
        read = {source for source, _ in self.edges}
        for name, key in self.ends.items():
            if key not in read and not isinstance(self.nodes[key], self.nir.Output):
                self._put(self._unused(f"{key}.output"), self.nir.Output(np.array(self._shape(name))), key)
        first = self.graph.nodes[0]
        assert isinstance(first, Input)
        description = take_apart(self.graph)[0]
        metadata = {
            "format": FORMAT,
            "schema": json.loads(description)["schema"],
            "graph": description,
            "sha256": graph_hash(self.graph),
            "dt": np.float64(self.dt),
            "steps": self.graph.steps,
            "encoding": first.encoding,
            "tensors": self.tensors,
        }
        # nir's own check refuses groups and kernels that are not square.
        return self.nir.NIRGraph(self.nodes, self.edges, {KEY: metadata}, type_check=False)

    def _put(self, key: str, made: Any, source: str | None) -> str:
        self.nodes[key] = made
        if source is not None:
            self.edges.append((source, key))
        return key

    def _unused(self, key: str) -> str:
        while key in self.reserved or key in self.nodes:
            key += "_"
        return key

    def _shape(self, name: str) -> Shape:
        """Of a node's value in the file."""
        shape = self.graph.shapes[name]
        return (shape[0], shape[2]) if self.long and len(shape) == 3 else shape

    def _keep(self, node: Node) -> None:
        """Puts the arrays of a node into the metadata; HDF5 compresses no scalars, unless they are numpy's."""
        for field, value in vars(node).items():
            if isinstance(value, np.ndarray):
                self.tensors[quote(f"{node.name}.{field}", safe=" ")] = value if value.ndim else value[()]

    def _flattened(self, name: str) -> str:
        """Key of the value as a vector, made when first asked for."""
        if name not in self.flat:
            made = self.nir.Flatten(np.array(self._shape(name)), start_dim=0, end_dim=-1)
            self.flat[name] = self._put(self._unused(f"{self.ends[name]}.flatten"), made, self.ends[name])
        return self.flat[name]

    def _made(self, node: Node) -> list[Any]:
        """The NIR nodes of a node, in a row."""
        nir, shape = self.nir, self._shape(node.name)
        if isinstance(node, Input):
            return [nir.Input(np.array(shape))]
        if isinstance(node, Readout):
            return [nir.Output(np.array(shape))]
        if isinstance(node, Affine):
            return [nir.Affine(node.weight, node.bias)]
        if isinstance(node, Conv2d):
            return [self._convolution(node)]
        if isinstance(node, AvgPool2d):
            return [nir.AvgPool2d(np.array(node.kernel), np.array(node.stride), np.zeros(2, int))]
        if isinstance(node, MaxPool2d):
            windows = (np.array(option) for option in (node.kernel, node.stride, node.padding))
            return [nir.AvgPool2d(*windows, metadata={"function": "maximum"})]
        if isinstance(node, Gate):
            values = constant_gate(self.graph, node)
            scale = np.ones(shape, np.float32) if values is None else values.reshape(shape)
            return [nir.Scale(scale, metadata={"gate": node.inputs[1]})]
        if isinstance(node, Activation):
            return [nir.Scale(np.ones(shape, np.float32), metadata={"function": node.function})]
        if isinstance(node, Quantize):
            return [nir.Scale(np.ones(shape, np.float32), metadata={"step": node.step, "levels": node.levels})]
        if isinstance(node, Integrator):
            tau = self._time_constant(node.beta, shape)
            return [nir.LI(tau, tau / self.dt, np.zeros(shape))]
        if isinstance(node, LIF):
            return self._neuron(node, shape)
        raise UserError(f"{node.name} is a {type(node).__name__}, which cannot be written to NIR.")

    def _neuron(self, node: LIF, shape: Shape) -> list[Any]:
        nir, rest = self.nir, np.zeros(shape)
        tau = self._time_constant(node.beta, shape)
        threshold = self._full(node.threshold, shape)
        membrane = {"r": tau / self.dt, "v_leak": rest}
        synapse = self.fused.get(node.inputs[0])
        if synapse is None:
            membrane["tau"] = tau
        else:
            tau_syn = self._time_constant(synapse.beta, shape)
            membrane |= {"tau_mem": tau, "tau_syn": tau_syn, "w_in": tau_syn / self.dt}
        metadata = {"reset": node.reset, "reset_delay": node.reset_delay}
        if node.reset == "none":
            leaky = nir.LI if synapse is None else nir.CubaLI
            return [leaky(**membrane), nir.Threshold(threshold, metadata=metadata)]
        firing = nir.LIF if synapse is None else nir.CubaLIF
        return [firing(**membrane, v_threshold=threshold, v_reset=rest, metadata=metadata)]

    def _convolution(self, node: Conv2d) -> Any:
        size = self._shape(node.inputs[0])[1:]
        options = (node.stride, node.padding, node.dilation)
        if not self.long:
            return self.nir.Conv2d(size, node.weight, *options, node.groups, node.bias)
        along = (option[1] for option in options)
        return self.nir.Conv1d(size[0], node.weight[:, :, 0], *along, node.groups, node.bias)

    def _time_constant(self, beta: np.ndarray, shape: Shape) -> np.ndarray:
        """`dt / (1 - beta)`, s."""
        leak = 1 - self._full(beta, shape)
        return self.dt / np.where(leak == 0, 1 / NEVER, leak)

    def _full(self, value: np.ndarray, shape: Shape) -> np.ndarray:
        return np.array(np.broadcast_to(value.astype(np.float64), int(np.prod(shape)))).reshape(shape)
