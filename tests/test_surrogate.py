"""Surrogates: finite everywhere, right to second order, in torch and in the compiled scans."""

import pytest
import torch
from snntorch import surrogate as snn_surrogate

from snn_anml.errors import UserError
from snn_anml.neurons import SURROGATES, LIFParameters, State, Surrogate, lif, spike

FAR_AND_NEAR = torch.tensor([-1e4, -4.0, -0.031, -0.001, 0.0, 0.002, 0.035, 4.0, 1e4], dtype=torch.float64)
names = pytest.mark.parametrize("name", SURROGATES)


def both(function, x):
    """Value and derivative of an elementwise function."""
    x = x.clone().requires_grad_()
    y = function(x)
    return y.detach(), torch.autograd.grad(y.sum(), x)[0] if y.requires_grad else torch.zeros_like(y)


@names
@pytest.mark.parametrize("slope", [1.0, 25.0])
def test_finite_with_the_slope_of_the_first_as_second(name, slope):
    surrogate = Surrogate(name, slope)
    first, second = both(surrogate.derivative, FAR_AND_NEAR)
    assert first.isfinite().all()
    assert (first >= 0).all()
    assert second.isfinite().all()
    x, h = FAR_AND_NEAR[FAR_AND_NEAR != 0], 1e-7
    differences = (surrogate.derivative(x + h) - surrogate.derivative(x - h)) / (2 * h)
    torch.testing.assert_close(second[FAR_AND_NEAR != 0], differences, rtol=1e-5, atol=1e-5)
    assert second[FAR_AND_NEAR == 0] == 0


@names
def test_the_area_under_each_is_one(name):
    """So that a slope changes how far a surrogate reaches, not how strong it is; but 2 / k for the fast sigmoid."""
    x = torch.linspace(-2000, 2000, 4_000_001, dtype=torch.float64)
    area = torch.trapezoid(Surrogate(name, 3.0).derivative(x), x)
    expected = {"fast_sigmoid": 2 / 3, "straight_through": 4000.0}.get(name, 1.0)
    torch.testing.assert_close(area.item(), expected, rtol=2e-3, atol=0)


@names
def test_spike_has_the_surrogate_as_gradient_to_second_order(name):
    surrogate = Surrogate(name, 3.0)
    x = FAR_AND_NEAR.clone().requires_grad_()
    s = spike(x, surrogate)
    assert torch.equal(s.detach(), (x > 0).double())
    (first,) = torch.autograd.grad(s.sum(), x, create_graph=True)
    weights = torch.arange(9.0, dtype=torch.float64)
    second = torch.autograd.grad((first * weights).sum(), x)[0] if first.requires_grad else torch.zeros_like(x)
    expected = both(surrogate.derivative, FAR_AND_NEAR)
    torch.testing.assert_close(first.detach(), expected[0])
    torch.testing.assert_close(second, expected[1] * weights)


@names
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_compiled_scans_have_the_same_surrogates(name, dtype):
    """One step from a membrane of 0 is the surrogate itself, also far from the threshold and at it."""
    surrogate = Surrogate(name, 25.0)
    x = (FAR_AND_NEAR.to(dtype) + 1).requires_grad_()
    s, _ = lif(x[None], LIFParameters(0.5, 1.0, surrogate=surrogate), state=State(torch.zeros((), dtype=dtype)))
    (first,) = torch.autograd.grad(s.sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    expected = both(surrogate.derivative, x.detach() - 1)
    torch.testing.assert_close(first.detach(), expected[0])
    torch.testing.assert_close(second, expected[1])


@pytest.mark.parametrize("name", ["fast_sigmoid", "atan", "sigmoid"])
def test_those_of_snntorch_are_the_same(name):
    x = torch.linspace(-2, 2, 41, requires_grad=True)
    theirs = getattr(snn_surrogate, name)(5.0)
    (oracle,) = torch.autograd.grad(theirs(x).sum(), x)
    torch.testing.assert_close(Surrogate(name, 5.0).derivative(x.detach()), oracle)


def test_values_out_of_range_are_refused():
    with pytest.raises(UserError, match="'tanh'"):
        Surrogate("tanh")
    with pytest.raises(UserError, match="slope is 0"):
        Surrogate("atan", 0)
