"""Comparisons of recordings with known differences."""

import json
from dataclasses import replace

import numpy as np
import pytest

from converters import Certificate, Fidelity, certify, compare, graph_hash, load_certificate, save_certificate, simulate
from converters.fidelity import Divergence, LayerFidelity
from converters.graph import Graph
from converters.recording import Recording
from snn_anml.errors import UserError
from tests.helpers import gated_graph, inputs, scalar


def recording(spikes, membrane, output, name="a", threshold=1.0):
    return Recording(name, output, {"lif": spikes}, {"lif": membrane}, {}, {"lif": scalar(threshold)})


def pair():
    """A reference (2 samples, 3 steps, 4 neurons), and a copy that differs in three known slots."""
    membrane = np.full((2, 3, 4), 0.25, np.float32)
    membrane[1, 1, 2] = 0.96875  # silent in the reference, fires in the copy
    membrane[0, 2, 0] = 1.25
    spikes = membrane > 1
    output = np.array([[0, 1], [3, 2]], np.float32)
    reference = recording(spikes, membrane, output, "reference")
    copy = recording(spikes.copy(), membrane.copy(), output.copy())
    copy.membrane["lif"][1, 1, 2], copy.spikes["lif"][1, 1, 2] = 1.03125, True
    copy.membrane["lif"][0, 2, 0], copy.spikes["lif"][0, 2, 0] = 0.5, False
    copy.spikes["lif"][1, 2, 3] = True
    copy.output[1] = [1.5, 2]
    return copy, reference


def test_known_differences():
    copy, reference = pair()
    fidelity = compare(copy, reference, labels=[1, 0])
    layer = fidelity.layers["lif"]
    assert (fidelity.mismatches, fidelity.slots) == (3, 24)
    assert layer.max_membrane_difference == 0.75
    assert layer.first == Divergence(sample=1, step=1, neuron=2, margin=1 - 0.96875)
    assert fidelity.max_output_difference == 1.5
    assert fidelity.argmax_agreement == 0.5
    assert (fidelity.accuracy, fidelity.reference_accuracy, fidelity.accuracy_delta) == (0.5, 1.0, -0.5)
    assert not fidelity.identical
    assert fidelity.origin == ("lif", layer.first)
    assert (fidelity.samples, fidelity.steps) == (2, 3)


def test_the_margin_is_that_of_the_silent_neuron():
    copy, reference = pair()
    assert compare(reference, copy).layers["lif"].first.margin == 1 - 0.96875
    without = replace(reference, threshold={})
    assert compare(copy, without).layers["lif"].first.margin is None


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("where", ["output", "membrane"])
def test_what_is_no_number_agrees_with_nothing(value, where):
    copy, reference = pair()
    for one, name in ((copy, "a"), (reference, "reference")):
        values = one.output if where == "output" else one.membrane["lif"]
        before = values[1].copy()
        values[1] = value
        with pytest.raises(UserError, match=f"^The {where}.* on {name} is NaN or infinite for sample 1: "):
            compare(copy, reference)
        values[1] = before


def test_identical():
    _, reference = pair()
    fidelity = compare(reference, reference)
    assert fidelity.identical
    assert fidelity.layers["lif"].first is None
    assert fidelity.origin is None
    assert fidelity.accuracy is None
    assert fidelity.accuracy_delta is None
    shifted = replace(reference, output=reference.output + np.float32(1e-6))
    assert not compare(shifted, reference).identical


def test_a_perturbed_network_shows_where_it_diverged():
    """The threshold of one neuron is moved past one membrane: that slot is the first to differ, by that margin."""
    graph, x = gated_graph(), inputs()
    reference = simulate(graph, x)
    layer = graph["pln.lif3"]
    membrane = reference.membrane["pln.lif3"]
    neuron = np.argwhere(reference.spikes["pln.lif3"])[0][2]
    threshold = layer.threshold.copy()
    threshold[neuron] = membrane[:, :, neuron].max() + 0.5
    nodes = tuple(replace(n, threshold=threshold) if n is layer else n for n in graph.nodes)
    fidelity = compare(simulate(Graph(nodes, graph.steps), x), reference)
    assert [name for name, x in fidelity.layers.items() if x.mismatches] == ["pln.lif3"]
    first = fidelity.layers["pln.lif3"].first
    expected = np.argwhere(reference.spikes["pln.lif3"][:, :, neuron].T)[0]
    assert (first.step, first.sample, first.neuron) == (*expected, neuron)
    # Nothing differed before, so the silent neuron has the membrane of the reference.
    slot = (first.sample, first.step, neuron)
    assert first.margin == pytest.approx(abs(float(membrane[slot]) - float(layer.threshold[neuron])))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"spikes": {}}, "different graphs"),
        ({"output": np.zeros((3, 2), np.float32)}, r"output has shape \(3, 2\)"),
        ({"spikes": {"lif": np.zeros((2, 4, 4), bool)}}, r"spikes of lif has shape \(2, 4, 4\)"),
    ],
)
def test_unlike_recordings_are_refused(change, message):
    copy, reference = pair()
    with pytest.raises(UserError, match=message):
        compare(replace(copy, **change), reference)
    with pytest.raises(UserError, match="labels have shape"):
        compare(copy, reference, labels=[1])


def test_records_survive_json(tmp_path):
    copy, reference = pair()
    comparisons = [compare(copy, reference, labels=[1, 0]), compare(reference, reference)]
    for fidelity in comparisons:
        assert Fidelity.from_dict(json.loads(json.dumps(fidelity.to_dict()))) == fidelity
    graph = gated_graph()
    certificate = certify(graph, comparisons)
    assert certificate.graph == graph_hash(graph)
    assert {"numpy", "torch"} <= certificate.versions.keys()
    path = tmp_path / "certificate.json"
    save_certificate(certificate, path)
    assert load_certificate(path) == certificate
    assert json.loads(path.read_text())["comparisons"][0]["mismatches"] == 3


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"certificate": 1}', '{"certificate": 2}'])
def test_damaged_certificates_are_refused(tmp_path, content):
    path = tmp_path / "certificate.json"
    path.write_text(content)
    said = "Cannot read the certificate" if not content else "certificate.*; delete it and export the network again"
    with pytest.raises(UserError, match=said) as caught:
        load_certificate(path)
    assert str(path) in str(caught.value)
    with pytest.raises(UserError):
        Fidelity.from_dict({"layers": {"a": None}})
    with pytest.raises(UserError, match="Cannot read"):
        load_certificate(tmp_path / "missing.json")
    assert Certificate("h", {}, ()).to_dict()["comparisons"] == []


def test_the_origin_is_the_earliest_layer_of_the_earliest_step():
    """An earlier step counts before an earlier layer; within one step the earlier layer is the cause."""
    shape = (1, 3, 1)
    spikes, membrane = np.zeros(shape, bool), np.zeros(shape, np.float32)
    output = np.zeros((1, 1), np.float32)

    def two_layers(a, b):
        flipped = {}
        for name, steps in (("a", a), ("b", b)):
            flipped[name] = spikes.copy()
            flipped[name][0, steps] = True
        return Recording("x", output, flipped, {"a": membrane, "b": membrane})

    reference = two_layers([], [])
    assert compare(two_layers([1], [0, 1]), reference).origin[0] == "b"
    assert compare(two_layers([1], [1]), reference).origin[0] == "a"


def test_correlation_of_spike_counts():
    """Against numpy's, over samples and neurons; none where nothing varies, or the record is older."""
    rng = np.random.default_rng(0)
    spikes, others = rng.random((2, 4, 9, 5)) < 0.4
    membrane, output = np.zeros(spikes.shape, np.float32), np.zeros((4, 2), np.float32)
    fidelity = compare(recording(spikes, membrane, output), recording(others, membrane, output))
    expected = np.corrcoef(spikes.sum(1).ravel(), others.sum(1).ravel())[0, 1]
    assert fidelity.layers["lif"].correlation == pytest.approx(expected, abs=1e-12)
    shuffled = recording(np.roll(spikes, 3, axis=1), membrane, output)
    assert compare(shuffled, recording(spikes, membrane, output)).layers["lif"].correlation == pytest.approx(1)
    silent = recording(np.zeros_like(spikes), membrane, output)
    assert compare(silent, recording(spikes, membrane, output)).layers["lif"].correlation is None
    data = fidelity.to_dict()
    assert Fidelity.from_dict(data) == fidelity
    del data["layers"]["lif"]["correlation"]
    assert Fidelity.from_dict(data).layers["lif"] == replace(fidelity.layers["lif"], correlation=None)
    assert LayerFidelity(1, 0, 0.0, None).correlation is None
