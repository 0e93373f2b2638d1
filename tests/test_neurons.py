"""The fused LIF against its definition, snnTorch, and finite differences of what can be differenced."""

import sys

import hypothesis.strategies as st
import pytest
import snntorch
import torch
from hypothesis import given, settings
from snntorch import surrogate as snn_surrogate

from snn_anml.errors import UserError
from snn_anml.neurons import SURROGATES, Leaky, LIFParameters, Surrogate, integrate, lif, lif_eager, spike
from snn_anml.neurons.lif import RESETS, _FusedLIF, _ReverseScan


def currents(shape, seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(shape, generator=generator, dtype=dtype) * 1.6 - 0.2).requires_grad_()


def derivatives(run, x, seed):
    """Spikes, membrane, first derivative of a random functional, second derivative of a random one of that."""
    generator = torch.Generator().manual_seed(seed)
    s, v = run(x)
    weights = torch.randn((2, *s.shape), generator=generator, dtype=x.dtype)
    # Nonlinear in s and v, so that the incoming gradients themselves carry a graph.
    loss = (weights[0] * s * (1 + v)).sum() + (weights[1] * v**2 * (1 + s)).sum()
    (first,) = torch.autograd.grad(loss, x, create_graph=True)
    direction = torch.randn(first.shape, generator=generator, dtype=x.dtype)
    (second,) = torch.autograd.grad((first * direction).sum(), x)
    return s, v, first, second


@given(
    steps=st.integers(1, 6),
    shape=st.lists(st.integers(0, 4), min_size=1, max_size=3),
    reset=st.sampled_from(RESETS),
    name=st.sampled_from(SURROGATES),
    beta=st.floats(0, 1),
    threshold=st.floats(0.2, 1.5),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_fused_equals_eager_to_second_order(steps, shape, reset, name, beta, threshold, seed):
    p = LIFParameters(beta, threshold, reset, Surrogate(name, 2.0))
    x = currents((steps, *shape), seed)
    fused = derivatives(lambda x: lif(x, p), x, seed)
    eager = derivatives(lambda x: lif_eager(x, p), x, seed)
    for ours, oracle in zip(fused[:2], eager[:2], strict=True):
        assert torch.equal(ours, oracle)
    for ours, oracle in zip(fused[2:], eager[2:], strict=True):
        torch.testing.assert_close(ours, oracle, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("reset", RESETS)
def test_a_constant_current_equals_its_repetition(reset):
    p = LIFParameters(reset=reset)
    x = currents((1, 3, 7), 0)
    once = derivatives(lambda x: lif(x, p, steps=5), x, 1)
    repeated = derivatives(lambda x: lif(x.expand(5, 3, 7), p), x, 1)
    for ours, oracle in zip(once, repeated, strict=True):
        torch.testing.assert_close(ours, oracle, rtol=1e-12, atol=1e-12)


GATES = {"a channel": (3, 4, 1, 1), "a neuron": (3, 4, 2, 5), "a sample": (3, 1, 1, 1), "all": (1, 1, 1, 1)}


def gated(run, x, gate, seed, order):
    """Spikes, membrane, gradients of a random functional with respect to x and gate; to second order, of those."""
    generator = torch.Generator().manual_seed(seed)
    s, v = run(x, gate)
    weights = torch.randn((2, *s.shape), generator=generator, dtype=x.dtype)
    loss = (weights[0] * s * (1 + v)).sum() + (weights[1] * v**2 * (1 + s)).sum()
    first = torch.autograd.grad(loss, (x, gate), create_graph=order == 2)
    if order == 1:
        return s, v, *first
    directions = [torch.randn(f.shape, generator=generator, dtype=x.dtype) for f in first]
    total = sum((f * d).sum() for f, d in zip(first, directions, strict=True))
    return s, v, *first, *torch.autograd.grad(total, (x, gate))


@pytest.mark.parametrize("block", [1, 2, 10**9], ids="blocks of {}".format)
@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("gates", [1, 4], ids=["static gate", "gate a step"])
@pytest.mark.parametrize("steps", [1, 4], ids=["static current", "current a step"])
def test_gated_currents_equal_the_product_to_second_order(steps, gates, order, block, monkeypatch):
    monkeypatch.setattr(sys.modules["snn_anml.neurons.lif"], "BLOCK", block * 4 * 40)
    for shape in GATES.values():
        for reset in RESETS:
            p = LIFParameters(0.9, 0.7, reset, Surrogate("fast_sigmoid", 2.0))
            x, gate = currents((steps, 3, 4, 2, 5), 1), currents((gates, *shape), 2)
            fused = gated(lambda x, g, p=p: lif(x, p, 4, g), x, gate, 3, order)
            eager = gated(lambda x, g, p=p: lif_eager((x * g).expand(4, 3, 4, 2, 5), p), x, gate, 3, order)
            assert fused[0].sum() > 0
            for ours, oracle in zip(fused[:2], eager[:2], strict=True):
                assert torch.equal(ours, oracle)
            for ours, oracle in zip(fused[2:], eager[2:], strict=True):
                torch.testing.assert_close(ours, oracle, rtol=1e-10, atol=1e-10)


@given(
    current_steps=st.sampled_from((1, 3)),
    gate_steps=st.sampled_from((1, 3)),
    shape=st.lists(st.integers(0, 4), min_size=0, max_size=3),
    ones=st.lists(st.booleans(), min_size=3, max_size=3),
    name=st.sampled_from(SURROGATES),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_gates_of_any_shape_that_fits(current_steps, gate_steps, shape, ones, name, seed):
    p = LIFParameters(surrogate=Surrogate(name, 2.0))
    narrow = [1 if one else size for size, one in zip(shape, ones, strict=False)]
    x, gate = currents((current_steps, *shape), seed), currents((gate_steps, *narrow), seed + 1)
    fused = gated(lambda x, g: lif(x, p, 3, g), x, gate, seed, 1)
    eager = gated(lambda x, g: lif_eager((x * g).expand(3, *shape), p), x, gate, seed, 1)
    for ours, oracle in zip(fused, eager, strict=True):
        torch.testing.assert_close(ours, oracle, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("delay", [True, False])
def test_a_gated_layer_in_channels_last_equals_that_in_the_usual_layout(delay):
    x = currents((2, 30, 8, 6, 6), 0, torch.float32).detach()
    last = x.flatten(0, 1).to(memory_format=torch.channels_last).unflatten(0, (2, 30))
    gate = currents((1, 30, 8, 1, 1), 1, torch.float32).detach() + 1
    layer = Leaky(reset_delay=delay)
    results = [layer(layout, gate=gate) for layout in (x, last)]
    plain = layer(x * gate)
    for ours, theirs, oracle in zip(*results, plain, strict=True):
        assert torch.equal(ours, oracle)
        assert torch.equal(theirs, oracle)
    if delay:
        assert results[1][0][0].is_contiguous(memory_format=torch.channels_last)


def test_gates_that_do_not_fit_are_refused():
    for shape in [(2, 3, 4), (1, 2, 4), (1, 3, 5), (1, 3), (4, 3, 4)]:
        with pytest.raises(UserError, match="gate of shape"):
            lif(torch.zeros(3, 3, 4), LIFParameters(), gate=torch.ones(shape))


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("name", ["fast_sigmoid", "atan", "sigmoid"])
def test_second_backward_is_the_derivative_of_the_first(reset, name):
    """The backward scan is smooth in (gs, gv, v) as long as no membrane crosses: finite differences must agree."""
    p = LIFParameters(0.8, 1.0, reset, Surrogate(name, 2.0))
    v = torch.tensor([[0.3, 1.4, 0.7], [0.6, 0.2, 1.9], [1.2, 0.8, -0.4]], dtype=torch.float64, requires_grad=True)
    gs, gv = (torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(i)) for i in (0, 1))
    inputs = (gs.requires_grad_(), gv.requires_grad_(), v)
    assert torch.autograd.gradcheck(lambda *i: _ReverseScan.apply(*i, p), inputs)
    assert torch.autograd.gradgradcheck(lambda gs, gv: _ReverseScan.apply(gs, gv, v, p), inputs[:2])


def test_a_membrane_that_is_only_stashed_is_caught():
    """The silent mistake: saving a membrane that is no output of the Function loses the path through s'(v)."""

    class Stashed(_FusedLIF):
        @staticmethod
        def backward(ctx, *grads):
            return _ReverseScan.apply(*grads, ctx.saved_tensors[0].detach(), ctx.p), None, None, None

    p = LIFParameters(surrogate=Surrogate("fast_sigmoid", 2.0))
    x = currents((4, 5), 3)
    right = derivatives(lambda x: lif(x, p), x, 4)
    wrong = derivatives(lambda x: Stashed.apply(x, None, 4, p), x, 4)
    torch.testing.assert_close(wrong[2], right[2])
    assert (wrong[3] - right[3]).abs().max() > 1e-3


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("delay", [True, False])
def test_spikes_membrane_and_gradient_equal_snntorch(reset, delay):
    x = currents((12, 4, 33), 5, torch.float32)
    theirs = snntorch.Leaky(0.9, 1.0, snn_surrogate.fast_sigmoid(5), reset_mechanism=reset, reset_delay=delay)
    mem, spikes, membranes = theirs.reset_mem(), [], []
    for current in x:
        s, mem = theirs(current, mem)
        spikes.append(s)
        membranes.append(mem)
    s, v = Leaky(0.9, 1.0, reset, delay, "fast_sigmoid", 5)(x)
    assert torch.equal(s, torch.stack(spikes))
    assert torch.equal(v, torch.stack(membranes))
    weights = torch.randn(s.shape, generator=torch.Generator().manual_seed(0))
    ours, oracle = (torch.autograd.grad((out * weights).sum(), x)[0] for out in (s, torch.stack(spikes)))
    torch.testing.assert_close(ours, oracle)


@pytest.mark.parametrize("name", SURROGATES)
def test_surrogates_are_finite_and_their_second_derivative_is_the_slope_of_the_first(name):
    surrogate = Surrogate(name, 25.0)
    x = torch.tensor([-1e4, -4.0, -0.031, -0.001, 0.0, 0.002, 0.035, 4.0, 1e4], dtype=torch.float64)
    assert surrogate.derivative(x).isfinite().all()
    assert surrogate.second_derivative(x).isfinite().all()
    smooth = x[x != 0].requires_grad_()
    h = 1e-7
    slope = (surrogate.derivative(smooth + h) - surrogate.derivative(smooth - h)) / (2 * h)
    torch.testing.assert_close(surrogate.second_derivative(smooth), slope, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", SURROGATES)
def test_spike_has_the_surrogate_as_gradient_to_second_order(name):
    surrogate = Surrogate(name, 3.0)
    x = torch.linspace(-1, 1, 8, dtype=torch.float64, requires_grad=True)
    (first,) = torch.autograd.grad(spike(x, surrogate).sum(), x, create_graph=True)
    torch.testing.assert_close(first, surrogate.derivative(x))
    (second,) = torch.autograd.grad(first.sum(), x)
    torch.testing.assert_close(second, surrogate.second_derivative(x))


@pytest.mark.parametrize("name", ["fast_sigmoid", "atan", "sigmoid"])
def test_surrogates_equal_snntorch(name):
    x = torch.linspace(-2, 2, 41, requires_grad=True)
    theirs = getattr(snn_surrogate, name)(5.0)
    (oracle,) = torch.autograd.grad(theirs(x).sum(), x)
    torch.testing.assert_close(Surrogate(name, 5.0).derivative(x.detach()), oracle)


def test_integrator_is_a_geometric_sum():
    x = currents((5, 3), 0)
    expected = sum(0.5 ** (4 - t) * x[t] for t in range(5))
    torch.testing.assert_close(integrate(x, 0.5)[-1], expected)


def test_values_out_of_range_are_refused():
    for arguments, word in [
        ({"beta": 1.5}, "beta is 1.5"),
        ({"threshold": 0.0}, "threshold is 0.0"),
        ({"reset_mechanism": "soft"}, "'soft'"),
        ({"surrogate": "tanh"}, "'tanh'"),
        ({"slope": 0.0}, "slope is 0.0"),
    ]:
        with pytest.raises(UserError, match=word):
            Leaky(**arguments)
    with pytest.raises(UserError, match="3 steps"):
        lif(torch.zeros(3, 2), LIFParameters(), steps=4)
