"""Halves of Omniglot of three and one characters, as zips or folders in the official layout."""

import io
import zipfile

import numpy as np
from PIL import Image

from snn_anml.data import omniglot
from snn_anml.data.omniglot import Half

BACKGROUND, EVALUATION = "images_background", "images_evaluation"
CHARACTERS = {
    BACKGROUND: ["Greek/character01", "Greek/character02", "Latin/character01"],
    EVALUATION: ["Ogham/character01"],
}


def picture(number, drawer, side=105):
    """One drawing as 1-bit pixels, True = ink: a bar whose place tells the drawing."""
    ink = np.zeros((side, side), bool)
    ink[4 * number : 4 * number + 9, 10 : 30 + 3 * drawer] = True
    return ink


def png(ink):
    buffer = io.BytesIO()
    Image.fromarray(~ink).save(buffer, "PNG")
    return buffer.getvalue()


def official_files(half):
    """name -> content of a small half in the official layout."""
    first = 1 if half == BACKGROUND else 1 + len(CHARACTERS[BACKGROUND])
    return {
        f"{half}/{character}/{number:04d}_{drawer:02d}.png": png(picture(number, drawer))
        for number, character in enumerate(CHARACTERS[half], first)
        for drawer in range(1, 21)
    }


def write_zip(folder, half, files):
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / f"{half}.zip", "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in files.items():
            file.writestr(name, content)


def write_tree(folder, _half, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def write_zips(folder):
    for half in CHARACTERS:
        write_zip(folder, half, official_files(half))


def isolate(tmp_path, monkeypatch):
    """Data and cache folders of one test alone, halves of three and one characters, and no way to the net.

    Returns:
        the folder that Omniglot is looked for in first.
    """
    monkeypatch.setenv("SNN_ANML_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("SNN_ANML_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(omniglot, "URL", "http://127.0.0.1:9/")  # the discard port: refused at once
    halves = tuple(Half(name, len(CHARACTERS[name]), "0" * 32) for name in (BACKGROUND, EVALUATION))
    monkeypatch.setattr(omniglot, "HALVES", halves)
    (tmp_path / "data").mkdir()
    return tmp_path / "data" / "omniglot"
