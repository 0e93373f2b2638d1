"""Encodings against snnTorch's, and their properties."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from snntorch import spikegen

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
