"""Meta-steps as CUDA graphs, on a stand-in for CUDA: what is captured when, and that steps can be captured at all."""

from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import pytest
import torch
from torch.overrides import TorchFunctionMode

from snn_anml.meta.graphed import WARM_UPS, Graphed
from snn_anml.meta.plain import plain_meta_step
from snn_anml.meta.published import Drawings, MetaStep, meta_step
from tests.published_helpers import random_case, together


class OnGPU(torch.Tensor):
    """Says that it is on a GPU."""

    @property
    def device(self):
        return torch.device("cuda")


def tensors(step):
    return [step.loss, step.accuracy, step.gradient["w"], step.adapted["w"]]


class FakeCUDA:
    """Of torch.cuda, what a capture needs; a graph computes its step anew, from and into the captured buffers."""

    def __init__(self):
        self.recording, self.calls = None, []

    def step(self, weights, drawings):
        """A step whose result shows which inputs it read; called while one records, it is what is replayed."""
        self.calls.append("capture" if self.recording else "run")
        loss = (weights["w"] * drawings.pictures.sum()).sum() + drawings.query_from
        result = MetaStep(loss, drawings.labels.sum(), {"w": weights["w"] * 2}, {"w": weights["w"] + 1})
        if self.recording:
            self.recording.step, self.recording.buffers = (weights, drawings), result
        return result

    def CUDAGraph(self):  # noqa: N802
        graph = SimpleNamespace(step=None, buffers=None)

        def replay():
            for buffer, value in zip(tensors(graph.buffers), tensors(self.step(*graph.step)), strict=True):
                buffer.copy_(value)
            self.calls[-1] = "replay"

        graph.replay = replay
        return graph

    @contextmanager
    def graph(self, graph, stream):
        assert stream.waited, "captured on a stream that did not wait"
        self.recording = graph
        yield
        self.recording = None

    @contextmanager
    def stream(self, stream):
        yield

    def Stream(self, device):  # noqa: N802
        stream = SimpleNamespace(waited=False)
        stream.wait_stream = lambda other: setattr(stream, "waited", True)
        return stream

    current_stream = Stream


@pytest.fixture
def cuda(monkeypatch):
    fake = FakeCUDA()
    for name in ("CUDAGraph", "Stream", "current_stream", "graph", "stream"):
        monkeypatch.setattr(torch.cuda, name, getattr(fake, name))
    return fake


def inputs(seed, rows=3, query_from=0):
    generator = torch.Generator().manual_seed(seed)
    weights = {"w": torch.rand(rows, generator=generator)}
    pictures = torch.rand(2, 1, 3, 3, generator=generator)
    labels = torch.randint(9, (2,), generator=generator).as_subclass(OnGPU)
    return weights, Drawings(pictures, labels, 2, query_from)


def same(ours, expected):
    return all(map(torch.equal, tensors(ours), tensors(expected)))


def test_a_step_is_captured_once_and_replayed_with_its_new_inputs(cuda):
    graphed = Graphed()
    results = [graphed(cuda.step, *inputs(seed)) for seed in range(3)]
    assert cuda.calls == ["run"] * WARM_UPS + ["capture"] + ["replay"] * 3
    for seed, result in enumerate(results):  # the first ones too, though later replays wrote to the same buffers
        assert same(result, cuda.step(*inputs(seed)))


@pytest.mark.parametrize("other", [{"rows": 4}, {"query_from": 1}])
def test_other_shapes_are_captured_anew(cuda, other):
    graphed = Graphed()
    graphed(cuda.step, *inputs(0))
    result = graphed(cuda.step, *inputs(1, **other))
    assert cuda.calls.count("capture") == 2
    assert same(result, cuda.step(*inputs(1, **other)))


def test_inputs_are_not_changed(cuda):
    weights, drawings = inputs(0)
    before = weights["w"].clone(), drawings.pictures.clone(), drawings.labels.clone()
    graphed = Graphed()
    graphed(cuda.step, weights, drawings)
    graphed(cuda.step, *inputs(1))
    assert all(map(torch.equal, before, (weights["w"], drawings.pictures, drawings.labels)))


def test_without_a_gpu_it_is_the_step_itself(cuda):
    weights, drawings = inputs(0)
    drawings = drawings._replace(labels=drawings.labels.as_subclass(torch.Tensor))
    expected = MetaStep(torch.zeros(()), torch.zeros(()), {})

    def step(*given):
        assert given == (weights, drawings)
        return expected

    assert Graphed()(step, weights, drawings) is expected
    assert not cuda.calls


class NothingFromPython(TorchFunctionMode):
    """Refuses tensors made from Python's numbers, whose copy to a GPU cannot be captured."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        assert function not in (torch.tensor, torch.as_tensor, torch.from_numpy, torch.Tensor.new_tensor), function
        return function(*args, **(kwargs or {}))


def minibatches(*inputs):
    return plain_meta_step(*inputs, batch=3, passes=2)


@pytest.mark.parametrize("step", [meta_step, plain_meta_step, minibatches])
@pytest.mark.parametrize("adapt", ["pln", "head"])
@pytest.mark.parametrize("order", ["none", "first", "second"])
def test_steps_can_be_captured(step, adapt, order, monkeypatch):
    """On the meta device a value that is read, or branched on, or a tensor on the processor is an error."""
    monkeypatch.setattr(torch, "autocast", lambda *device, **options: nullcontext())  # which it knows not
    case = random_case(seed=21, nm=3, pln=4, classes=5, lr=0.1, support=4, remember=3, channels=2, conv_bias=True)
    weights, drawings = {name: value.to("meta") for name, value in case.weights.items()}, together(case)
    drawings = drawings._replace(pictures=drawings.pictures.to("meta"), labels=drawings.labels.to("meta"))
    with NothingFromPython():
        done = step(weights, drawings, 0.1, order, adapt)
    assert {value.device.type for value in (*done[:2], *done.gradient.values())} == {"meta"}
