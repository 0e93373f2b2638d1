"""Where snnTorch 1.0 is not what its names or docstrings say, next to this package. The documentation lists these."""

import pytest
import snntorch
import torch
from snntorch import surrogate as snn_surrogate

from snn_anml.errors import UserError
from snn_anml.neurons import LIFParameters, Surrogate, lif, spike
from snn_anml.neurons.from_snntorch import from_snntorch

MENDED = "snnTorch mended this: the note in the documentation can go, and this test with it"


def derivatives(function, x):
    """First and second derivative of a function, elementwise at x, through a loss that is not linear in it."""
    (first,) = torch.autograd.grad((function(x) * x**2).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    return first.detach(), second


def by_differences(surrogate, x, h=1e-6):
    """The second derivative that `derivatives` should give: s'' by central differences, s itself a constant."""
    x = x.detach().double()
    slope = (surrogate.derivative(x + h) - surrogate.derivative(x - h)) / (2 * h)
    s = (x > 0).double()
    return slope * x**2 + surrogate.derivative(x) * 4 * x + 2 * s


def test_sigmoid_overflows_to_nan_below_the_threshold():
    x = torch.tensor([-4.0, -0.1, 0.1, 4.0], requires_grad=True)
    theirs = derivatives(snn_surrogate.sigmoid(slope=25), x)
    for derivative in theirs:
        assert derivative[0].isnan(), MENDED
        assert derivative[1:].isfinite().all()
    surrogate = Surrogate("sigmoid", 25.0)
    ours = derivatives(lambda x: spike(x, surrogate), x)
    for one, other in zip(ours, theirs, strict=True):
        assert one.isfinite().all()
        torch.testing.assert_close(one[1:], other[1:])
    torch.testing.assert_close(ours[1], by_differences(surrogate, x).float(), rtol=1e-4, atol=1e-5)


def test_sigmoid_makes_the_gradient_of_a_whole_layer_nan():
    x = torch.tensor([[[-4.0]], [[0.5]], [[0.8]]], requires_grad=True)
    module = snntorch.Leaky(0.9, spike_grad=snn_surrogate.sigmoid(slope=25))
    mem, total = torch.zeros(1, 1), torch.zeros(())
    for current in x:
        s, mem = module(current, mem)
        total = total + s.sum()
    (theirs,) = torch.autograd.grad(total, x)
    assert theirs[0].isnan().all(), MENDED
    (ours,) = torch.autograd.grad(from_snntorch(module)(x)[0].sum(), x)
    assert ours.isfinite().all()


def test_triangular_is_no_triangle():
    """It gives threshold below and -threshold above, the slope of a triangle, as if that were its height."""
    x = torch.tensor([-3.0, -0.4, -0.1, 0.1, 0.4, 3.0], dtype=torch.float64, requires_grad=True)
    (theirs,) = torch.autograd.grad(snn_surrogate.triangular(threshold=2)(x).sum(), x, create_graph=True)
    assert torch.equal(theirs, torch.tensor([2.0, 2, 2, -2, -2, -2], dtype=torch.float64)), MENDED
    assert not theirs.requires_grad, MENDED  # so that a loss linear in the spikes has no second derivative at all
    surrogate = Surrogate("triangular", 2.0)
    (ours,) = torch.autograd.grad(spike(x, surrogate).sum(), x, create_graph=True)
    torch.testing.assert_close(ours, torch.tensor([0, 0.4, 1.6, 1.6, 0.4, 0], dtype=torch.float64))
    (second,) = torch.autograd.grad(ours.sum(), x)
    torch.testing.assert_close(second, torch.tensor([0.0, 4, 4, -4, -4, 0], dtype=torch.float64))
    torch.testing.assert_close(derivatives(lambda x: spike(x, surrogate), x)[1], by_differences(surrogate, x))


def test_straight_through_has_no_second_derivative_to_ask_for_where_it_is_zero():
    """A constant has none; snnTorch's gradient is then no function of the currents at all, ours is one, of slope 0."""
    x = torch.tensor([[-0.5, 0.4, 1.5], [0.3, 0.9, 0.2]], requires_grad=True)
    module = snntorch.Leaky(0.9, spike_grad=snn_surrogate.straight_through_estimator())
    first_spikes, mem = module(x[0], torch.zeros(3))
    spikes = torch.stack([first_spikes, module(x[1], mem)[0]])
    (theirs,) = torch.autograd.grad(spikes.sum(), x, create_graph=True)
    assert not theirs.requires_grad, MENDED
    with pytest.raises(RuntimeError, match="does not require grad"):
        torch.autograd.grad(theirs.sum(), x)
    p = LIFParameters(0.9, surrogate=Surrogate("straight_through"))
    (ours,) = torch.autograd.grad(lif(x, p)[0].sum(), x, create_graph=True)
    torch.testing.assert_close(ours, theirs)
    (second,) = torch.autograd.grad(ours.sum(), x)
    assert torch.equal(second, torch.zeros_like(x))


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (snn_surrogate.fast_sigmoid(5), Surrogate("fast_sigmoid", 5.0)),
        (snn_surrogate.atan(2), Surrogate("atan", 2.0)),
        (snn_surrogate.sigmoid(5), Surrogate("sigmoid", 5.0)),
        (snn_surrogate.straight_through_estimator(), Surrogate("straight_through", 1.0)),
    ],
    ids=lambda value: value.name if isinstance(value, Surrogate) else "",
)
def test_elsewhere_both_are_right_to_second_order(theirs, ours):
    x = torch.tensor([-2.0, -0.3, -0.01, 0.02, 0.4, 1.5], requires_grad=True)
    expected = derivatives(theirs, x)
    for one, other in zip(derivatives(lambda x: spike(x, ours), x), expected, strict=True):
        torch.testing.assert_close(one, other)
    torch.testing.assert_close(expected[1], by_differences(ours, x).float(), rtol=1e-4, atol=1e-4)


def test_lso_cannot_be_called():
    with pytest.raises(TypeError, match="variance"):
        snn_surrogate.LSO()(torch.ones(1))


def test_surrogates_cannot_be_used_under_torch_func():
    x = torch.tensor([-0.3, 0.4])
    with pytest.raises(RuntimeError, match="setup_context"):
        torch.func.vmap(torch.func.grad(snn_surrogate.fast_sigmoid(5)))(x)
    surrogate = Surrogate("fast_sigmoid", 5.0)
    ours = torch.func.vmap(torch.func.grad(lambda x: spike(x, surrogate)))(x)
    torch.testing.assert_close(ours, surrogate.derivative(x))


def test_assigning_a_reset_mechanism_changes_half_of_it():
    module = snntorch.Leaky(0.5, reset_mechanism="subtract")
    module.reset_mechanism = "zero"
    _, mem = module(torch.tensor([0.0]), torch.tensor([3.0]))
    assert float(mem) == 0.5, MENDED  # 0.5 * 3 - 1; reset to zero would give 0
    with pytest.raises(UserError, match="reset 'subtract' from its construction but 'zero' since"):
        from_snntorch(module)
    loaded = snntorch.Leaky(0.5, reset_mechanism="subtract")
    loaded.load_state_dict(snntorch.Leaky(0.5, reset_mechanism="none").state_dict())
    with pytest.raises(UserError, match="'none'"):
        from_snntorch(loaded)


def test_a_reset_to_zero_of_synaptic_also_drops_the_input_of_the_next_step():
    theirs = snntorch.Synaptic(0.5, 0.5, reset_mechanism="zero")
    _, current, mem = theirs(torch.tensor([0.25]), torch.tensor([0.0]), torch.tensor([3.0]))
    assert (float(current), float(mem)) == (0.25, 0.0), MENDED  # snntorch.Leaky keeps the input: 0.25
    _, mem = snntorch.Leaky(0.5, reset_mechanism="zero")(torch.tensor([0.25]), torch.tensor([3.0]))
    assert float(mem) == 0.25
