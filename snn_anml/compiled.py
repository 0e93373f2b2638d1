"""C++ that is built on first use for this processor, and kept beside its sources or in the user's cache.

torch's extension loader does the same for extensions that need torch's headers; these need none, so that one call of
the compiler is all there is, some ten seconds, once.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
import warnings
from functools import lru_cache
from pathlib import Path

import platformdirs

# No contraction and no fast-math: operations round as torch's do, in the order written. What is off is only that errors
# are reported and that floating-point exceptions are observed.
FLAGS = ["-std=c++17", "-O3", "-march=native", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"]
FLAGS += ["-fopenmp-simd", "-shared", "-fPIC"]


def compiler() -> list[str] | None:
    """The C++ compiler: the environment's CXX, or c++, g++, clang++ on the path; None where there is none."""
    if os.environ.get("CXX"):
        return shlex.split(os.environ["CXX"])
    found = next((path for name in ("c++", "g++", "clang++") if (path := shutil.which(name))), None)
    return None if found is None else [found]


def _processor() -> str:
    """What -march=native depends on."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return f"{platform.system()} {platform.machine()} {platform.processor()} {flags}"


def _folder(source: Path) -> Path:
    """Where a library is kept: with Python's own compiled files, or where these cannot be written, the user's."""
    beside = source.parent / "__pycache__"
    if os.access(beside if beside.exists() else source.parent, os.W_OK):
        return beside
    return Path(platformdirs.user_cache_dir("snn-anml", appauthor=False)) / "compiled"


def _build(source: Path, command: list[str], folder: Path) -> Path:
    sources = [*sorted(source.parent.glob("*.h")), source]
    version = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True).stdout
    key = hashlib.sha256("\n".join([*FLAGS, version, _processor(), *map(Path.read_text, sources)]).encode())
    library = folder / f"{source.stem}-{key.hexdigest()[:16]}.so"
    if not library.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as beside:  # renamed when whole: others may build it too
            new = Path(beside) / library.name
            subprocess.run([*command, *FLAGS, str(source), "-o", str(new)], capture_output=True, text=True, check=True)
            new.replace(library)
    return library


@lru_cache
def library(source: Path, without: str) -> ctypes.CDLL | None:
    """The library of a source, built if it has to be; None, with a warning, where it cannot be.

    Args:
        source: a file of C++; headers beside it are taken for its own.
        without: what is so without the library, in words.
    """
    command = compiler()
    try:
        if command is None:
            raise FileNotFoundError("no C++ compiler on the path; install one or name it in CXX")
        return ctypes.CDLL(str(_build(source, command, _folder(source))))
    except (OSError, subprocess.CalledProcessError) as error:
        said = error.stderr[-500:] if isinstance(error, subprocess.CalledProcessError) else ""
        warnings.warn(f"{without}: {source.name} could not be compiled ({error}). {said}", RuntimeWarning, stacklevel=3)
        return None
