"""The Triton kernels of the neurons against their definition.

Where there is a CUDA device, kernels are compiled and run on it. Where there is none, Triton's interpreter runs the
same kernels, step by step in numpy, on tensors of the CPU: Triton looks for TRITON_INTERPRET as it is imported, so
this module sets it first, which holds for the whole process; and `on_kernels` is told that the CPU has these kernels.
That interpreted kernels also compile is tested in a process of its own, for which no device is needed either.
"""

import json
import os
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from itertools import combinations, product
from pathlib import Path
from random import Random
from typing import NamedTuple

import pytest
import torch
from torch import nn
from torch.func import grad

from snn_anml.errors import UserError
from snn_anml.neurons import SURROGATES, Leaky, LIFParameters, State, Surrogate, lif, lif_eager
from snn_anml.neurons.equation import RESETS
from snn_anml.neurons.layout import layout_of
from tests.neuron_helpers import Layer, assert_same_derivatives, currents, derivatives, outputs, uniform

if find_spec("triton") is None:
    pytest.skip(
        "Triton is not installed; it comes with torch for CUDA, or from `pip install triton`.", allow_module_level=True
    )
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if DEVICE == "cpu":
    os.environ.setdefault("TRITON_INTERPRET", "1")
scans = import_module("snn_anml.neurons.gpu.scans")
needs_device = pytest.mark.skipif(DEVICE == "cpu", reason="needs a CUDA device")


@pytest.fixture(autouse=True)
def _kernels_for_the_cpu(monkeypatch):
    if DEVICE == "cpu":
        monkeypatch.setattr(import_module("snn_anml.neurons.fused"), "scans_for", lambda x: scans)
        monkeypatch.setattr(import_module("snn_anml.neurons.lif"), "has_scans", lambda x: True)


def with_gaps(x):
    return torch.stack([x, x], -1)[..., 0]


def channels_last(x):
    return x.movedim(2, -1).contiguous().movedim(-1, 2)


LAYOUTS = {"usual": torch.clone, "channels last": channels_last, "gaps": with_gaps}


def on_kernels(layout="usual"):
    """`lif` by the kernels, of tensors on the CPU, in a layout of currents and gate."""

    def run(x, p, steps=None, gate=None, state=None):
        x, gate = (None if y is None else LAYOUTS[layout](y.to(DEVICE)) for y in (x, gate))
        s, state = lif(x, p, steps, gate, state)
        return s.cpu(), State(*(None if y is None else y.cpu() for y in state))

    return run


class Case(NamedTuple):
    """One of each option."""

    reset: str
    delay: bool
    detach: bool
    filtered: bool
    adaptive: bool
    gate: tuple[int, ...] | None
    surrogate: str
    parameters: tuple[int, ...] | None
    state: tuple[int, ...] | None
    current_steps: int
    batch: int
    steps: int
    layout: str

    def layer(self, dtype=torch.float64):
        sizes = (self.batch, 3, 2, 5)

        def leaf(shape, low, high, seed):
            return uniform(shape, low, high, seed, dtype)

        def broadcast(shape):
            return (
                [size if one < 0 else 1 for size, one in zip(sizes[-len(shape) :], shape, strict=True)] if shape else ()
            )

        def parameter(value, seed):
            return (
                value if self.parameters is None else leaf(broadcast(self.parameters), value - 0.1, value + 0.1, seed)
            )

        def start(there, seed):
            return leaf(broadcast(self.state), -0.2, 1.2, seed) if there and self.state is not None else None

        p = LIFParameters(
            parameter(0.8, 1), parameter(0.7, 2), self.reset, Surrogate(self.surrogate, 2.0), self.delay, self.detach,
            parameter(0.5, 3) if self.filtered else None, *([parameter(0.8, 4), parameter(0.4, 5)] * self.adaptive),
        )  # fmt: skip
        x = currents((min(self.current_steps, self.steps), *sizes), 6, dtype)
        gate = (
            None if self.gate is None else leaf((min(self.gate[0], self.steps), *broadcast(self.gate[1:])), 0.5, 1.5, 7)
        )
        return Layer(x, p, self.steps, gate, State(start(True, 8), start(self.filtered, 9), start(self.adaptive, 10)))


VARIANTS = list(product(RESETS, (True, False), (True, False), (False, True), (False, True)))
OTHERS = (
    (None, (1, -1, -1, 1, 1), (9, -1, -1, -1, -1), (9, 1, 1, -1, -1)),  # gate: none, a channel, a neuron and step, ...
    SURROGATES,
    (None, (), (-1, 1, 1), (-1, -1, -1)),  # parameters: numbers, or learned: one, one a channel, one a neuron
    (None, (-1, 1, 1), (-1, -1, -1, -1)),  # initial states: 0, one a channel, one a neuron
    (9, 1),  # currents a step, or constant
    (2, 1),
    (4, 4, 1),
    tuple(LAYOUTS),
)


def pairs(case):
    return set(combinations(enumerate(case), 2))


def chosen_cases():
    """All variants of the equation; of what else there is so much that every two options meet at least once."""
    random, seen, cases = Random(0), set(), []
    for variant in VARIANTS:
        candidates = [Case(*variant, *map(random.choice, OTHERS)) for _ in range(60)]
        cases.append(max(candidates, key=lambda case: len(pairs(case) - seen)))
        seen |= pairs(cases[-1])
    return cases


CASES = chosen_cases()


def test_every_two_options_meet():
    options = [set(values) for values in (RESETS, *[(True, False)] * 4, *OTHERS)]
    met = set().union(*map(pairs, CASES))
    for (j, first), (k, second) in combinations(enumerate(options), 2):
        assert {((j, x), (k, y)) for x, y in product(first, second)} <= met


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
def test_kernels_equal_the_definition_to_second_order(case):
    layer, run = case.layer(), on_kernels(case.layout)
    oracle = derivatives(layer, 1, lif_eager)
    assert_same_derivatives(derivatives(layer, 1, run), oracle, 1e-10)
    assert_same_derivatives(derivatives(layer, 1, run, order=1), derivatives(layer, 1, lif_eager, order=1), 1e-10)
    single = case.layer(torch.float32)
    for ours, theirs in zip(outputs(single, run), outputs(single, lif_eager), strict=True):
        assert ours.dtype == torch.float32
        assert torch.equal(ours, theirs)


RICH = LIFParameters(0.8, 0.7, "zero", Surrogate("atan", 2.0), False, False, 0.5, 0.9, 0.5)


@pytest.mark.parametrize("p", [LIFParameters(threshold=0.7), RICH], ids=["plain", "rich"])
@pytest.mark.parametrize("neurons", [1, 127, 128, 257, 513, 1100])
def test_sizes_around_those_of_blocks(p, neurons):
    layer = Layer(currents((3, neurons), 0), p._replace(beta=uniform((neurons,), 0.7, 0.9, 1)), 3)
    assert_same_derivatives(derivatives(layer, 2, on_kernels()), derivatives(layer, 2, lif_eager), 1e-10)


def test_an_empty_batch():
    layer = Layer(currents((3, 0, 4), 0), RICH._replace(beta=uniform((4,), 0.7, 0.9, 1)), 3)
    out, first, second = derivatives(layer, 2, on_kernels())
    assert all(x.shape == (3, 0, 4) for x in out)
    assert [x.shape for x in first] == [x.shape for x in second] == [(3, 0, 4), (4,)]
    assert not first[1].any()


def test_gradients_of_some_outputs_only():
    """The upstream gradients that are missing are not computed with, to either order."""
    for p, which in product((LIFParameters(threshold=0.7), RICH), range(2)):
        x = currents((4, 3, 5), 0)
        results = []
        for run in (on_kernels(), lif_eager):
            s, state = run(x, p)
            (first,) = torch.autograd.grad((s, state.membrane)[which].pow(2).sum(), x, create_graph=True)
            results.append((first, *torch.autograd.grad(first.pow(2).sum(), x)))
        torch.testing.assert_close(*results, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("delay", [True, False])
@pytest.mark.parametrize("reset", RESETS)
def test_finite_differences_of_the_first_derivative(reset, delay):
    """They hold for a surrogate where spikes reach nothing but the output: with detached resets."""
    p = LIFParameters(0.8, 0.7, reset, Surrogate("atan", 2.0), delay, True, 0.5)
    x, gate, beta = currents((3, 2, 3), 3), uniform((1, 2, 1), 0.5, 1.5, 1), uniform((3,), 0.7, 0.9, 2)
    assert torch.autograd.gradgradcheck(
        lambda x, gate, beta: on_kernels()(x, p._replace(beta=beta), gate=gate)[1].membrane,
        (x, gate, beta),
        fast_mode=True,
    )
    assert torch.autograd.gradgradcheck(
        lambda x, gate, beta: on_kernels()(x, p._replace(beta=beta), gate=gate)[0], (x, gate, beta), fast_mode=True
    )


@pytest.mark.parametrize("p", [LIFParameters(threshold=0.7), RICH], ids=["plain", "rich"])
def test_a_gradient_of_the_currents_of_a_gradient_of_beta(p):
    """Under torch.func beta then moves the tangent scan although no gradient of it is wanted there."""
    x, beta = currents((3, 2, 3), 3).detach(), uniform((3,), 0.7, 0.9, 2).detach()

    def mixed(run):
        def loss(x, beta):
            s, state = run(x, p._replace(beta=beta))
            return (s * (1 + state.membrane)).sum() + (state.membrane**2).sum()

        return grad(lambda x, beta: (grad(loss, 1)(x, beta) ** 2).sum())(x, beta)

    torch.testing.assert_close(mixed(on_kernels()), mixed(lif_eager), rtol=1e-9, atol=1e-9)


def test_numbers_reach_the_kernels_as_they_are():
    for value in (0.9, 1 / 3, 1.0, 0.0, 1e-9, 12345.6789012345, -0.7, float("inf")):
        assert sum(scans.parts_of(value)) == value


def test_more_neurons_than_indices_are_refused():
    with pytest.raises(UserError, match="at most"):
        scans._Call(layout_of(torch.empty(1, 2**31, device="meta")), torch.empty(0))


def test_kernels_compile_without_fused_multiply_add_and_without_spills(tmp_path):
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    said = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.triton_helpers"],
        env=environment, cwd=Path(__file__).parents[1], capture_output=True, text=True,
    )  # fmt: skip
    assert said.returncode == 0, said.stderr[-4000:]
    kernels = [json.loads(line) for line in said.stdout.splitlines()]
    assert {k["kernel"] for k in kernels} == {"forward_kernel", "adjoint_kernel", "tangent_kernel"}
    assert {k["dtype"] for k in kernels} == {"torch.float32", "torch.float64"}
    assert all(k["stack"] == 0 and k["registers"] <= 128 for k in kernels)
    # What is left of them is within exp.
    assert all(k["fused multiply-adds"] == 0 for k in kernels if "sigmoid" not in k["how"])


@needs_device
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("p", [LIFParameters(threshold=0.7), RICH], ids=["plain", "rich"])
def test_a_large_layer_on_the_device_equals_that_on_the_cpu(p, dtype):
    layer = Layer(currents((8, 16, 32, 14, 14), 0, dtype), p._replace(beta=uniform((32, 1, 1), 0.7, 0.9, 1, dtype)), 8)
    tolerance = 1e-10 if dtype == torch.float64 else 1e-3  # sums over 100,000 neurons in another order
    assert_same_derivatives(derivatives(layer, 2, on_kernels()), derivatives(layer, 2, lif), tolerance)


@needs_device
def test_a_layer_under_autocast_to_bfloat16():
    torch.manual_seed(0)
    net, layer = nn.Linear(20, 300, device=DEVICE), Leaky(threshold=0.3)
    x = torch.rand(4, 7, 20, device=DEVICE)
    with torch.autocast(DEVICE, torch.bfloat16):
        currents = net(x)
        spikes, membrane = layer(currents)
    oracle, state = lif_eager(currents, layer.parameters_of_neuron)
    assert (spikes.dtype, membrane.dtype) == (torch.bfloat16, torch.float32)
    assert spikes.any()
    assert torch.equal(spikes, oracle)
    assert torch.equal(membrane, state.membrane)
    ours, theirs = (torch.autograd.grad(s.sum(), net.weight, retain_graph=True)[0] for s in (spikes, oracle))
    torch.testing.assert_close(ours, theirs, rtol=1e-2, atol=1e-2)
