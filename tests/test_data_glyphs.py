"""Glyphs: same bytes from the same seed, characters that differ, drawings that vary, known difficulty."""

import hashlib
import os
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snn_anml.data import load_dataset
from snn_anml.data.cache import CacheWarning
from snn_anml.data.glyphs import draw_glyphs, load_glyphs
from snn_anml.data.strokes import curve_basis, render
from snn_anml.errors import UserError

# Of draw_glyphs(12, 6, 28, 0). When the characters are changed on purpose, raise glyphs.RECIPE with it.
GOLDEN = "75acbda7ac0ef8bd0bad2918e353bfbe95bc6357d6c8d9f7130349d38ece3a01"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SNN_ANML_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def images():
    return draw_glyphs(400, 20, 28, 0)


def nearest_class_mean(images, chosen):
    """Accuracy on drawings 16 to 20 of the class means of drawings 1 to 15, on pixels."""
    x = images[chosen].reshape(len(chosen), 20, -1) / 255.0
    means, queries = x[:, :15].mean(1), x[:, 15:]
    distance = ((queries[:, :, None] - means) ** 2).sum(-1)
    return (distance.argmin(-1) == np.arange(len(chosen))[:, None]).mean()


def test_the_same_seed_gives_the_same_bytes_everywhere():
    assert hashlib.sha256(draw_glyphs(12, 6, 28, 0).tobytes()).hexdigest() == GOLDEN


@given(st.integers(2, 80), st.integers(1, 6), st.integers(0, 2**40))
@settings(max_examples=10, deadline=None)
def test_a_drawing_does_not_depend_on_how_many_are_asked_for(classes, drawings, seed):
    few = draw_glyphs(classes, drawings, 8, seed)
    more = draw_glyphs(classes + 7, drawings + 2, 8, seed)
    assert few.shape == (classes, drawings, 8, 8)
    np.testing.assert_array_equal(few, more[:classes, :drawings])


def test_other_seeds_give_other_characters():
    assert (draw_glyphs(5, 2, 28, 0) != draw_glyphs(5, 2, 28, 1)).any(axis=(1, 2, 3)).all()


def test_every_drawing_has_ink_and_no_two_are_the_same(images):
    ink = images.mean(axis=(2, 3)) / 255
    assert ink.min() > 0.005
    assert ink.max() < 0.35
    assert len(np.unique(images.reshape(-1, 28 * 28), axis=0)) == 400 * 20


def test_the_whole_range_of_grey_is_used(images):
    assert images.max() == 255
    assert images.min() == 0
    assert len(np.unique(images)) > 200


@pytest.mark.parametrize("first", [0, 150, 300])
def test_nearest_class_mean_on_pixels_is_neither_easy_nor_hopeless(images, first):
    assert 0.3 < nearest_class_mean(images, np.arange(first, first + 100)) < 0.6


def test_two_sizes_show_the_same_characters():
    small, large = draw_glyphs(20, 1, 28, 0), draw_glyphs(20, 1, 56, 0)
    halved = large.reshape(20, 1, 28, 2, 28, 2).mean(axis=(3, 5))
    for i in range(20):
        correlation = [np.corrcoef(small[i].ravel(), other.ravel())[0, 1] for other in halved]
        assert np.argmax(correlation) == i
        assert correlation[i] > 0.9


def test_loading_gives_a_dataset_with_60_percent_background():
    data = load_glyphs(classes=50, drawings=3)
    assert data.images.shape == (50, 3, 28, 28)
    assert (data.background, data.evaluation) == (30, 20)
    assert data.sha256 == hashlib.sha256(data.images.tobytes()).hexdigest()
    assert data.class_names[49] == "glyph0049"
    assert load_glyphs(classes=50, drawings=3, background=10).background == 10


def test_the_second_load_reads_the_cache(cache, monkeypatch):
    first = load_glyphs(classes=10, drawings=2)
    monkeypatch.setattr("snn_anml.data.glyphs.draw_glyphs", None)
    second = load_dataset("glyphs", classes=10, drawings=2)
    assert second.sha256 == first.sha256
    assert len(list(cache.rglob("*.npy"))) == 1
    assert second.images.flags.writeable


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b[:100] + b"\x07" + b[101:], lambda b: b""])
def test_a_damaged_cache_file_is_built_anew(cache, damage):
    first = load_glyphs(classes=10, drawings=2)
    (path,) = cache.rglob("*.npy")
    path.write_bytes(damage(path.read_bytes()))
    with pytest.warns(CacheWarning, match="damaged"):
        assert load_glyphs(classes=10, drawings=2).sha256 == first.sha256
    assert load_glyphs(classes=10, drawings=2).sha256 == first.sha256


def test_an_unwritable_cache_is_done_without(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("SNN_ANML_CACHE", str(tmp_path / "file"))
    with pytest.warns(CacheWarning, match="SNN_ANML_CACHE"):
        assert load_glyphs(classes=10, drawings=2).classes == 10


def test_others_may_read_the_cache_as_far_as_the_umask_lets_them(cache):
    load_glyphs(classes=10, drawings=2)
    umask = os.umask(0)
    os.umask(umask)
    modes = {path.stat().st_mode & 0o777 for path in cache.rglob("*") if path.is_file()}
    assert modes == {0o666 & ~umask}


def test_a_failed_write_leaves_no_file_behind(cache, monkeypatch):
    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", full)
    with pytest.warns(CacheWarning, match="No space left"):
        load_glyphs(classes=10, drawings=2)
    assert not [path for path in cache.rglob("*") if path.is_file()]


@pytest.mark.parametrize("option", [{"classes": 1}, {"drawings": 0}, {"size": 7}, {"seed": -1}, {"background": 1201}])
def test_a_number_out_of_range_is_named(option):
    ((name, value),) = option.items()
    with pytest.raises(UserError, match=f"{name} = {value}"):
        load_glyphs(**{"classes": 1200, "drawings": 1, "size": 8, **option})


def test_unknown_names_and_options_list_the_known_ones():
    with pytest.raises(UserError, match="'mnist'; known are glyphs, omniglot"):
        load_dataset("mnist")
    with pytest.raises(UserError, match="'colour'; beside size it takes classes, drawings, seed, background"):
        load_dataset("glyphs", colour=3)
    with pytest.raises(UserError, match="'classes'; beside size it takes none"):
        load_dataset("omniglot", classes=3)


# Rendering and curves.


@given(st.integers(0, 10**6))
@settings(max_examples=15, deadline=None)
def test_ink_is_the_pen_minus_the_distance_to_the_polyline(seed):
    rng = np.random.default_rng(seed)
    size, strokes = 9, 1 + seed % 2
    points = rng.uniform(-0.2, 1.2, (1, 2, 3, 2))
    radius = rng.uniform(0.3, 1.5, 1)
    picture = render(points, np.array([[True, strokes == 2]]), radius, size)[0]
    # The oracle looks for the nearest of many points on the lines.
    lines = points[0, :strokes] * size - 0.5
    t = np.linspace(0, 1, 2001)[:, None]
    dense = np.concatenate([a + t * (b - a) for line in lines for a, b in pairwise(line)])
    y, x = np.mgrid[:size, :size]
    distance = np.sqrt(((np.stack([x, y], axis=-1)[:, :, None] - dense) ** 2).sum(-1).min(-1))
    np.testing.assert_allclose(picture, 255 * np.clip(radius[0] + 0.5 - distance, 0, 1), atol=2)


def test_no_stroke_leaves_white_paper():
    assert not render(np.full((3, 2, 4, 2), 0.5), np.zeros((3, 2), bool), np.ones(3), 10).any()


def test_a_stroke_of_one_place_is_a_dot():
    picture = render(np.full((1, 1, 4, 2), 0.5), np.ones((1, 1), bool), np.ones(1), 9)[0]
    assert picture[4, 4] == 255
    assert np.count_nonzero(picture) == 9


@given(st.integers(2, 9), st.integers(1, 5))
def test_curves_pass_through_their_control_points(controls, between):
    basis = curve_basis(controls, between * (controls - 1) + 1)
    np.testing.assert_allclose(basis[::between], np.eye(controls), atol=1e-12)
    np.testing.assert_allclose(basis.sum(1), 1, atol=1e-12)


@given(st.integers(3, 9), st.integers(2, 40))
def test_control_points_on_a_line_give_a_line_at_even_pace(controls, points):
    np.testing.assert_allclose(
        curve_basis(controls, points) @ np.arange(controls), np.linspace(0, controls - 1, points), atol=1e-9
    )
