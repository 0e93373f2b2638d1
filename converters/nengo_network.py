"""The graph as a readable Nengo network; the labels are the names of the graph's nodes.

    input, a dense bias     a Node with an output
    synapse, pool           a pass-through Node with the summed current, fed by a transform and a bias
    activation, neuron      an Ensemble, entered and left through its neurons (no encoders, no decoders)
    gate, maximum           a `GateNode`, a `MaxPoolNode`

No connection has a synapse, so a value crosses the whole network within one step. One step of the graph is
one time step with dt = 1, so that a spike is 1 high.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np

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
    Quantize,
    Readout,
    gate_index,
)
from converters.interpreter import windows_of
from converters.passes import plain
from converters.recorder import observed
from snn_anml.errors import MissingExtraError, UserError

DT = 1.0


def import_nengo() -> ModuleType:
    """Nengo, or `MissingExtraError`. Its old imports warn on newer Pythons; that is silenced here alone."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            import nengo
    except ImportError:
        raise MissingExtraError("The Nengo backend", "nengo") from None
    return nengo


@contextmanager
def _settings(*changes: tuple[str, str, str]) -> Iterator[None]:
    """Nengo's settings (section, option, value) inside, and what they were before outside."""
    rc = import_nengo().rc
    before = [(section, option, rc.get(section, option)) for section, option, _ in changes]
    for change in changes:
        rc.set(*change)
    try:
        yield
    finally:
        for change in before:
            rc.set(*change)


NO_DECODER_CACHE = ("decoder_cache", "enabled", "False")


def without_decoder_cache() -> AbstractContextManager[None]:
    """Networks of ours have no decoders to keep, and several processes would wait for the lock of their cache."""
    return _settings(NO_DECODER_CACHE)


def single_precision() -> AbstractContextManager[None]:
    """Numbers of 32 bits inside, and no cache of decoders (see `without_decoder_cache`)."""
    return _settings(("precision", "bits", "32"), NO_DECODER_CACHE)


class StepInput:
    """The output of the input Node: the encoded sample of the present step.

    Attributes:
        data: (T or 1, n) float32; set it before a run.
        dt: time step of the simulator, s.
    """

    def __init__(self, n: int, dt: float = DT) -> None:
        self.data: np.ndarray = np.zeros((1, n), np.float32)
        self.dt = dt

    def __call__(self, t: float) -> np.ndarray:
        step = round(t / self.dt) - 1  # Nengo's first step ends at t = dt
        return self.data[max(step, 0) % len(self.data)]


@dataclass
class NengoExport:
    """A network with what is needed to run it.

    Attributes:
        network: the `nengo.Network`.
        input: the input Node; its output is a `StepInput`.
        spikes: probe of every `LIF` node.
        membrane: probe of every `LIF` node.
        values: probe of every other recorded node.
        output: probe of what the `Readout` averages over the steps.
    """

    network: Any
    input: Any
    spikes: dict[str, Any] = field(default_factory=dict)
    membrane: dict[str, Any] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    output: Any = None


def to_nengo(graph: Graph) -> Any:
    """The graph as a `nengo.Network` to look at, to change, or to run with any simulator at dt = 1 and float32."""
    return export(graph).network


def export(graph: Graph, record: bool = True) -> NengoExport:
    """Builds the network with a probe on the output and, if `record`, on everything that a `Recording` holds.

    Raises:
        MissingExtraError: Nengo is not installed.
    """
    nengo = import_nengo()
    with single_precision(), nengo.Network(label="snn-anml graph", seed=0) as network:
        builder = NetworkBuilder(nengo, graph)
        for node in graph.nodes:
            builder.add(node)
        made = NengoExport(network, builder.outputs[graph.nodes[0].name])
        if record:
            for node in graph.of_type(LIF):
                made.spikes[node.name] = nengo.Probe(builder.outputs[node.name], label=f"{node.name}.spikes")
                made.membrane[node.name] = nengo.Probe(
                    builder.outputs[node.name], "voltage", label=f"{node.name}.membrane"
                )
            for name in observed(graph):
                made.values[name] = nengo.Probe(builder.outputs[name], label=f"{name}.values")
        readout = graph.nodes[-1]
        made.output = nengo.Probe(builder.outputs[readout.name], label=f"{readout.name}.values")
    return made


class NetworkBuilder:
    """Adds one node of the graph after the other.

    Attributes:
        outputs: what connections and probes read, by the name of the node.
    """

    def __init__(self, nengo: ModuleType, graph: Graph) -> None:
        from converters import nengo_neurons, nengo_nodes

        self.nengo, self.graph = nengo, graph
        self.neurons, self.nodes = nengo_neurons, nengo_nodes
        self.outputs: dict[str, Any] = {}

    def add(self, node: Any) -> None:
        """Adds a node whose inputs were added before."""
        sources = [self.outputs[name] for name in node.inputs]
        if isinstance(node, Input):
            n = self.graph.size(node.name)
            output = self.nengo.Node(StepInput(n), size_out=n, label=node.name)
        elif isinstance(node, Conv2d):
            output = self._conv2d(node, sources[0])
        elif isinstance(node, Affine):
            output = self._relay(node.name, node.name)
            self._connect(sources[0], output, node.weight)
            self._bias(node.name, node.bias, output, None)
        elif isinstance(node, AvgPool2d):
            output = self._avg_pool2d(node, sources[0])
        elif isinstance(node, MaxPool2d):
            output = self.nodes.MaxPoolNode(node, self.graph.shapes[node.inputs[0]])
            self._connect(sources[0], output)
        elif isinstance(node, Gate):
            output = self.nodes.GateNode(self.graph.size(node.name), label=node.name)
            self._connect(sources[0], output[: output.size_out])
            index = gate_index(self.graph, node)
            per_neuron = np.array_equal(index, np.arange(self.graph.size(node.inputs[1])))
            self._connect(sources[1] if per_neuron else sources[1][index.tolist()], output[output.size_out :])
        elif isinstance(node, Readout):
            output = self._relay(node.name, node.name)
            self._connect(sources[0], output)
        elif isinstance(node, (Activation, Quantize, LIF, Integrator)):
            n = self.graph.size(node.name)
            ensemble = self.nengo.Ensemble(
                n,
                1,
                neuron_type=self._neuron_type(node),
                gain=np.ones(n),
                bias=np.zeros(n),
                encoders=np.ones((n, 1)),
                label=node.name,
            )
            output = ensemble.neurons
            self._connect(sources[0], output)
        else:
            raise UserError(f"{node.name} is a {type(node).__name__}, which cannot be exported to Nengo.")
        self.outputs[node.name] = output

    def _neuron_type(self, node: Activation | Quantize | LIF | Integrator) -> Any:
        if isinstance(node, LIF):
            kind = self.neurons.LIF_TYPES[node.reset, node.reset_delay]
            return kind(beta=node.beta, threshold=node.threshold)
        if isinstance(node, Integrator):
            return self.neurons.LeakyIntegrator(beta=node.beta)
        if isinstance(node, Quantize):
            return self.neurons.Quantizer(step_size=node.step, levels=node.levels)
        if node.function == "relu":
            return self.nengo.RectifiedLinear()
        if node.function == "sigmoid":
            return self.nengo.Sigmoid(tau_ref=1.0)  # its rate is 1 / tau_ref / (1 + exp(-x))
        return self.neurons.HardSigmoid()

    def _relay(self, label: str, of: str) -> Any:
        return self.nengo.Node(size_in=self.graph.size(of), label=label)

    def _connect(self, pre: Any, post: Any, transform: Any = None) -> None:
        options = {} if transform is None else {"transform": transform}
        self.nengo.Connection(pre, post, synapse=None, **options)

    def _bias(self, name: str, bias: np.ndarray, post: Any, index: np.ndarray | None) -> None:
        """Adds a constant to a current. A sum of two terms has one rounding, whichever comes first."""
        if bias.any():
            node = self.nengo.Node(bias, label=f"{name}.bias")
            self._connect(node if index is None else node[index.tolist()], post)

    def _conv2d(self, node: Conv2d, source: Any) -> Any:
        """Pads by copying into a larger relay: `padding="same"` starts its windows elsewhere if the stride is 2.

        Nengo 3.2 knows neither groups nor dilation.
        """
        node = plain(node)
        nengo, (channels, height, width) = self.nengo, self.graph.shapes[node.inputs[0]]
        pad_h, pad_w = node.padding
        shape = (channels, height + 2 * pad_h, width + 2 * pad_w)
        if node.padding != (0, 0):
            padded = nengo.Node(size_in=int(np.prod(shape)), label=f"{node.name}.padded")
            inside = np.arange(int(np.prod(shape))).reshape(shape)
            inside = inside[:, pad_h : pad_h + height, pad_w : pad_w + width]
            self._connect(source, padded[inside.ravel().tolist()])
            source = padded
        output = self._relay(node.name, node.name)
        transform = nengo.Convolution(
            n_filters=len(node.weight),
            input_shape=shape,
            kernel_size=node.weight.shape[2:],
            strides=node.stride,
            padding="valid",
            channels_last=False,
            init=node.weight.transpose(2, 3, 1, 0),
        )
        self._connect(source, output, transform)
        out, *size = self.graph.shapes[node.name]
        self._bias(node.name, node.bias, output, np.repeat(np.arange(out), int(np.prod(size))))
        return output

    def _avg_pool2d(self, node: AvgPool2d, source: Any) -> Any:
        """A sum over each window, then one product: the sum of spikes is exact, and is rounded once."""
        shape, out = self.graph.shapes[node.inputs[0]], self.graph.shapes[node.name]
        inputs = np.arange(int(np.prod(shape))).reshape(shape)
        windows = windows_of(inputs, node.kernel)
        windows = windows[:, :: node.stride[0], :: node.stride[1]].reshape(int(np.prod(out)), -1)
        rows = np.repeat(np.arange(len(windows)), windows.shape[1])
        indices = np.stack([rows, windows.ravel()], axis=1)
        total = self._relay(f"{node.name}.sum", node.name)
        ones = np.ones(len(indices), np.float32)
        self._connect(source, total, self.nengo.Sparse((len(windows), inputs.size), indices=indices, init=ones))
        output = self._relay(node.name, node.name)
        self._connect(total, output, np.float32(1 / np.prod(node.kernel)))
        return output
