"""Class splits and datasets: disjoint, of the sizes asked for, and clear about what cannot be."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snn_anml.data import ClassSplit, Dataset, split_classes, with_rotations
from snn_anml.errors import UserError


def dataset(classes, background):
    return Dataset.of("toy", np.zeros((classes, 1, 1, 1), np.uint8), tuple(map(str, range(classes))), background)


@st.composite
def requests(draw):
    background, evaluation = draw(st.integers(1, 60)), draw(st.integers(1, 60))
    meta_test = draw(st.integers(1, evaluation))
    selection = draw(st.integers(0, background + evaluation - meta_test - 1))
    return background, evaluation, meta_test, selection, draw(st.integers(0, 2**40))


@given(requests())
def test_a_split_is_disjoint_and_of_the_sizes_asked_for(request):
    background, evaluation, meta_test, selection, seed = request
    split = split_classes(dataset(background + evaluation, background), meta_test, selection, seed)
    assert split.meta_test.tolist() == list(range(background, background + meta_test))
    assert len(split.selection) == selection
    assert len(split.meta_train) >= 1
    assert (split.meta_train < background).all()
    left = set(range(background + meta_test, background + evaluation))
    if selection <= len(left):
        assert set(split.selection) <= left
        assert len(split.meta_train) == background
    else:
        assert left <= set(split.selection)
        assert len(split.meta_train) == background - (selection - len(left))
    for part in (split.meta_train, split.selection):
        assert (np.diff(part) > 0).all()
    assert not set(split.meta_train) & set(split.selection)


def test_omniglot_leaves_873_classes_for_meta_training():
    split = split_classes(dataset(1623, 964), 600, 150, 0)
    assert [len(part) for part in (split.meta_train, split.selection, split.meta_test)] == [873, 150, 600]
    assert (split.selection >= 964 + 600).sum() == 59


def test_the_seed_chooses_the_borrowed_classes_the_same_everywhere():
    def borrowed(seed):
        return split_classes(dataset(40, 30), 10, 5, seed).selection.tolist()

    assert borrowed(0) == borrowed(0)
    assert borrowed(0) != borrowed(1)
    assert borrowed(0) == [2, 3, 11, 13, 20]


@pytest.mark.parametrize(
    ("meta_test", "selection", "seed", "message"),
    [
        (11, 0, 0, "11 meta-test classes were asked for, but toy has 10 evaluation classes; ask for 1 to 10"),
        (0, 0, 0, "0 meta-test classes"),
        (6, 34, 0, "34 selection classes .* 4 evaluation and 30 background .* ask for 0 to 33"),
        (6, -1, 0, "-1 selection classes"),
        (6, 1, -2, "seed of the class split is -2"),
    ],
)
def test_what_cannot_be_is_said_with_the_numbers(meta_test, selection, seed, message):
    with pytest.raises(UserError, match=message):
        split_classes(dataset(40, 30), meta_test, selection, seed)


def test_all_but_one_background_class_can_be_borrowed():
    assert len(split_classes(dataset(40, 30), 6, 33, 0).meta_train) == 1


def test_without_a_background_half_there_is_nothing_to_train_on():
    with pytest.raises(UserError, match="no background classes"):
        split_classes(dataset(10, 0), 5, 0, 0)


def test_a_split_that_shares_a_class_is_refused():
    with pytest.raises(UserError, match="Class 3 stands more than once"):
        ClassSplit(np.array([1, 3]), np.array([2]), np.array([3, 4]))


def test_rotations_are_further_classes():
    images = np.random.default_rng(0).integers(0, 256, (3, 2, 5, 5), dtype=np.uint8)
    turned = with_rotations(images)
    assert turned.shape == (12, 2, 5, 5)
    np.testing.assert_array_equal(turned[:3], images)
    for y, x in np.ndindex(5, 5):  # anticlockwise, a point (x, y) goes to (y, 4 - x)
        np.testing.assert_array_equal(turned[3:6, :, 4 - x, y], images[:, :, y, x])
    np.testing.assert_array_equal(with_rotations(turned[3:6])[:3], turned[3:6])
    np.testing.assert_array_equal(with_rotations(turned[3:6])[3:6], turned[6:9])
    np.testing.assert_array_equal(with_rotations(turned[3:6])[9:], images)


@pytest.mark.parametrize("shape", [(3, 4, 5), (5, 5)])
def test_only_square_images_can_be_turned(shape):
    with pytest.raises(UserError, match=r"must be \(classes, \.\.\., side, side\)"):
        with_rotations(np.zeros(shape, np.uint8))


def test_a_dataset_knows_its_sizes_and_its_hash():
    images = np.arange(24, dtype=np.uint8).reshape(4, 3, 1, 2)
    data = Dataset.of("toy", images[:, ::-1], ("a", "b", "c", "d"), 3)
    assert (data.classes, data.drawings, data.background, data.evaluation) == (4, 3, 3, 1)
    assert data.sha256 == hashlib.sha256(images[:, ::-1].tobytes()).hexdigest()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": np.zeros((2, 1, 1), np.uint8)}, r"shape \(2, 1, 1\)"),
        ({"images": np.zeros((2, 1, 1, 1))}, "float64"),
        ({"images": np.zeros((2, 0, 1, 1), np.uint8)}, "no size may be 0"),
        ({"class_names": ("a",)}, "2 classes but 1 class names"),
        ({"background": 3}, "background = 3"),
        ({"background": -1}, "background = -1"),
        ({"sha256": "abc"}, "sha256 = 'abc'"),
        ({"sha256": "Z" * 64}, "hexadecimal"),
    ],
)
def test_a_dataset_that_contradicts_itself_is_refused(change, message):
    good = {
        "images": np.zeros((2, 1, 1, 1), np.uint8),
        "class_names": ("a", "b"),
        "background": 1,
        "sha256": "0" * 64,
    }
    Dataset(name="toy", **good)
    with pytest.raises(UserError, match=message):
        Dataset(name="toy", **{**good, **change})
