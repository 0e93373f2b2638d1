"""Converted modules against the modules themselves, stepped by torch and snnTorch."""

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from snntorch import surrogate
from torch import nn

from converters import from_torch, lowering, supported
from converters.graph import LIF, Activation, Affine, AvgPool2d, Conv2d
from snn_anml.errors import UserError
from tests.from_torch_helpers import check, leaky

X = torch.zeros(1, 2, 8, 8)


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
    "norm of flat": (nn.Sequential(nn.Conv2d(2, 4, 8), nn.Flatten(), nn.BatchNorm1d(4)).eval(), "a Linear or a Conv1d"),
    "dropout": (nn.Dropout(0.5).train(), "training mode"),
    "pool": (nn.AvgPool2d(2, padding=1), "padding=0"),
    "flat maximum": (nn.Sequential(nn.Flatten(), nn.MaxPool2d(2)), r"'1' .*MaxPool2d.*fed with shape \(128,\)"),
    "maximum of long samples": (nn.MaxPool1d(2), r"needs an input \(channels, length\)"),
    "wide padding": (nn.Sequential(leaky(), nn.MaxPool2d(3, padding=2)), r"1: a padding of \(2, 2\) is more than half"),
    "dilated maximum": (nn.Sequential(leaky(), nn.MaxPool2d(2, dilation=2)), "'1' .*MaxPool2d.*dilation=1"),
    "rounded up": (nn.MaxPool2d(3, ceil_mode=True), "MaxPool2d.*ceil_mode=False"),
    "indices": (nn.MaxPool2d(2, return_indices=True), "return_indices=False"),
    "pool too large": (nn.AvgPool2d(9), "9x9 kernel does not fit"),
    "vectors": (nn.Conv1d(2, 2, 3), r"needs an input \(channels, length\), but is fed with shape \(2, 8, 8\)"),
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


class Stated(nn.Module):
    """Runs what it holds in another order than it made it, one module twice, and flattens by a function."""

    def __init__(self):
        super().__init__()
        self.lif2, self.fc = leaky(threshold=0.2), nn.Linear(16, 3)
        self.features = nn.ModuleDict({"pool": nn.AvgPool2d(2), "conv": nn.Conv2d(2, 4, 3, padding=1)})
        self.lif1 = leaky(threshold=0.2)

    def forward(self, x):
        pool = self.features["pool"]
        return self.lif2(self.fc(pool(self.lif1(pool(self.features["conv"](x)))).view(len(x), -1)))


ORDER = ("features.conv", "features.pool", "lif1", "features.pool", nn.Flatten(), "fc", "lif2")


def saying(order):
    class Says(Stated):
        forward_order = order

    return Says()


@pytest.mark.parametrize("way", ["argument", "attribute", "method", "nested"])
def test_a_stated_order(way):
    torch.manual_seed(3)
    model = Stated() if way == "argument" else saying((lambda self: ORDER) if way == "method" else ORDER)
    model = nn.Sequential(nn.Identity(), model) if way == "nested" else model
    options = {"order": ORDER} if way == "argument" else {}
    graph, recording = check(model, torch.rand(3, 2, 8, 8), 4, **options)
    prefix = "1." if way == "nested" else ""
    names = ["features.conv", "features.pool", "lif1", "features.pool_2", "fc", "lif2"]
    assert [node.name for node in graph.nodes[1:-1]] == [prefix + name for name in names]
    assert all(spikes.any() for spikes in recording.spikes.values())


@pytest.mark.parametrize(
    ("order", "message"),
    [
        (ORDER[:-1], r"the module \(tests\.Stated\): it holds lif2, which its order leaves out"),
        ((*ORDER, "lif3"), "no module 'lif3', which its order names; it has lif2, fc, features, features.pool"),
        (("",), "no module ''"),
        ((*ORDER, nn.Softmax(1)), r"'order7' \(torch\.nn\.Softmax\)"),
        ((*ORDER, "lif2"), "'lif2' .*appears twice"),
    ],
)
def test_wrong_orders_are_refused(order, message):
    with pytest.raises(UserError, match=message):
        from_torch(Stated(), steps=2, example_input=X, order=order)


def test_a_module_without_an_order_is_refused():
    with pytest.raises(UserError, match=r"\(tests\.Stated\).*supported are.*modules with a stated order"):
        from_torch(Stated(), steps=2, example_input=X)


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
