"""A graph from a module, a run folder, a graph file, a NIR file."""

import shutil

import pytest
import torch
from torch import nn

from converters import from_torch, graph_hash, open_graph, save_graph
from snn_anml.errors import UserError
from snn_anml.neurons import Leaky


def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), Leaky(beta=0.9, threshold=0.5)).eval()


def options():
    return {"steps": 5, "example_input": torch.zeros(1, 3)}


def test_a_module_and_its_files(tmp_path):
    graph = open_graph(model(), **options())
    assert graph_hash(graph) == graph_hash(from_torch(model(), **options()))
    save_graph(graph, tmp_path / "graph.safetensors")
    assert graph_hash(open_graph(tmp_path / "graph.safetensors")) == graph_hash(graph)
    run = tmp_path / "run"
    (run / "export").mkdir(parents=True)
    shutil.copy(tmp_path / "graph.safetensors", run / "export")
    assert graph_hash(open_graph(str(run))) == graph_hash(graph)


def test_a_nir_file(tmp_path):
    pytest.importorskip("nir", reason="needs the extra nir")
    from converters import LossyExportWarning, save_nir

    graph = from_torch(model(), **options())
    with pytest.warns(LossyExportWarning):
        save_nir(graph, tmp_path / "net.nir")
    assert graph_hash(open_graph(tmp_path / "net.nir")) == graph_hash(graph)
    with pytest.raises(UserError, match="says steps itself"):
        open_graph(tmp_path / "net.nir", steps=3)


def test_options_that_there_are_not(tmp_path):
    with pytest.raises(
        UserError, match=r"^from_torch has no option foo; it has steps, example_input, encoding, order\.$"
    ):
        open_graph(model(), foo=1, **options())
    with pytest.raises(UserError, match=r"^load_nir has no option foo, path; it has steps, dt, .*encoding\.$"):
        open_graph(tmp_path / "net.nir", foo=1, path=2, steps=3)


def test_what_is_not_there(tmp_path):
    with pytest.raises(UserError, match=r"make it with snn-anml export"):
        open_graph(tmp_path)
    with pytest.raises((UserError, FileNotFoundError), match="nowhere"):
        open_graph(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"says steps itself; leave it out"):
        open_graph(tmp_path, steps=3)
