"""NIR files that were changed or damaged after they were written, and mistakes of the caller."""

import numpy as np
import pytest

from converters import graph_hash, load_nir, save_nir
from snn_anml.errors import UserError
from tests.helpers import gated_graph
from tests.nir_helpers import CONV, affine, lif, net, saved

nir = pytest.importorskip("nir", reason="NIR files need the extra nir")


def changed(path, change):
    """Rewrites a file after `change` of its NIR graph."""
    made = nir.read(path, type_check=False)
    change(made)
    nir.write(path, made)


def set_metadata(**values):
    return lambda made: made.metadata["snn_anml"].update(values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda made: made.nodes["pln.lif2"].tau.__imul__(1.01), "changed since save_nir wrote it"),
        (lambda made: made.nodes["pln.conv1"].weight.__imul__(2), "changed since save_nir wrote it"),
        (lambda made: setattr(made.nodes["pln.conv1"], "stride", np.array([1, 1])), "changed since save_nir wrote it"),
        (lambda made: made.nodes["pln.lif1"].metadata.update(reset="zero"), "changed since save_nir wrote it"),
        (lambda made: made.nodes.update(more=nir.Scale(np.ones(2))), "changed since save_nir wrote it"),
        (lambda made: made.nodes.pop("pln.fc2"), "do not describe a graph"),
        (set_metadata(sha256="0" * 64), "changed since save_nir wrote it"),
        (set_metadata(graph="{}"), "do not describe a graph"),
        (set_metadata(schema=99), "schema version 99, but this program reads 1 to"),
        (set_metadata(format="other"), "metadata say nothing of a graph"),
        (lambda made: made.metadata.update(snn_anml="other"), "metadata say nothing of a graph"),
    ],
)
def test_files_that_were_changed_are_refused(tmp_path, change, message):
    saved(gated_graph(), tmp_path / "net.nir")
    changed(tmp_path / "net.nir", change)
    with pytest.raises(UserError, match=message) as error:
        load_nir(tmp_path / "net.nir")
    assert str(error.value).startswith(str(tmp_path / "net.nir"))


def test_damaged_files_are_one_sentence_or_the_same_graph(tmp_path):
    graph = net(CONV, lif("c"), affine("a", "l", 3, 32), shape=(2, 6, 6))
    path = tmp_path / "net.nir"
    saved(graph, path)
    good = path.read_bytes()
    rng = np.random.default_rng(0)
    sentences = []
    for position in rng.integers(0, len(good), 150):
        path.write_bytes(good[:position] + bytes([good[position] ^ 1 << rng.integers(8)]) + good[position + 1 :])
        try:
            assert graph_hash(load_nir(path)) == graph_hash(graph)
        except UserError as error:
            sentences.append(str(error))
    assert len(sentences) > 10
    assert all(sentence.startswith(str(path)) and "\n" not in sentence for sentence in sentences)
    for content in (b"", b"not a file of HDF5", good[: len(good) // 2]):
        path.write_bytes(content)
        with pytest.raises(UserError, match="damaged or no NIR file"):
            load_nir(path)
    path.unlink()
    with pytest.raises(UserError, match="No such file"):
        load_nir(path)
    with pytest.raises(UserError, match="Is a directory"):
        load_nir(tmp_path)


def test_mistakes_are_named(tmp_path):
    path = tmp_path / "net.nir"
    with pytest.raises(UserError, match=r"dt = 0\.0; a time step"):
        save_nir(net(lif()), path, dt=0.0)
    assert not path.exists()
    saved(net(lif()), path)
    with pytest.raises(UserError, match="says dt, reset itself; leave it out"):
        load_nir(path, dt=1e-4, reset="zero")
