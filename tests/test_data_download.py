"""Omniglot found in its folders or downloaded; every failure is one sentence with a remedy."""

import hashlib
import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from snn_anml.data import DATASETS, fetch_dataset, omniglot
from snn_anml.data.omniglot import Half, fetch_omniglot, load_omniglot, where_omniglot
from snn_anml.errors import UserError
from tests.omniglot_helpers import (
    BACKGROUND,
    CHARACTERS,
    EVALUATION,
    isolate,
    write_zips,
)


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    return isolate(tmp_path, monkeypatch)


@pytest.fixture
def zips(place):
    write_zips(place)
    return place


def test_where_tells_the_folders_in_order(zips, tmp_path, monkeypatch):
    cache = tmp_path / "cache" / "omniglot"
    assert where_omniglot() == [(zips, True), (cache, False)]
    assert DATASETS["omniglot"].found
    shutil.copytree(zips, cache)
    (zips / f"{EVALUATION}.zip").unlink()
    assert where_omniglot() == [(zips, False), (cache, True)]
    monkeypatch.delenv("SNN_ANML_DATA")
    assert where_omniglot() == [(cache, True)]
    assert fetch_omniglot() == cache
    assert load_omniglot().classes == 4


def test_nothing_is_downloaded_when_it_is_there(zips):
    assert fetch_dataset("omniglot") == zips
    assert fetch_dataset("glyphs") is None


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server on this machine with both zips, and their checksums as the published ones."""
    folder = tmp_path / "server"
    write_zips(folder)

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.02,))
        thread.start()
        monkeypatch.setattr(omniglot, "URL", f"http://127.0.0.1:{running.server_address[1]}/")
        sums = {half: hashlib.md5((folder / f"{half}.zip").read_bytes()).hexdigest() for half in CHARACTERS}
        halves = tuple(Half(name, len(CHARACTERS[name]), sums[name]) for name in CHARACTERS)
        monkeypatch.setattr(omniglot, "HALVES", halves)
        yield folder
        running.shutdown()
        thread.join()


def test_what_is_found_nowhere_is_downloaded(server, tmp_path, capfd):
    assert not DATASETS["omniglot"].found
    assert load_omniglot().classes == 4
    assert DATASETS["omniglot"].found
    assert sorted(path.name for path in (tmp_path / "cache" / "omniglot").iterdir()) == [
        "images_background.zip",
        "images_evaluation.zip",
    ]
    shown = capfd.readouterr()
    assert "images_background.zip" in shown.err
    assert not shown.out


def test_an_interrupted_download_is_taken_up_again(server, tmp_path):
    (server / f"{EVALUATION}.zip").rename(server / "hidden")
    with pytest.raises(UserError, match=r"images_evaluation\.zip could not be downloaded .*404"):
        fetch_omniglot()
    (server / f"{BACKGROUND}.zip").unlink()
    (server / "hidden").rename(server / f"{EVALUATION}.zip")
    assert fetch_omniglot() == tmp_path / "cache" / "omniglot"
    assert load_omniglot().classes == 4


def test_a_download_with_another_checksum_is_refused(server, tmp_path):
    with (server / f"{BACKGROUND}.zip").open("ab") as file:
        file.write(b"!")
    with pytest.raises(UserError, match="has another checksum than the published"):
        load_omniglot()
    assert not list((tmp_path / "cache" / "omniglot").iterdir())


def test_without_a_connection_the_message_tells_where_to_put_the_file(tmp_path):
    with pytest.raises(UserError, match=r"images_background\.zip could not be downloaded from http://127") as caught:
        load_omniglot()
    assert f"put the file into {tmp_path / 'cache' / 'omniglot'} yourself" in str(caught.value)


def test_a_download_that_cannot_be_written_is_named(server, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("SNN_ANML_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"cannot be written .* set SNN_ANML_CACHE"):
        load_omniglot()
