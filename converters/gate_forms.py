"""What a target can make of gates, and what each form changes: thresholds, or values of few bits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from converters.fidelity import Fidelity, compare
from converters.gates import lower_gates
from converters.graph import LIF, Gate, Graph
from converters.interpreter import Interpreter
from converters.quantize import quantize_gates
from converters.recorder import join
from converters.recording import Recording
from converters.simulate import Inputs, encode_inputs, simulate
from snn_anml.errors import UserError

GATE_BITS = (8, 6, 4)
"""Of the values of gates: what is compared for a certificate."""

THRESHOLDS = "thresholds"


def compare_gate_forms(
    graph: Graph,
    inputs: Inputs,
    reference: Recording,
    labels: Any = None,
    seed: int = 0,
    bits: tuple[int, ...] = GATE_BITS,
) -> dict[str, Fidelity | str]:
    """How far a network is from itself when its gates take a form that a target has.

    `thresholds`: of every neuron, divided by its gate, as chips take gates that are constant over T (`lower_gates`);
    refused where that leaves any gate, as it does in a network of ReLUs.
    `B bits`: gates rounded to multiples of 2^-B (`quantize_gates`). Everything else is as it was, on the interpreter.

    Args:
        graph: with gates, or without: then there is nothing to compare.
        inputs: as for `simulate`.
        reference: the simulation of the same samples with the gates as they are.
        labels: (B,) int, the right classes; optional.
        seed: of the generator that draws rate-coded spikes.
        bits: of the quantised gates.

    Returns:
        for every form the comparison, or the sentence that says why the graph cannot have it.
    """
    found: dict[str, Fidelity | str] = {}
    if not graph.of_type(Gate):
        return found
    try:
        found[THRESHOLDS] = compare(_with_thresholds(graph, inputs, seed), reference, labels)
    except UserError as refusal:
        found[THRESHOLDS] = str(refusal)
    for b in bits:
        try:
            found[f"{b} bits"] = compare(simulate(quantize_gates(graph, b), inputs, seed=seed), reference, labels)
        except UserError as refusal:
            found[f"{b} bits"] = str(refusal)
    return found


def _with_thresholds(graph: Graph, inputs: Inputs, seed: int) -> Recording:
    """Every sample on the graph that is its own, with membranes in the units of the graph that has gates."""
    encoded, lowered = encode_inputs(graph, inputs, seed), lower_gates(graph, inputs)
    if lowered.constants:
        raise UserError(
            f"{', '.join(lowered.constants)}: these gates are not read by LIF neurons alone, or have values that no "
            "threshold can be divided by, and stay gates; only other gates become thresholds."
        )
    parts = []
    for i, one in enumerate(lowered.graphs):
        part = Interpreter(one).run(encoded[:, i : i + 1])
        membrane = {
            neuron.name: part.membrane[neuron.name] * _ratio(neuron.threshold, raised.threshold)
            for neuron, raised in ((n, one[n.name]) for n in graph.of_type(LIF))
            if isinstance(neuron, LIF) and isinstance(raised, LIF)
        }
        parts.append(replace(part, membrane=membrane))
    return join(parts)


def _ratio(threshold: np.ndarray, raised: np.ndarray) -> np.ndarray:
    """threshold / raised; 1 where both are zero, which no gate changes."""
    ones = np.ones(np.broadcast_shapes(threshold.shape, raised.shape), np.float32)
    return np.divide(threshold, raised, out=ones, where=raised != 0)
