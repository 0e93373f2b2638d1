"""Which rounding of a Loihi chip changes how many spikes: each alone, and what a layer inherits from the one before.

    python -m benchmarks.loihi_rounding [--widths 8 16 16] [--steps 8] [--samples N] [--save]

The integers of the chip, in numpy, on the network and drawings of `benchmarks.loihi_emulator`. A layer gets the exact
spikes of the layer before, and one rounding at a time; the same model with all of them is the emulator, spike for
spike, which is checked. What is inherited is counted with nothing rounded, on the spikes that the emulator sends.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks import machine
from benchmarks.loihi_emulator import arguments, trained
from converters import encode_inputs, simulate
from converters.gates import gate_factors
from converters.graph import Conv2d, Graph
from converters.interpreter import conv2d
from converters.loihi import LoihiEngine
from converters.loihi_chip import DECAY_STEPS, THRESHOLD_UNIT
from converters.loihi_layers import ChipLayer

ROUNDINGS = ("weights", "bias", "threshold", "decay", "membrane", "current")
WHAT = {
    "weights": "weights to 127 steps on each side",
    "bias": "bias to 12 bits",
    "threshold": "threshold to units of 64",
    "decay": "decay to 1/4096",
    "membrane": "decayed membrane towards 0",
    "current": "1/4096 of a current is left in the next step",
}


def spikes_of(
    graph: Graph, layer: ChipLayer, scale: np.ndarray, spikes: np.ndarray, gates: np.ndarray, rounded: Collection[str]
) -> np.ndarray:
    """The spikes of a convolutional layer on the chip, (B, T, n) bool.

    Args:
        graph: the network.
        layer: of the chip.
        scale: (n,), units of the chip in one unit of the graph.
        spikes: (B, T, neurons of the source) bool.
        gates: (B, n).
        rounded: which of `ROUNDINGS` to make.
    """
    node = graph[layer.nodes[0]]
    assert isinstance(node, Conv2d)
    channel, positions = scale.reshape(layer.shape[0], -1)[:, 0], scale.size // layer.shape[0]
    weight = node.weight.astype(np.float64) * channel[:, None, None, None]
    bias = np.repeat(node.bias.astype(np.float64) * channel, positions)
    threshold = layer.neuron.threshold / gates.astype(np.float64) * scale
    beta = np.float64(layer.neuron.beta)
    if "weights" in rounded:  # the largest is 255 units of 64, in even numbers
        step = 2 * THRESHOLD_UNIT
        weight = np.clip(np.round(weight * (255 * 64 / np.abs(weight).max()) / step), -127, 127) * step
    if "bias" in rounded:
        exponent = np.ceil(np.log2(np.maximum(np.abs(np.round(bias)) / 4095, 1)))
        bias = np.round(np.round(bias) / 2**exponent) * 2**exponent
    if "threshold" in rounded:
        threshold = np.round(threshold / THRESHOLD_UNIT) * THRESHOLD_UNIT
    if "decay" in rounded:
        beta = np.round(beta * DECAY_STEPS) / DECAY_STEPS
    current = membrane = np.zeros(threshold.shape)
    found = np.zeros((*spikes.shape[:2], scale.size), bool)
    plain = replace(node, weight=weight, bias=np.zeros(len(weight)))
    for t in range(spikes.shape[1]):
        x = spikes[:, t].reshape(-1, *layer.source_shape).astype(np.float64)
        left = np.trunc(current / DECAY_STEPS) if "current" in rounded else 0
        current = conv2d(x, plain).reshape(len(x), -1) + left
        kept = membrane * beta
        membrane = (np.trunc(kept) if "membrane" in rounded else kept) + current + bias
        found[:, t] = membrane > threshold
        membrane = np.where(found[:, t], 0, membrane)
    return found


def main() -> None:
    options = arguments("Which rounding of a Loihi chip changes how many spikes.").parse_args()
    graph, x, _ = trained(options)
    exact, encoded = simulate(graph, x).spikes, encode_inputs(graph, x)
    engine = LoihiEngine(graph)
    emulated, scales = engine.run(encoded).spikes, engine.chip.scales
    engine.close()
    gates = gate_factors(graph, encoded)
    layers: dict[str, dict[str, Any]] = {}
    for layer in engine.layers:
        given = graph, layer, scales[layer.name]
        factors = np.prod([gates[gate] for gate in layer.gates], axis=0)

        def mismatch(source: np.ndarray, rounded: Collection[str], given=given, factors=factors, name=layer.name):
            return float((spikes_of(*given, source, factors, rounded) != exact[name]).mean())

        same = spikes_of(*given, emulated[layer.source], factors, ROUNDINGS)
        if (same != emulated[layer.name]).any():
            raise RuntimeError(f"The model of {layer.name} is not the emulator.")
        layers[layer.name] = {
            "emulator": float((emulated[layer.name] != exact[layer.name]).mean()),
            "inherited": mismatch(emulated[layer.source], ()),
            "none": mismatch(exact[layer.source], ()),
            "all": mismatch(exact[layer.source], ROUNDINGS),
            "alone": {one: mismatch(exact[layer.source], (one,)) for one in ROUNDINGS},
            "all_but": {one: mismatch(exact[layer.source], {*ROUNDINGS} - {one}) for one in ROUNDINGS},
        }
    table = Table("rounding", *layers, title="spike mismatch, %")
    for key in ("emulator", "inherited", "none", "all"):
        table.add_row(key, *(f"{100 * row[key]:.3f}" for row in layers.values()))
    for one in ROUNDINGS:
        table.add_row(f"{WHAT[one]}, alone", *(f"{100 * row['alone'][one]:.3f}" for row in layers.values()))
        table.add_row("  all but that", *(f"{100 * row['all_but'][one]:.3f}" for row in layers.values()))
    console = Console()
    console.print(table)
    if options.save:
        command = f"python -m benchmarks.loihi_rounding {shlex.join(sys.argv[1:])}"
        console.print(machine.save("loihi_rounding", {"command": command, "layers": layers}))


if __name__ == "__main__":
    main()
