"""What other forms of the gates change: against networks whose gates are set by hand."""

from dataclasses import replace

import numpy as np
import pytest

from converters import (
    Certificate,
    certify,
    compare,
    compare_gate_forms,
    load_certificate,
    lower_gates,
    save_certificate,
    simulate,
)
from converters.graph import LIF, Activation, Affine, Gate, Graph, Readout
from converters.recorder import join
from snn_anml.errors import UserError
from tests.test_gates import RESETS, N, gated, samples


def with_constants_rounded(graph, x, bits):
    """Every sample on its own graph, its gates constants that numpy has rounded."""
    made = lower_gates(graph, x, into="constant")
    parts = []
    for one, sample in zip(made.graphs, x, strict=True):
        nodes = [
            replace(node, bias=np.round(node.bias * 2.0**bits).astype(np.float32) / np.float32(2.0**bits))
            if isinstance(node, Affine) and node.name.endswith(".values")
            else node
            for node in one.nodes
        ]
        parts.append(simulate(Graph(tuple(nodes), one.steps), sample[None]))
    return join(parts)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_quantised_gates_are_gates_rounded_by_hand(bits):
    graph, x = gated("hard_sigmoid", "sigmoid"), samples()
    reference = simulate(graph, x)
    by_hand = compare(with_constants_rounded(graph, x, bits), reference)
    found = compare_gate_forms(graph, x, reference, bits=(bits,))[f"{bits} bits"]
    assert by_hand.mismatches > 0
    assert found == by_hand


@pytest.mark.parametrize(("reset", "delay"), RESETS)
def test_thresholds_change_rounding_alone(reset, delay):
    graph, x = gated("sigmoid", reset=reset, delay=delay), samples()
    reference = simulate(graph, x)
    assert 0 < reference.spikes["lif"].mean() < 1
    one = compare_gate_forms(graph, x, reference, np.arange(len(x)), bits=())["thresholds"]
    assert np.abs(reference.membrane["lif"] - 0.5).min() > 1e-5  # so that rounding flips no spike of these samples
    assert one.mismatches == 0
    assert 0 < one.layers["lif"].max_membrane_difference < 1e-5  # membranes are those of the gated current
    assert one.reference_accuracy is not None


def test_a_gate_that_changes_with_every_step_is_no_threshold():
    graph = gated("sigmoid")
    spikes = replace(graph.nodes[0], encoding="rate")
    graph = Graph((spikes, *graph.nodes[1:]), graph.steps)
    x = samples()
    found = compare_gate_forms(graph, x, simulate(graph, x, seed=3), seed=3)
    assert list(found) == ["thresholds", "8 bits", "6 bits", "4 bits"]
    assert found["thresholds"].startswith("gate0 is gated by gate0.value, which changes from step to step")
    differ = [found[f"{bits} bits"].mismatches for bits in (8, 6, 4)]
    assert differ == sorted(differ)
    assert differ[-1] > 0


def relu_twin(*gates):
    """Rectifiers behind gates in the place of neurons."""
    nodes = gated(*gates).nodes
    return Graph(tuple(Activation("lif", n.inputs, "relu") if isinstance(n, LIF) else n for n in nodes), 12)


def one_of_two():
    """Neurons behind one gate, and the output behind another."""
    nodes = gated("sigmoid").nodes
    return Graph((*nodes[:-1], Gate("last", ("fc", "gate0.value")), Readout("out", ("last",))), 12)


@pytest.mark.parametrize(
    ("graph", "named", "layers"),
    [(relu_twin("sigmoid", "hard_sigmoid"), "gate0, gate1", 0), (one_of_two(), "last", 1)],
    ids=["ReLU", "one of two"],
)
def test_gates_that_stay_gates_are_no_thresholds(graph, named, layers):
    x = samples()
    found = compare_gate_forms(graph, x, simulate(graph, x), np.arange(len(x)), bits=(2,))
    assert found["thresholds"].startswith(f"{named}: these gates are not read by LIF neurons alone")
    rounded = found["2 bits"]
    assert (len(rounded.layers), rounded.slots) == (layers, layers * 8 * 12 * N)  # of ReLUs there are no spikes
    assert rounded.max_output_difference > 0


def test_without_gates_there_is_nothing_to_compare():
    graph, x = gated(), samples()
    assert compare_gate_forms(graph, x, simulate(graph, x)) == {}


def test_a_certificate_keeps_them(tmp_path):
    graph, x = gated("sigmoid"), samples()
    reference = simulate(graph, x)
    gates = compare_gate_forms(graph, x, reference) | {"thresholds": "It cannot."}
    certificate = certify(graph, [compare(reference, reference)], gates, ["gate0: not there."])
    save_certificate(certificate, tmp_path / "certificate.json")
    assert load_certificate(tmp_path / "certificate.json") == certificate
    older = certificate.to_dict()
    del older["gates"], older["lossy"]
    assert Certificate.from_dict(older) == replace(certificate, gates={}, lossy=())
    with pytest.raises(UserError, match="damaged"):
        Certificate.from_dict(certificate.to_dict() | {"gates": {"8 bits": {"backend": "interpreter"}}})


def test_thresholds_of_zero_stay_zero():
    graph, x = gated("hard_sigmoid", "sigmoid"), samples()
    nodes = [replace(n, threshold=np.zeros_like(n.threshold)) if isinstance(n, LIF) else n for n in graph.nodes]
    graph = Graph(tuple(nodes), graph.steps)
    found = compare_gate_forms(graph, x, simulate(graph, x), bits=())["thresholds"]
    assert not isinstance(found, str), found
    assert np.isfinite(found.max_output_difference)
