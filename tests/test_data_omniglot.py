"""Omniglot: checked, decoded, cached; every failure is one sentence with a remedy."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from snn_anml.data import load_dataset, omniglot
from snn_anml.data.archive import find_archive
from snn_anml.data.cache import CacheWarning
from snn_anml.data.omniglot import load_omniglot
from snn_anml.errors import UserError
from tests.omniglot_helpers import (
    BACKGROUND,
    CHARACTERS,
    EVALUATION,
    isolate,
    official_files,
    picture,
    png,
    write_tree,
    write_zip,
    write_zips,
)


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    return isolate(tmp_path, monkeypatch)


@pytest.fixture
def zips(place):
    write_zips(place)
    return place


@pytest.mark.parametrize("write", [write_zip, write_tree])
def test_zips_and_folders_give_the_official_order(place, write):
    for half in CHARACTERS:
        write(place, half, dict(reversed(official_files(half).items())))
    data = load_dataset("omniglot", size=105)
    assert data.images.shape == (4, 20, 105, 105)
    assert data.class_names == tuple(CHARACTERS[BACKGROUND] + CHARACTERS[EVALUATION])
    assert data.background == 3
    for character, drawer in np.ndindex(4, 20):
        np.testing.assert_array_equal(data.images[character, drawer], 255 * picture(character + 1, drawer + 1))


def test_zips_and_folders_and_a_mix_give_the_same_bytes(zips):
    hashes = [load_omniglot().sha256]
    for half in CHARACTERS:
        (zips / f"{half}.zip").unlink()
        write_tree(zips, half, official_files(half))
        hashes.append(load_omniglot().sha256)
    assert len(set(hashes)) == 1


def test_smaller_drawings_keep_their_ink_in_place(zips):
    images = load_omniglot(size=21).images
    assert images.shape == (4, 20, 21, 21)
    blocks = 255.0 * picture(1, 20).reshape(21, 5, 21, 5).mean(axis=(1, 3))
    assert np.abs(images[0, 19] - blocks).mean() < 6  # Lanczos rings; a plain mean does not
    assert images.max() == 255


def test_hidden_files_are_passed_over(zips):
    for half in CHARACTERS:
        extra = {f"{half}/.DS_Store.png": b"x", f"{half}/__MACOSX/a.png": b"x", f"{half}/ReadMe.txt": b"x"}
        write_zip(zips, half, {**official_files(half), **extra})
    assert load_omniglot().classes == 4


def test_the_second_load_decodes_nothing(zips, monkeypatch):
    first = load_omniglot()
    monkeypatch.setattr(omniglot, "_decode", None)
    assert load_omniglot().sha256 == first.sha256


def test_a_changed_source_is_noticed(zips):
    first = load_omniglot()
    files = official_files(EVALUATION)
    files[f"{EVALUATION}/Ogham/character01/0004_07.png"] = png(picture(9, 9))
    write_zip(zips, EVALUATION, files)
    changed = load_omniglot()
    assert changed.sha256 != first.sha256
    assert (changed.images != first.images).any(axis=(2, 3)).sum() == 1


def test_a_changed_file_in_a_folder_is_noticed(place):
    for half in CHARACTERS:
        write_tree(place, half, official_files(half))
    first = load_omniglot()
    changed = place / EVALUATION / "Ogham/character01/0004_07.png"
    changed.write_bytes(png(picture(9, 9)))
    os.utime(changed, ns=(1, 1))
    assert load_omniglot().sha256 != first.sha256


def test_a_damaged_cache_file_is_decoded_anew(zips, tmp_path):
    first = load_omniglot()
    (cached,) = (tmp_path / "cache").rglob("*.npy")
    cached.write_bytes(cached.read_bytes()[:5000])
    with pytest.warns(CacheWarning, match="damaged"):
        assert load_omniglot().sha256 == first.sha256


def test_several_processes_may_load_at_once(zips):
    code = (
        "from snn_anml.data import omniglot as o;"
        "o.HALVES = tuple(o.Half(h.name, n, '') for h, n in zip(o.HALVES, (3, 1)));"
        "print(o.load_omniglot().sha256)"
    )
    command = [sys.executable, "-W", "error::UserWarning", "-c", code]
    root = Path(__file__).parents[1]
    runs = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) for _ in range(2)]
    hashes = {run.communicate(timeout=60)[0].strip() for run in runs}
    assert hashes == {load_omniglot().sha256}


# What can be wrong with the data.


@pytest.mark.parametrize("write", [write_zip, write_tree])
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda f: f.pop(f"{BACKGROUND}/Greek/character02/0002_13.png"),
            "has 19 drawings of Greek/character02",
        ),
        (
            lambda f: f.update({f"{BACKGROUND}/Greek/character02/0002_21.png": b""}),
            "has 21 drawings of Greek/character02",
        ),
        (lambda f: [f.pop(n) for n in list(f) if "Latin" in n], "has 2 characters where 3 must be"),
        (lambda f: f.update({f"{BACKGROUND}/extra.png": b""}), "holds extra.png, which is not of the form"),
        (
            lambda f: f.update({f"{BACKGROUND}/Greek/character01/0001_05.png": b"not a picture"}),
            "cannot be read at Greek/character01/0001_05.png .* delete it",
        ),
        (
            lambda f: f.update({f"{BACKGROUND}/Greek/character01/0001_05.png": png(picture(1, 5))[:-40]}),
            "cannot be read at Greek/character01/0001_05.png .* delete it",
        ),
        (
            lambda f: f.update({f"{BACKGROUND}/Greek/character01/0001_05.png": png(picture(1, 5, 104))}),
            "0001_05.png is 104 x 104 pixels where 105 x 105 must be",
        ),
    ],
)
def test_spoilt_data_is_named(place, write, spoil, message):
    files = official_files(BACKGROUND)
    spoil(files)
    write(place, BACKGROUND, files)
    write(place, EVALUATION, official_files(EVALUATION))
    with pytest.raises(UserError, match=message) as caught:
        load_omniglot()
    assert str(place / BACKGROUND) in str(caught.value)


def test_an_empty_folder_is_named(place):
    (place / BACKGROUND).mkdir(parents=True)
    write_zip(place, EVALUATION, official_files(EVALUATION))
    with pytest.raises(UserError, match=r"holds no images_background/ALPHABET/characterNN/CCCC_DD\.png; put"):
        load_omniglot()


def test_a_zip_of_something_else_is_named(zips):
    write_zip(zips, BACKGROUND, {"photos/a.png": b""})
    with pytest.raises(UserError, match="holds no images_background/ALPHABET"):
        load_omniglot()


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b[:60] + b"\0" * 40 + b[100:]])
def test_a_damaged_zip_is_named(zips, damage):
    path = zips / f"{BACKGROUND}.zip"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=r"images_background\.zip cannot be read .*; delete it"):
        load_omniglot()


def test_half_of_the_data_is_not_taken_for_all(zips):
    (zips / f"{EVALUATION}.zip").unlink()
    with pytest.raises(UserError, match=r"has images_background but neither images_evaluation\.zip nor"):
        load_omniglot()


def test_a_data_folder_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setenv("SNN_ANML_DATA", "/no/such/folder")
    with pytest.raises(UserError, match="SNN_ANML_DATA names /no/such/folder, which is no folder"):
        load_omniglot()


def test_no_pixels_are_not_a_picture():
    with pytest.raises(UserError, match="0 pixels"):
        load_omniglot(size=0)


# The real data, where it is.

REAL = os.environ.get("SNN_ANML_DATA")
HAS_REAL = bool(REAL) and all(find_archive(Path(REAL) / "omniglot", half) for half in CHARACTERS)


@pytest.mark.slow
@pytest.mark.skipif(not HAS_REAL, reason="no real Omniglot: SNN_ANML_DATA names no folder with omniglot/ in it")
def test_the_real_data(monkeypatch, tmp_path_factory):
    monkeypatch.undo()
    monkeypatch.setenv("SNN_ANML_CACHE", str(tmp_path_factory.mktemp("cache")))
    data = load_omniglot()
    assert data.images.shape == (1623, 20, 28, 28)
    assert (data.background, data.evaluation) == (964, 659)
    assert data.class_names[0] == "Alphabet_of_the_Magi/character01"
    assert data.class_names[963] == "Tifinagh/character55"
    assert data.class_names[964] == "Angelic/character01"
    assert 0.07 < data.images.mean() / 255 < 0.1  # the paper is about 92 % white
    different = np.unique(data.images.reshape(-1, 28 * 28), axis=0)
    assert len(different) == 1623 * 20 - 1  # Braille/character01: drawings 03 and 19 are the same
    start = time.perf_counter()
    assert load_omniglot().sha256 == data.sha256
    assert time.perf_counter() - start < 3  # under a second on an idle machine
