"""The fused neurons against their definition, to second order."""

import itertools
import subprocess
import sys

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from snn_anml.errors import UserError
from snn_anml.neurons import SURROGATES, LIFParameters, State, Surrogate, lif, lif_eager
from snn_anml.neurons.equation import RESETS
from snn_anml.neurons.fused import _Adjoint, _Fused
from snn_anml.neurons.scan import scan_of
from tests.neuron_helpers import Layer, assert_same_derivatives, currents, derivatives, uniform

VARIANTS = list(itertools.product(RESETS, (True, False), (True, False), (False, True), (False, True)))
NAMES = "reset, delay, detach, filtered, adaptive"


def agrees(layer, seed=0, tolerance=1e-10):
    for order in (1, 2):  # the first alone takes another way: without a graph
        ours = derivatives(layer, seed, lif, order)
        assert_same_derivatives(ours, derivatives(layer, seed, lif_eager, order), tolerance)
    return ours[0][0]


@pytest.mark.parametrize("gate_steps", [None, 1, 4], ids=["no gate", "static gate", "gate a step"])
@pytest.mark.parametrize(NAMES, VARIANTS)
def test_every_variant_with_everything_learned(reset, delay, detach, filtered, adaptive, gate_steps):
    """Parameters a channel, a neuron, and alone; initial states; a gate."""
    name = SURROGATES[VARIANTS.index((reset, delay, detach, filtered, adaptive)) % len(SURROGATES)]
    p = LIFParameters(
        uniform((4, 1), 0, 1, 1),
        uniform((4, 5), 0.4, 0.9, 2),
        reset,
        Surrogate(name, 2.0),
        delay,
        detach,
        uniform((), 0, 1, 3) if filtered else None,
        uniform((4, 1), 0, 1, 4) if adaptive else None,
        uniform((5,), 0, 1, 5) if adaptive else None,
    )
    state = State(
        uniform((3, 4, 5), -1, 1, 6),
        uniform((4, 5), -1, 1, 7) if filtered else None,
        uniform((3, 1, 1), 0, 1, 8) if adaptive else None,
    )
    gate = None if gate_steps is None else uniform((gate_steps, 3, 4, 1), 0.5, 1.5, 9)
    spikes = agrees(Layer(currents((4, 3, 4, 5), 0), p, 4, gate, state))
    assert 0 < spikes.mean() < 1


@given(
    steps=st.integers(1, 6),
    constant=st.booleans(),
    shape=st.lists(st.integers(0, 4), min_size=0, max_size=4),
    variant=st.sampled_from(VARIANTS),
    name=st.sampled_from(SURROGATES),
    slope=st.floats(0.5, 8),
    data=st.data(),
    seed=st.integers(0, 99),
)
@settings(max_examples=150, deadline=None)
def test_random_shapes_and_parameters(steps, constant, shape, variant, name, slope, data, seed):
    reset, delay, detach, filtered, adaptive = variant

    def narrow():
        return [data.draw(st.sampled_from((1, size))) if size else 0 for size in shape]

    def parameter(low, high):
        if data.draw(st.booleans()):
            return data.draw(st.floats(low, high))
        start = data.draw(st.integers(0, len(shape)))
        return uniform(narrow()[start:], low, high, data.draw(st.integers(0, 99)))

    def initial(there):
        return uniform(narrow(), -1, 1, seed + 1) if there and data.draw(st.booleans()) else None

    p = LIFParameters(
        parameter(0, 1),
        parameter(0.2, 1.5),
        reset,
        Surrogate(name, slope),
        delay,
        detach,
        parameter(0, 1) if filtered else None,
        parameter(0, 1) if adaptive else None,
        parameter(0, 2) if adaptive else None,
    )
    gate = (
        uniform((data.draw(st.sampled_from((1, steps))), *narrow()), 0, 2, seed + 2)
        if data.draw(st.booleans())
        else None
    )
    layer = Layer(
        currents((1 if constant else steps, *shape), seed),
        p,
        steps,
        gate,
        State(initial(True), initial(filtered), initial(adaptive)),
    )
    agrees(layer, seed)


GATES = {
    "a channel": (3, 4, 1, 1),
    "a neuron": (3, 4, 2, 5),
    "a sample": (3, 1, 1, 1),
    "all": (1, 1, 1, 1),
    "a column": (1, 4, 1, 5),
}


@pytest.mark.parametrize("gate_steps", [1, 4], ids=["static gate", "gate a step"])
@pytest.mark.parametrize("steps", [1, 4], ids=["static current", "current a step"])
@pytest.mark.parametrize("shape", GATES.values(), ids=GATES)
def test_gates_with_nothing_else_learned(shape, steps, gate_steps):
    p = LIFParameters(0.9, 0.7, surrogate=Surrogate("fast_sigmoid", 2.0))
    gate = uniform((gate_steps, *shape), -0.2, 1.4, 2)
    assert agrees(Layer(currents((steps, 3, 4, 2, 5), 1), p, 4, gate)).sum() > 0


@pytest.mark.parametrize("filtered", [False, True])
@pytest.mark.parametrize("name", SURROGATES)
def test_float32_over_many_neurons_and_steps(name, filtered):
    """More neurons than a block has, and sizes that no vector divides."""
    p = LIFParameters(0.9, surrogate=Surrogate(name, 5.0), alpha=0.5 if filtered else None)
    layer = Layer(currents((17, 7, 331), 0, torch.float32), p, 17)
    agrees(layer, tolerance=2e-4)


SMOOTH = [(reset, filtered) for reset in RESETS for filtered in (False, True)]


@pytest.mark.parametrize("name", SURROGATES)
@pytest.mark.parametrize(("reset", "filtered"), SMOOTH)
def test_gradgradcheck(reset, filtered, name):
    """Where no gradient flows through a spike, the first derivative is a smooth function between the spikes' jumps,
    and finite differences of it must be the second."""
    x, gate = currents((4, 2, 3), 0), uniform((1, 2, 3), 0.5, 1.5, 1)
    beta, threshold, v0 = uniform((3,), 0.2, 0.9, 2), uniform((1, 3), 0.6, 0.9, 3), uniform((2, 3), -1, 0.5, 4)
    extra = [uniform((), 0.2, 0.9, 5), uniform((2, 3), -1, 1, 6)] if filtered else []

    def run(x, gate, beta, threshold, v0, alpha=None, i0=None):
        p = LIFParameters(beta, threshold, reset, Surrogate(name, 1.3), alpha=alpha)
        s, state = lif(x, p, gate=gate, state=State(v0, i0))
        return s, *(x for x in state if x is not None)

    leaves = [x, gate, beta, threshold, v0, *extra]
    assert torch.autograd.gradgradcheck(run, leaves, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize(NAMES, VARIANTS)
def test_the_adjoint_scan_differentiates_as_finite_differences_do(reset, delay, detach, filtered, adaptive):
    """`_Adjoint` alone is smooth in all that is saved, as long as no membrane crosses its threshold: also where
    gradients flow through spikes, which it takes as given. A triangle keeps the initial membrane out of its reach."""
    p = LIFParameters(
        0.8,
        1.0,
        reset,
        Surrogate("triangular", 2.0),
        delay,
        detach,
        0.5 if filtered else None,
        0.9 if adaptive else None,
        0.3 if adaptive else None,
    )
    scan, operands = scan_of(p), [p.alpha, p.beta, p.threshold, p.rho, p.adaptation, None, None, None]
    learned = [k for k, operand in enumerate(operands) if operand is not None]
    saved = dict(enumerate(_Fused.apply(currents((4, 3), 3), None, 4, scan, *operands)))
    there = [True, True, not scan.delay, scan.filtered, scan.adaptive]
    states = [saved[sum(there[:k])].detach() if one else None for k, one in enumerate(there)]
    upstream = [uniform((4, 3), -1, 1, k) if one else None for k, one in enumerate(there)]
    leaves = [x.requires_grad_() for x in (*upstream, *states[1:]) if x is not None]
    leaves += [torch.tensor(operands[k], dtype=torch.float64, requires_grad=True) for k in learned]

    def run(*values):
        rest = iter(values)
        grads = [next(rest) if one else None for one in there]
        past = [states[0], *(next(rest) if one else None for one in there[1:])]
        wanted = tuple(k in learned for k in range(8))
        own = [next(rest) if k in learned else None for k in range(8)]
        return tuple(g for g in _Adjoint.apply(scan, wanted, *grads, *past, *own) if g is not None)

    assert torch.autograd.gradcheck(run, leaves)


def test_a_membrane_that_is_only_stashed_is_caught():
    """The silent mistake: saving a membrane that is no output of the Function loses the path through s'(v)."""

    class Stashed(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, scan):
            s, ctx.membrane = (y.clone() for y in _Fused.apply(x, None, len(x), scan, *operands))
            ctx.scan = scan
            return s

        @staticmethod
        def backward(ctx, *grads):
            return _Adjoint.apply(ctx.scan, (False,) * 8, *grads, *[None] * 5, ctx.membrane, *[None] * 3, *operands)[
                0
            ], None

    p = LIFParameters(surrogate=Surrogate("fast_sigmoid", 2.0))
    operands = [None, p.beta, p.threshold, *[None] * 5]
    x = currents((4, 5), 3)

    def derivatives_of(spikes):
        (first,) = torch.autograd.grad((spikes * torch.arange(5.0)).sum(), x, create_graph=True)
        return first, torch.autograd.grad((first**2).sum(), x, allow_unused=True)[0] if first.requires_grad else None

    right, wrong = derivatives_of(lif(x, p)[0]), derivatives_of(Stashed.apply(x, scan_of(p)))
    torch.testing.assert_close(wrong[0], right[0])
    assert right[1].abs().max() > 1e-3
    assert wrong[1] is None or (wrong[1] - right[1]).abs().max() > 1e-3


def test_third_derivatives_are_refused():
    x = currents((3, 2), 0)
    (first,) = torch.autograd.grad(lif(x, LIFParameters())[0].sum(), x, create_graph=True)
    (second,) = torch.autograd.grad((first**2).sum(), x, create_graph=True)
    with pytest.raises(NotImplementedError, match="lif_eager"):
        torch.autograd.grad(second.sum(), x)


def test_a_sequence_may_be_cut():
    p = LIFParameters(alpha=0.5, rho=0.9, adaptation=1.0)
    x = currents((7, 2, 5), 0).detach()
    whole, state = lif(x, p)
    first, middle = lif(x[:3], p)
    second, _ = lif(x[3:], p, state=State(*(y[-1] for y in middle)))
    assert torch.equal(torch.cat((first, second)), whole)
    assert state.adaptation.max() > 0


def test_what_does_not_fit_is_refused():
    x = torch.zeros(3, 3, 4)
    for shape in [(2, 3, 4), (1, 2, 4), (1, 3, 5), (1, 3), (4, 3, 4)]:
        with pytest.raises(UserError, match="gate of shape"):
            lif(x, LIFParameters(), gate=torch.ones(shape))
    with pytest.raises(UserError, match=r"beta of shape \(3, 1, 4\) does not broadcast"):
        lif(x, LIFParameters(torch.ones(3, 1, 4)))
    with pytest.raises(UserError, match=r"Initial membrane of shape \(5,\)"):
        lif(x, LIFParameters(), state=State(torch.ones(5)))
    with pytest.raises(UserError, match="3 steps"):
        lif(x, LIFParameters(), steps=4)
    with pytest.raises(UserError, match=r"torch.int64 of shape \(3, 3, 4\); give floating-point"):
        lif(x.long(), LIFParameters())
    with pytest.raises(UserError, match=r"of shape \(\)"):
        lif(torch.ones(()), LIFParameters(), steps=3)
    with pytest.raises(UserError, match="initial current is given"):
        lif(x, LIFParameters(), state=State(current=x[0]))
    with pytest.raises(UserError, match="'soft'"):
        lif(x, LIFParameters(reset="soft"))
    with pytest.raises(UserError, match=r"rho is 0\.9 and adaptation is None"):
        lif(x, LIFParameters(rho=0.9))


def test_threads_survive_a_fork():
    """A forked process has none of its parent's threads, and must not wait for them."""
    code = (
        "import os, torch; from snn_anml.neurons import LIFParameters, lif; torch.set_num_threads(2)\n"
        "x = torch.ones(9, 40, 601); lif(x, LIFParameters()); child = os.fork(); lif(x, LIFParameters())\n"
        "os._exit(0) if child == 0 else exit(os.waitpid(child, 0)[1])"
    )
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", code], timeout=60).returncode == 0


def test_outputs_are_equal_whatever_the_threads():
    x, beta = currents((9, 40, 601), 0, torch.float32), uniform((601,), 0.5, 0.9, 1, torch.float32)
    layers = [Layer(x, LIFParameters(), 9), Layer(x, LIFParameters(beta, reset="zero", detach_reset=False), 9)]
    threads = torch.get_num_threads()
    try:
        results = []
        for n in (1, 3):
            torch.set_num_threads(n)
            results.append([y for layer in layers for of_order in derivatives(layer, 0) for y in of_order])
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(x, y) for x, y in zip(*results, strict=True))
