"""What a training step sees: shapes, labels, and no drawing on both sides."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snn_anml.config import MetaConfig
from snn_anml.data.tasks import pictures, sample_batch, sample_trajectories
from snn_anml.errors import UserError

CLASSES = np.array([3, 5, 8, 13, 21, 34])


@given(
    trajectories=st.integers(1, 3),
    classes=st.integers(1, 6),
    shots=st.integers(1, 4),
    queries=st.integers(0, 4),
    remember=st.integers(0, 9),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_trajectories(trajectories, classes, shots, queries, remember, seed):
    config = MetaConfig(trajectories, classes, shots, queries, remember, head="meta")
    batch = sample_trajectories(np.random.default_rng(seed), CLASSES, 8, config)
    S, Q = classes * shots, classes * queries
    assert all(a.shape == (trajectories, S + Q + remember) for a in batch)
    assert (batch.classes == CLASSES[batch.labels]).all()
    for m in range(trajectories):
        order = batch.classes[m, :S].reshape(classes, shots)
        assert (order == order[:, :1]).all()  # class after class
        assert len(set(order[:, 0])) == classes
        seen = list(zip(batch.classes[m, : S + Q], batch.drawings[m, : S + Q], strict=True))
        assert len(set(seen)) == S + Q  # no drawing twice, so none is both learned from and asked for
        assert (batch.classes[m, S : S + Q].reshape(classes, queries) == order[:, :1]).all()


def test_labels_of_a_zero_head_are_positions_in_the_trajectory():
    batch = sample_trajectories(np.random.default_rng(0), CLASSES, 8, MetaConfig(1, 4, 2, 1))
    assert batch.labels.tolist() == [[0, 0, 1, 1, 2, 2, 3, 3, 0, 1, 2, 3]]


def test_equal_seeds_give_equal_batches():
    first, second, other = (sample_batch(np.random.default_rng(s), CLASSES, 8, 20) for s in (1, 1, 2))
    assert (first.drawings == second.drawings).all()
    assert (first.classes == second.classes).all()
    assert (first.drawings != other.drawings).any()


def test_pictures_are_scaled_and_in_order():
    images = torch.arange(2 * 3 * 4 * 4, dtype=torch.uint8).view(2, 3, 4, 4)
    x = pictures(images, np.array([[1, 0]]), np.array([[2, 1]]))
    assert x.shape == (2, 1, 4, 4)
    assert torch.equal(x[0, 0] * 256, images[1, 2].float())
    assert torch.equal(x[1, 0] * 256, images[0, 1].float())


def test_too_many_classes_or_drawings_are_refused():
    with pytest.raises(UserError, match=r"meta\.classes = 7.*only 6"):
        sample_trajectories(np.random.default_rng(0), CLASSES, 8, MetaConfig(classes=7))
    with pytest.raises(UserError, match="= 9, but a class has 8"):
        sample_trajectories(np.random.default_rng(0), CLASSES, 8, MetaConfig(classes=2, shots=5, queries=4))
