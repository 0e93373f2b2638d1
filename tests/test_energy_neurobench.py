"""Counts against NeuroBench 2.3 itself: networks of snnTorch and torch under its hooks, ours as graphs."""

from __future__ import annotations

import numpy as np
import pytest
import snntorch
import torch
from torch import nn

from converters import from_torch, simulate
from converters.energy import activation_sparsity, count
from converters.graph import LIF, SYNAPSES, Activation, Affine, Conv2d, Gate, Graph, Input, Readout
from experiments import pipeline
from experiments.run_data import held_out_drawings, load_data_of
from experiments.run_folder import RunFolder
from tests.from_torch_helpers import dyadic_model, samples

# Its modules are imported one by one: its `Benchmark`, a loop over a data loader, needs packages that these do not.
pytest.importorskip("neurobench.metrics.static", reason="neurobench is not installed (make setup does)")

from neurobench.metrics.static import ConnectionSparsity, Footprint
from neurobench.metrics.workload import ActivationSparsity, SynapticOperations
from neurobench.models import SNNTorchModel, TorchModel

NEURON_EXTRAS = 4 + 8
"""Bytes of what a Leaky of snnTorch stores beside beta, threshold and membrane: `graded_spikes_factor`, and the reset
as an int64."""


def measured(model, x):
    """What NeuroBench says of a network and its inputs: synaptic operations summed over all samples, and sparsity."""
    operations, sparsity = SynapticOperations(), ActivationSparsity()
    model.register_hooks()
    with torch.no_grad():
        predictions = model(x)
        data = (x, torch.zeros(len(x)))
        found = operations(model, predictions, data)
        found["sparsity"] = sparsity(model, predictions, data)
    model.cleanup_hooks()
    assert operations.total_samples == len(x)
    return found


def assert_same(graph, recording, found):
    """Means over samples are the quotients of the same integers, and so are shares: equal to the last bit."""
    counts = count(graph, recording)
    for name, theirs in {
        "effective_acs": "Effective_ACs",
        "effective_macs": "Effective_MACs",
        "dense": "Dense",
    }.items():
        assert int(counts.per_sample(name).sum()) / counts.samples == found[theirs], name
    assert activation_sparsity(graph, recording) == found["sparsity"]
    return counts


def random_layers(rng, neuron, pooled):
    """Convolutions of random shape, the second of them in groups, and two linear layers; the shape of a sample.

    neuron: makes the neurons behind a layer; `last` for the last ones.
    """

    def pair(low, high):
        return tuple(int(n) for n in rng.integers(low, high + 1, 2))

    shape = (int(rng.integers(1, 4)), *pair(9, 12))
    first = nn.Conv2d(shape[0], 4, pair(1, 4), pair(1, 2), pair(0, 2), pair(1, 2))
    second = nn.Conv2d(4, 6, pair(1, 2), pair(1, 2), pair(0, 1), groups=2, bias=False)
    layers = [first, neuron(), *([nn.AvgPool2d(2, 1)] if pooled else []), second, neuron(), nn.Flatten()]
    size = nn.Sequential(*[layer for layer in layers if not isinstance(layer, snntorch.Leaky)])(torch.zeros(1, *shape))
    layers += [nn.Linear(size.shape[1], 7), neuron(), nn.Linear(7, 3), neuron(last=True)]
    return layers, shape


def some_zero(model, rng):
    """Dyadic weights, of which about a third is zero."""
    dyadic_model(model, int(rng.integers(1000)))
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.weight.data *= torch.from_numpy(rng.random(module.weight.shape) < 0.7)
    return model


def leaky(last=False):
    return snntorch.Leaky(beta=0.5, threshold=0.5, init_hidden=True, output=last)


@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_spiking_network(seed, pooled):
    """Every spike is an accumulate; behind an average, which is no spike, there are multiply-accumulates."""
    rng = np.random.default_rng(seed)
    layers, shape = random_layers(rng, leaky, pooled)
    net = some_zero(nn.Sequential(*layers), rng)
    steps, batch = 5, 6
    x = torch.from_numpy(rng.random((batch, steps, *shape)) < 0.4).float()
    graph = from_torch(net, steps=steps, example_input=x, encoding="spikes")
    recording = simulate(graph, x)
    counts = assert_same(graph, recording, measured(SNNTorchModel(net), x))
    assert recording.spikes[graph.of_type(LIF)[-2].name].any()
    assert counts.per_sample("effective_acs").sum() > 0
    assert bool(counts.per_sample("effective_macs").sum()) == pooled
    assert counts.mean("effective_acs") + counts.mean("effective_macs") < counts.mean("dense")

    # snnTorch holds the membranes of the last batch, so that a footprint there grows with its size.
    neurons = len(graph.of_type(LIF))
    ours = counts.mean("parameter_bytes") + batch * counts.mean("state_bytes") + NEURON_EXTRAS * neurons
    absent = 4 * sum(len(layer.weight) for layer in layers if isinstance(layer, nn.Conv2d) and layer.bias is None)
    assert Footprint()(SNNTorchModel(net)) == ours - absent  # a graph stores the bias of zeros


@pytest.mark.parametrize("seed", range(6))
def test_conventional_network(seed):
    rng = np.random.default_rng(seed)

    def activation(last=False):
        return nn.Sigmoid() if last else nn.ReLU()

    layers, shape = random_layers(rng, activation, pooled=False)
    layers[3].bias = nn.Parameter(torch.zeros(6))
    net = some_zero(nn.Sequential(*layers, nn.Linear(3, 2)), rng)
    x = samples(seed, 6, *shape)
    graph = from_torch(net, steps=1, example_input=x)
    counts = assert_same(graph, simulate(graph, x), measured(TorchModel(net), x))
    assert counts.per_sample("effective_macs").sum() > 0
    assert counts.mean("parameter_bytes") == Footprint()(TorchModel(net))


@pytest.mark.parametrize("layer", [nn.Linear(20, 30), nn.Conv2d(2, 3, 3, stride=2)])
def test_connection_sparsity(layer):
    """Of one layer without padding, whose weights make equally many connections each; NeuroBench counts weights."""
    rng = np.random.default_rng(0)
    net = some_zero(nn.Sequential(layer), rng)
    x = samples(0, 2, *((20,) if isinstance(layer, nn.Linear) else (2, 7, 9)))
    graph = from_torch(net, steps=1, example_input=x)
    counts = count(graph, simulate(graph, x))
    share = 1 - counts.mean("connections_nonzero") / counts.mean("connections")
    assert 0.2 < share < 0.5
    assert round(float(share), 4) == pytest.approx(ConnectionSparsity()(TorchModel(net)), abs=1e-7)


class HardSigmoid(nn.Module):
    """That of a graph, which torch's is not."""

    def forward(self, x):
        return (x * 0.25 + 0.5).clamp(0, 1)


class Layers(nn.Module):
    """A graph in layers of torch and snnTorch, which NeuroBench can watch; what never changes is computed once."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph = graph
        made = {node.name.replace(".", "_"): self.layer(node) for node in graph.nodes}
        self.layers = nn.ModuleDict({name: layer for name, layer in made.items() if layer is not None})

    def layer(self, node):
        if isinstance(node, SYNAPSES):
            if isinstance(node, Conv2d):
                out, channels, *kernel = node.weight.shape
                layer = nn.Conv2d(channels, out, kernel, node.stride, node.padding)
            else:
                layer = nn.Linear(*reversed(node.weight.shape))
            layer.weight.data, layer.bias.data = torch.from_numpy(node.weight), torch.from_numpy(node.bias)
            return layer
        if isinstance(node, LIF):
            assert (node.reset, node.reset_delay) == ("subtract", True)
            return snntorch.Leaky(float(node.beta), float(node.threshold), init_hidden=True)
        if isinstance(node, Activation):
            return {"relu": nn.ReLU, "hard_sigmoid": HardSigmoid}[node.function]()
        assert isinstance(node, (Input, Gate, Readout))
        return None

    def forward(self, x):
        """x (B, *shape) to what the head says at every step, (T, B, classes)."""
        outputs, said = {}, []
        for t in range(self.graph.steps):
            for node in self.graph.nodes:
                if t == 0 or node.name not in self.graph.static:
                    outputs[node.name] = self.compute(node, [outputs[name] for name in node.inputs], x)
            said.append(outputs[self.graph.nodes[-1].name])
        return torch.stack(said)

    def compute(self, node, sources, x):
        if isinstance(node, Input):
            return x
        if isinstance(node, Readout):
            return sources[0]
        if isinstance(node, Gate):
            current, gate = sources
            return current * (gate[..., None, None] if gate.shape[1] == current.shape[1] else gate.view_as(current))
        layer = self.layers[node.name.replace(".", "_")]
        return layer(sources[0].flatten(1) if isinstance(node, Affine) else sources[0])


def test_trained_network(finished):
    """ANML as it was trained, with gates and its learned head: what it sees in drawings held out."""
    folder = RunFolder(finished)
    config = folder.require()
    model, classes = pipeline.exported(config, folder)
    x, _ = held_out_drawings(config, load_data_of(folder), classes, 12)
    graph = pipeline.to_graph(model)
    recording = simulate(graph, x, "torch")
    watched = SNNTorchModel(Layers(graph), custom_forward=True)
    watched.add_activation_module(HardSigmoid)
    with torch.no_grad():
        assert torch.equal(watched(x).mean(1), torch.from_numpy(recording.output))
    for layer in watched.net.layers.values():
        if isinstance(layer, snntorch.Leaky):
            layer.reset_mem()
    counts = assert_same(graph, recording, measured(watched, x))
    assert min(counts.per_sample("spikes")) > 0
    assert counts["head"].effective_acs.sum() > 0
    assert counts["nm.conv1"].effective_macs.sum() > 0


def test_many_operations_are_rounded_there():
    """NeuroBench adds up in float32, which above 2^24 operations a call does not hold every integer."""
    net = nn.Sequential(nn.Linear(1001, 1001))
    net[0].weight.data.fill_(1)
    x = torch.ones(17, 1001)
    graph = from_torch(net, steps=1, example_input=x)
    ours = int(count(graph, simulate(graph, x)).per_sample("effective_acs").sum())
    assert ours == 17 * 1001**2
    theirs = measured(TorchModel(net), x)["Effective_ACs"] * len(x)
    assert theirs != ours
    assert theirs == pytest.approx(ours, rel=1e-6)
