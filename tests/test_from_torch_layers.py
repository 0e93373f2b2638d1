"""Convolutions of all kinds, pools and norms against torch: bit for bit, with dyadic weights."""

from functools import reduce

import hypothesis.strategies as st
import numpy as np
import pytest
import snntorch
import torch
from hypothesis import given, settings
from torch import nn

from converters import energy, from_torch, simulate
from converters.graph import LIF, AvgPool2d, Conv2d, MaxPool2d
from converters.interpreter import conv2d
from converters.passes import plain
from snn_anml.errors import UserError
from tests.from_torch_helpers import check, dyadic_model, leaky, samples
from tests.helpers import dyadic

CONV = {1: nn.Conv1d, 2: nn.Conv2d}
NORM = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d}
POOL = {"avg": {1: nn.AvgPool1d, 2: nn.AvgPool2d}, "max": {1: nn.MaxPool1d, 2: nn.MaxPool2d}}


@settings(deadline=None, max_examples=60)
@given(data=st.data(), dims=st.sampled_from([1, 2]), seed=st.integers(0, 10**6), steps=st.integers(1, 5))
def test_random_networks_are_bit_identical(data, dims, seed, steps):
    def one_each(low, high):
        """A number, or one for every dimension."""
        number = st.integers(low, high)
        return data.draw(number | st.tuples(*[number] * dims))

    def neuron():
        reset = data.draw(st.sampled_from(["subtract", "zero", "none"]))
        return leaky(beta=0.5, threshold=0.5, reset_mechanism=reset, reset_delay=data.draw(st.booleans()))

    groups = data.draw(st.sampled_from([1, 2, 4]))
    same = data.draw(st.booleans())
    kernel = data.draw(st.sampled_from([1, 3])) if same else one_each(1, 3)
    stride, padding = (1, "same") if same else (one_each(1, 2), one_each(0, 2))
    first = CONV[dims](4, 8, kernel, stride, padding, one_each(1, 2), groups, bias=data.draw(st.booleans()))
    blocks: list[nn.Module] = [first, NORM[dims](8) if data.draw(st.booleans()) else nn.Identity()]
    if data.draw(st.booleans()):
        blocks.append(POOL["max"][dims](3, one_each(1, 2), 1))
    blocks.append(neuron())
    for pool in data.draw(st.lists(st.sampled_from(["avg", "max"]), max_size=1)):
        size = data.draw(st.sampled_from([2, (2,) * dims]) if pool == "avg" else st.sampled_from([2, 3]))
        padding = () if pool == "avg" else (data.draw(st.integers(0, 1)),)
        blocks.append(POOL[pool][dims](size, data.draw(st.sampled_from([None, 1, 2])), *padding))
    blocks += [CONV[dims](8, 2, 1, groups=data.draw(st.sampled_from([1, 2]))), nn.Dropout(0.5), neuron()]
    features = dyadic_model(nn.Sequential(*blocks), seed)
    x = samples(seed, 3, 4, *(19, 18)[:dims])
    with torch.no_grad():
        sent = reduce(lambda x, block: x if isinstance(block, snntorch.Leaky) else block(x), blocks, x)
    model = nn.Sequential(features, nn.Flatten(), dyadic_model(nn.Linear(sent[0].numel(), 5), seed), neuron())
    check(model, x, steps, atol=0)


@pytest.mark.parametrize("dims", [1, 2])
def test_a_maximum_of_spikes_is_their_or(dims):
    torch.manual_seed(0)
    model = nn.Sequential(
        CONV[dims](1, 3, 3), leaky(threshold=0.4), POOL["max"][dims](3, 2), POOL["max"][dims](2), leaky(threshold=1.5)
    )
    graph, recording = check(model, torch.rand(4, 1, *(13, 13)[:dims]), 6)
    assert [type(node) for node in graph.nodes[2:-1]] == [LIF, AvgPool2d, LIF, AvgPool2d, LIF, LIF]
    assert [node.name for node in graph.nodes[3:5]] == ["2.mean", "2"]
    assert 0.1 < recording.spikes["2"].mean() < 0.9
    assert recording.spikes["2"].mean() > recording.spikes["1"].mean()


@pytest.mark.parametrize("dims", [1, 2])
def test_a_network_of_the_tutorials(dims):
    """Maxima of currents, with the weights that torch draws: conv, pool, neurons, twice, and a linear layer."""
    torch.manual_seed(1)
    layers = [CONV[dims](1, 4, 5), POOL["max"][dims](2), leaky(threshold=0.3)]
    layers += [CONV[dims](4, 6, 3), POOL["max"][dims](2), leaky(threshold=0.2), nn.Flatten()]
    model = nn.Sequential(*layers, nn.Linear(6 * 3**dims, 5), leaky(threshold=0.05))
    graph, recording = check(model, torch.rand(4, 1, *(20, 20)[:dims]), 6)
    pools = [graph["1"], graph["4"]]
    assert [type(node) for node in pools] == [MaxPool2d, MaxPool2d]
    assert {node.kernel for node in pools} == {(1, 2) if dims == 1 else (2, 2)}
    assert ("1" in graph.static, "4" in graph.static) == (True, False)
    rates = {name: float(spikes.mean()) for name, spikes in recording.spikes.items()}
    assert all(0.02 < rate < 0.98 for rate in rates.values()), rates


def test_maxima_of_what_is_no_spike():
    """Of the picture, of means, of maxima; and padded, of spikes."""
    torch.manual_seed(0)
    layers = [nn.MaxPool2d(2, 1), nn.Conv2d(2, 3, 3), leaky(threshold=0.2), nn.AvgPool2d(2, 1), nn.MaxPool2d(2, 1)]
    layers += [nn.MaxPool2d(3, 1), leaky(beta=0.5, threshold=0.9), nn.MaxPool2d(3, 2, 1), nn.Flatten()]
    graph, recording = check(nn.Sequential(*layers), torch.rand(4, 2, 12, 12), 5)
    assert [node.name for node in graph.of_type(MaxPool2d)] == ["0", "4", "5", "7"]
    assert 0.05 < recording.output.mean() < 0.95


@pytest.mark.parametrize("encoding", ["rate", "latency"])
def test_a_maximum_of_an_input_of_spikes(encoding):
    x = torch.rand(5, 2, 6, 6, generator=torch.Generator().manual_seed(1))
    graph = from_torch(nn.MaxPool2d(2), steps=4, example_input=x, encoding=encoding)
    recording = simulate(graph, x)
    coded = torch.from_numpy(recording.values["input"]).view(20, 2, 6, 6)
    expected = nn.functional.max_pool2d(coded, 2).view(5, 4, -1).bool().numpy()
    np.testing.assert_array_equal(recording.spikes["lif"], expected)
    assert 0 < expected.mean() < 1


def test_layers_over_time_are_pictures_one_pixel_high():
    model = dyadic_model(nn.Sequential(nn.Conv1d(2, 4, 3, 2, 1), nn.BatchNorm1d(4), nn.AvgPool1d(2), nn.Flatten()), 0)
    graph, recording = check(model, samples(0, 2, 2, 9), 1, atol=0)
    assert energy.count(graph, recording)["0"].connections == 4 * 2 * (2 + 3 + 3 + 3 + 2)
    assert graph.nodes[0].shape == (2, 9)
    assert [graph.shapes[node.name] for node in graph.nodes[:-1]] == [(2, 1, 9), (4, 1, 5), (4, 1, 2)]
    conv = graph["0"]
    assert (conv.stride, conv.padding, conv.dilation) == ((1, 2), (0, 1), (1, 1))
    with pytest.raises(UserError, match=r"'0' .*Conv2d.*fed with shape \(2, 9\)"):
        from_torch(nn.Sequential(nn.Conv2d(2, 4, 3)), steps=1, example_input=samples(0, 2, 2, 9))


@settings(deadline=None, max_examples=40)
@given(
    groups=st.sampled_from([1, 2, 3]),
    per_group=st.tuples(st.integers(1, 2), st.integers(1, 3)),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    dilation=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    seed=st.integers(0, 99),
)
def test_zeros_stand_for_groups_and_dilation(groups, per_group, kernel, dilation, stride, seed):
    rng = np.random.default_rng(seed)
    channels, out = (groups * n for n in per_group)
    weight = dyadic(rng, out, per_group[0], *kernel)
    node = Conv2d("c", ("in",), weight, dyadic(rng, out), stride, (1, 0), dilation, groups)
    same = plain(node)
    assert (same.groups, same.dilation, same.weight.shape[1]) == (1, (1, 1), channels)
    assert np.count_nonzero(same.weight) == np.count_nonzero(weight)
    x = dyadic(rng, 2, channels, 7, 8)
    np.testing.assert_array_equal(conv2d(x, same), conv2d(x, node))
    assert same.infer_shape([x.shape[1:]]) == node.infer_shape([x.shape[1:]]) == conv2d(x, node).shape[1:]


@pytest.mark.parametrize("dims", [1, 2])
def test_same_around_an_even_kernel(dims):
    """An even kernel dilated by two is padded alike on both sides, as any other is not."""
    model = dyadic_model(CONV[dims](2, 2, 2, padding="same", dilation=2), 0)
    check(model, samples(0, 1, 2, *(5, 6)[:dims]), 1, atol=0)
    with pytest.raises(UserError, match="even kernel"):
        from_torch(CONV[dims](2, 2, 4, padding="same"), steps=1, example_input=samples(0, 1, 2, *(5, 6)[:dims]))
