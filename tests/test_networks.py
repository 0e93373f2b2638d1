"""ANML against the same network written with snnTorch, or with plain ReLU, in a loop over time."""

import hypothesis.strategies as st
import pytest
import snntorch
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from snntorch import surrogate

import converters
from snn_anml.config import NetworkConfig
from snn_anml.encoding import encode
from snn_anml.networks import ANML, spikes_per_neuron, spikes_per_synapse

SMALL = {"widths": (5, 6, 7), "nm_widths": (3, 4), "steps": 5}


def network(seed=0, training=False, **options):
    """A small network whose norms have statistics of their own, so that no layer is silent or saturated."""
    model = ANML(NetworkConfig(**(SMALL | options)), classes=4, size=13, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        model.head.weight.normal_(generator=generator)
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1, generator=generator)
                module.running_var.uniform_(0.05, 0.4, generator=generator)
                module.weight.uniform_(0.5, 1.5, generator=generator)
                module.bias.uniform_(-0.2, 0.6, generator=generator)
    return model.train(training)


def pictures(batch=6, size=13):
    return torch.rand((batch, 1, size, size), generator=torch.Generator().manual_seed(9))


class Oracle:
    """The equation of `snn_anml.networks.anml`, step by step, with the weights of a model in evaluation mode."""

    def __init__(self, model):
        self.model, self.config = model, model.config

    def neurons(self, number):
        c = self.config
        grad = surrogate.fast_sigmoid(slope=c.slope)
        layers = [snntorch.Leaky(c.beta, c.threshold, grad, reset_mechanism=c.reset) for _ in range(number)]
        return layers, [layer.reset_mem() for layer in layers]

    def current(self, conv, x):
        norm = conv.norm
        x = F.conv2d(x, conv.conv.weight, stride=2, padding=conv.conv.weight.shape[-1] // 2)
        return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)

    def squash(self, drive):
        return torch.sigmoid(drive) if self.config.gate == "sigmoid" else (0.25 * drive + 0.5).clamp(0, 1)

    def run(self, x, generator=None):
        model, T = self.model, self.model.steps
        inputs = encode(x, self.config.encoding, T, generator).expand(T, *x.shape)
        spiking, nm = self.config.modulation == "spiking", model.modulation
        nm_neurons, nm_membranes = self.neurons(len(self.config.nm_widths))
        neurons, membranes = self.neurons(len(self.config.widths))
        pln, sums, gates = [], None, []
        for x in inputs:
            if nm is not None:
                h = x
                for i, conv in enumerate(nm.convs):
                    h = self.current(conv, h)
                    if spiking:
                        h, nm_membranes[i] = nm_neurons[i](h, nm_membranes[i])
                    else:
                        h = h.relu()
                drives = [linear(h.flatten(1)) for linear in nm.gates]
                if spiking and sums is not None:
                    drives = [self.config.nm_beta * u + d for u, d in zip(sums, drives, strict=True)]
                sums = drives
                gates = [self.squash(drive) for drive in drives]
            layers, s = [], x
            for i, conv in enumerate(model.convs):
                current = self.current(conv, s)
                if nm is not None:
                    last = i == len(model.convs) - 1
                    current = current * (gates[i].view_as(current) if last else gates[i][:, :, None, None])
                if self.config.neuron == "lif":
                    s, membranes[i] = neurons[i](current, membranes[i])
                else:
                    s = current.relu()
                layers.append(s)
            pln.append(layers)
        pln = [torch.stack(layer) for layer in zip(*pln, strict=True)]
        return pln, pln[-1].flatten(2).mean(0)


def gradients(model, logits):
    """Of a fixed functional of the logits, with respect to every parameter."""
    weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(1))
    parameters = dict(model.named_parameters())
    found = torch.autograd.grad((logits * weights).sum(), list(parameters.values()))
    return dict(zip(parameters, found, strict=True))


@pytest.mark.parametrize("reset", ["subtract", "zero", "none"])
@pytest.mark.parametrize("encoding", ["constant", "rate", "latency"])
@pytest.mark.parametrize("modulation", ["conventional", "spiking", "none"])
def test_spikes_features_and_gradient_equal_a_snntorch_loop(modulation, encoding, reset):
    gate = "hard_sigmoid" if reset == "zero" else "sigmoid"
    model = network(modulation=modulation, encoding=encoding, reset=reset, gate=gate)
    x = pictures()
    activity = model.activity(x, torch.Generator().manual_seed(3))
    pln, features = Oracle(model).run(x, torch.Generator().manual_seed(3))
    for ours, oracle in zip(activity.pln, pln, strict=True):
        assert torch.equal(ours, oracle)
        assert 0.001 < oracle.mean() < 0.99
    assert torch.equal(activity.features, features)
    expected = gradients(model, model.head(features))
    for name, ours in gradients(model, model.head(activity.features)).items():
        scale = expected[name].abs().max().item()
        torch.testing.assert_close(
            ours, expected[name], rtol=1e-3, atol=1e-4 * scale, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.parametrize("modulation", ["conventional", "none"])
def test_the_twin_is_plain_relu(modulation):
    model = network(neuron="relu", modulation=modulation)
    x = pictures()
    activity = model.activity(x)
    pln, features = Oracle(model).run(x)
    torch.testing.assert_close(activity.pln, pln)
    torch.testing.assert_close(activity.features, features)
    expected = gradients(model, model.head(features))
    for name, ours in gradients(model, model(x)).items():
        torch.testing.assert_close(ours, expected[name], rtol=1e-3, atol=1e-5)


def test_in_training_the_norm_is_over_steps_and_batch():
    model = network(training=True, encoding="rate", modulation="none")
    conv = model.convs[1]
    x = (torch.rand(3, 4, 5, 7, 7, generator=torch.Generator().manual_seed(0)) < 0.3).float()
    raw = F.conv2d(x.flatten(0, 1), conv.conv.weight, stride=2, padding=1)
    mean, var = raw.mean((0, 2, 3), keepdim=True), raw.var((0, 2, 3), unbiased=False, keepdim=True)
    expected = (raw - mean) / (var + conv.norm.eps).sqrt() * conv.norm.weight[:, None, None] + conv.norm.bias[
        :, None, None
    ]
    torch.testing.assert_close(conv(x), expected.unflatten(0, (3, 4)), rtol=1e-4, atol=1e-5)


@given(
    widths=st.lists(st.integers(1, 5), min_size=1, max_size=3).map(tuple),
    nm_widths=st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple),
    size=st.integers(8, 17),
    steps=st.integers(1, 4),
    batch=st.integers(1, 3),
    modulation=st.sampled_from(("conventional", "spiking", "none")),
    encoding=st.sampled_from(("constant", "rate", "latency")),
    classes=st.integers(1, 6),
)
@settings(max_examples=25, deadline=None)
def test_shapes(widths, nm_widths, size, steps, batch, modulation, encoding, classes):
    config = NetworkConfig(
        widths=widths, nm_widths=nm_widths, steps=steps, modulation=modulation, encoding=encoding, gate="hard_sigmoid"
    )
    model = ANML(config, classes, size).eval()
    x = pictures(batch, size)
    activity = model.activity(x, torch.Generator().manual_seed(0))
    assert model(x, torch.Generator().manual_seed(0)).shape == (batch, classes)
    assert activity.features.shape == (batch, model.feature_count)
    side = size
    for layer, width in zip(activity.pln, widths, strict=True):
        side = -(-side // 2)
        assert layer.shape == (steps, batch, width, side, side)
        assert set(layer.unique().tolist()) <= {0.0, 1.0}
    assert model.feature_count == widths[-1] * side * side
    nm_steps = 1 if modulation == "conventional" and encoding == "constant" else steps
    assert [gate.shape for gate in activity.gates] == (
        [] if modulation == "none" else [(nm_steps, batch, n) for n in (*widths[:-1], model.feature_count)]
    )
    assert all(((gate >= 0) & (gate <= 1)).all() for gate in activity.gates)
    assert [len(layer) for layer in activity.nm] == ([] if modulation == "none" else [nm_steps] * len(nm_widths))


def test_seeds_decide_the_weights_and_the_global_generator_is_left_alone():
    before = torch.get_rng_state()
    first, same, other = (ANML(NetworkConfig(**SMALL), 4, 13, seed) for seed in (5, 5, 6))
    assert torch.equal(torch.get_rng_state(), before)
    for name, value in first.state_dict().items():
        assert torch.equal(value, same.state_dict()[name])
    assert not torch.equal(first.convs[0].conv.weight, other.convs[0].conv.weight)
    assert first.head.weight.abs().sum() == 0


def test_spikes_per_neuron_is_a_count():
    activity = network().activity(pictures())
    fired = sum(int(layer.count_nonzero()) for layer in activity.pln)
    neurons = sum(layer[0, 0].numel() for layer in activity.pln)
    assert fired > 0
    assert spikes_per_neuron(activity.pln).item() == pytest.approx(fired / neurons / 6)
    assert spikes_per_neuron([torch.ones(3, 2, 4), torch.zeros(3, 2, 2)]) == 2  # 4 of 6 neurons, 3 spikes each


@settings(max_examples=25, deadline=None)
@given(
    widths=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    nm_widths=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    size=st.integers(9, 20),
    modulation=st.sampled_from(["none", "conventional", "spiking"]),
    outputs=st.integers(1, 30),
)
def test_fan_out_times_neurons_is_the_connections_that_are_counted_of_the_export(
    widths, nm_widths, size, modulation, outputs
):
    config = NetworkConfig(widths=tuple(widths), nm_widths=tuple(nm_widths), steps=2, modulation=modulation)
    model = ANML(config, outputs, size, 0).eval()
    graph = converters.from_torch(model)
    recording = converters.simulate(graph, torch.rand(1, 1, size, size), backend="interpreter")
    entered = {}
    for layer in converters.energy.count(graph, recording).layers:
        if layer.spikes_of:
            entered[layer.spikes_of] = entered.get(layer.spikes_of, 0) + layer.connections
    activity = model.activity(torch.rand(1, 1, size, size))
    layers = {f"pln.lif{i}": layer for i, layer in enumerate(activity.pln, 1)}
    if modulation == "spiking":
        layers |= {f"nm.lif{i}": layer for i, layer in enumerate(activity.nm, 1)}
    found = {n: c * s[0, 0].numel() for (n, s), c in zip(layers.items(), model.fan_out(outputs), strict=True)}
    assert found == pytest.approx(entered)


def test_spikes_per_synapse_is_of_the_operations():
    layers = [torch.ones(3, 2, 4), torch.zeros(3, 2, 2)]
    assert spikes_per_synapse(layers, [5.0, 10.0]) == 3 * 4 * 5 / (4 * 5 + 2 * 10)
    torch.testing.assert_close(spikes_per_synapse(layers, [7.0, 7.0]), spikes_per_neuron(layers))


def test_gates_of_zero_silence_the_network():
    model = network(gate="hard_sigmoid")
    with torch.no_grad():
        for linear in model.modulation.gates:
            linear.weight.zero_()
            linear.bias.fill_(-2)
    assert spikes_per_neuron(model.activity(pictures()).pln) == 0
