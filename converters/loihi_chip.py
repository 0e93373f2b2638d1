"""A network on nengo-loihi's emulator: build it once, bring it to rest, send spikes, read spikes and membranes.

A sample is a matter of the host, and so are its thresholds: nengo-loihi has no reset, and this class sets the state
of the emulator itself. Weights have 8 bits in a block, decays are multiples of 1/4096, thresholds of 64 units.

A bias is the one of the chip's compartments, of 12 bits. So that it does not act before the first spikes of the sample
arrive, a layer is held at rest until then by the count of its refractory period.
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
from snn_anml.errors import MissingExtraError, UserError

DT = 1.0
"""One step of the chip is one step of the graph, and a spike is 1 high."""

THRESHOLD_UNIT, THRESHOLD_MAX = 64, 2**17 - 1
"""A threshold is 1 to THRESHOLD_MAX units (nengo_loihi.builder.discretize.vth_to_manexp)."""

DECAY_STEPS = 4096
"""The chip multiplies a membrane by whole multiples of 1 / DECAY_STEPS, at least one of them."""

DENSE = 0.5
"""A matrix with more weights than this fraction is sent whole."""

# What nengo-loihi warns of by construction here: (category, start of the message).
EXPECTED_WARNINGS = (
    # Thresholds so large that weights get less than 8 bits; the deviation is in the report.
    (UserWarning, r"Lost \d+ extra bits in weight rounding"),
)

OVERFLOW = r"Overflow in "
"""What nengo-loihi warns of when a number has too many bits, before it goes on with those that are left."""


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
        sizes.append(LayerSize(layer.name, layer.source, synapse))
    return sizes


@contextmanager
def overflow_refused() -> Iterator[None]:
    """Makes an overflow of the chip's integers a `UserError`."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", OVERFLOW)
        try:
            yield
        except UserWarning as overflow:
            raise UserError(
                f"{overflow} of the Loihi emulator: more weights arrive at a neuron in one step than its 21 bits hold, "
                "about 257 of the largest; train for fewer spikes, or for weights of which fewer are large."
            ) from None


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
        self.integers = target == "sim"
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
                scale[neurons[block].ravel()] = core.discretize_info["v_scale"] if self.integers else 1
            self.places[name], self.scales[name] = place, scale * self.layers[name].scale
        self.decays = self.emulator.compartment.decay_v.copy()
        self.before = self.emulator.compartment.voltage.copy()

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
                    neuron_type=ChipLIF(np.array(np.broadcast_to(layer.neuron.beta, n)), np.full(n, layer.span)),
                    gain=np.ones(n),
                    bias=layer.bias,
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
        """Brings all compartments to rest and sets thresholds, () or (n,) in units of the graph, infinity for never.

        A neuron whose threshold is out of the chip's range keeps nothing of its membrane, which then stays below.
        """
        state = self.emulator.compartment
        for array in (state.input, state.current, state.voltage, state.spiked):
            array[...] = 0
        state.decay_v[...] = self.decays
        for name, threshold in thresholds.items():
            place, scaled = self.places[name], threshold * self.scales[name]
            if self.integers:
                units = np.round(scaled / THRESHOLD_UNIT)
                state.decay_v[place[units > THRESHOLD_MAX]] = DECAY_STEPS - 1
                scaled = THRESHOLD_UNIT * np.clip(units, 1, THRESHOLD_MAX)
            state.vth[place] = scaled
            state.ref_count[place] = self.layers[name].depth
        for source in self.sources.values():
            self.model.spike_targets[source].spikes.clear()

    def send(self, source: str, step: int, neurons: np.ndarray) -> None:
        """Lets neurons of a source spike so that the spikes arrive `step` steps after the next one."""
        if len(neurons):
            self.model.spike_targets[self.sources[source]].add_spikes(self.emulator.t + step, neurons)

    def step(self) -> None:
        """Advances by one step.

        Raises:
            UserError: more weights arrived at a neuron than its integers hold.
        """
        self.before = self.emulator.compartment.voltage.copy()
        with overflow_refused():
            self.emulator.step()

    def read(self, layer: str) -> tuple[np.ndarray, np.ndarray]:
        """Spikes (n,) bool, and membranes (n,) in units of the graph, of a layer after a step.

        The chip resets in the step of the spike. Where the graph resets later, the membrane is that before the reset.
        """
        state, place, neuron = self.emulator.compartment, self.places[layer], self.layers[layer].neuron
        spikes, membrane = state.spiked[place], state.voltage[place]
        if neuron.reset_delay or neuron.reset == "none":
            kept = self.before[place] * (1 - state.decay_v[place] / (DECAY_STEPS if self.integers else 1))
            kept = np.trunc(kept) if self.integers else kept
            membrane = np.where(spikes, kept + state.current[place] + state.bias[place], membrane)
        return spikes, membrane / self.scales[layer]

    def close(self) -> None:
        """Closes the simulator."""
        self.simulator.close()
