"""Files are written whole or not at all."""

import os
import stat
import sys

import pytest

from snn_anml.errors import UserError
from snn_anml.files import write_text, write_whole


def test_folders_are_made_and_text_is_utf8(tmp_path):
    path = tmp_path / "a" / "b" / "text.txt"
    write_text(path, "Grüße\n")
    assert path.read_bytes() == "Grüße\n".encode()


def test_an_error_while_writing_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    write_text(path, "before")

    def half(temporary):
        temporary.write_text("half of it")
        raise ZeroDivisionError("a defect")

    with pytest.raises(ZeroDivisionError):
        write_whole(path, half)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_the_old_file_stands_until_the_new_one_is_complete(tmp_path):
    path = tmp_path / "file"
    write_text(path, "before")

    def write(temporary):
        temporary.write_text("after")
        assert path.read_text() == "before"
        assert temporary.parent == path.parent  # or the rename would not be atomic

    write_whole(path, write)
    assert path.read_text() == "after"


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_permissions_follow_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "file", "")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


def test_a_folder_that_is_a_file_is_named_in_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/x cannot be written \(.+\); make room or choose another folder\.$"):
        write_text(tmp_path / "file" / "x", "")


def test_a_path_that_is_a_folder_is_kept(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match="folder cannot be written"):
        write_text(tmp_path / "folder", "")
    assert list(tmp_path.iterdir()) == [tmp_path / "folder"]


def test_a_full_disk_is_one_sentence_and_loses_nothing(tmp_path):
    path = tmp_path / "file"
    write_text(path, "before")

    def full(temporary):
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match="No space left on device") as caught:
        write_whole(path, full)
    assert isinstance(caught.value, OSError)  # for callers that know Python's own exceptions
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]
