"""Omniglot: 1623 handwritten characters of 50 alphabets, 20 drawings each.

Source: B. M. Lake, R. Salakhutdinov, J. B. Tenenbaum, "Human-level concept learning through probabilistic
program induction", Science 350 (2015) 1332-1338; https://github.com/brendenlake/omniglot.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import track

from snn_anml.data.archive import damaged, find_archive, fingerprint, list_files, read_files
from snn_anml.data.cache import cache_folder, cached_array
from snn_anml.data.dataset import Dataset
from snn_anml.data.download import download
from snn_anml.errors import UserError

DRAWINGS = 20
SIDE = 105
"""Height and width of the original drawings, pixels."""
URL = "https://raw.githubusercontent.com/brendenlake/omniglot/master/python/"
_FILE = re.compile(r"(?P<character>[^/]+/character\d+)/\d+_(?P<drawer>\d+)\.png")


@dataclass(frozen=True)
class Half:
    """One official part: name of its folder, number of characters, MD5 of its zip as torchvision has it."""

    name: str
    characters: int
    md5: str


HALVES = (
    Half("images_background", 964, "68d2efa1b9178cc56df9314c21c6e718"),
    Half("images_evaluation", 659, "6b91aef0f799c5bb55b94e3f2daec811"),
)


def load_omniglot(size: int = 28) -> Dataset:
    """Loads Omniglot; downloads it when it is found nowhere.

    The characters stand in the order of their sorted names (`ALPHABET/characterNN`), the 964 of the
    background half first, then the 659 of the evaluation half; drawings by drawer, 01 to 20. As in the
    published ANML code the drawings are scaled with Lanczos; other than there, ink is 255 and paper 0.

    Args:
        size: height and width of the images, pixels.

    Returns:
        1623 classes of 20 drawings: images (1623, 20, size, size).

    Raises:
        UserError: data that is incomplete, damaged or laid out in another way, or a failed download.
    """
    if size < 1:
        raise UserError(f"Omniglot cannot be scaled to {size} pixels; ask for a size of at least 1, such as 28.")
    folder = fetch_omniglot()
    archives = [_archive(folder, half) for half in HALVES]
    files = [_checked_files(archive, half) for archive, half in zip(archives, HALVES, strict=True)]
    key = "-".join(["omniglot", str(size), *(fingerprint(archive)[:16] for archive in archives)])
    images = cached_array(key, lambda: _decode(archives, files, size))
    names = [_FILE.fullmatch(name)["character"] for half in files for name in half[::DRAWINGS]]  # type: ignore[index]
    return Dataset.of("omniglot", images, tuple(names), HALVES[0].characters)


def where_omniglot() -> list[tuple[Path, bool]]:
    """The folders in which Omniglot is looked for, first to last, each with whether both halves lie there."""
    return [(folder, all(find_archive(folder, half.name) for half in HALVES)) for folder in _folders()]


def fetch_omniglot() -> Path:
    """Downloads what is missing of Omniglot into the cache folder, unless it is found in a folder before.

    Returns:
        The folder in which both halves lie.

    Raises:
        UserError: `$SNN_ANML_DATA` names no folder, one half alone lies there, or a download failed.
    """
    *before, cache = _folders()
    for folder in before:
        if not folder.parent.is_dir():
            raise UserError(f"SNN_ANML_DATA names {folder.parent}, which is no folder; correct it or unset it.")
        found = [half.name for half in HALVES if find_archive(folder, half.name)]
        if len(found) == len(HALVES):
            return folder
        if found:
            missing = next(half.name for half in HALVES if half.name not in found)
            raise UserError(f"{folder} has {found[0]} but neither {missing}.zip nor {missing}/; put one of them there.")
    for half in HALVES:
        if not find_archive(cache, half.name):
            download(f"{URL}{half.name}.zip", half.md5, cache / f"{half.name}.zip")
    return cache


def _folders() -> list[Path]:
    chosen = os.environ.get("SNN_ANML_DATA")
    first = [Path(chosen).expanduser() / "omniglot"] if chosen else []
    return [*first, cache_folder() / "omniglot"]


def _archive(folder: Path, half: Half) -> Path:
    archive = find_archive(folder, half.name)
    if archive is None:
        raise UserError(f"{folder / half.name} vanished while it was being read; try again.")
    return archive


def _checked_files(archive: Path, half: Half) -> list[str]:
    """Names of the drawings, sorted, when every character has all its drawings."""
    files = list_files(archive, ".png")
    drawers: dict[str, list[int]] = {}
    for file in files:
        parts = _FILE.fullmatch(file)
        if parts is None:
            raise UserError(
                f"{archive} holds {file}, which is not of the form ALPHABET/characterNN/CCCC_DD.png; "
                f"unpack the official {half.name}.zip unchanged."
            )
        drawers.setdefault(parts["character"], []).append(int(parts["drawer"]))
    if not files:
        raise UserError(
            f"{archive} holds no {half.name}/ALPHABET/characterNN/CCCC_DD.png; put the official {half.name}.zip there."
        )
    for character, numbers in drawers.items():
        if numbers != list(range(1, DRAWINGS + 1)):
            raise UserError(
                f"{archive} has {len(numbers)} drawings of {character} where those of drawers 01 to "
                f"{DRAWINGS} must be; replace it with the official {half.name}."
            )
    if len(drawers) != half.characters:
        raise UserError(
            f"{archive} has {len(drawers)} characters where {half.characters} must be; "
            f"replace it with the official {half.name}."
        )
    return files


def _decode(archives: list[Path], files: list[list[str]], size: int) -> np.ndarray:
    """All drawings: (characters, drawings, size, size), uint8, ink = 255."""
    total = sum(map(len, files))
    images = np.empty((total, size, size), np.uint8)
    console = Console(stderr=True)
    drawings = track(
        _drawings(archives, files, size),
        "Decoding Omniglot",
        total=total,
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    for i, drawing in enumerate(drawings):
        images[i] = drawing
    return images.reshape(-1, DRAWINGS, size, size)


def _drawings(archives: list[Path], files: list[list[str]], size: int) -> Iterator[np.ndarray]:
    for archive, names in zip(archives, files, strict=True):
        for name, content in zip(names, read_files(archive, names), strict=True):
            try:
                picture = Image.open(io.BytesIO(content))
                grey = picture.convert("L")
            except (OSError, SyntaxError, ValueError) as error:
                raise damaged(archive, error, name) from error
            if grey.size != (SIDE, SIDE):
                raise UserError(
                    f"{archive / name} is {grey.width} x {grey.height} pixels where {SIDE} x {SIDE} must be; "
                    "replace it with the official drawing."
                )
            if size != SIDE:
                grey = grey.resize((size, size), Image.Resampling.LANCZOS)
            yield 255 - np.asarray(grey)
