"""Neurons of snnTorch and of this project against themselves: the same spikes and membranes, bit for bit."""

import hypothesis.strategies as st
import numpy as np
import pytest
import snntorch
import torch
from hypothesis import given, settings
from torch import nn

from converters import from_torch, simulate
from converters.graph import LIF, Affine, Gate, Integrator
from snn_anml.errors import UserError
from snn_anml.neurons import AdaptiveLeaky, Leaky, LeakyIntegrator, Synaptic
from tests.from_torch_helpers import check, leaky

DECAY = st.floats(0, 1.25, width=32)
ALL_RESETS = [(reset, delay) for reset in ("subtract", "zero", "none") for delay in (True, False)]
RESETS = [(reset, delay) for reset, delay in ALL_RESETS if (reset, delay) != ("zero", True)]


def driven(shape, seed):
    """Currents of any sign, which no rounding can change on their way to a first neuron."""
    return torch.rand(3, *shape, generator=torch.Generator().manual_seed(seed)) * 1.5 - 0.25


@settings(deadline=None, max_examples=40)
@given(
    alpha=DECAY,
    beta=DECAY,
    threshold=st.floats(0, 2, width=32),
    reset=st.sampled_from(RESETS),
    shape=st.sampled_from([(7,), (3, 4), (2, 3, 3)]),
    seed=st.integers(0, 99),
)
def test_synaptic(alpha, beta, threshold, reset, shape, seed):
    options = dict(zip(("reset_mechanism", "reset_delay"), reset, strict=True))
    model = nn.Sequential(snntorch.Synaptic(alpha, beta, threshold, init_hidden=True, **options))
    graph, _ = check(model, driven(shape, seed), 9, atol=0)
    assert [(type(node), node.name) for node in graph.nodes[1:-1]] == [(Integrator, "0.current"), (LIF, "0")]


def test_synaptic_with_parameters_of_single_neurons():
    torch.manual_seed(0)
    model = nn.Sequential(
        snntorch.Synaptic(torch.rand(6), torch.rand(6), torch.rand(6), init_hidden=True, learn_alpha=True)
    )
    graph, recording = check(model, driven((6,), 1), 12, atol=0)
    assert graph["0.current"].beta.shape == graph["0"].threshold.shape == (6,)
    assert 0.05 < recording.spikes["0"].mean() < 0.95


def test_the_reset_to_zero_that_is_refused_differs():
    """What snnTorch computes there is no step of the graph: refused because of that, not out of caution."""
    options = {"reset_mechanism": "zero", "init_hidden": True}
    for refused, same in (
        (snntorch.Synaptic(0.0, 0.5, **options), snntorch.Leaky(0.5, **options)),
        (snntorch.Lapicque(R=1, C=2, **options), snntorch.Leaky(0.5, **options)),
    ):
        for neuron in (refused, same):
            neuron.mem = torch.tensor([[3.0]])
        refused(torch.tensor([[0.25]])), same(torch.tensor([[0.25]]))
        assert (float(refused.mem), float(same.mem)) == (0.0, 0.25)


@settings(deadline=None, max_examples=40)
@given(
    constants=st.sampled_from(
        [
            {"beta": 0.5},
            {"beta": 0.9},
            {"R": 2, "C": 1},
            {"R": 5.1, "C": 5e-3, "time_step": 1e-3},
            {"R": 3, "C": 0.7, "time_step": 0.1},
            {"beta": 0.8, "R": 4.0, "time_step": 0.3},
            {"beta": 0.8, "C": 3.0},
        ]
    ),
    threshold=st.floats(0.125, 1, width=32),
    reset=st.sampled_from(["subtract", "none"]),
    shape=st.sampled_from([(7,), (3, 4), (2, 3, 3)]),
    seed=st.integers(0, 99),
)
def test_lapicque(constants, threshold, reset, shape, seed):
    model = nn.Sequential(snntorch.Lapicque(**constants, threshold=threshold, reset_mechanism=reset, init_hidden=True))
    check(model, driven(shape, seed), 9, atol=0)


@pytest.mark.parametrize("shape", [(2, 3, 3), (18,)])
def test_the_factor_of_lapicque_is_one_number_a_neuron(shape):
    """A gate by constants, and no matrix; bit for bit, as all sums before it are of one term."""
    model = nn.Sequential(
        *([nn.Flatten()] if len(shape) == 3 else []),
        *(snntorch.Lapicque(0.9, threshold=0.2, init_hidden=True), nn.Linear(18, 2), leaky()),
    )
    torch.manual_seed(0)
    graph, recording = check(model, torch.rand(3, *shape), 8)
    name = "1" if len(shape) == 3 else "0"
    assert recording.spikes[name].any()
    assert graph[name].inputs == (f"{name}.scaled",)
    assert isinstance(graph[f"{name}.scaled"], Gate)
    assert max(node.weight.size for node in graph.nodes if isinstance(node, Affine)) == 2 * 18


class OwnNet(nn.Module):
    """This project's neurons, which take all steps at once."""

    forward_order = ("fc1", "leaky", "fc2", "synaptic", "fc3", "integrator")

    def __init__(self, steps, **options):
        super().__init__()
        self.steps, parameters = steps, {"threshold": 0.4, **options}
        self.fc1, self.fc2, self.fc3 = nn.Linear(4, 8), nn.Linear(8, 6), nn.Linear(6, 3)
        self.leaky, self.synaptic = Leaky(0.8, **parameters), Synaptic(0.7, torch.rand(6), **parameters)
        self.integrator = LeakyIntegrator(torch.rand(3), learn_beta=True)

    def forward(self, x):
        first, membrane = self.leaky(self.fc1(x)[None], self.steps)
        second, _, membrane2 = self.synaptic(self.fc2(first))
        return {"leaky": (first, membrane), "synaptic": (second, membrane2)}, self.integrator(self.fc3(second)).mean(0)


@pytest.mark.parametrize(("reset", "delay"), ALL_RESETS)
def test_neurons_of_this_project(reset, delay):
    torch.manual_seed(5)
    model, x = OwnNet(10, reset_mechanism=reset, reset_delay=delay).eval(), torch.rand(6, 4)
    with torch.no_grad():
        layers, output = model(x)
    recording = simulate(from_torch(model, steps=10, example_input=x), x)
    for name, (spikes, membrane) in layers.items():
        np.testing.assert_array_equal(recording.spikes[name], spikes.transpose(0, 1).numpy() > 0)
        np.testing.assert_allclose(recording.membrane[name], membrane.transpose(0, 1).numpy(), atol=1e-5)
        assert 0.02 < recording.spikes[name].mean() < 0.98
    np.testing.assert_allclose(recording.output, output.numpy(), atol=1e-5)


REFUSED = {
    "RLeaky": (lambda: snntorch.RLeaky(0.9, linear_features=4), r"'0' \(snntorch\.RLeaky\).*feeds its output back"),
    "RSynaptic": (lambda: snntorch.RSynaptic(0.9, 0.9, linear_features=4), r"snntorch\.RSynaptic.*feeds its output"),
    "SLSTM": (lambda: snntorch.SLSTM(4, 4), r"snntorch\.SLSTM.*feeds its output"),
    "Alpha": (lambda: snntorch.Alpha(0.9, 0.8), r"snntorch\.Alpha.*not supported; supported are.*snntorch\.Synaptic"),
    "synaptic zero": (lambda: snntorch.Synaptic(0.9, 0.9, reset_mechanism="zero"), "throws away the input current"),
    "synaptic below": (
        lambda: snntorch.Synaptic(0.9, 0.9, -1.0, reset_mechanism="zero", reset_delay=False),
        "threshold below 0",
    ),
    "lapicque zero": (lambda: snntorch.Lapicque(0.9, reset_mechanism="zero"), r"Lapicque.*throws away the input"),
    "synaptic quantised": (lambda: snntorch.Synaptic(0.9, 0.9, state_quant=lambda v: v), r"Synaptic.*state_quant"),
    "adaptive": (AdaptiveLeaky, r"snn_anml\.AdaptiveLeaky.*moves its threshold"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_by_name(case):
    make, message = REFUSED[case]
    with pytest.raises(UserError, match=message):
        from_torch(nn.Sequential(make()), steps=2, example_input=torch.zeros(1, 4))


def test_lapicque_of_several_resistances_is_refused():
    module = snntorch.Lapicque(0.9)
    module.R = torch.ones(4)
    with pytest.raises(UserError, match=r"R, C or time_step of shape \(4,\)"):
        from_torch(module, steps=2, example_input=torch.zeros(1, 4))
