"""ANML as a graph: the same network, on every simulator."""

import numpy as np
import pytest
import torch

from converters import compare, from_torch, record_anml, simulate, snap
from converters.graph import LIF, Gate, part
from snn_anml import ANML, UserError, with_head
from snn_anml.config import NetworkConfig
from snn_anml.meta.heads import class_means
from snn_anml.neurons import AdaptiveLeaky
from tests.helpers import require


def trained_like(network, seed=0, size=12):
    """A network with running statistics and a learned head, as training leaves it."""
    model = ANML(network, 5, size=size, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _ in range(30):
            model.activity(pictures(16, seed + 1, size), generator)
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.uniform_(0.8, 1.6, generator=generator)
                module.bias.uniform_(-0.2, 0.4, generator=generator)
    model.eval()
    with torch.no_grad():
        features = model.activity(pictures(20, seed + 2, size), generator).features
    return with_head(model, class_means(features.view(5, 4, -1)))


def pictures(count, seed, size=12):
    return torch.from_numpy(
        (np.random.default_rng(seed).integers(0, 257, (count, 1, size, size)) / 256).astype(np.float32)
    )


NETWORKS = {
    "conventional": NetworkConfig(widths=(6, 8, 8), nm_widths=(4, 4)),
    "spiking": NetworkConfig(widths=(6, 8, 8), nm_widths=(4, 4), modulation="spiking", gate="hard_sigmoid"),
    "none": NetworkConfig(widths=(6, 8), modulation="none", reset="zero", steps=6),
    "rate": NetworkConfig(widths=(6, 8), nm_widths=(4,), encoding="rate", modulation="spiking", reset="none"),
    "latency": NetworkConfig(widths=(6, 8), nm_widths=(4,), encoding="latency", beta=0.5, threshold=0.75),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_graph_is_the_network_up_to_the_rounding_of_the_folded_norm(name):
    model = trained_like(NETWORKS[name])
    x = pictures(20, 7)
    recording, own = simulate(from_torch(model), x, seed=3), record_anml(model, x, seed=3)
    assert sum(s.sum() for s in own.spikes.values()) > 500
    fidelity = compare(recording, own)
    assert set(fidelity.layers) == set(own.spikes)
    for layer, first in ((name, one.first) for name, one in fidelity.layers.items()):
        assert first is None or first.margin < 1e-5, layer
    assert fidelity.mismatches <= 1e-4 * fidelity.slots
    with torch.no_grad():
        oracle = model(x, torch.Generator().manual_seed(3)).numpy()
    assert np.array_equal(oracle, own.output)
    assert (recording.output.argmax(1) == oracle.argmax(1)).mean() > 0.9


@pytest.mark.parametrize("backend", ["torch", "nengo", "nengo-dl"])
def test_spiking_modulation_is_bit_identical_on_every_simulator_once_snapped(backend):
    require(backend)
    snapped = snap(from_torch(trained_like(NETWORKS["spiking"])), 8)
    assert snapped.inexact == ()
    x = pictures(30, 11)
    assert compare(simulate(snapped.graph, x, backend=backend), simulate(snapped.graph, x)).identical


def test_parts_gates_and_shapes():
    graph = from_torch(trained_like(NETWORKS["conventional"]))
    assert {part(node.name) for node in graph.nodes} == {"input", "nm", "pln", "head", "readout"}
    assert [graph.size(gate.inputs[1]) for gate in graph.of_type(Gate)] == [6, 8, 32]
    assert {"nm.gate1", "nm.gate3", "pln.conv1"} <= graph.static
    assert [node.name for node in graph.of_type(LIF)] == ["pln.lif1", "pln.lif2", "pln.lif3"]
    assert (graph.steps, graph.shapes["input"], graph.shapes["readout"]) == (4, (1, 12, 12), (5,))


def test_the_conventional_twin_is_one_static_step():
    model = trained_like(NetworkConfig(neuron="relu", widths=(6, 8), nm_widths=(4,)))
    graph = from_torch(model)
    assert graph.steps == 1
    assert graph.static == {node.name for node in graph.nodes}
    x = pictures(10, 3)
    with torch.no_grad():
        np.testing.assert_allclose(simulate(graph, x).output, model(x).numpy(), rtol=1e-4, atol=1e-4)


def test_a_network_in_training_mode_and_a_part_of_one_are_refused():
    model = trained_like(NETWORKS["conventional"])
    with pytest.raises(UserError, match="training mode"):
        from_torch(model.train())
    with pytest.raises(UserError, match="a part of ANML only"):
        from_torch(model.eval().modulation, steps=4, example_input=pictures(1, 0))
    with pytest.raises(UserError, match="give from_torch steps=T and example_input=x"):
        from_torch(torch.nn.Sequential(torch.nn.Flatten()))


def test_neurons_with_parameters_a_channel_are_converted_as_they_are():
    model = trained_like(NETWORKS["none"])
    generator = torch.Generator().manual_seed(0)
    for neuron, channels in zip(model.neurons, (6, 8), strict=True):
        own = [torch.rand(channels, 1, 1, generator=generator) * 0.4 + low for low in (0.5, 0.8)]
        del neuron.beta, neuron.threshold
        neuron.register_buffer("beta", own[0])
        neuron.threshold = torch.nn.Parameter(own[1])
    x = pictures(20, 7)
    recording, own = simulate(from_torch(model), x), record_anml(model, x)
    assert {name: value.shape for name, value in own.threshold.items()} == {"pln.lif1": (216,), "pln.lif2": (72,)}
    assert compare(recording, own).mismatches <= 1e-4 * recording.spikes["pln.lif1"].size


def test_neurons_of_another_equation_are_refused_by_name():
    model = trained_like(NETWORKS["none"])
    model.neurons[0] = AdaptiveLeaky()
    with pytest.raises(UserError, match=r"AdaptiveLeaky.*moves its threshold"):
        from_torch(model)
