"""Datasets by name, and how their classes are split."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from snn_anml.data.dataset import Dataset
from snn_anml.data.glyphs import load_glyphs
from snn_anml.data.omniglot import fetch_omniglot, load_omniglot, where_omniglot
from snn_anml.data.splits import ClassSplit, split_classes, with_rotations
from snn_anml.errors import UserError

__all__ = [
    "DATASETS",
    "ClassSplit",
    "Dataset",
    "DatasetSource",
    "fetch_dataset",
    "load_dataset",
    "split_classes",
    "with_rotations",
]


@dataclass(frozen=True)
class DatasetSource:
    """What is known about a dataset before it is loaded.

    Attributes:
        description: one sentence.
        load: makes the dataset; takes `size` and the options of this dataset.
        where: the folders in which it is looked for, first to last, each with whether it was found there;
            empty for what is made and not read.
        fetch: downloads it when it is not found and returns its folder; None for what needs no download.
    """

    description: str
    load: Callable[..., Dataset]
    where: Callable[[], list[tuple[Path, bool]]]
    fetch: Callable[[], Path] | None

    @property
    def found(self) -> bool:
        """Whether it can be loaded without a download."""
        return self.fetch is None or any(found for _, found in self.where())


DATASETS: dict[str, DatasetSource] = {
    "glyphs": DatasetSource(
        "Made-up characters of random strokes, any number of classes, made on the spot from a seed.",
        load_glyphs,
        list,
        None,
    ),
    "omniglot": DatasetSource(
        "Handwritten characters of 50 alphabets, 1623 classes of 20 drawings (Lake et al., 2015).",
        load_omniglot,
        where_omniglot,
        fetch_omniglot,
    ),
}


def load_dataset(name: str, size: int = 28, **options: int | None) -> Dataset:
    """Loads a dataset by its name.

    Args:
        name: a key of `DATASETS`.
        size: height and width of the images, pixels.
        options: what this dataset takes beside: `classes`, `drawings`, `seed`, `background` for `glyphs`.

    Raises:
        UserError: an unknown name or option, or data that cannot be had.
    """
    load = _source(name).load
    known = [option for option in inspect.signature(load).parameters if option != "size"]
    for option in options:
        if option not in known:
            takes = f"takes {', '.join(known)}" if known else "takes none"
            raise UserError(f"Dataset {name!r} has no option {option!r}; beside size it {takes}.")
    return load(size=size, **options)


def fetch_dataset(name: str) -> Path | None:
    """Makes sure that a dataset is on this machine, by a download where needed.

    Returns:
        The folder it lies in; None for what needs no download.

    Raises:
        UserError: an unknown name or a failed download.
    """
    fetch = _source(name).fetch
    return fetch() if fetch else None


def _source(name: str) -> DatasetSource:
    if name not in DATASETS:
        raise UserError(f"There is no dataset {name!r}; known are {', '.join(sorted(DATASETS))}.")
    return DATASETS[name]
