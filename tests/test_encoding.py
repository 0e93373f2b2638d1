"""Encodings against snnTorch's, and their properties."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from snntorch import spikegen

from converters import simulate
from converters.graph import Graph, Input, Readout
from snn_anml.encoding import encode
from snn_anml.errors import UserError


def picture(seed=0):
    return torch.rand((3, 1, 5, 4), generator=torch.Generator().manual_seed(seed))


def test_constant_is_the_picture_once():
    assert torch.equal(encode(picture(), "constant", 7), picture()[None])


@given(steps=st.integers(1, 12), seed=st.integers(0, 20))
def test_latency_gives_one_spike_the_earlier_the_stronger(steps, seed):
    x = picture(seed)
    spikes = encode(x, "latency", steps)
    assert spikes.shape == (steps, *x.shape)
    assert torch.equal(spikes.sum(0), torch.ones_like(x))
    when = spikes.argmax(0).flatten()[x.flatten().argsort()]
    assert (when.diff() <= 0).all()
    assert encode(torch.zeros_like(x), "latency", steps).sum() == 0


def test_latency_equals_snntorch():
    x = picture()
    theirs = spikegen.latency(x, num_steps=9, linear=True, normalize=True)
    assert torch.equal(encode(x, "latency", 9), theirs)


def test_rate_has_the_intensity_as_its_mean_and_follows_its_generator():
    x = picture()
    spikes = encode(x, "rate", 4000, torch.Generator().manual_seed(1))
    assert set(spikes.unique().tolist()) == {0.0, 1.0}
    standard_error = (x * (1 - x) / 4000).sqrt()
    assert ((spikes.mean(0) - x).abs() < 5 * standard_error).all()
    assert torch.equal(spikes[:10], encode(x, "rate", 4000, torch.Generator().manual_seed(1))[:10])
    assert not torch.equal(spikes[:10], encode(x, "rate", 10, torch.Generator().manual_seed(2)))


def test_mistakes_are_named():
    with pytest.raises(UserError, match=r"pass a torch\.Generator"):
        encode(picture(), "rate", 3)
    with pytest.raises(UserError, match=r"'morse'.*constant, rate, latency"):
        encode(picture(), "morse", 3)


@pytest.mark.parametrize("encoding", ["rate", "latency"])
@pytest.mark.parametrize("x", [[0.0, 255.0], [-0.1, 1.0]])
def test_a_graph_encodes_intensities_alone(encoding, x):
    graph = Graph((Input("input", (), (2,), encoding), Readout("output", ("input",))), 4)
    message = f"^Inputs reach from {min(x):g} to {max(x):g}, but {encoding} encoding takes intensities"
    with pytest.raises(UserError, match=message):
        simulate(graph, np.array([x], np.float32))
    assert simulate(graph, np.array([[0.0, 1.0]])).output.shape == (1, 2)


def test_arrays_that_torch_does_not_take_are_copied():
    graph = Graph((Input("input", (), (2, 3)), Readout("output", ("input",))), 1)
    x = np.random.default_rng(0).random((4, 2, 3)).astype(np.float32)
    for view in (x[::-1], np.rot90(x, 2, (1, 2)), x.astype(">f4"), x[:, :, ::-1]):
        np.testing.assert_array_equal(simulate(graph, view).output, view.reshape(4, 6))
