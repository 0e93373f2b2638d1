"""A network on nengo-loihi's emulator: build it once, bring it to rest, send spikes, read spikes and membranes.

A sample is a matter of the host, and so are its thresholds: nengo-loihi has no reset, and this class sets the state
of the emulator itself. Weights have 8 bits in a block, decays are multiples of 1/4096, thresholds of 64 units.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from types import ModuleType
from typing import Any

import numpy as np
from scipy.sparse import coo_matrix

from converters.loihi_blocks import Division, Full, LayerSize, Shared
from converters.loihi_layers import ChipLayer
from converters.nengo_dl import import_nengo_dl
from converters.nengo_network import import_nengo
from snn_anml.errors import MissingExtraError

DT = 1.0
"""One step of the chip is one step of the graph, and a spike is 1 high."""

THRESHOLD_UNIT, THRESHOLD_MAX = 64, 2**17 - 1
"""A threshold is 1 to THRESHOLD_MAX units (nengo_loihi.builder.discretize.vth_to_manexp)."""

THRESHOLD_RANGE = 1 / 255, 256
"""Thresholds, relative to the largest weight, that the integers of a block are scaled for: 1 to 2^16 units."""

DENSE = 0.5
"""A matrix with more weights than this fraction is sent whole."""

# What nengo-loihi warns of by construction here: (category, start of the message).
EXPECTED_WARNINGS = (
    # A synapse with small weights, beside one with large ones in the same block; the deviation is in the report.
    (UserWarning, r"Lost \d+ extra bits in weight rounding"),
)


def import_nengo_loihi() -> ModuleType:
    """nengo-loihi, quietly, or `MissingExtraError`."""
    with suppress(MissingExtraError):
        import_nengo_dl()  # nengo-loihi imports it and TensorFlow, if they are there, less quietly
    try:
        import_nengo()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            import nengo_loihi
    except ImportError:
        raise MissingExtraError("The Loihi backend", "loihi") from None
    return nengo_loihi


@contextmanager
def expected_warnings_ignored() -> Iterator[None]:
    """Silences `EXPECTED_WARNINGS`."""
    with warnings.catch_warnings():
        for category, message in EXPECTED_WARNINGS:
            warnings.filterwarnings("ignore", message, category)
        yield


def layer_sizes(layers: tuple[ChipLayer, ...]) -> list[LayerSize]:
    """What the division among cores needs to know of the layers."""
    sizes = []
    for layer in layers:
        if layer.kernel is not None:
            height, width = layer.kernel.shape[:2]
            synapse = Shared(layer.source_shape, layer.shape, (height, width), layer.stride, layer.before)
        else:
            assert layer.matrix is not None
            reaches = layer.matrix != 0
            reaches = np.ones_like(reaches) if reaches.mean() > DENSE else reaches
            synapse = Full(layer.source_shape, layer.shape, reaches)
        sizes.append(LayerSize(layer.name, layer.source, synapse, bool(layer.bias.any())))
    return sizes


def scaled_for(layer: ChipLayer) -> np.ndarray:
    """Thresholds (n,) that a layer is built with; those of a sample are set before it."""
    weights = layer.matrix if layer.kernel is None else layer.kernel
    assert weights is not None
    largest = float(max(np.abs(weights).max(), np.abs(layer.bias).max())) or 1.0
    low, high = THRESHOLD_RANGE
    return np.clip(layer.neuron.threshold * layer.scale, low * largest, high * largest)


class Chip:
    """A network on the emulator, with the state of its layers by name.

    Args:
        layers: what to put on it.
        divisions: the cores of every layer.
        target: `sim`, the emulator with the chip's integers, or `simreal`, in float32, where nothing is rounded but
            the decays.
    """

    def __init__(self, layers: tuple[ChipLayer, ...], divisions: Mapping[str, Division], target: str = "sim") -> None:
        self.layers = {layer.name: layer for layer in layers}
        self.loihi: Any = import_nengo_loihi()
        self.sources: dict[str, Any] = {}
        self.relays: dict[str, Any] = {}
        network, ensembles = self._network(divisions)
        with expected_warnings_ignored():
            self.simulator = self.loihi.Simulator(network, dt=DT, target=target, progress_bar=False)
        self.model = self.simulator.model
        self.emulator = self.simulator.sims["emulator"]
        # Of every compartment of a layer, in the order of its neurons: its place in the emulator, and its scale.
        self.places, self.scales = {}, {}
        for name, ensemble in ensembles.items():
            neurons = np.arange(ensemble.n_neurons).reshape(self.layers[name].shape)
            place, scale = np.empty(neurons.size, int), np.empty(neurons.size)
            for core, block in zip(self.model.objs[ensemble]["in"], divisions[name].blocks, strict=True):
                among = self.emulator.block_info.slices[core]
                place[neurons[block].ravel()] = np.arange(among.start, among.stop)
                scale[neurons[block].ravel()] = core.discretize_info["v_scale"] if target == "sim" else 1
            self.places[name], self.scales[name] = place, scale * self.layers[name].scale

    def _network(self, divisions: Mapping[str, Division]) -> tuple[Any, dict[str, Any]]:
        """The network and its ensembles."""
        from converters.loihi_neurons import ChipLIF, spike_source

        nengo: Any = import_nengo()
        with nengo.Network(label="chip", seed=0) as network:
            self.loihi.add_params(network)
            ensembles: dict[str, Any] = {}
            for name, layer in self.layers.items():
                n = int(np.prod(layer.shape))
                ensemble = nengo.Ensemble(
                    n,
                    1,
                    neuron_type=ChipLIF(np.array(np.broadcast_to(layer.neuron.beta, n)), scaled_for(layer)),
                    gain=np.ones(n),
                    bias=np.zeros(n),
                    encoders=np.ones((n, 1)),
                    label=name,
                )
                network.config[ensemble].block_shape = self.loihi.BlockShape(divisions[name].shape, layer.shape)
                if layer.source in ensembles:
                    source = ensembles[layer.source].neurons
                else:
                    if layer.source not in self.sources:
                        size = int(np.prod(layer.source_shape))
                        self.sources[layer.source] = spike_source(size, label=layer.source)
                    source = self.sources[layer.source]
                nengo.Connection(source, ensemble.neurons, transform=self._transform(layer), synapse=None)
                if layer.bias.any():
                    self.relays[name] = relay = spike_source(1, label=f"{name}.bias")
                    nengo.Connection(relay, ensemble.neurons, transform=layer.bias[:, None], synapse=None)
                ensembles[name] = ensemble
        return network, ensembles

    @staticmethod
    def _transform(layer: ChipLayer) -> Any:
        nengo: Any = import_nengo()
        if layer.kernel is not None:
            return nengo.Convolution(
                n_filters=layer.shape[0],
                input_shape=layer.source_shape,
                kernel_size=layer.kernel.shape[:2],
                strides=layer.stride,
                padding="same" if any(layer.before) else "valid",
                channels_last=False,
                init=layer.kernel,
            )
        assert layer.matrix is not None
        if (layer.matrix != 0).mean() > DENSE:
            return layer.matrix
        return nengo.Sparse(layer.matrix.shape, init=coo_matrix(layer.matrix))

    def restart(self, thresholds: Mapping[str, np.ndarray]) -> None:
        """Brings all compartments to rest and sets thresholds, () or (n,) in units of the graph, infinity for never."""
        state = self.emulator.compartment
        for array in (state.input, state.current, state.voltage, state.spiked, state.ref_count):
            array[...] = 0
        for name, threshold in thresholds.items():
            scaled = threshold * self.scales[name]
            if state.vth.dtype == np.int32:
                scaled = THRESHOLD_UNIT * np.clip(np.round(scaled / THRESHOLD_UNIT), 1, THRESHOLD_MAX)
            state.vth[self.places[name]] = scaled

    def send(self, source: str, step: int, neurons: np.ndarray) -> None:
        """Lets neurons of a source spike so that the spikes arrive `step` steps after the next one."""
        if len(neurons):
            self.model.spike_targets[self.sources[source]].add_spikes(self.emulator.t + step, neurons)

    def send_bias(self, layer: str, step: int) -> None:
        """Lets the bias of a layer, if it has one, arrive `step` steps after the next one."""
        if layer in self.relays:
            self.model.spike_targets[self.relays[layer]].add_spikes(self.emulator.t + step, np.zeros(1, int))

    def step(self) -> None:
        """Advances by one step."""
        self.emulator.step()

    def read(self, layer: str) -> tuple[np.ndarray, np.ndarray]:
        """Spikes, (n,) bool, and membranes after the reset, (n,) in units of the graph, of a layer after a step."""
        state, place = self.emulator.compartment, self.places[layer]
        return state.spiked[place], state.voltage[place] / self.scales[layer]

    def close(self) -> None:
        """Closes the simulator."""
        self.simulator.close()
