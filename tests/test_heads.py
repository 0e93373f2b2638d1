"""Heads that learn in sequence, or all classes shuffled, against torch's own optimisers on an ordinary linear layer."""

import pytest
import torch
import torch.nn.functional as F

from snn_anml import compiled
from snn_anml.errors import UserError
from snn_anml.meta.heads import class_means, learn_in_sequence, learn_shuffled
from snn_anml.meta.softmax_layer import SOURCE


@pytest.fixture(params=["compiled", "definition"])
def way(request, monkeypatch):
    """Both ways in which a softmax layer learns."""
    if request.param == "definition":
        monkeypatch.setattr(compiled, "library", lambda source, without: None)
    else:
        assert compiled.library(SOURCE, "") is not None


def features(classes=6, shots=4, width=9, seed=0):
    generator = torch.Generator().manual_seed(seed)
    f = torch.rand((classes, shots, width), generator=generator)
    f[:, :, 2] = 0  # a neuron that never fires
    return f * (torch.rand(f.shape, generator=generator) < 0.5)


def plain(head, drawings, rate, weight, bias):
    """Learns drawings (features, class) one by one from the given weight and bias."""
    layer = torch.nn.Linear(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    optimizer = (torch.optim.Adam if head == "adam" else torch.optim.SGD)(layer.parameters(), lr=rate)
    layer.bias.requires_grad_(head != "unit-sgd")
    for x, c in drawings:
        x = x / x.norm() if head == "unit-sgd" else x
        optimizer.zero_grad()
        F.cross_entropy(layer(x)[None], torch.tensor([c])).backward()
        optimizer.step()
    return layer.weight.detach(), layer.bias.detach()


@pytest.mark.parametrize(("head", "rate"), [("adam", 0.01), ("sgd", 0.3), ("unit-sgd", 1.0)])
@pytest.mark.parametrize("drawn", [False, True])
def test_sequence_equals_torch_on_a_full_layer(head, rate, drawn, way):
    f = features()
    initial = torch.randn((6, 10), generator=torch.Generator().manual_seed(1)) if drawn else None
    if drawn and head == "unit-sgd":
        initial[:, -1] = 0  # it has no bias
    start = initial if drawn else torch.zeros(6, 10)
    seen = dict(learn_in_sequence(head, f, rate, (1, 3, 6), initial))
    assert list(seen) == [1, 3, 6]
    for classes, learned in seen.items():
        drawings = [(x, c) for c in range(classes) for x in f[c]]
        weight, bias = plain(head, drawings, rate, start[:, :-1], start[:, -1])
        rows = slice(None) if drawn else slice(classes)
        torch.testing.assert_close(learned.weight, weight[rows], rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(learned.bias, bias[rows], rtol=1e-4, atol=1e-6)
        held_out = features(seed=7).flatten(0, 1)
        oracle = (held_out @ weight.T + bias).argmax(1)
        if not drawn:  # the outputs of classes still to come are one rival, reported as -1
            oracle[oracle >= classes] = -1
            assert (learned.rival is None) == (classes == 6)
        assert torch.equal(learned.predict(held_out), oracle)


@pytest.mark.parametrize(("head", "rate"), [("adam", 0.01), ("sgd", 0.3), ("unit-sgd", 1.0)])
def test_shuffled_equals_torch_on_shuffled_drawings(head, rate, way):
    f = features()
    drawings = [(x, c) for c in range(6) for x in f[c]]
    orders = [torch.randperm(24, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2)]
    one, other = (learn_shuffled(head, f, rate, order) for order in orders)
    weight, bias = plain(head, [drawings[i] for i in orders[0]], rate, torch.zeros(6, 9), torch.zeros(6))
    torch.testing.assert_close(one.weight, weight, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(one.bias, bias, rtol=1e-4, atol=1e-6)
    assert one.rival is None
    assert (one.weight - other.weight).abs().max() > 1e-3


def test_class_means_pick_the_nearest_mean():
    f = features()
    query = features(seed=3).flatten(0, 1)
    distance = torch.cdist(query, f.mean(1))
    assert torch.equal(class_means(f).predict(query), distance.argmin(1))
    (milestone, learned), *_ = learn_in_sequence("class-mean", f, 0.0, (4,))
    assert milestone == 4
    torch.testing.assert_close(learned.weight, 2 * f[:4].mean(1))


def test_mistakes_are_named():
    with pytest.raises(UserError, match=r"'ridge'.*adam, sgd, unit-sgd, class-mean"):
        next(learn_in_sequence("ridge", features(), 0.1, (2,)))
    with pytest.raises(UserError, match=r"'ridge'.*adam, sgd, unit-sgd, class-mean"):
        learn_shuffled("ridge", features(), 0.1, torch.arange(24))
    with pytest.raises(UserError, match="7 classes, but there are only 6"):
        next(learn_in_sequence("sgd", features(), 0.1, (7,)))
