"""Converted modules against the modules themselves, stepped by torch and snnTorch."""

import hypothesis.strategies as st
import numpy as np
import pytest
import snntorch
import torch
from hypothesis import given, settings
from snntorch import surrogate
from torch import nn

from converters import compare, from_torch, lowering, simulate, supported
from converters.graph import LIF, Activation, Affine, AvgPool2d, Conv2d
from snn_anml.errors import UserError

X = torch.zeros(1, 2, 8, 8)


def leaky(**options):
    return snntorch.Leaky(**({"beta": 0.9, "init_hidden": True} | options))


def trained(model, seed=0):
    """Gives the normalisations statistics and parameters that matter, in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            for tensor, low, high in (
                (module.running_mean, -0.3, 0.3),
                (module.running_var, 0.5, 2),
                (module.weight, 1, 2),
                (module.bias, 0.1, 0.4),
            ):
                if tensor is not None:
                    tensor.data.uniform_(low, high, generator=generator)
    return model.eval()


@torch.no_grad()
def loop(model, x, steps):
    """Output of the model, a mean over the steps, and the membranes of its neurons at every step."""
    neurons = {name: m for name, m in model.named_modules() if isinstance(m, snntorch.Leaky)}
    for neuron in neurons.values():
        neuron.reset_mem()
    outputs, membranes = [], {name: [] for name in neurons}
    for _ in range(steps):
        outputs.append(model(x))
        for name, neuron in neurons.items():
            membranes[name].append(neuron.mem.flatten(1).numpy().copy())
    return torch.stack(outputs).mean(0).numpy(), {k: np.stack(v, axis=1) for k, v in membranes.items()}


def check(model, x, steps, atol=2e-5):
    graph = from_torch(model, steps=steps, example_input=x)
    recording = simulate(graph, x)
    output, membranes = loop(model, x, steps)
    assert recording.membrane.keys() == membranes.keys()
    for name, expected in membranes.items():
        np.testing.assert_allclose(recording.membrane[name], expected, atol=atol, err_msg=name)
    np.testing.assert_allclose(recording.output, output.reshape(len(output), -1), atol=atol)
    assert compare(simulate(graph, x, backend="torch"), recording).mismatches == 0
    return graph, recording


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 10**6),
    reset=st.sampled_from(["subtract", "zero", "none"]),
    delay=st.booleans(),
    stride=st.integers(1, 2),
    padding=st.sampled_from([0, 1, "valid"]),
    steps=st.integers(1, 5),
    norm=st.booleans(),
    last=st.booleans(),
)
def test_random_networks(seed, reset, delay, stride, padding, steps, norm, last):
    torch.manual_seed(seed)
    options = {"reset_mechanism": reset, "reset_delay": delay}
    features = nn.Sequential(
        nn.Conv2d(2, 4, 3, stride, padding, bias=not norm),
        nn.BatchNorm2d(4) if norm else nn.Identity(),
        leaky(threshold=0.3, **options),
        nn.AvgPool2d(2),
        nn.Dropout(0.5),
    )
    flat = features.eval()(torch.rand(1, 2, 8, 8)).numel()
    classifier = [nn.Linear(flat, 6), nn.BatchNorm1d(6, affine=False) if norm else nn.Identity()]
    model = nn.Sequential(features, nn.Flatten(), *classifier, *([leaky(threshold=0.2, **options)] if last else []))
    # A flip by rounding is as likely as a membrane within 1e-6 of the threshold: the seeds drawn show none.
    check(trained(model, seed), torch.rand(3, 2, 8, 8), steps)


def test_names_and_folding():
    model = trained(
        nn.Sequential(nn.Sequential(nn.Conv2d(2, 4, 3, padding="same"), nn.BatchNorm2d(4)), nn.ReLU(), nn.Flatten())
    )
    graph, _ = check(model, torch.rand(2, 2, 5, 5), 2)
    assert [(node.name, type(node).__name__) for node in graph.nodes] == [
        ("input", "Input"),
        ("0.0", "Conv2d"),
        ("1", "Activation"),
        ("readout", "Readout"),
    ]
    assert graph["0.0"].padding == (1, 1)


def test_a_last_spiking_layer_is_read_as_its_rate():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), leaky(threshold=0.1))
    graph, recording = check(model, torch.rand(6, 4), 5)
    assert recording.spikes["1"].any()
    np.testing.assert_allclose(recording.output, recording.spikes["1"].mean(axis=1), atol=1e-7)
    assert graph.nodes[-1].inputs == ("1",)


@pytest.mark.parametrize("shape", [(), (1,), (6,), (1, 6)])
def test_parameters_of_single_neurons(shape):
    torch.manual_seed(1)
    beta, threshold = torch.rand(shape) * 1.5, torch.rand(shape) * 0.5
    model = nn.Sequential(nn.Linear(3, 6), leaky(beta=beta, threshold=threshold))
    graph, _ = check(model, torch.rand(2, 3), 6)
    assert graph["1"].beta.shape == (() if np.prod(shape, dtype=int) == 1 else (6,))
    assert graph["1"].beta.max() <= 1


def test_parameters_of_channels_follow_torch():
    torch.manual_seed(2)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), leaky(beta=torch.rand(3, 1, 1), threshold=torch.rand(4) * 0.5))
    check(model, torch.rand(2, 1, 6, 6), 5)


def test_supported_nodes():
    model = nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.Sigmoid(), nn.AvgPool2d((2, 3), (1, 2)), nn.Flatten(), nn.Linear(30, 4)
    )
    graph, _ = check(model, torch.rand(2, 2, 8, 8), 1)
    assert [type(n) for n in graph.nodes[1:-1]] == [Conv2d, Activation, AvgPool2d, Affine]
    assert "torch.nn.Conv2d" in supported()
    assert "snntorch.Leaky" in supported()


class Doubled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


shared = leaky()
REFUSED = {
    "LSTM": (
        nn.Sequential(nn.Sequential(nn.LSTM(2, 2))),
        r"'0\.0' \(torch\.nn\.LSTM\).*supported are.*snntorch\.Leaky",
    ),
    "subclass": (nn.Sequential(nn.Flatten(), Doubled(128, 2)), r"'1' \(tests\.Doubled\)"),
    "root": (nn.LSTM(2, 2), r"the module \(torch\.nn\.LSTM\)"),
    "groups": (nn.Conv2d(2, 2, 3, groups=2), "groups=2"),
    "dilation": (nn.Conv2d(2, 2, 3, dilation=2), r"dilation=\(2, 2\)"),
    "mode": (nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect"), "padding_mode='reflect'"),
    "even": (nn.Conv2d(2, 2, 2, padding="same"), "even kernel"),
    "float64": (nn.Conv2d(2, 2, 3).double(), "float64 parameter weight"),
    "flat conv": (nn.Sequential(nn.Flatten(), nn.Conv2d(2, 2, 3)), r"fed with shape \(128,\)"),
    "unflat linear": (nn.Linear(8, 2), "put a Flatten before"),
    "training": (nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4)).train(), r"'1' .*BatchNorm2d.*training mode"),
    "no statistics": (
        nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)).eval(),
        "no running statistics",
    ),
    "norm alone": (nn.BatchNorm2d(2).eval(), "folded into a Conv2d"),
    "norm of flat": (nn.Sequential(nn.Conv2d(2, 4, 8), nn.Flatten(), nn.BatchNorm1d(4)).eval(), "into a Linear"),
    "dropout": (nn.Dropout(0.5).train(), "training mode"),
    "pool": (nn.AvgPool2d(2, padding=1), "padding=0"),
    "flatten": (nn.Flatten(2), "flattens dimensions 2"),
    "graded": (leaky(graded_spikes_factor=2.0), r"graded_spikes_factor=2\.0"),
    "quantised": (leaky(state_quant=lambda v: v), "state_quant"),
    "twice": (nn.Sequential(shared, shared), "'1' .*appears twice"),
    "beta": (leaky(beta=torch.rand(5)), r"beta of shape \(5,\)"),
    "surrogate": (leaky(spike_grad=torch.sigmoid), "not the step function"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_by_name(case):
    model, message = REFUSED[case]
    with pytest.raises(UserError, match=message):
        from_torch(model, steps=2, example_input=X)


def test_inhibition_is_refused():
    with pytest.warns(UserWarning, match="Inhibition"):
        model = leaky(inhibition=True)
    with pytest.raises(UserError, match="inhibition=True"):
        from_torch(model, steps=2, example_input=X)


def test_an_example_needs_a_batch():
    with pytest.raises(UserError, match=r"shape \(4,\)"):
        from_torch(nn.Linear(4, 2), steps=2, example_input=torch.zeros(4))


@pytest.mark.parametrize("spike_grad", [None, surrogate.fast_sigmoid(), surrogate.sigmoid()])
def test_surrogates_do_not_matter(spike_grad):
    assert from_torch(leaky(spike_grad=spike_grad), steps=1, example_input=X).of_type(LIF)


def test_modules_of_others_can_be_added(monkeypatch):
    class Twice(nn.Module):
        def forward(self, x):
            return 2 * x

    monkeypatch.setattr("converters.graph_builder._LOWERINGS", {})

    @lowering(Twice)
    def _twice(builder, module, source):
        n = source.shape[0]
        return builder.add(Affine, source, weight=2 * np.eye(n, dtype=np.float32), bias=np.zeros(n, np.float32))

    check(Twice(), torch.rand(2, 3), 1)
