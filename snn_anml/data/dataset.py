"""Images of many classes with equally many drawings each: the form that every dataset takes here."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from snn_anml.errors import UserError


@dataclass(frozen=True, eq=False)
class Dataset:
    """A set of drawings, all classes in memory.

    Attributes:
        name: the name under which it is loaded, e.g. `omniglot`.
        images: (classes, drawings, height, width), uint8; 255 = full ink, 0 = paper.
        class_names: one name a class.
        background: number of leading classes that form the training half; the others are the evaluation half.
        sha256: hexadecimal SHA-256 of the bytes of `images` in C order; recorded with every result.

    Raises:
        UserError: fields that contradict each other.
    """

    name: str
    images: np.ndarray
    class_names: tuple[str, ...]
    background: int
    sha256: str

    def __post_init__(self) -> None:
        where = f"Dataset {self.name!r}"
        if self.images.ndim != 4 or self.images.dtype != np.uint8:
            raise UserError(
                f"{where} has images of shape {self.images.shape} and type {self.images.dtype}; "
                "they must be (classes, drawings, height, width) of type uint8."
            )
        if 0 in self.images.shape:
            raise UserError(f"{where} has images of shape {self.images.shape}; no size may be 0.")
        if len(self.class_names) != self.classes:
            raise UserError(
                f"{where} has {self.classes} classes but {len(self.class_names)} class names; give one name a class."
            )
        if not 0 <= self.background <= self.classes:
            raise UserError(
                f"{where} has background = {self.background}; it must lie between 0 and its {self.classes} classes."
            )
        if len(self.sha256) != 64 or not set(self.sha256) <= set("0123456789abcdef"):
            raise UserError(f"{where} has sha256 = {self.sha256!r}; it must be 64 lower-case hexadecimal digits.")

    @classmethod
    def of(cls, name: str, images: np.ndarray, class_names: tuple[str, ...], background: int) -> Dataset:
        """Makes a dataset and computes its hash; the arguments are those of the class."""
        digest = hashlib.sha256(np.ascontiguousarray(images).data).hexdigest()
        return cls(name, images, class_names, background, digest)

    @property
    def classes(self) -> int:
        """Number of classes."""
        return self.images.shape[0]

    @property
    def drawings(self) -> int:
        """Number of drawings of every class."""
        return self.images.shape[1]

    @property
    def evaluation(self) -> int:
        """Number of classes of the evaluation half."""
        return self.classes - self.background
