"""Arrays kept on disk between runs: whole or not at all, checked when read, rebuilt when damaged.

A file is an ordinary `.npy` file followed by the SHA-256 of everything before, so that a cut or changed file
is noticed (`numpy.load` reads the file too and ignores the rest).
"""

from __future__ import annotations

import hashlib
import io
import os
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import platformdirs

from snn_anml.errors import UnwritableError
from snn_anml.files import write_whole

DIGEST_BYTES = hashlib.sha256().digest_size


class CacheWarning(UserWarning):
    """The cache could not be used as it should; the result is right all the same."""


def cache_folder() -> Path:
    """The folder for downloads and decoded data: `$SNN_ANML_CACHE`, else the user's cache folder."""
    chosen = os.environ.get("SNN_ANML_CACHE")
    return Path(chosen).expanduser() if chosen else Path(platformdirs.user_cache_dir("snn-anml", appauthor=False))


def cached_array(key: str, build: Callable[[], np.ndarray]) -> np.ndarray:
    """The array that `build` makes, read from the cache folder where an earlier call left it.

    Safe with several processes at once: each writes its own file and renames it when it is complete.

    Args:
        key: file name without suffix; it must name everything on which the array depends.
        build: makes the array; called when the file is missing or damaged.

    Returns:
        The array, writable and owned by the caller.

    Warns:
        CacheWarning: the file was damaged (it is built anew), or the folder cannot be written (it is built
            again next time).
    """
    path = cache_folder() / "arrays" / f"{key}.npy"
    array = _read(path)
    if array is None:
        array = build()
        _write(path, array)
    return array


def _read(path: Path) -> np.ndarray | None:
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):  # the latter is reported by the write that follows
        return None
    except OSError as error:
        warnings.warn(f"The cache file {path} cannot be read ({error}); building it anew.", CacheWarning, stacklevel=3)
        return None
    body, digest = content[:-DIGEST_BYTES], content[-DIGEST_BYTES:]
    if hashlib.sha256(body).digest() != digest:
        warnings.warn(f"The cache file {path} is damaged; building it anew.", CacheWarning, stacklevel=3)
        return None
    return np.load(io.BytesIO(body), allow_pickle=False)


def _write(path: Path, array: np.ndarray) -> None:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    body = buffer.getvalue()
    try:
        write_whole(path, lambda temporary: temporary.write_bytes(body + hashlib.sha256(body).digest()))
    except UnwritableError as error:
        warnings.warn(
            f"{error} The data will be prepared again each time; set SNN_ANML_CACHE to a folder that can be written.",
            CacheWarning,
            stacklevel=3,
        )
