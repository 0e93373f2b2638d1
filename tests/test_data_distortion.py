"""Distortions against scipy's affine transform of the same map."""

import math

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import affine_transform

from snn_anml.data.distortion import SCALE, SHEAR, SHIFT, TURN, distorted


def pictures(count=3, size=9):
    return torch.rand(count, 1, size, size, generator=torch.Generator().manual_seed(1))


@given(strength=st.floats(0.1, 2), seed=st.integers(0, 2**31), size=st.integers(8, 20))
def test_equals_the_affine_map(strength, seed, size):
    x = pictures(size=size)
    drawn = torch.rand(len(x), 5, generator=torch.Generator().manual_seed(seed)).double().numpy() * 2 - 1
    ours = distorted(x, strength, torch.Generator().manual_seed(seed))
    half = size / 2  # a coordinate of c in [-1, 1] is pixel (c + 1) half - 1 / 2
    for picture, (turn, scale, shear, u, v), found in zip(x, drawn, ours, strict=True):
        a, s, h = turn * TURN * strength, 1 + scale * SCALE * strength, shear * SHEAR * strength
        along = s * math.cos(a)
        # scipy's coordinates are (row, column) = (y, x) in pixels
        matrix = np.array([[along, math.sin(a)], [h - math.sin(a), along]])
        shift = np.array([v, u]) * SHIFT * strength * half
        centre = half - 0.5
        offset = centre - matrix @ np.full(2, centre) + shift
        inner = np.pad(picture[0].double().numpy(), 2)  # outside is 0, and fades in over the last half pixel
        expected = affine_transform(inner, matrix, offset + 2, output_shape=(size, size), order=1)
        np.testing.assert_allclose(found[0], expected, atol=2e-5)


def test_no_strength_changes_nothing_and_draws_nothing():
    generator = torch.Generator().manual_seed(3)
    x, before = pictures(), generator.get_state()
    assert distorted(x, 0.0, generator) is x
    assert torch.equal(generator.get_state(), before)


def test_pictures_are_distorted_independently_and_alike_for_a_seed():
    x = pictures(1).expand(4, -1, -1, -1)
    one, again, other = (distorted(x, 1.0, torch.Generator().manual_seed(seed)) for seed in (5, 5, 6))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert not torch.equal(one[0], one[1])
    assert one.min() >= 0
    assert one.max() < 1 + 1e-6
