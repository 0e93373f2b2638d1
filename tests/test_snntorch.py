"""Neurons taken over from snnTorch against snnTorch's own loop, and where the two differ on purpose."""

from itertools import product

import hypothesis.strategies as st
import pytest
import snntorch
import torch
from hypothesis import given, settings
from snntorch import surrogate as snn_surrogate
from torch import nn

from snn_anml.errors import UserError
from snn_anml.neurons import Leaky, Surrogate, Synaptic
from snn_anml.neurons.from_snntorch import from_snntorch

RESETS = ("subtract", "zero", "none")
CLASSES = {"Leaky": snntorch.Leaky, "Synaptic": snntorch.Synaptic}
SHAPE = (10, 3, 4, 2, 2)  # steps, samples, channels, height, width
RANGES = {"alpha": (0.3, 0.8), "beta": (0.5, 0.95), "threshold": (0.6, 1.4)}


def random_currents(seed, dtype=torch.float32, shape=SHAPE):
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(shape, generator=generator, dtype=dtype) * 1.2 - 0.2).requires_grad_()


def neuron(name="Leaky", **options):
    defaults = {"beta": 0.9} | ({"alpha": 0.7} if name == "Synaptic" else {})
    return CLASSES[name](**(defaults | options))


def loop(module, x):
    """Spikes and states of snnTorch's neuron, each (T, ...)."""
    states = [torch.zeros_like(x[0])] * (2 if isinstance(module, snntorch.Synaptic) else 1)
    out = []
    for current in x:
        s, *states = module(current, *states)
        out.append((s, *states))
    return tuple(torch.stack(values) for values in zip(*out, strict=True))


def gradients(out, x, module):
    """Of a random functional of spikes and states, by name."""
    generator = torch.Generator().manual_seed(0)
    loss = sum((value * torch.randn(value.shape, generator=generator)).sum() for value in out)
    wanted = {"currents": x} | dict(module.named_parameters())
    return dict(zip(wanted, torch.autograd.grad(loss, list(wanted.values())), strict=True))


def check(theirs, x):
    """Spikes and states bit for bit; gradients to rounding, for sums over steps and neurons are in another order."""
    ours = from_snntorch(theirs)
    expected, got = loop(theirs, x), ours(x)
    assert 0 < expected[0].mean() < 1
    for one, other in zip(got, expected, strict=True):
        assert torch.equal(one, other.to(one.dtype))  # snnTorch's spikes are float32 always
    first, second = gradients(got, x, ours), gradients(expected, x, theirs)
    assert first.keys() == second.keys()
    for name, other in second.items():
        torch.testing.assert_close(first[name], other, rtol=1e-5, atol=1e-6 * float(1 + other.abs().max()))


def options_for(name, kind):
    """Parameters as numbers, or one a channel; learned or not."""
    names = [one for one in RANGES if one != "alpha" or name == "Synaptic"]
    if "channel" in kind:
        values = {one: torch.linspace(*RANGES[one], SHAPE[2])[:, None, None] for one in names}
    else:
        values = {one: RANGES[one][1] for one in names}
    return values | {f"learn_{one}": "learned" in kind for one in names}


@pytest.mark.parametrize("kind", ["numbers", "learned", "a channel", "learned, a channel"])
@pytest.mark.parametrize(
    ("name", "reset", "delay"),
    [case for case in product(CLASSES, RESETS, (True, False)) if case != ("Synaptic", "zero", True)],
)
def test_spikes_states_and_gradients_are_those_of_snntorch(name, reset, delay, kind):
    options = options_for(name, kind) | {"reset_mechanism": reset, "reset_delay": delay}
    check(neuron(name, spike_grad=snn_surrogate.fast_sigmoid(5), **options), random_currents(1))


@given(
    name=st.sampled_from(list(CLASSES)),
    reset=st.sampled_from(["subtract", "none"]),
    delay=st.booleans(),
    surrogate=st.sampled_from(["fast_sigmoid", "atan", "sigmoid"]),
    slope=st.floats(0.05, 20),
    beta=st.floats(-0.5, 1.5),
    threshold=st.floats(0.1, 1),
    learn=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_random_parameters_even_decays_that_have_to_be_clamped(
    name, reset, delay, surrogate, slope, beta, threshold, learn, seed
):
    spike_grad = getattr(snn_surrogate, surrogate)(slope)
    theirs = neuron(
        name,
        beta=beta,
        threshold=threshold,
        spike_grad=spike_grad,
        learn_beta=learn,
        reset_mechanism=reset,
        reset_delay=delay,
    )
    check(theirs, torch.cat([random_currents(seed).detach(), torch.full((1, *SHAPE[1:]), 3.0)]).requires_grad_())


@pytest.mark.parametrize("name", CLASSES)
def test_in_float64_the_numbers_are_the_float32_ones_that_snntorch_keeps(name):
    theirs, x = neuron(name), random_currents(2, torch.float64)
    ours = from_snntorch(theirs)
    assert ours.beta == float(torch.tensor(0.9))
    for one, other in zip(ours(x), loop(theirs, x), strict=True):
        assert torch.equal(one, other.double())


def test_what_is_learned_keeps_value_type_and_whether_it_is_trained():
    theirs = neuron(beta=torch.tensor([0.5, 1.2], dtype=torch.float64), learn_beta=True, threshold=2, learn_threshold=0)
    theirs.beta.requires_grad_(False)
    ours = from_snntorch(theirs.eval())
    assert isinstance(ours.beta, nn.Parameter)
    assert torch.equal(ours.beta, theirs.beta)
    assert ours.beta.dtype == torch.float64
    assert not ours.beta.requires_grad
    assert ours.beta.data_ptr() != theirs.beta.data_ptr()
    assert isinstance(ours.threshold, float)
    assert not ours.training
    channel = torch.full((4, 1, 1), 0.5, dtype=torch.float64)
    assert from_snntorch(neuron(beta=channel)).get_buffer("beta").dtype == torch.float64


def test_classes_and_calling_conventions():
    assert type(from_snntorch(neuron())) is Leaky
    assert type(from_snntorch(neuron("Synaptic"))) is Synaptic
    x = random_currents(3)
    hidden = neuron(init_hidden=True, output=True)
    expected = torch.stack([hidden(current)[0] for current in x])
    assert torch.equal(from_snntorch(hidden)(x)[0], expected)  # what it holds by now is not taken over


def own_fast_sigmoid(x, upstream, spikes):
    return upstream / (7 * x.abs() + 1) ** 2


@pytest.mark.parametrize(
    ("spike_grad", "expected"),
    [
        (None, Surrogate("atan", 2.0)),  # snnTorch's default
        (snn_surrogate.fast_sigmoid(), Surrogate("fast_sigmoid", 25.0)),
        (snn_surrogate.fast_sigmoid(slope=torch.tensor(0.3, dtype=torch.float64)), Surrogate("fast_sigmoid", 0.3)),
        (snn_surrogate.atan(alpha=0.37), Surrogate("atan", 0.37)),
        (snn_surrogate.sigmoid(slope=1000), Surrogate("sigmoid", 1000.0)),  # NaN far below the threshold
        (snn_surrogate.straight_through_estimator(), Surrogate("straight_through", 1.0)),
        (snn_surrogate.custom_surrogate(own_fast_sigmoid), Surrogate("fast_sigmoid", 7.0)),
        (lambda x: snn_surrogate.ATan.apply(x, 3), Surrogate("atan", 3.0)),
    ],
)
def test_a_surrogate_is_recognised_by_what_it_computes(spike_grad, expected):
    with torch.no_grad():
        assert from_snntorch(neuron(spike_grad=spike_grad)).surrogate == expected


@pytest.mark.parametrize(
    ("spike_grad", "words"),
    [
        (snn_surrogate.triangular(2), r"snntorch\.surrogate\.triangular, of derivative 2 at -1, -2 at 0, -2 at 1"),
        (snn_surrogate.heaviside(), r"heaviside, of derivative 0 at -1, 0 at 0, 1 at 1"),
        (snn_surrogate.SFS(), "SFS"),
        (snn_surrogate.SSO(), "SSO"),
        (snn_surrogate.LSO(), "LSO, which cannot be differentiated"),
        (torch.sigmoid, "forward pass is not the step function"),
        (lambda x: (x > 0).float(), "cannot be differentiated"),
        (snn_surrogate.custom_surrogate(lambda x, g, s: g / (1 + 5 * x.abs()) ** 2.01), "choose fast_sigmoid, atan"),
    ],
)
def test_other_surrogates_are_refused(spike_grad, words):
    with pytest.raises(UserError, match=words):
        from_snntorch(neuron(spike_grad=spike_grad))


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("Leaky", {"state_quant": round}, "state_quant=.*build it without"),
        ("Leaky", {"graded_spikes_factor": 2.0}, r"graded_spikes_factor=2\.0; build it with 1 and multiply"),
        ("Leaky", {"learn_graded_spikes_factor": True}, "a learned graded_spikes_factor=1"),
        ("Synaptic", {"surrogate_disable": True}, "surrogate_disable=True.*build it with a spike_grad"),
        ("Leaky", {"threshold": -1.0}, r"threshold is -1\.0; it must be positive"),
        ("Leaky", {"beta": torch.tensor(0.9, requires_grad=True)}, "learn_beta=True, or detach"),
        ("Synaptic", {"reset_mechanism": "zero"}, "throws away the input current.*reset_delay=False"),
    ],
)
def test_what_has_no_equal_is_refused(name, options, words):
    with pytest.raises(UserError, match=words):
        from_snntorch(neuron(name, **options))


def test_inhibition_is_refused():
    with pytest.warns(UserWarning, match="Inhibition"):
        module = neuron(inhibition=True)
    with pytest.raises(UserError, match="inhibition=True"):
        from_snntorch(module)


class Derived(snntorch.Leaky):
    pass


@pytest.mark.parametrize(
    "module",
    [
        snntorch.Alpha(0.9, 0.8),
        snntorch.Lapicque(0.9),
        snntorch.RLeaky(0.9, all_to_all=False),
        Derived(0.9),
        nn.Linear(2, 2),
    ],
    ids=lambda m: type(m).__name__,
)
def test_other_modules_are_refused_by_name(module):
    with pytest.raises(
        UserError, match=rf"knows snntorch\.Leaky and snntorch\.Synaptic, not .*{type(module).__name__}"
    ):
        from_snntorch(module)
