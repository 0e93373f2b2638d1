"""The division among cores against counting by hand and by nengo-loihi, and the emulator against the interpreter."""

from __future__ import annotations

import re
import sys
import warnings
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from converters import compare, loihi_blocks, loihi_report, open_simulator, simulate
from converters.fidelity import Fidelity, LayerFidelity
from converters.graph import LIF, Activation, Affine, AvgPool2d, Conv2d, Gate, Graph, Input, Integrator, Readout
from converters.loihi_blocks import LIMITS, Full, LayerSize, Load, Shared, blocks_of, divide, memory
from converters.loihi_layers import chip_layers, host_layers
from converters.simulate import encode_inputs
from snn_anml.errors import MissingExtraError, UserError
from tests.helpers import gated_graph, inputs, scalar
from tests.test_fidelity import recording

SMALL = Load(compartments=40, axons_in=700, axons_out=150, synapse_bits=60_000)


def require_loihi():
    from converters.loihi_chip import import_nengo_loihi

    try:
        import_nengo_loihi()
    except MissingExtraError as error:
        pytest.skip(str(error))


# The division among cores


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
        layers.append(LayerSize(f"layer{i}", name, synapse, draw(st.booleans())))
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
            relay = memory(np.array([len(inside)]), -1) if layer.relay else 0
            assert load == (len(inside), len(axons) + layer.relay, out, bits + relay)
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
        divide([LayerSize("fc", "input", Full((reaches.shape[1],), (2,), reaches), False)])


# The emulator


def net(kernel, stride, padding, beta=1.0, pool=False, groups=1, seed=0, encoding="constant"):
    """A convolution on the host, one on the chip with the given geometry, and a dense layer, on pictures of 9 x 7."""
    rng = np.random.default_rng(seed)

    def weights(*shape):
        return (rng.standard_normal(shape) * 0.5).astype(np.float32)

    def neuron(name, source):
        return LIF(name, (source,), scalar(beta), scalar(1.0), "zero", bool(rng.integers(2)))

    nodes = [
        Input("input", (), (1, 9, 7), encoding),
        Conv2d("conv1", ("input",), weights(4, 1, 3, 3) + np.float32(0.1), weights(4), (1, 1), (1, 1)),
        neuron("lif1", "conv1"),
        AvgPool2d("pool", ("lif1",), (2, 2), (2, 2)),
        Conv2d("conv2", ("pool",), weights(6, 4 // groups, *kernel), weights(6), stride, padding, groups=groups),
        neuron("lif2", "conv2"),
    ]
    if not pool:
        nodes[4] = replace(nodes[4], inputs=("lif1",))
        del nodes[3]
    size = Graph((*nodes, Readout("out", ("lif2",))), 1).size("lif2")
    nodes += [Affine("fc1", ("lif2",), weights(5, size), weights(5)), neuron("lif3", "fc1")]
    nodes += [Affine("fc2", ("lif3",), weights(3, 5), weights(3)), Readout("out", ("fc2",))]
    return Graph(tuple(nodes), 6)


def pictures(samples=3, seed=0):
    return np.random.default_rng(seed).random((samples, 1, 9, 7)).astype(np.float32)


GEOMETRIES = {
    "padded": net((3, 3), (1, 1), (1, 1)),
    "strided": net((3, 3), (2, 2), (1, 1)),
    "uneven": net((5, 3), (1, 2), (2, 1)),
    "unpadded": net((3, 2), (2, 1), (0, 0)),
    "gaps": net((2, 2), (3, 3), (0, 0)),
    "wide padding": net((3, 3), (1, 1), (2, 2)),
    "groups": net((3, 3), (1, 1), (1, 1), groups=2),
    "pool": net((2, 2), (1, 1), (0, 0), pool=True),
    "spikes": net((3, 3), (1, 1), (1, 1), encoding="rate"),
}


@pytest.mark.parametrize("limits", [LIMITS, SMALL], ids=["whole", "divided"])
@pytest.mark.parametrize("name", GEOMETRIES)
def test_without_rounding_the_emulator_spikes_alike(name, limits, monkeypatch):
    """In float32, weights, biases, delays and blocks are all that could be wrong; nengo-loihi counts its own cores."""
    require_loihi()
    from converters.loihi import LoihiEngine

    monkeypatch.setattr(loihi_blocks, "LIMITS", limits)
    graph, x = GEOMETRIES[name], pictures()
    engine = LoihiEngine(graph, target="simreal")
    reference, found = simulate(graph, x), engine.run(encode_inputs(graph, x))
    assert all(spikes.any() for spikes in reference.spikes.values())
    assert compare(found, reference).mismatches == 0
    np.testing.assert_array_equal(found.output, reference.output)
    divided = divide([*map(size_of, chip_layers(graph))])
    assert (len(divided["lif2"].blocks) > 1) == (limits is SMALL and name not in ("gaps", "pool"))
    loads = [load for division in divided.values() for load in division.loads]
    for load, core in zip(loads, engine.chip.model.blocks, strict=True):
        used = [value for value, _ in core.utilization().values()]
        if name in ("wide padding", "pool"):  # nengo-loihi stores equal lists once, and without the indices they need
            assert used[:3] == list(load[:3])
            assert used[3] <= load.synapse_bits
        else:
            assert used == list(load)
    engine.close()


def size_of(layer):
    from converters.loihi_chip import layer_sizes

    return layer_sizes((layer,))[0]


def conv_net(seed=0, steps=8):
    """Two convolutions and a dense layer with gates that are one a channel and one a neuron, on 12 x 12."""
    rng = np.random.default_rng(seed)

    def weights(*shape):
        return (rng.standard_normal(shape) * 1.5 / np.sqrt(np.prod(shape[1:]))).astype(np.float32)

    def bias(n):
        return (rng.standard_normal(n) * 0.1).astype(np.float32)

    def neuron(name, source):
        return LIF(name, (source,), scalar(0.9), scalar(1.0), "zero")

    nodes = (
        Input("input", (), (1, 12, 12)),
        Conv2d("nm.conv", ("input",), weights(2, 1, 3, 3), bias(2), (2, 2), (1, 1)),
        Activation("nm.relu", ("nm.conv",), "relu"),
        Affine("nm.fc1", ("nm.relu",), weights(8, 72), bias(8)),
        Activation("nm.gate1", ("nm.fc1",), "sigmoid"),
        Affine("nm.fc2", ("nm.relu",), weights(40, 72), bias(40)),
        Activation("nm.gate2", ("nm.fc2",), "sigmoid"),
        Conv2d("conv1", ("input",), weights(8, 1, 3, 3), bias(8) + np.float32(0.3), (2, 2), (1, 1)),
        neuron("lif1", "conv1"),
        Conv2d("conv2", ("lif1",), weights(8, 8, 3, 3) * np.float32(2), bias(8) + np.float32(0.2), (2, 2), (1, 1)),
        Gate("gate2", ("conv2", "nm.gate1")),
        neuron("lif2", "gate2"),
        Affine("fc", ("lif2",), weights(40, 72) * np.float32(2), bias(40) + np.float32(0.2)),
        Gate("gate3", ("fc", "nm.gate2")),
        neuron("lif3", "gate3"),
        Affine("head", ("lif3",), weights(5, 40), bias(5)),
        Readout("out", ("head",)),
    )
    return Graph(nodes, steps), rng.random((10, 1, 12, 12)).astype(np.float32)


def test_a_gated_network_stays_close():
    """Mismatches of about 1 % are what 8 bits leave; nothing here depends on luck, so the bounds are near."""
    require_loihi()
    graph, x = conv_net()
    reference = simulate(graph, x)
    assert all(0.05 < spikes.mean() < 0.6 for spikes in reference.spikes.values())
    report = {row.layer: row for row in loihi_report(graph, x)}
    assert (report["lif1"].cores, report["lif1"].load, report["lif1"].mismatch) == (0, None, 0)
    for name in ("lif2", "lif3"):
        assert report[name].cores == 1
        assert report[name].load.fits
        assert 0 < report[name].mismatch < 0.03
        assert report[name].correlation > 0.98


def rounded(node):
    """Weights as a core holds them: 127 steps of 2/255 of a neuron's largest, and finer ones for small biases."""
    weight, bias = node.weight.reshape(len(node.weight), -1).astype(float), node.bias.astype(float)
    largest = np.maximum(np.abs(weight).max(axis=1), np.abs(bias))
    parts = []
    for part in (weight / largest[:, None], bias / largest):
        step = 2 / 255 / 2 ** np.floor(np.log2(1 / np.abs(part).max()))
        parts.append(np.clip(np.round(part / step), -127, 127) * step)
    weight, bias = (parts[0] * largest[:, None]).reshape(node.weight.shape), parts[1] * largest
    return replace(node, weight=weight.astype(np.float32), bias=bias.astype(np.float32))


@pytest.mark.parametrize("seed", [0, 1, 3])
def test_the_rounding_of_weights_is_all_that_the_chip_changes(seed):
    require_loihi()
    graph, x = conv_net(seed)
    found = simulate(graph, x, "loihi")
    nodes = (rounded(node) if node.name in ("conv2", "fc") else node for node in graph.nodes)
    left = compare(found, simulate(Graph(tuple(nodes), graph.steps), x)).mismatches
    assert 10 * left < compare(found, simulate(graph, x)).mismatches


def test_samples_stream_from_rest():
    """What came before leaves no trace: neither its state nor its thresholds."""
    require_loihi()
    graph, x = conv_net(steps=5)
    with open_simulator(graph, "loihi", minibatch=2) as simulator:
        first = simulator.run(x[:3])
        again = simulator.run(x[[2, 0, 1, 0]])
    assert first.backend == "loihi"
    for name in first.spikes:
        np.testing.assert_array_equal(again.spikes[name], first.spikes[name][[2, 0, 1, 0]])
        # The host's sums depend on the size of the minibatch.
        np.testing.assert_allclose(again.membrane[name], first.membrane[name][[2, 0, 1, 0]], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(again.output, first.output[[2, 0, 1, 0]], rtol=1e-5, atol=1e-5)
    assert list(first.values) == list(simulate(graph, x[:3]).values)


def test_closed_gates_and_extreme_thresholds():
    """A gate of 0 and a threshold far above all weights never spike; one far below the weights always does."""
    require_loihi()
    eye, none = np.eye(4, dtype=np.float32), np.zeros(4, np.float32)
    nodes = (
        Input("input", (), (4,), "latency"),
        Affine("nothing", ("input",), 0 * eye, none),
        Affine("fc", ("input",), eye, none),
        LIF("lif", ("fc",), scalar(0.5), np.array([0.5, 1e-6, 1e6, 0.5], np.float32), "zero"),
        Readout("out", ("lif",)),
    )
    graph, x = Graph(nodes, 4), np.array([[1, 1, 1, 0]], np.float32)
    found = simulate(graph, x, "loihi")
    np.testing.assert_array_equal(found.spikes["lif"], simulate(graph, x).spikes["lif"])
    assert found.spikes["lif"].any(axis=1).tolist() == [[True, True, False, False]]
    nodes = (
        Input("input", (), (4,)),
        Affine("gate", ("input",), eye, none),
        Affine("fc1", ("input",), 0 * eye, none + 1),
        LIF("lif1", ("fc1",), scalar(0.5), scalar(0.5), "zero"),
        Affine("fc2", ("lif1",), eye, none),
        Gate("gated", ("fc2", "gate")),
        LIF("lif2", ("gated",), scalar(0.5), scalar(0.4), "zero"),
        Readout("out", ("lif2",)),
    )
    graph, x = Graph(nodes, 4), np.array([[1, 0.5, 0.01, 0]], np.float32)
    found = simulate(graph, x, "loihi")
    np.testing.assert_array_equal(found.spikes["lif2"], simulate(graph, x).spikes["lif2"])
    assert found.spikes["lif2"].any(axis=1).tolist() == [[True, True, False, False]]
    with pytest.raises(UserError, match="gated is -1 for a sample"):
        simulate(graph, np.array([[1, 1, -1, 1]], np.float32), "loihi")


@pytest.mark.parametrize("encoding", ["rate", "latency"])
def test_spike_inputs(encoding):
    """An encoded input enters the chip itself, so that every layer is there."""
    require_loihi()
    graph, x = net((3, 3), (2, 2), (1, 1), beta=0.75, encoding=encoding), pictures(5)
    assert host_layers(graph) == ()
    assert [(layer.name, layer.depth) for layer in chip_layers(graph)] == [("lif1", 1), ("lif2", 2), ("lif3", 3)]
    fidelity = compare(simulate(graph, x, "loihi", seed=3), simulate(graph, x, seed=3))
    assert fidelity.mismatches / fidelity.slots < 0.03
    assert fidelity.layers["lif1"].correlation > 0.98


def changed(name, **fields):
    """`conv_net` with one node changed."""
    graph, _ = conv_net()
    return Graph(tuple(replace(n, **fields) if n.name == name else n for n in graph.nodes), graph.steps)


def with_integrator():
    graph, _ = conv_net()
    nodes = list(graph.nodes)
    at = nodes.index(graph["lif3"])
    nodes.insert(at, Integrator("current", ("gate3",), scalar(0.5)))
    nodes[at + 1] = replace(nodes[at + 1], inputs=("current",))
    return Graph(tuple(nodes), graph.steps)


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (gated_graph(reset="zero"), "pln.gate2 changes with every step, and the Loihi chip has no product"),
        (changed("lif2", reset="subtract"), "lif2 has reset 'subtract', and the Loihi chip resets to zero alone"),
        (changed("lif2", threshold=scalar(-1)), "lif2 has a threshold of -1.0"),
        (with_integrator(), r"current \(Integrator\) stands before the neurons lif3"),
        (net((3, 3), (1, 1), (1, 1)), None),
    ],
)
def test_what_the_chip_cannot_do_is_refused_in_one_sentence(graph, message):
    if message is None:
        alone = Graph((*graph.nodes[:3], Readout("out", ("lif1",))), 2)
        graph, message = alone, "No layer of this graph is fed by spikes"
    with pytest.raises(UserError, match=message) as caught:
        simulate(graph, inputs(), "loihi")
    assert str(caught.value).count(". ") == 0


def test_the_host_resets_as_the_graph_says():
    """The first layer is the interpreter's, whatever its reset."""
    require_loihi()
    graph, x = changed("lif1", reset="subtract"), conv_net()[1][:3]
    fidelity = compare(simulate(graph, x, "loihi"), simulate(graph, x))
    assert fidelity.layers["lif1"].mismatches == 0
    assert fidelity.layers["lif1"].max_membrane_difference == 0


def test_the_warnings_are_still_given():
    """When this fails, an entry of `EXPECTED_WARNINGS` can go."""
    require_loihi()
    from converters import loihi_chip

    graph, x = changed("fc", bias=np.full(40, 0.01, np.float32)), conv_net()[1][:1]
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        simulate(graph, x, "loihi")
        assert not seen
        expected = loihi_chip.EXPECTED_WARNINGS
        patch.setattr(loihi_chip, "EXPECTED_WARNINGS", ())
        simulate(graph, x, "loihi")
    for category, message in expected:
        assert any(issubclass(w.category, category) and re.match(message, str(w.message)) for w in seen)


def test_missing_packages_name_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "nengo_loihi", None)
    with pytest.raises(MissingExtraError, match=r"snn-anml\[loihi\]"):
        simulate(conv_net()[0], conv_net()[1], "loihi")


# The correlation of the report


def test_correlation_of_spike_counts():
    """Against numpy's, over samples and neurons; none where nothing varies, or the record is older."""
    rng = np.random.default_rng(0)
    spikes, others = rng.random((2, 4, 9, 5)) < 0.4
    membrane, output = np.zeros(spikes.shape, np.float32), np.zeros((4, 2), np.float32)
    fidelity = compare(recording(spikes, membrane, output), recording(others, membrane, output))
    expected = np.corrcoef(spikes.sum(1).ravel(), others.sum(1).ravel())[0, 1]
    assert fidelity.layers["lif"].correlation == pytest.approx(expected, abs=1e-12)
    shuffled = recording(np.roll(spikes, 3, axis=1), membrane, output)
    assert compare(shuffled, recording(spikes, membrane, output)).layers["lif"].correlation == pytest.approx(1)
    silent = recording(np.zeros_like(spikes), membrane, output)
    assert compare(silent, recording(spikes, membrane, output)).layers["lif"].correlation is None
    data = fidelity.to_dict()
    assert Fidelity.from_dict(data) == fidelity
    del data["layers"]["lif"]["correlation"]
    assert Fidelity.from_dict(data).layers["lif"] == replace(fidelity.layers["lif"], correlation=None)
    assert LayerFidelity(1, 0, 0.0, None).correlation is None
