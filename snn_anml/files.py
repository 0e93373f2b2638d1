"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from snn_anml.errors import UnwritableError


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Lets `write` fill a temporary file beside `path`, flushes it to disk, and renames it to `path`.

    Whatever happens, even `kill -9`, `path` holds either what it held before or all of the new content.

    Raises:
        UnwritableError: a folder that cannot be written, or a full disk.
    """
    try:
        _write_whole(path, write)
    except OSError as error:
        raise UnwritableError(
            f"{path} cannot be written ({error.strerror or error}); make room or choose another folder."
        ) from error


def _write_whole(path: Path, write: Callable[[Path], object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """`write_whole` for text, UTF-8."""
    write_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
