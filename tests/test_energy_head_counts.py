"""What heads do to learn a class, against plain loops that learn the same and count each operation as they do it."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, replace
from fractions import Fraction

import numpy as np
import pytest
import torch

from converters.energy.head_counts import count
from snn_anml.errors import UserError
from snn_anml.meta.heads import HEADS, STREAMING, GaussianHead, learn_in_sequence
from tests.learning_helpers import learned

CLASSES, SHOTS, WIDTH = 4, 3, 8
RATE = {"sgd": 0.3, "unit-sgd": 0.3, "adam": 0.01, "class-mean": 0.0, "cosine": 0.7, "gaussian": 0.2}


def drawings(density=0.4, seed=0):
    """Features of which many are zero, one in all drawings, and all in one drawing."""
    rng = np.random.default_rng(seed)
    f = rng.uniform(0.1, 1, (CLASSES, SHOTS, WIDTH)) * (rng.random((CLASSES, SHOTS, WIDTH)) < density)
    if density < 1:
        f[..., 2] = 0
        f[1, 0] = 0
    return f.astype(np.float32)


def plain(items):
    """Counts by item that are not zero."""
    return {item: {name: n for name, n in asdict(one).items() if n} for item, one in items.items()}


@pytest.mark.parametrize("head", HEADS)
def test_counts_are_those_of_plain_loops_that_learn_the_same(head):
    f = drawings()
    loop, by_class = learned(head, f, RATE[head], outputs=CLASSES)
    ((_, result),) = learn_in_sequence(head, torch.from_numpy(f), RATE[head], (CLASSES,))
    rows = [
        torch.tensor([memory.row(c, WIDTH + 1) for c in range(CLASSES)])
        for memory in (
            [loop.first, loop.second] if head == "gaussian" else [getattr(loop, "weights", None) or loop.rows]
        )
    ]
    if isinstance(result, GaussianHead):
        torch.testing.assert_close(rows[0][:, :-1], result.means, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(rows[1][:, :-1], result.precisions, rtol=1e-4, atol=1e-6)
    else:
        torch.testing.assert_close(rows[0][:, :-1], result.weight, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(rows[0][:, -1], result.bias, rtol=1e-4, atol=1e-6)
    for c in range(CLASSES):
        assert plain(count(head, f[c : c + 1], known=c, outputs=CLASSES).effective) == by_class[c]
    total = count(head, f, known=0, outputs=CLASSES)
    assert plain(total.effective) == {
        item: dict(sum((Counter(one[item]) for one in by_class), Counter())) for item in by_class[0]
    }
    assert total.active == Fraction(np.count_nonzero(f), CLASSES * SHOTS)


@pytest.mark.parametrize("head", HEADS)
def test_dense_counts_are_those_of_features_without_zeros(head):
    full = count(head, drawings(density=2), known=2, outputs=7)
    sparse = count(head, drawings(), known=2, outputs=7)
    assert plain(full.effective) == plain(full.dense) == plain(sparse.dense)
    assert plain(sparse.effective) != plain(sparse.dense)
    assert full.active == WIDTH


@pytest.mark.parametrize("head", HEADS)
def test_what_grows_with_what(head):
    """Softmax pays for every output there is; the others for their own row, however many classes are known."""
    few, many = (count(head, drawings(), known=3, outputs=outputs) for outputs in (4, 400))
    later = count(head, drawings(), known=300, outputs=400)
    assert (few.effective == many.effective) == (head in STREAMING)
    assert later.effective == many.effective
    # An int of Python: a product of 600 outputs and thousands of features must not overflow.
    assert all(isinstance(n, int) for one in many.effective.values() for n in asdict(one).values())
    values = {
        "sgd": 400 * (WIDTH + 1),
        "unit-sgd": 400 * WIDTH,
        "adam": 3 * 400 * (WIDTH + 1),
        "class-mean": 301 * (WIDTH + 1),
        "cosine": 301 * WIDTH,
        "gaussian": 301 * 2 * WIDTH,
    }
    assert later.resident_bytes == 4 * values[head]


def test_means_are_exact():
    f = drawings()
    counts = count("sgd", f, known=3)
    assert counts.outputs == 4
    assert counts.mean("forward", "macs") == Fraction(4 * np.count_nonzero(f), CLASSES)
    assert counts.mean("forward", "macs", dense=True) == 4 * SHOTS * WIDTH
    assert replace(counts, classes=1).mean("forward", "macs") == 4 * np.count_nonzero(f)


def test_mistakes_are_named():
    with pytest.raises(UserError, match="Unknown head 'ridge'; known are adam, sgd"):
        count("ridge", drawings(), known=0)
    with pytest.raises(UserError, match=r"Features of shape \(3, 8\); give"):
        count("sgd", drawings()[0], known=0)
    with pytest.raises(UserError, match="5 classes are known and the head has 5 outputs"):
        count("sgd", drawings(), known=5, outputs=5)
