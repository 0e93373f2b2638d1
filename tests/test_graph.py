"""What a graph refuses, and that files give it back exactly."""

import json
import os
from dataclasses import fields, replace

import numpy as np
import pytest

from converters import graph_hash, load_graph, save_graph
from converters.graph import (
    LIF,
    Activation,
    Affine,
    AvgPool2d,
    Conv2d,
    Gate,
    Graph,
    Input,
    MaxPool2d,
    Quantize,
    Readout,
    gate_index,
    part,
)
from snn_anml.errors import UserError
from tests.helpers import MAXIMA, gated_graph, scalar, without


def fc(name, source, out, n, dtype=np.float32):
    return Affine(name, (source,), np.ones((out, n), dtype), np.zeros(out, dtype))


def conv(out, channels, kernel=1, **options):
    weight = np.full((out, channels, kernel, kernel), 0.5, np.float32)
    return Conv2d("c", ("in",), weight, np.zeros(out, np.float32), **options)


def graph(*nodes, shape=(4,), steps=2):
    last = nodes[-1].name if nodes else "in"
    return Graph((Input("in", (), shape), *nodes, Readout("out", (last,))), steps)


def test_shapes_static_and_size():
    made = gated_graph()
    assert made.shapes["pln.conv1"] == (4, 4, 8)
    assert made.shapes["pln.pool"] == (4, 2, 4)
    assert made.shapes["pln.conv2"] == (3, 2, 3)
    assert made.size("pln.lif1") == 128
    assert {"input", "nm.channel_gate", "pln.gate1"} <= made.static
    assert not {"nm.membrane", "nm.neuron_gate", "pln.lif1", "readout"} & made.static
    assert part("pln.lif1") == "pln"


def test_gates_of_neurons_and_channels():
    made = gated_graph()
    np.testing.assert_array_equal(gate_index(made, made["pln.gate1"]), np.repeat(np.arange(4), 32))
    np.testing.assert_array_equal(gate_index(made, made["pln.gate2"]), np.arange(12))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: graph(fc("a", "b", 2, 4)), "reads 'b'"),
        (lambda: graph(fc("a", "in", 4, 4), fc("a", "in", 4, 4)), "Two nodes.*'a'"),
        (lambda: graph(fc("a", "in", 2, 3)), "a: expects 3 inputs"),
        (lambda: graph(fc("a", "in", 2, 4, np.float64)), "a.weight must be finite float32"),
        (lambda: graph(replace(fc("a", "in", 2, 4), bias=np.full(2, np.nan, np.float32))), "a.bias must be finite"),
        (lambda: graph(fc("a", "in", 3, 4), Gate("g", ("in", "a"))), "g: a gate of shape"),
        (lambda: graph(AvgPool2d("p", ("in",), (2, 2), (2, 2))), "p: expects"),
        (lambda: graph(Conv2d("c", ("in",), np.ones((1, 1, 9, 9), np.float32), scalar(0)), shape=(1, 4, 4)), "9x9"),
        (lambda: graph(Conv2d("c", ("in",), np.ones((1, 2, 1, 1), np.float32), scalar(0)), shape=(1, 4, 4)), "expects"),
        (lambda: graph(conv(2, 1, groups=2), shape=(1, 4, 4)), r"expects \(2, height, width\)"),
        (lambda: graph(conv(3, 1, groups=2), shape=(2, 4, 4)), "3 outputs cannot be divided into 2 groups"),
        (lambda: graph(conv(1, 1, 3, dilation=(1, 2)), shape=(1, 4, 4)), "3x5 kernel does not fit"),
        (lambda: graph(AvgPool2d("p", ("in",), (5, 2), (1, 1)), shape=(1, 4, 4)), "p: a 5x2 kernel"),
        (lambda: graph(MaxPool2d("m", ("in",), (2, 2), (2, 2))), "m: expects"),
        (lambda: graph(MaxPool2d("m", ("in",), (5, 2), (1, 1)), shape=(1, 4, 4)), "m: a 5x2 kernel"),
        (
            lambda: graph(MaxPool2d("m", ("in",), (3, 2), (1, 1), (2, 1)), shape=(1, 4, 4)),
            r"m: .*\(2, 1\) is more than",
        ),
        (lambda: graph(Quantize("q", ("in",), 1e-50, 4)), "q: step = 0.0 and levels = 4"),
        (lambda: graph(Quantize("q", ("in",), 0.5, 0)), "q: step = 0.5 and levels = 0"),
        (lambda: graph(LIF("l", ("in",), np.float32(0.9), scalar(1))), r"l\.beta is 0\.9; it must be np\.array"),
        (lambda: graph(LIF("l", ("in",), scalar(0.9), 1.0)), r"l\.threshold is 1\.0; it must be np\.array"),
        (
            lambda: graph(LIF("l", ("in",), scalar(0.9), scalar(1), "substract")),
            "l.reset is 'substract'; known",
        ),
        (lambda: graph(Activation("a", ("in",), "tanh")), "a.function is 'tanh'; known are relu, sigmoid"),
        (lambda: Graph((Input("in", (), (4,), "Rate"), Readout("out", ("in",))), 1), "in.encoding is 'Rate'; known"),
        (lambda: graph(LIF("l", ("in",), np.ones(3, np.float32), scalar(1))), r"l.beta has shape \(3,\).* \(4,\)"),
        (lambda: graph(replace(fc("a", "in", 2, 4), bias=scalar(1))), r"a.bias has shape \(\), but must have \(2,\)"),
        (lambda: graph(steps=0), "steps = 0"),
        (lambda: graph(steps=2.5), "steps = 2.5; a graph runs for a whole number of steps"),
        (lambda: graph(steps=np.float32(2)), "steps = 2.0; a graph runs for a whole number of steps"),
        (lambda: Graph((Input("in", (), (4,)),), 1), "begins with its one Input"),
    ],
)
def test_mistakes_are_named(make, message):
    with pytest.raises(UserError, match=message):
        make()


def test_a_long_sample_is_a_picture_one_pixel_high():
    made = graph(conv(4, 1, dilation=(1, 2), groups=2), shape=(2, 9))
    assert made.nodes[0].shape == (2, 9)
    assert (made.shapes["in"], made.shapes["c"], made.size("in")) == ((2, 1, 9), (4, 1, 9), 18)


LATER = ("nm.maximum", "nm.channel_gate", *MAXIMA)  # what `gated_graph` has of version 3
FILED = {
    "1": lambda: without(gated_graph(exact=False, reset="zero", reset_delay=False, encoding="latency"), *LATER),
    "2": lambda: graph(conv(4, 1, groups=2, dilation=(1, 2)), shape=(2, 9)),
    "3": lambda: gated_graph(exact=False),
}


@pytest.mark.parametrize("version", FILED)
def test_files_are_exact(tmp_path, version):
    made = FILED[version]()
    path = tmp_path / "folder" / "net.safetensors"
    save_graph(made, path)
    read = load_graph(path)
    assert read.steps == made.steps
    for ours, theirs in zip(read.nodes, made.nodes, strict=True):
        assert type(ours) is type(theirs)
        for field in fields(theirs):
            a, b = getattr(ours, field.name), getattr(theirs, field.name)
            if isinstance(b, np.ndarray):
                assert (a.dtype, a.shape) == (b.dtype, b.shape)
                np.testing.assert_array_equal(a, b)
            else:
                assert a == b
                assert type(a) is type(b)
    assert graph_hash(read) == graph_hash(made)
    assert os.listdir(path.parent) == ["net.safetensors"]
    assert f'"schema":"{version}"'.encode() in path.read_bytes()


def test_graphs_of_earlier_versions_keep_their_hash():
    """What came later does not show where it says nothing: certificates of before still name their graph."""
    expected = "0d689b4fd3875fe74a776e298fac4a9a4726e7941f81c80468a9ed40ad2db04a"
    assert graph_hash(graph(conv(2, 1), shape=(1, 4, 4))) == expected
    expected = "8679ccfb20cdb89586c2111cbddd9cfa2dbe05363975513d8dfc5fd41a4019a9"
    assert graph_hash(FILED["2"]()) == expected


def test_numbers_of_numpy_are_numbers():
    """As options of nodes they make the same graph and the same file."""
    neuron = LIF("l", ("c",), scalar(0.9), scalar(1), "zero", False)
    made = graph(conv(2, 1, stride=(2, 1)), neuron, shape=(1, 4, 4))
    same = graph(
        *(conv(2, 1, stride=(np.int64(2), np.int32(1))), replace(neuron, reset_delay=np.bool_(False))),
        shape=(np.int64(1), 4, 4),
        steps=np.int64(2),
    )
    assert graph_hash(same) == graph_hash(made)


def test_the_hash_sees_every_change():
    nodes = (
        Input("in", (), (4,)),
        fc("a", "in", 4, 4),
        Activation("r", ("a",), "relu"),
        LIF("l", ("r",), scalar(0.5), scalar(1.0)),
        Readout("out", ("l",)),
    )
    made = Graph(nodes, 2)

    def changed(i, **values):
        return Graph((*nodes[:i], replace(nodes[i], **values), *nodes[i + 1 :]), 2)

    weight = nodes[1].weight.copy()
    weight[3, 3] = np.nextafter(np.float32(1), np.float32(2))
    others = [
        Graph(nodes, 3),
        changed(0, encoding="rate"),
        changed(1, weight=weight),
        changed(2, function="sigmoid"),
        changed(3, beta=np.full(4, 0.5, np.float32)),
        changed(3, reset="zero"),
        changed(3, reset_delay=False),
    ]
    others += [graph(conv(2, 1, dilation=dilation), shape=(1, 4, 4)) for dilation in ((1, 1), (1, 2), (2, 1))]
    others += [graph(conv(2, 2, groups=groups), shape=(2 * groups, 4, 4)) for groups in (1, 2)]
    windows = [((2, 2), (1, 1)), ((2, 3), (1, 1)), ((2, 2), (1, 2)), ((2, 2), (1, 1), (1, 0))]
    others += [graph(MaxPool2d("m", ("in",), *window), shape=(1, 4, 4)) for window in windows]
    others += [graph(Quantize("q", ("in",), step, levels)) for step, levels in ((0.5, 2), (0.5, 3), (0.25, 2))]
    assert graph_hash(Graph(nodes, 2)) == graph_hash(made)
    assert len({graph_hash(g) for g in (made, *others)}) == len(others) + 1


def test_damaged_and_foreign_files_are_refused(tmp_path):
    from safetensors.numpy import save

    path = tmp_path / "net.safetensors"
    save_graph(gated_graph(), path)
    good = path.read_bytes()

    def message(content):
        path.write_bytes(content)
        with pytest.raises(UserError) as error:
            load_graph(path)
        return str(error.value)

    assert "damaged" in message(good[:-7])
    assert "damaged" in message(good[:-1] + bytes([good[-1] ^ 1]))
    assert "damaged or no graph" in message(b"")
    assert "damaged or no graph" in message(b"not a graph at all")
    assert "damaged or no graph" in message(save({"x": np.zeros(2)}))
    assert "damaged or no graph" in message(save({"x": np.zeros(2)}, {"format": "other"}))
    assert "schema version 99" in message(save({"x": np.zeros(2)}, {"format": "snn-anml-graph", "schema": "99"}))
    header = json.dumps({"__metadata__": 3}).encode()
    assert "damaged or no graph" in message(len(header).to_bytes(8, "little") + header)
    path.unlink()
    with pytest.raises(UserError, match="No such file"):
        load_graph(path)


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "net.safetensors"
    save_graph(gated_graph(), path)
    before = path.read_bytes()

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        save_graph(gated_graph(1), path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["net.safetensors"]
