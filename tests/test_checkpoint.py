"""Checkpoints: exact, checked when read, and never code."""

import pickle
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save as serialise

from snn_anml import checkpoint
from snn_anml.errors import UserError

HEADER = {"step": 3, "names": ["a", "b"], "text": "ü"}


def tensors():
    generator = torch.Generator().manual_seed(0)
    return {
        "weight": torch.randn(4, 3, generator=generator).t(),  # not contiguous
        "half": torch.randn(5, generator=generator).to(torch.bfloat16),
        "step": torch.tensor(7, dtype=torch.int64),
        "mask": torch.tensor([True, False]),
        "nothing": torch.zeros(0, 3),
    }


def same(found, expected):
    return found.keys() == expected.keys() and all(
        found[name].dtype == value.dtype and torch.equal(found[name], value) for name, value in expected.items()
    )


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoint") / "c.safetensors"
    checkpoint.save(path, "model", tensors(), HEADER)
    return path.read_bytes()


def rewritten(path, content=None, **changes):
    """A file with the tensors of `tensors` whose metadata are those of `content` with changes; None drops one."""
    size = int.from_bytes(content[:8], "little")
    metadata = checkpoint.json.loads(content[8 : 8 + size])["__metadata__"] | changes
    path.write_bytes(
        serialise(
            {name: t.contiguous() for name, t in tensors().items()},
            {key: value for key, value in metadata.items() if value is not None},
        )
    )
    return path


def test_what_is_saved_is_loaded_bit_for_bit(tmp_path, content):
    path = tmp_path / "c.safetensors"
    path.write_bytes(content)
    found, header = checkpoint.load(path, "model")
    assert same(found, tensors())
    assert header == HEADER


def test_a_parameter_is_saved_without_its_gradient(tmp_path):
    parameter = torch.nn.Parameter(torch.ones(2))
    checkpoint.save(tmp_path / "c.safetensors", "model", {"p": parameter}, {})
    found, _ = checkpoint.load(tmp_path / "c.safetensors", "model")
    assert not found["p"].requires_grad


def test_equal_content_gives_equal_files(tmp_path, content):
    for i in range(5):  # the library's own order of the metadata would differ sooner or later
        checkpoint.save(tmp_path / f"{i}.safetensors", "model", tensors(), HEADER)
        assert (tmp_path / f"{i}.safetensors").read_bytes() == content


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file .*absent\.safetensors"):
        checkpoint.load(tmp_path / "absent.safetensors", "model")


@given(share=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_short_anywhere_is_refused(tmp_path_factory, content, share):
    path = tmp_path_factory.mktemp("cut") / "c.safetensors"
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UserError, match=r"c\.safetensors is cut short or damaged"):
        checkpoint.load(path, "model")


@given(place=st.floats(0, 1, exclude_max=True), change=st.integers(1, 255))
def test_a_changed_byte_is_refused_or_changes_nothing(tmp_path_factory, content, place, change):
    path = tmp_path_factory.mktemp("flip") / "c.safetensors"
    changed = bytearray(content)
    changed[int(place * len(content))] ^= change
    path.write_bytes(changed)
    try:
        found, header = checkpoint.load(path, "model")
    except UserError:
        return
    assert same(found, tensors())
    assert header == HEADER


def test_a_changed_number_is_noticed(tmp_path, content):
    path = tmp_path / "c.safetensors"
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(UserError, match="not what was written"):
        checkpoint.load(path, "model")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": "2"}, "checkpoint version 2, this program reads version 1"),
        ({"version": None}, "checkpoint version None"),
        ({"kind": "heads"}, "no snn-anml model; it says format 'snn-anml', kind 'heads'"),
        ({"format": "pt"}, "it says format 'pt'"),
        ({"format": None}, "it says format None"),
        ({"header": "{"}, "not what was written"),
        ({"header": None}, "not what was written"),
    ],
)
def test_files_of_others_are_refused(tmp_path, content, changes, message):
    with pytest.raises(UserError, match=message):
        checkpoint.load(rewritten(tmp_path / "c.safetensors", content, **changes), "model")


def test_a_folder_is_no_checkpoint(tmp_path):
    with pytest.raises(FileNotFoundError):
        checkpoint.load(tmp_path, "model")


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.mkdir, (self.path,)


@pytest.mark.parametrize("dump", [pickle.dump, torch.save])
def test_a_pickle_is_refused_and_never_run(tmp_path, dump):
    path = tmp_path / "model.safetensors"
    with path.open("wb") as file:
        dump(Bomb(tmp_path / "exploded"), file)
    with pytest.raises(UserError, match=r"model\.safetensors is cut short or damaged"):
        checkpoint.load(path, "model")
    assert not (tmp_path / "exploded").exists()
    if dump is pickle.dump:  # the bomb is live
        pickle.loads(path.read_bytes())
        assert (tmp_path / "exploded").exists()
