"""The division among cores, against counting by hand and by nengo-loihi."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from converters import loihi_blocks
from converters.loihi_blocks import LIMITS, Full, LayerSize, Shared, blocks_of, divide, memory
from snn_anml.errors import UserError
from tests.loihi_helpers import SMALL, require_loihi


def indices(block, shape):
    """The neurons of a block, as a list of positions."""
    return [p for p in product(*map(range, shape)) if all(s.start <= i < s.stop for i, s in zip(p, block, strict=True))]


def targets(synapse, position):
    """(neuron, tap of the kernel or None) for all that one source neuron reaches, by looking at every neuron."""
    if isinstance(synapse, Full):
        source = np.ravel_multi_index(position, synapse.source)
        return [(p, None) for n, p in enumerate(product(*map(range, synapse.shape))) if synapse.reaches[n, source]]
    found = []
    for p in product(*map(range, synapse.shape)):
        row, column = (position[i] + synapse.before[i - 1] - p[i] * synapse.stride[i - 1] for i in (1, 2))
        if 0 <= row < synapse.kernel[0] and 0 <= column < synapse.kernel[1]:
            found.append((p, (row, column)))
    return found


def count_lists(synapse, block):
    """(source positions with an axon into the block, bits of its weights), list by list."""
    inside = {p: i for i, p in enumerate(indices(block, synapse.shape))}
    sources = {}
    for position in product(*map(range, synapse.source)):
        reached = [(inside[p], tap) for p, tap in targets(synapse, position) if p in inside]
        if isinstance(synapse, Full):
            sources[position] = reached
        elif position[0] == 0:  # one axon and one list for all channels
            sources[position[1:]] = reached
    axons = [position for position, reached in sources.items() if reached]
    if isinstance(synapse, Full):
        largest = -1 if synapse.reaches.all() else len(inside) - 1
        return axons, sum(memory(np.array([len(r)]), largest) for r in sources.values())
    lists = set()
    for reached in sources.values():
        if reached:
            beyond = min(i for i, _ in reached) // 256 * 256
            base = min(i for i, _ in reached) - beyond
            lists.add(tuple((i - base, tap) for i, tap in sorted(reached)))
    largest = max((i for chosen in lists for i, _ in chosen), default=0)
    return axons, sum(memory(np.array([synapse.source[0] * len(chosen)]), largest) for chosen in lists)


@pytest.mark.parametrize(
    ("weights", "index", "bits"),
    # One header of 10 bits before 64 weights of 8 bits and their indices, in units of 64 bits.
    [(1, -1, 64), (6, -1, 64), (7, -1, 128), (64, -1, 576), (65, -1, 640), (64, 63, 960), (64, 64, 1024), (0, 5, 0)],
)
def test_memory(weights, index, bits):
    assert memory(np.array([weights]), index) == bits
    assert memory(np.array([weights, weights]), index) == 2 * bits


@st.composite
def networks(draw):
    """Layers of convolutions and full synapses in a row, of sizes that fit the small cores."""
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    shape, layers, name = tuple(draw(st.integers(1, 5)) for _ in range(3)), [], "input"
    for i in range(draw(st.integers(1, 3))):
        if len(shape) == 3 and draw(st.booleans()):
            kernel, stride = (tuple(draw(st.integers(1, 3)) for _ in range(2)) for _ in range(2))
            before = tuple(draw(st.integers(0, k - 1)) for k in kernel)
            out = tuple(
                max(1, (n + 2 * p - k) // s + 1) for n, p, k, s in zip(shape[1:], before, kernel, stride, strict=True)
            )
            synapse = Shared(shape, (draw(st.integers(1, 5)), *out), kernel, stride, before)
        else:
            after = tuple(draw(st.integers(1, 4)) for _ in range(draw(st.sampled_from([1, 3]))))
            reaches = rng.random((int(np.prod(after)), int(np.prod(shape)))) < draw(st.sampled_from([0.2, 0.7, 1.1]))
            synapse = Full(shape, after, reaches)
        layers.append(LayerSize(f"layer{i}", name, synapse))
        shape, name = synapse.shape, f"layer{i}"
    return layers


@settings(max_examples=40, deadline=None)
@given(networks(), st.integers(6, 40), st.integers(40, 200))
def test_every_neuron_is_on_one_core_and_no_core_is_overloaded(layers, compartments, axons_out):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loihi_blocks, "LIMITS", SMALL._replace(compartments=compartments, axons_out=axons_out))
        limits, divided = loihi_blocks.LIMITS, divide(layers)
    assert list(divided) == [layer.name for layer in layers]
    for layer in layers:
        division = divided[layer.name]
        neurons = [p for block in division.blocks for p in indices(block, layer.shape)]
        assert sorted(neurons) == list(product(*map(range, layer.shape)))
        assert division.blocks == blocks_of(layer.shape, division.shape)
        for block, load in zip(division.blocks, division.loads, strict=True):
            axons, bits = count_lists(layer.synapse, block)
            inside = set(indices(block, layer.shape))
            out = 0
            for reader in layers:
                if reader.source != layer.name:
                    continue
                for other in divided[reader.name].blocks:
                    entered, _ = count_lists(reader.synapse, other)
                    shared = isinstance(reader.synapse, Shared)
                    if len(divided[reader.name].blocks) == 1:
                        entered = product(*map(range, layer.shape[1:] if shared else layer.shape))
                    ours = {p[1:] for p in inside} if shared else inside
                    out += reader.synapse.slots * len(ours.intersection(entered))
            if len(division.blocks) == 1:
                axons = list(product(*map(range, layer.synapse.source[isinstance(layer.synapse, Shared) :])))
            assert load == (len(inside), len(axons), out, bits)
            assert all(used <= limit for used, limit in zip(load, limits, strict=True))


@pytest.mark.parametrize("channels", [1, 3])
def test_maps_larger_than_an_axon_reaches(channels):
    """Beyond 256 positions, the same weights are stored again; by nengo-loihi's count, too."""
    synapse = Shared((2, 19, 17), (channels, 19, 17), (3, 3), (1, 1), (1, 1))
    for block in [*blocks_of(synapse.shape, synapse.shape), *blocks_of(synapse.shape, (1, 16, 17))]:
        assert synapse.bits(block) == count_lists(synapse, block)[1]
    require_loihi()
    import nengo
    from nengo_loihi.block import Synapse
    from nengo_loihi.conv import conv2d_loihi_weights

    kernel = np.random.default_rng(0).random((3, 3, 2, channels))
    transform = nengo.Convolution(channels, synapse.source, padding="same", channels_last=False, init=kernel)
    stored = Synapse(19 * 17)
    stored.set_population_weights(*conv2d_loihi_weights(transform), pop_type=32)
    assert stored.bits() == synapse.bits(blocks_of(synapse.shape, synapse.shape)[0])


def test_a_layer_too_large_for_any_core_is_refused():
    reaches = np.ones((2, LIMITS.axons_in + 1), bool)
    with pytest.raises(UserError, match="fc does not fit the cores of a Loihi chip: one neuron alone takes"):
        divide([LayerSize("fc", "input", Full((reaches.shape[1],), (2,), reaches))])
