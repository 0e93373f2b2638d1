"""NIR files of other programs as graphs: node by node, and what a graph cannot say exactly is refused by name.

    Affine, Linear          Affine
    Conv1d, Conv2d          Conv2d
    AvgPool2d               AvgPool2d
    SumPool2d               Conv2d of ones, a group for every channel
    Flatten                 nothing, if a vector comes of it
    Scale                   Gate by a constant; nothing where the scale is 1
    LIF, IF                 LIF
    LI, I                   Integrator
    CubaLIF, CubaLI         Integrator, for the synaptic current, and LIF or Integrator
    Threshold               LIF without memory and reset

Neurons are under forward Euler, beta = 1 - dt / tau, and enter their current with the weight g = r dt / tau (IF and
I: r dt). A graph has no such weight: for spikes the threshold is divided by it, which counts the membrane in units
of g; a current that is read as such is scaled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from converters.graph import Affine, AvgPool2d, Conv2d, Graph, Readout, Shape
from converters.graph_builder import GraphBuilder, Wire
from converters.nir_place import Place, Told, refuse
from snn_anml.errors import UserError


def read_foreign(made: Any, path: str, told: Told) -> Graph:
    """The graph that a `nir.NIRGraph` says; raises `UserError` for what it cannot say."""
    first, last = (_only(made, path, kind) for kind in ("Input", "Output"))
    sources = _sources(made, path, first, last)
    shape = tuple(int(n) for n in np.ravel(made.nodes[first].input_type["input"]))
    if not (1 <= len(shape) <= 3 and min(shape) >= 1):
        refuse(path, first, made.nodes[first], f"has shape {shape}; a sample has one to three dimensions")
    if told.steps is None:
        raise UserError(f"{path} does not say how many steps it is run for; give load_nir steps=T.")
    builder = GraphBuilder(told.encoding or "constant", shape)
    wires = {first: builder.input}
    for name, source in sources.items():
        if name != last:
            wires[name] = _wire(Place(path, name, made.nodes[name], builder, told), wires[source])
    builder.add(Readout, wires[sources[last]], name="readout")
    return Graph(tuple(builder.nodes.values()), told.steps)


def _wire(place: Place, source: Wire) -> Wire:
    """The value of a node of the file."""
    if place.kind not in READERS:
        place.refuse(f"has no counterpart in a graph; known are {', '.join(sorted(READERS))}")
    try:
        return READERS[place.kind](place, source)
    except UserError:
        raise
    except (ArithmeticError, AttributeError, IndexError, TypeError, ValueError) as error:
        place.refuse(f"has parameters that make no sense ({error})")


def _only(made: Any, path: str, kind: str) -> str:
    """Name of the one node of a type."""
    found = [name for name, node in made.nodes.items() if type(node).__name__ == kind]
    if len(found) != 1:
        raise UserError(f"{path} has {len(found)} {kind} nodes{_listed(found)}; a graph has one.")
    return found[0]


def _sources(made: Any, path: str, first: str, last: str) -> dict[str, str]:
    """Every node but the Input with the one that feeds it, in an order of computation."""
    edges = sorted(set(made.edges))
    for name in dict.fromkeys(name for edge in edges for name in edge):
        if name not in made.nodes:
            raise UserError(f"{path} has an edge to or from {name!r}, which is no node of it.")
    for name in made.nodes:
        before = [a for a, b in edges if b == name]
        if len(before) > 1 or (name == first and before):
            reason = f"is fed by {len(before)} nodes{_listed(before)}; a graph has neither sums nor loops"
            refuse(path, name, made.nodes[name], reason)
    sources: dict[str, str] = {}
    reached = [first]
    for name in reached:
        behind = [b for a, b in edges if a == name]
        reached += behind
        sources.update(dict.fromkeys(behind, name))
    for name in made.nodes:
        if name not in reached:
            refuse(path, name, made.nodes[name], "is not reached from the Input")
        if sources.get(name) == last:
            refuse(path, name, made.nodes[name], "reads the Output")
    return sources


def _listed(names: list[str]) -> str:
    return f" ({', '.join(sorted(names))})" if names else ""


def _bias(place: Place) -> np.ndarray:
    bias, outputs = np.asarray(place.node.bias, np.float32), len(place.node.weight)
    if bias.shape != (outputs,):
        place.refuse(f"has a bias of shape {bias.shape}, but {outputs} outputs")
    return bias


def _affine(place: Place, source: Wire) -> Wire:
    place.need_shape(source, "n")
    weight = np.asarray(place.node.weight, np.float32)
    if weight.ndim != 2:
        place.refuse(f"has a weight of shape {weight.shape}, not (outputs, inputs)")
    bias = _bias(place) if hasattr(place.node, "bias") else np.zeros(len(weight), np.float32)
    return place.add(Affine, source, weight=weight, bias=bias)


def _conv(place: Place, source: Wire) -> Wire:
    dims = 1 if place.kind == "Conv1d" else 2
    place.need_shape(source, "channels, length" if dims == 1 else "channels, height, width")
    weight = np.asarray(place.node.weight, np.float32)
    if weight.ndim != dims + 2:
        place.refuse(f"has a weight of shape {weight.shape}, of {weight.ndim} dimensions and not {dims + 2}")
    kernel = weight.shape[2:]
    stride, dilation = (place.numbers(option, dims) for option in (place.node.stride, place.node.dilation))
    if isinstance(place.node.padding, str):
        around = [d * (k - 1) if place.node.padding == "same" else 0 for d, k in zip(dilation, kernel, strict=True)]
        if any(n % 2 for n in around) or (place.node.padding == "same" and max(stride) > 1):
            place.refuse("pads 'same' with an even kernel or a stride, where programs differ")
        padding = tuple(n // 2 for n in around)
    else:
        padding = place.numbers(place.node.padding, dims, 0)
    flat = (1,) * (2 - dims)  # a kernel of a signal is one pixel high
    wire = place.add(
        Conv2d,
        source,
        weight=weight.reshape(*weight.shape[:2], *flat, *kernel),
        bias=_bias(place),
        stride=(*flat, *stride),
        padding=(*(0,) * (2 - dims), *padding),
        dilation=(*flat, *dilation),
        groups=place.numbers(place.node.groups, 1)[0],
    )
    return Wire(wire.name, (wire.shape[0], *wire.shape[-dims:]))


def _avg_pool(place: Place, source: Wire) -> Wire:
    place.need_shape(source, "channels, height, width")
    if any(place.numbers(place.node.padding, 2, 0)):
        place.refuse("pads, and programs differ in whether the padding counts")
    kernel, stride = place.numbers(place.node.kernel_size, 2), place.numbers(place.node.stride, 2)
    return place.add(AvgPool2d, source, kernel=kernel, stride=stride)


def _sum_pool(place: Place, source: Wire) -> Wire:
    place.need_shape(source, "channels, height, width")
    channels = source.shape[0]
    return place.add(
        Conv2d,
        source,
        weight=np.ones((channels, 1, *place.numbers(place.node.kernel_size, 2)), np.float32),
        bias=np.zeros(channels, np.float32),
        stride=place.numbers(place.node.stride, 2),
        padding=place.numbers(place.node.padding, 2, 0),
        groups=channels,
    )


def _flatten(place: Place, source: Wire) -> Wire:
    dims = len(source.shape)
    start, end = (int(d) + dims if d < 0 else int(d) for d in (place.node.start_dim, place.node.end_dim))
    if not 0 <= start <= end < dims:
        place.refuse(f"flattens dimensions {place.node.start_dim} to {place.node.end_dim} of shape {source.shape}")
    shape = (*source.shape[:start], int(np.prod(source.shape[start : end + 1])), *source.shape[end + 1 :])
    if max(shape) != np.prod(shape):
        place.refuse(f"makes the shape {shape}, and not a vector")
    return Wire(source.name, (max(shape),))


def _scale(place: Place, source: Wire) -> Wire:
    return place.builder.scaled(source, place.parameter("scale", source.shape), place.name)


def _threshold(place: Place, source: Wire) -> Wire:
    threshold = place.parameter("threshold", source.shape)
    return place.lif(source, np.zeros_like(threshold), threshold, "none", False)


def _leaky(place: Place, source: Wire) -> Wire:
    """LIF, LI, CubaLIF, CubaLI, IF and I."""
    kind = place.kind
    beta, weight = place.undecayed(source.shape) if kind in ("IF", "I") else _membrane(place, kind, source.shape)
    current = source
    if kind.startswith("Cuba"):
        alpha, enters = place.decay("tau_syn", "w_in", source.shape)
        weight = weight * enters
        if kind == "CubaLI":
            current = place.builder.scaled(current, weight, f"{place.name}.scaled")
        current = place.integrator(current, alpha, f"{place.name}.current")
    if kind in ("LIF", "IF", "CubaLIF"):
        return place.spiking(current, beta, weight)
    if kind != "CubaLI":
        current = place.builder.scaled(current, weight, f"{place.name}.scaled")
    return place.integrator(current, beta, place.name)


def _membrane(place: Place, kind: str, shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    place.at_rest("v_leak")
    return place.decay("tau_mem" if kind.startswith("Cuba") else "tau", "r", shape)


READERS: dict[str, Callable[[Place, Wire], Wire]] = {
    "Affine": _affine,
    "AvgPool2d": _avg_pool,
    "Conv1d": _conv,
    "Conv2d": _conv,
    "CubaLI": _leaky,
    "CubaLIF": _leaky,
    "Flatten": _flatten,
    "I": _leaky,
    "IF": _leaky,
    "LI": _leaky,
    "LIF": _leaky,
    "Linear": _affine,
    "Scale": _scale,
    "SumPool2d": _sum_pool,
    "Threshold": _threshold,
}
