"""The compiled loop of a softmax layer against its definition; both against torch in test_heads.py."""

from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snn_anml import compiled
from snn_anml.meta.softmax_layer import SoftmaxLayer, _compiled_for


def learned(layer, calls, by_definition):
    with patch.object(compiled, "library", (lambda *_: None) if by_definition else compiled.library):
        for call in calls:
            layer.learn(*call)
    return [layer.weights, *layer.moments]


@settings(deadline=None, max_examples=40)
@given(
    width=st.integers(1, 70),
    outputs=st.integers(2, 40),
    drawings=st.integers(0, 6),
    waiting=st.sampled_from([0, 1, 600]),
    adam=st.booleans(),
    seed=st.integers(0, 99),
)
def test_compiled_is_the_definition(width, outputs, drawings, waiting, adam, seed):
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn((outputs, width), generator=generator)
    rows = slice(outputs // 3, outputs)
    calls = []
    for _ in range(2):  # the steps of Adam are counted from call to call
        own = torch.randint(outputs - outputs // 3, (drawings,), generator=generator)
        calls.append((rows, torch.randn((drawings, width), generator=generator), own, waiting))
    ours, its = (learned(SoftmaxLayer(weights.clone(), 0.1, adam), calls, way) for way in (False, True))
    for one, other in zip(ours, its, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert torch.equal(ours[0][: outputs // 3], weights[: outputs // 3])


def test_a_row_that_there_is_not_is_refused():
    layer = SoftmaxLayer(torch.zeros(5, 3), 0.1, adam=False)
    for wrong in (-1, 2):
        with pytest.raises(IndexError, match=rf"own holds {wrong} to {wrong}; there are 2 rows"):
            layer.learn(slice(1, 3), torch.rand(1, 3), torch.tensor([wrong]))


def test_other_tensors_are_learned_by_the_definition():
    inputs, own, weights = torch.rand(4, 3), torch.zeros(4, dtype=torch.int64), torch.zeros(2, 3)
    assert _compiled_for(inputs, own, weights)
    assert not _compiled_for(inputs.double(), own, weights.double())
    assert not _compiled_for(inputs[:, :2], own, weights[:, :2])
    assert not _compiled_for(inputs, own.int(), weights)
    double = SoftmaxLayer(weights.double(), 0.1, adam=True)
    double.learn(slice(None), inputs.double(), own)
    single = SoftmaxLayer(weights, 0.1, adam=True)
    single.learn(slice(None), inputs, own)
    torch.testing.assert_close(double.weights.float(), single.weights)
