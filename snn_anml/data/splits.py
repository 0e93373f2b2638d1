"""Which classes are for meta-training, for picking learning rates, and for the meta-test."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from snn_anml.data.dataset import Dataset
from snn_anml.errors import UserError


@dataclass(frozen=True, eq=False)
class ClassSplit:
    """Three sets of class indices without a common class, each in rising order.

    Attributes:
        meta_train: classes that the outer loop learns from.
        selection: classes on which the learning rates of the meta-test are picked; never reported.
        meta_test: classes of the meta-test; protocol `paper` takes them in this order, `strict` at random.

    Raises:
        UserError: a class that stands twice.
    """

    meta_train: np.ndarray
    selection: np.ndarray
    meta_test: np.ndarray

    def __post_init__(self) -> None:
        together = np.concatenate([self.meta_train, self.selection, self.meta_test])
        values, counts = np.unique(together, return_counts=True)
        if (counts > 1).any():
            raise UserError(
                f"Class {values[counts > 1][0]} stands more than once in the class split; "
                "meta-training, selection and meta-test must not share classes."
            )


def split_classes(dataset: Dataset, meta_test: int, selection: int, seed: int) -> ClassSplit:
    """Splits the classes of a dataset.

    The meta-test takes the first classes of the evaluation half. The selection takes what the meta-test left
    of that half and then, when more are needed, randomly chosen classes of the background half; all other
    background classes are for meta-training. With Omniglot, 600 and 150 leave 873 for meta-training.

    Args:
        dataset: the data.
        meta_test: number of meta-test classes, at least 1.
        selection: number of selection classes, 0 or more.
        seed: chooses the background classes of the selection.

    Raises:
        UserError: more classes than there are, or none left for meta-training.
    """
    name, background, evaluation = dataset.name, dataset.background, dataset.evaluation
    if background == 0:
        raise UserError(f"{name} has no background classes to meta-train on; load it with background of at least 1.")
    if seed < 0:
        raise UserError(f"The seed of the class split is {seed}; it must be 0 or more.")
    if not 1 <= meta_test <= evaluation:
        raise UserError(
            f"{meta_test} meta-test classes were asked for, but {name} has {evaluation} evaluation classes; "
            f"ask for 1 to {evaluation}."
        )
    left = np.arange(background + meta_test, dataset.classes)
    most = len(left) + background - 1
    if not 0 <= selection <= most:
        raise UserError(
            f"{selection} selection classes were asked for, but beside {meta_test} meta-test classes {name} "
            f"has {len(left)} evaluation and {background} background classes, of which 1 must stay for "
            f"meta-training; ask for 0 to {most}."
        )
    # Raw bits, since numpy may change its shuffles but not its bit streams.
    shuffled = np.argsort(np.random.PCG64(seed).random_raw(background), kind="stable")
    borrowed = max(selection - len(left), 0)
    return ClassSplit(
        meta_train=np.sort(shuffled[borrowed:]),
        selection=np.concatenate([np.sort(shuffled[:borrowed]), left[:selection]]),
        meta_test=np.arange(background, background + meta_test),
    )


def with_rotations(images: np.ndarray) -> np.ndarray:
    """Adds every class turned by 90, 180 and 270 degrees as further classes.

    Args:
        images: (classes, ..., side, side).

    Returns:
        (4 * classes, ..., side, side): all classes upright, then all turned anticlockwise by 90, by 180 and
        by 270 degrees.

    Raises:
        UserError: images that are not square.
    """
    if images.ndim < 3 or images.shape[-1] != images.shape[-2]:
        raise UserError(
            f"Images of shape {images.shape} cannot be turned by 90 degrees; they must be (classes, ..., side, side)."
        )
    return np.concatenate([np.rot90(images, turns, axes=(-2, -1)) for turns in range(4)])
