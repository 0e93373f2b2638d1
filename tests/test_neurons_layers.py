"""Layers of neurons as modules: what they are built from, keep, learn and hand over."""

import copy
import io
import pickle

import hypothesis.strategies as st
import pytest
import snntorch
import torch
from hypothesis import given, settings
from torch import nn

from snn_anml.errors import UserError
from snn_anml.neurons import AdaptiveLeaky, Leaky, Surrogate, Synaptic, integrate
from snn_anml.neurons.integrator import LeakyIntegrator

# What each layer can learn, decays first, and the states that it returns, in order.
DECAYS = {Leaky: ["beta"], Synaptic: ["alpha", "beta"], AdaptiveLeaky: ["beta", "rho"], LeakyIntegrator: ["beta"]}
LEVELS = {Leaky: ["threshold"], Synaptic: ["threshold"], AdaptiveLeaky: ["threshold", "adaptation"]}
STATES = {Leaky: ["membrane"], Synaptic: ["current", "membrane"], AdaptiveLeaky: ["membrane", "adaptation"]}
STATES[LeakyIntegrator] = ["membrane"]
LAYERS = pytest.mark.parametrize("cls", DECAYS, ids=lambda cls: cls.__name__)
SPIKING = pytest.mark.parametrize("cls", LEVELS, ids=lambda cls: cls.__name__)


def names(cls):
    return [*DECAYS[cls], *LEVELS.get(cls, [])]


def learning(cls, **values):
    """A layer that learns all it can."""
    return cls(**values, **{f"learn_{name}": True for name in names(cls)})


def random_currents(*shape, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator, dtype=dtype) * 1.4 - 0.2


def outputs(layer, *arguments, **options):
    """What a layer returns, as a tuple."""
    out = layer(*arguments, **options)
    return out if isinstance(out, tuple) else (out,)


@SPIKING
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"beta": 1.5}, r"^beta is 1\.5; a decay lies in \[0, 1\]\.$"),
        ({"beta": torch.tensor([0.5, -0.1])}, r"^beta is tensor\(\[ 0\.5000, -0\.1000\]\); a decay"),
        ({"beta": float("nan")}, "^beta is nan"),
        ({"threshold": 0.0}, r"^threshold is 0\.0; it must be positive\.$"),
        ({"threshold": torch.tensor([1.0, 0.0])}, r"^threshold is tensor\(\[1\., 0\.\]\); it must be positive"),
        ({"reset_mechanism": "soft"}, r"^Unknown reset 'soft'; known are subtract, zero, none\.$"),
        ({"surrogate": "tanh"}, "^Unknown surrogate 'tanh'; known are fast_sigmoid"),
        ({"slope": 0.0}, r"^Surrogate slope is 0\.0; it must be positive and finite\.$"),
    ],
)
def test_values_out_of_range_are_refused(cls, arguments, words):
    with pytest.raises(UserError, match=words):
        cls(**arguments)


@LAYERS
def test_every_decay_is_checked(cls):
    for name in DECAYS[cls]:
        for learn in (True, False):
            with pytest.raises(UserError, match=rf"^{name} is -0\.25; a decay lies in \[0, 1\]\.$"):
                cls(**{name: -0.25, f"learn_{name}": learn})


@LAYERS
def test_numbers_are_no_state_so_that_checkpoints_without_them_load(cls):
    layer = cls()
    assert not layer.state_dict()
    layer.load_state_dict({})
    assert all(isinstance(getattr(layer, name), float) for name in names(cls))


@LAYERS
def test_tensors_are_buffers_and_what_is_learned_is_a_parameter(cls):
    values = {name: torch.full((3, 1, 1), 0.5) for name in names(cls)}
    layer = cls(**values)
    assert not list(layer.parameters())
    assert layer.state_dict().keys() == set(names(cls))
    values[names(cls)[0]].zero_()  # a layer has its own copy
    assert torch.equal(getattr(layer, names(cls)[0]), torch.full((3, 1, 1), 0.5))
    for value in (0.5, torch.full((3, 1, 1), 0.5)):
        layer = learning(cls, **dict.fromkeys(names(cls), value))
        assert dict(layer.named_parameters()).keys() == layer.state_dict().keys() == set(names(cls))
        other = learning(cls, **dict.fromkeys(names(cls), value * 0.5))
        other.load_state_dict(layer.state_dict())
        assert torch.equal(other.beta, layer.beta)


@LAYERS
def test_its_repr_says_the_values_and_the_shapes_of_those_that_differ(cls):
    mixed = learning(cls, beta=torch.full((3, 1, 1), 0.5))
    assert "beta=(3, 1, 1)" in repr(mixed)
    for said in (repr(make(cls, **dict.fromkeys(names(cls), 0.25))) for make in (learning, type.__call__)):
        for name in names(cls):
            assert f"{name}=0.25" in said
    if cls in LEVELS:
        said = repr(cls(reset_mechanism="zero", reset_delay=False, surrogate=Surrogate("atan", 3.0)))
        assert "reset=zero, reset_delay=False, detach_reset=False, atan(3.0)" in said


def by_pickle(layer):
    return pickle.loads(pickle.dumps(layer))


def by_file(layer):
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@LAYERS
@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, by_pickle, by_file], ids=lambda f: f.__name__)
def test_copies_do_the_same(cls, duplicate):
    layer = learning(cls, beta=torch.full((3,), 0.7))
    x = random_currents(6, 2, 3)
    for one, other in zip(outputs(duplicate(layer), x), outputs(layer, x), strict=True):
        assert torch.equal(one, other)


@LAYERS
def test_types_and_devices(cls):
    layer = learning(cls).double()
    assert {p.dtype for p in layer.parameters()} == {torch.float64}
    assert all(out.dtype == torch.float64 for out in outputs(layer, random_currents(4, 2, 3, dtype=torch.float64)))
    assert outputs(layer, random_currents(4, 2, 3))[-1].dtype == torch.float32  # that of the currents counts
    half = outputs(layer, random_currents(4, 2, 3).bfloat16())
    assert half[-1].dtype == torch.float32
    if cls in LEVELS:
        assert half[0].dtype == torch.bfloat16
    assert {p.device.type for p in learning(cls).to("meta").parameters()} == {"meta"}


@LAYERS
def test_learned_decays_are_clamped_as_they_are_used(cls):
    x = random_currents(6, 2, 3)
    for value, bound in ((-0.3, 0.0), (1.4, 1.0)):
        layer = learning(cls)
        with torch.no_grad():
            for name in DECAYS[cls]:
                getattr(layer, name).fill_(value)
        clamped = cls(**dict.fromkeys(DECAYS[cls], bound))
        for one, other in zip(outputs(layer, x), outputs(clamped, x), strict=True):
            assert torch.equal(one, other)
        outputs(layer, x)[-1].sum().backward()
        assert all(float(getattr(layer, name).grad) == 0 for name in DECAYS[cls])  # nor pushed further out
        assert layer.beta.item() == pytest.approx(value)  # what is kept is as it was


@LAYERS
def test_decays_are_clamped_too_where_tensors_stand_in_for_parameters(cls):
    x = random_currents(6, 2, 3)
    stand_ins = {name: torch.tensor(1.4) for name in DECAYS[cls]}
    found = torch.func.functional_call(learning(cls), stand_ins, (x,))
    expected = outputs(cls(**dict.fromkeys(DECAYS[cls], 1.0)), x)
    for one, other in zip(found if isinstance(found, tuple) else (found,), expected, strict=True):
        assert torch.equal(one, other)


@LAYERS
@pytest.mark.parametrize("shape", [(), (3, 1, 1), (3, 2, 2)], ids=["one", "a channel", "a neuron"])
def test_learned_parameters_learn(cls, shape):
    layer = learning(cls, **{name: torch.full(shape, 0.6) for name in names(cls)})
    x = random_currents(8, 4, 3, 2, 2)
    before = outputs(layer, x)
    loss = sum(out.square().sum() for out in before)
    loss.backward()
    for name in names(cls):
        gradient = getattr(layer, name).grad
        assert gradient.shape == shape
        assert (gradient != 0).all()
    torch.optim.SGD(layer.parameters(), lr=1e-3).step()
    after = outputs(layer, x)
    assert all(not torch.equal(one, other) for one, other in zip(before[-1:], after[-1:], strict=True))


@LAYERS
@pytest.mark.parametrize("delay", [True, False], ids=["delayed", "at once"])
def test_a_sequence_continues_from_the_states_of_its_first_part(cls, delay):
    layer = cls(**({"reset_delay": delay} if cls in LEVELS else {}))
    x = random_currents(9, 2, 3, 2, 2)
    whole = outputs(layer, x)
    first = outputs(layer, x[:4])
    states = dict(zip(STATES[cls], (out[-1] for out in first[-len(STATES[cls]) :]), strict=True))
    second = outputs(layer, x[4:], **states)
    for out, one, two in zip(whole, first, second, strict=True):
        assert torch.equal(out, torch.cat([one, two]))


@LAYERS
def test_a_constant_current_for_some_steps(cls):
    x = random_currents(1, 2, 3) + 0.3
    layer = cls()
    for one, other in zip(outputs(layer, x, steps=5), outputs(layer, x.expand(5, 2, 3)), strict=True):
        assert torch.equal(one, other)
    with pytest.raises(UserError, match="Currents of 3 steps cannot drive a neuron for 5 steps"):
        layer(x.expand(3, 2, 3), steps=5)
    with pytest.raises(UserError, match=r"beta of shape \(4,\) does not broadcast to the currents of a step, \(2, 3\)"):
        cls(beta=torch.full((4,), 0.5))(x)
    with pytest.raises(UserError, match=r"Initial membrane of shape \(4, 3\) does not broadcast"):
        layer(x, membrane=torch.zeros(4, 3))


def lsnn(currents, alpha, b0, beta, rho):
    """One neuron of Bellec et al. 2018 in plain Python, with the names of the paper: V decays by alpha, b by rho."""
    V = b = z = 0.0
    spikes, membranes, adaptations = [], [], []
    for current in currents:
        b = rho * b + (1 - rho) * z
        B = b0 + beta * b
        V = alpha * V + current - B * z  # by the threshold of this step, as in the authors' code
        z = float(V > B)
        spikes.append(z)
        membranes.append(V)
        adaptations.append(b)
    return spikes, membranes, adaptations


@given(
    currents=st.lists(st.floats(-1, 2), min_size=1, max_size=30),
    alpha=st.floats(0, 1),
    b0=st.floats(0.01, 1),
    beta=st.floats(0, 3),
    rho=st.floats(0, 1),
)
@settings(deadline=None)
def test_adaptive_neurons_are_those_of_bellec_2018(currents, alpha, b0, beta, rho):
    layer = AdaptiveLeaky(alpha, b0, rho, beta)
    found = layer(torch.tensor(currents, dtype=torch.float64)[:, None])
    for ours, theirs in zip(found, lsnn(currents, alpha, b0, beta, rho), strict=True):
        torch.testing.assert_close(ours[:, 0], torch.tensor(theirs, dtype=torch.float64), rtol=1e-12, atol=1e-12)


def test_adaptation_makes_a_neuron_spike_less_and_less():
    spikes, _, adaptation = AdaptiveLeaky(0.9, 0.5)(torch.ones(1, 1, 1), steps=200)
    assert spikes[:50].sum() > spikes[150:].sum() > 0
    assert (adaptation >= 0).all()
    assert (adaptation <= 1).all()
    plain = Leaky(0.9, 0.5)(torch.ones(1, 1, 1), steps=200)[0]
    assert torch.equal(AdaptiveLeaky(0.9, 0.5, adaptation=0.0)(torch.ones(1, 1, 1), steps=200)[0], plain)


@pytest.mark.parametrize("reset", ["subtract", "none"])
@pytest.mark.parametrize("delay", [True, False])
def test_synaptic_neurons_are_those_of_snntorch(reset, delay):
    x = random_currents(12, 4, 33)
    theirs = snntorch.Synaptic(0.7, 0.9, reset_mechanism=reset, reset_delay=delay)
    current, mem, out = torch.zeros_like(x[0]), torch.zeros_like(x[0]), []
    for now in x:
        s, current, mem = theirs(now, current, mem)
        out.append((s, current, mem))
    for ours, values in zip(Synaptic(0.7, 0.9, 1.0, reset, delay)(x), zip(*out, strict=True), strict=True):
        assert torch.equal(ours, torch.stack(values))


def test_integrators_are_a_geometric_sum_and_what_they_start_from():
    beta = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64, requires_grad=True)
    x, start = random_currents(5, 2, 3, dtype=torch.float64), random_currents(2, 3, seed=1, dtype=torch.float64)
    expected = sum(beta ** (4 - t) * x[t] for t in range(5)) + beta**5 * start
    found = integrate(x, beta, membrane=start)[-1]
    torch.testing.assert_close(found, expected)
    ours, oracle = (torch.autograd.grad(v.square().sum(), beta)[0] for v in (found, expected))
    torch.testing.assert_close(ours, oracle)
    assert torch.equal(LeakyIntegrator(nn.Parameter(beta).detach())(x, membrane=start)[-1], found)


def test_an_integrator_rounds_as_a_loop_does():
    x = random_currents(20, 4, 50).requires_grad_()
    v = [x[0]]
    for current in x[1:]:
        v.append(0.9 * v[-1] + current)
    weights = random_currents(20, 4, 50, seed=1)
    found = integrate(x, 0.9)
    assert torch.equal(found, torch.stack(v))
    ours, oracle = (torch.autograd.grad((out.square() * weights).sum(), x)[0] for out in (found, torch.stack(v)))
    assert torch.equal(ours, oracle)
