"""Many small files that lie in a folder `NAME/` or, under the same top folder, in a zip file `NAME.zip`."""

from __future__ import annotations

import hashlib
import os
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from snn_anml.errors import UserError

# What zipfile raises for a cut, overwritten, encrypted or otherwise unreadable archive.
_ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    ValueError,
    NotImplementedError,
    RuntimeError,
)


def find_archive(folder: Path, name: str) -> Path | None:
    """`folder/NAME.zip`, else `folder/NAME/`, else None."""
    zipped, unpacked = folder / f"{name}.zip", folder / name
    if zipped.is_file():
        return zipped
    return unpacked if unpacked.is_dir() else None


def list_files(archive: Path, suffix: str) -> list[str]:
    """Names of the files with this suffix, relative to the top folder, with slashes, sorted.

    Leaves out hidden files and the `__MACOSX` folder that some packers add.

    Raises:
        UserError: an archive that cannot be read.
    """
    try:
        if archive.is_dir():
            names = [name for name, _ in _walk(archive)]
        else:
            top = f"{archive.stem}/"
            with zipfile.ZipFile(archive) as file:
                names = [name[len(top) :] for name in file.namelist() if name.startswith(top)]
    except _ZIP_ERRORS as error:
        raise damaged(archive, error) from error
    return sorted(name for name in names if name.endswith(suffix) and not _is_hidden(name))


def read_files(archive: Path, names: list[str]) -> Iterator[bytes]:
    """Contents of the named files, in their order.

    Raises:
        UserError: an archive or a file in it that cannot be read.
    """
    try:
        if archive.is_dir():
            for name in names:
                yield (archive / name).read_bytes()
        else:
            with zipfile.ZipFile(archive) as file:
                for name in names:
                    yield file.read(f"{archive.stem}/{name}")
    except _ZIP_ERRORS as error:
        raise damaged(archive, error) from error


def fingerprint(archive: Path) -> str:
    """A hash that changes with the archive: of the bytes of a zip, of names, sizes and times of a folder.

    Raises:
        UserError: an archive that cannot be read.
    """
    digest = hashlib.sha256()
    try:
        if archive.is_dir():
            for name, status in sorted(_walk(archive), key=lambda entry: entry[0]):
                digest.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
        else:
            digest.update(archive.read_bytes())
    except OSError as error:
        raise damaged(archive, error) from error
    return digest.hexdigest()


def damaged(archive: Path, error: Exception, name: str = "") -> UserError:
    """The error that says that an archive, or the file `name` in it, cannot be read, and what to do."""
    reason = " ".join(str(error).split()) or type(error).__name__
    inside = f" at {name}" if name else ""
    return UserError(
        f"{archive} cannot be read{inside} ({reason}); delete it, then put a whole copy there or have it downloaded."
    )


def _walk(folder: Path, prefix: str = "") -> Iterator[tuple[str, os.stat_result]]:
    with os.scandir(folder / prefix) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from _walk(folder, f"{prefix}{entry.name}/")
            else:
                yield f"{prefix}{entry.name}", entry.stat()


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))
