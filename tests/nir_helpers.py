"""Small and random graphs of all kinds of nodes, and NIR files by their equations, which only the tests know."""

from __future__ import annotations

import warnings
from typing import Any

import hypothesis.strategies as st
import numpy as np
import torch
from torch.nn import functional as F

from converters import LossyExportWarning, save_nir
from converters.gates import constant, nothing
from converters.graph import (
    LIF,
    Activation,
    Affine,
    AvgPool2d,
    Conv2d,
    Gate,
    Graph,
    Input,
    Integrator,
    MaxPool2d,
    Node,
    Quantize,
    Readout,
)
from tests.helpers import dyadic, scalar

SHAPES = ((5,), (2, 9), (2, 6, 7))
NAMES = (
    *("input", "output", "readout", "a", "a.b", "a_b", "a/b", "/", "", ".", "..", "%", "%2F", "0", "a b", "ä", "\n"),
    *("a.membrane", "a.flatten", "a.output", "type", "nodes", "metadata"),
)
KINDS = (
    *("conv", "affine", "pool", "maximum", "activation", "quantize", "lif", "lif", "integrator", "gate"),
    "constant gate",
)


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Up to eight layers, each behind any node before it, with names and parameters of every form."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    names = iter([*draw(st.permutations(NAMES)), *(f"n{i}" for i in range(40))])
    made: list[Node] = []
    shapes: dict[str, tuple[int, ...]] = {}

    def add(kind: type[Node], *sources: str, **fields: Any) -> str:
        node = kind(next(names), sources, **fields)
        made.append(node)
        shapes[node.name] = node.infer_shape([shapes[source] for source in sources])
        return node.name

    def random(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    def affine(source: str, out: int) -> str:
        return add(Affine, source, weight=random(out, int(np.prod(shapes[source]))), bias=random(out))

    def per_neuron(n: int, *choices: float) -> np.ndarray:
        if draw(st.booleans()):
            return np.array(draw(st.sampled_from(choices)), np.float32)
        return rng.choice(np.array([*choices, rng.random()], np.float32), n)

    first = add(Input, shape=draw(st.sampled_from(SHAPES)), encoding=draw(st.sampled_from(["constant", "rate"])))
    last = first
    for kind in draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=8)):
        source = draw(st.sampled_from([last, last, last, *shapes]))
        shape = shapes[source]
        n = int(np.prod(shape))
        if kind == "affine":
            last = affine(source, draw(st.integers(1, 6)))
        elif kind == "conv" and len(shape) == 3:
            kernel = [draw(st.integers(1, min(size, 3))) for size in shape[1:]]
            groups = shape[0] if draw(st.booleans()) else 1
            pads = [draw(st.integers(0, 1)) if size > 1 else 0 for size in shape[1:]]
            strides = (1 if shape[1] == 1 else 2, draw(st.integers(1, 2)))
            weight = random(2 * groups, shape[0] // groups, *kernel)
            last = add(
                Conv2d, source, weight=weight, bias=random(len(weight)), stride=strides, padding=(*pads,), groups=groups
            )
        elif kind == "pool" and len(shape) == 3:
            kernel = (1, 2) if shape[1] == 1 else (2, 2)
            if all(size >= k for size, k in zip(shape[1:], kernel, strict=True)):
                last = add(AvgPool2d, source, kernel=kernel, stride=kernel)
        elif kind == "maximum" and len(shape) == 3:
            last = add(MaxPool2d, source, kernel=(1, 3), stride=(1, draw(st.integers(1, 2))), padding=(0, 1))
        elif kind == "quantize":
            last = add(Quantize, source, step=draw(st.sampled_from([0.25, 0.1])), levels=draw(st.integers(1, 9)))
        elif kind == "activation":
            last = add(Activation, source, function=draw(st.sampled_from(["relu", "sigmoid", "hard_sigmoid"])))
        elif kind == "lif":
            last = add(
                LIF,
                source,
                beta=per_neuron(n, 0.9, 0, 1, 1e-9, 1.5),
                threshold=per_neuron(n, 0.3, 1, -0.5),
                reset=draw(st.sampled_from(["subtract", "zero", "none"])),
                reset_delay=draw(st.booleans()),
            )
        elif kind == "integrator":
            last = add(Integrator, source, beta=per_neuron(n, 0.5, 1))
        elif kind == "gate":
            value = affine(draw(st.sampled_from([*shapes])), draw(st.sampled_from([n, shape[0]])))
            last = add(Gate, source, value)
        elif kind == "constant gate":
            zero = add(Affine, first, **nothing(int(np.prod(shapes[first]))))
            last = add(Gate, source, add(Affine, zero, **constant(random(draw(st.sampled_from([n, shape[0]]))))))
    add(Readout, last)
    return Graph(tuple(made), draw(st.integers(1, 4)))


def euler(made: Any, x: np.ndarray, steps: int, dt: float) -> dict[str, np.ndarray]:
    """What every node of a NIR graph sends, (T, ...), for one sample: NIR's equations in float64, forward Euler."""
    sources = {b: a for a, b in made.edges}
    state: dict[str, Any] = {}
    rows: dict[str, list[np.ndarray]] = {name: [] for name in made.nodes}
    for _ in range(steps):
        now: dict[str, np.ndarray] = {}

        def value(name: str, now: dict[str, np.ndarray] = now) -> np.ndarray:
            if name not in now:
                node = made.nodes[name]
                before = x.astype(np.float64) if name not in sources else value(sources[name])
                now[name] = _step(node, before, state.setdefault(name, {}), dt)
            return now[name]

        for name in made.nodes:
            rows[name].append(value(name))
    return {name: np.stack(row) for name, row in rows.items()}


def _step(node: Any, x: np.ndarray, state: dict[str, np.ndarray], dt: float) -> np.ndarray:
    """One node in one step; see the docstrings of `nir.ir`."""
    kind = type(node).__name__
    if kind in ("Input", "Output"):
        return x
    if kind in ("Affine", "Linear"):
        return node.weight.astype(np.float64) @ x.reshape(-1) + (node.bias if kind == "Affine" else 0)
    if kind == "Flatten":
        return torch.flatten(torch.from_numpy(x), int(node.start_dim), int(node.end_dim)).numpy()
    if kind == "Scale":
        return x * node.scale
    if kind == "Threshold":
        return (x > node.threshold).astype(np.float64)
    if kind in ("Conv1d", "Conv2d"):
        padding = node.padding if isinstance(node.padding, str) else np.ravel(node.padding).tolist()
        options = (np.ravel(node.stride).tolist(), padding, np.ravel(node.dilation).tolist(), int(node.groups))
        weight, bias = (torch.from_numpy(np.asarray(v, np.float64)) for v in (node.weight, node.bias))
        convolution = F.conv1d if kind == "Conv1d" else F.conv2d
        return convolution(torch.from_numpy(x)[None], weight, bias, *options)[0].numpy()
    if kind in ("AvgPool2d", "SumPool2d"):
        kernel, stride, padding = (np.ravel(v).tolist() for v in (node.kernel_size, node.stride, node.padding))
        mean = F.avg_pool2d(torch.from_numpy(x)[None], kernel, stride, padding)[0].numpy()
        return mean * np.prod(np.broadcast_to(kernel, 2)) if kind == "SumPool2d" else mean
    if kind.startswith("Cuba"):
        current = state.get("i", 0.0)
        x = state["i"] = current + dt / node.tau_syn * (-current + node.w_in * x)
    v = state.get("v", 0.0)
    if kind in ("IF", "I"):
        v = v + dt * node.r * x
    else:
        v = v + dt / (node.tau_mem if kind.startswith("Cuba") else node.tau) * ((node.v_leak - v) + node.r * x)
    if kind in ("LIF", "IF", "CubaLIF"):
        spikes = v > node.v_threshold
        state["v"] = np.where(spikes, node.v_reset, v)
        return spikes.astype(np.float64)
    state["v"] = v
    return v


CONV = Conv2d("c", ("in",), np.ones((2, 2, 3, 3), np.float32), np.zeros(2, np.float32))


def saved(graph, path, **options):
    """Writes a graph without the warnings, and returns what they say."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LossyExportWarning)
        return save_nir(graph, path, **options)


def net(*nodes, shape=(4,), steps=3):
    last = nodes[-1].name if nodes else "in"
    return Graph((Input("in", (), shape), *nodes, Readout("out", (last,))), steps)


def affine(name, source, out, n):
    rng = np.random.default_rng(0)
    return Affine(name, (source,), dyadic(rng, out, n), dyadic(rng, out))


def lif(source="in", name="l", **options):
    return LIF(name, (source,), scalar(0.5), scalar(0.25), **({"reset": "zero", "reset_delay": False} | options))
