"""The dual inner loop against ordinary SGD on an output layer, differentiated with create_graph."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from snn_anml.meta.inner import dual_sgd, sgd_


@given(
    trajectories=st.integers(1, 3),
    steps=st.integers(1, 5),
    extra=st.integers(0, 4),
    width=st.integers(1, 6),
    classes=st.integers(2, 5),
    seed=st.integers(0, 99),
    order=st.sampled_from(["first", "second"]),
    biased=st.booleans(),
)
@settings(max_examples=30, deadline=None)
def test_logits_and_gradient_equal_the_unrolled_layer(trajectories, steps, extra, width, classes, seed, order, biased):
    generator = torch.Generator().manual_seed(seed)
    shape = (trajectories, steps + extra, width)
    f = torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)
    weight = torch.randn((classes, width), generator=generator, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(classes, generator=generator, dtype=torch.float64, requires_grad=True)
    rate = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(classes, (trajectories, steps), generator=generator)
    direction = torch.randn((trajectories, steps + extra, classes), generator=generator, dtype=torch.float64)

    ours = dual_sgd(f, labels, f @ weight.T + bias, rate, order, biased)
    unrolled = []
    for m in range(trajectories):
        w, b = weight, bias
        for k in range(steps):
            loss = F.cross_entropy((f[m, k] @ w.T + b)[None], labels[m, k : k + 1])
            gw, gb = torch.autograd.grad(loss, (w, b), create_graph=order == "second")
            w, b = w - rate * gw, b - rate * gb * biased
        unrolled.append(f[m] @ w.T + b)
    oracle = torch.stack(unrolled)
    torch.testing.assert_close(ours, oracle, rtol=1e-10, atol=1e-10)
    variables = (f, weight, bias, rate)
    for mine, theirs in zip(
        torch.autograd.grad((ours * direction).sum(), variables),
        torch.autograd.grad((oracle * direction).sum(), variables),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("steps", [1, 6])
def test_sgd_in_place_is_that_of_torch(steps):
    generator = torch.Generator().manual_seed(0)
    f = torch.randn((steps, 5), generator=generator, dtype=torch.float64)
    labels = torch.randint(3, (steps,), generator=generator)
    layer = torch.nn.Linear(5, 3, dtype=torch.float64)
    weight, bias = layer.weight.detach().clone(), layer.bias.detach().clone()
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.3)
    for feature, label in zip(f, labels, strict=True):
        optimizer.zero_grad()
        F.cross_entropy(layer(feature[None]), label[None]).backward()
        optimizer.step()
    sgd_(weight, bias, f, labels, 0.3)
    torch.testing.assert_close(weight, layer.weight.detach(), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(bias, layer.bias.detach(), rtol=1e-12, atol=1e-14)
