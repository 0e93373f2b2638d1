"""The fast meta-step of the conventional ANML against the published code's, recorded, and against its re-statement."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from benchmarks.restated_anml import restated_logits
from snn_anml.meta.published import Drawings, meta_step
from snn_anml.networks.norm_pool import NORM_EPS
from snn_anml.networks.published import PublishedANML, from_published
from tests.published_helpers import (
    REFERENCE,
    Case,
    apart,
    assert_same_step,
    random_case,
    read_reference,
    restated,
    together,
)

needs_reference = pytest.mark.skipif(
    not REFERENCE.exists(), reason=f"no {REFERENCE}; SNN_ANML_REFERENCE names a recorded meta-step"
)
ORDERS = ("first", "second")
CASES = {
    "as published": {
        "nm": 3,
        "pln": 5,
        "classes": 7,
        "lr": 0.1,
        "support": 4,
        "remember": 5,
        "channels": 3,
        "conv_bias": True,
    },
    "one channel": {"nm": 4, "pln": 3, "classes": 12, "lr": 0.5, "support": 3, "remember": 4, "channels": 1},
    "no gate": {"nm": 0, "pln": 4, "classes": 5, "lr": 0.03, "support": 5, "remember": 3, "channels": 3},
    "one step, other size": {
        "nm": 2,
        "pln": 6,
        "classes": 3,
        "lr": 1.0,
        "support": 1,
        "remember": 1,
        "channels": 2,
        "size": 23,
    },
    "least size": {"nm": 3, "pln": 4, "classes": 6, "lr": 0.2, "support": 6, "remember": 0, "channels": 3, "size": 22},
}


@needs_reference
@pytest.mark.parametrize("order", ORDERS)
def test_equals_the_published_code(order):
    case, expected = read_reference(REFERENCE)
    model = from_published(case.weights, size=case.query[0].shape[-1])
    for drawings in (apart(case), together(case)):
        assert_same_step(meta_step(model.weights, drawings, case.inner_lr, order), expected[order])


@needs_reference
@pytest.mark.parametrize("order", ORDERS)
def test_the_restatement_equals_the_published_code(order):
    case, expected = read_reference(REFERENCE)
    assert_same_step(restated(case, order), expected[order])


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("adapt", ["pln", "head"])
@pytest.mark.parametrize("sizes", CASES.values(), ids=CASES)
def test_equals_the_restatement(sizes, adapt, order):
    case = random_case(seed=1, **sizes)
    expected = restated(case, order, adapt)
    for drawings in (apart(case), together(case)):
        assert_same_step(meta_step(case.weights, drawings, case.inner_lr, order, adapt), expected)


@pytest.mark.parametrize("adapt", ["pln", "head"])
def test_queries_in_several_shares_are_the_same(adapt, monkeypatch):
    case = random_case(seed=2, **CASES["as published"])
    whole = meta_step(case.weights, together(case), case.inner_lr, "second", adapt)
    monkeypatch.setattr("snn_anml.networks.published.CACHE_BYTES", 2 * 26 * 26 * 5 * 8)
    assert_same_step(meta_step(case.weights, together(case), case.inner_lr, "second", adapt), whole)


def test_biases_of_convolutions_have_a_gradient_of_zero():
    case = random_case(seed=3, **CASES["as published"])
    gradient = meta_step(case.weights, together(case), case.inner_lr).gradient
    biases = [name for name in gradient if ".conv" in name and name.endswith(".bias")]
    assert len(biases) == 6
    assert all((gradient[name] == 0).all() for name in biases)


def flat_case(first: int) -> Case:
    """Blank paper with a window of ink, from picture `first` on; those before it are wholly blank."""
    case = random_case(seed=4, **CASES["as published"])
    blank = torch.ones_like(case.query[0])
    blank[first:, :, 5:9, 5:20] = case.query[0][first:, :, 5:9, 5:20].round()
    return case._replace(trajectory=(blank[-4:], case.query[1][-4:]), query=(blank, case.query[1]))


@pytest.mark.parametrize("order", ORDERS)
def test_flat_pictures_and_ties_are_the_same(order):
    """Blank paper gives maxima that many positions share, which the pool may break anyhow."""
    case = flat_case(0)
    assert_same_step(meta_step(case.weights, together(case), case.inner_lr, order), restated(case, order))


@pytest.mark.parametrize("order", ORDERS)
def test_a_blank_picture_is_the_same_as_far_as_it_is_defined(order):
    """Each of three norms multiplies the rounding of a constant map by eps^-1/2, in the re-statement as well."""
    case = flat_case(1)
    ours = meta_step(case.weights, together(case), case.inner_lr, order)
    assert_same_step(ours, restated(case, order), 4 * NORM_EPS**-1.5 * torch.finfo(torch.float64).eps)


def test_single_precision_is_as_near_as_it_can_be():
    case = random_case(seed=5, **CASES["as published"])
    exact = meta_step(case.weights, together(case), case.inner_lr, "second")
    drawings = together(case)._replace(pictures=together(case).pictures.float())
    single = meta_step({k: v.float() for k, v in case.weights.items()}, drawings, case.inner_lr, "second")
    for name, gradient in exact.gradient.items():
        error = (single.gradient[name] - gradient).abs().max()
        assert error <= 1e-2 * gradient.abs().max(), name


def test_module_is_the_published_function_and_trains():
    case = random_case(seed=6, **CASES["as published"])
    model, (x, y) = from_published(case.weights), case.query
    torch.testing.assert_close(model(x), restated_logits(case.weights, x), rtol=1e-10, atol=1e-10)
    with torch.no_grad():
        torch.testing.assert_close(model(x), restated_logits(case.weights, x), rtol=1e-10, atol=1e-10)
    leaves = {name: value.clone().requires_grad_() for name, value in case.weights.items()}
    F.cross_entropy(restated_logits(leaves, x), y).backward()
    F.cross_entropy(model(x), y).backward()
    for name, parameter in model.named_parameters():
        if ".conv" not in name or not name.endswith(".bias"):
            torch.testing.assert_close(parameter.grad, leaves[name].grad, rtol=1e-9, atol=1e-12)


def test_published_sizes_and_names():
    model = PublishedANML()
    shapes = {name: tuple(value.shape) for name, value in model.weights.items()}
    assert shapes["nm.out.weight"] == (2304, 1008)
    assert shapes["pln.out.weight"] == (1000, 2304)
    assert "nm.conv1.bias" not in shapes
    assert sum(value.numel() for value in model.parameters()) == pytest.approx(6.0e6, rel=0.02)


def test_mistakes_are_named():
    case = random_case(seed=7, **CASES["one channel"])
    with pytest.raises(ValueError, match=r"pln\.conv1\.weight"):
        from_published({"conv1": torch.zeros(1)})
    with pytest.raises(ValueError, match="not a published ANML's for 40 x 40"):
        from_published(case.weights, size=40)
    with pytest.raises(ValueError, match="21 x 21"):
        PublishedANML(size=21)
    unknown: Any = "third"
    with pytest.raises(ValueError, match='order = "third"'):
        meta_step(case.weights, apart(case), 0.1, unknown)
    with pytest.raises(ValueError, match="support = 9"):
        meta_step(case.weights, Drawings(*case.query, support=9), 0.1)
