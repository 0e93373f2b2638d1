"""How the neurons of layers are divided among the cores of a Loihi chip: sizes alone, no simulator.

A core holds one block of a layer, of the same shape as its neighbours but at the edges. What a block takes is
counted as nengo-loihi 1.1.0 counts it. A convolution shares its weights: all channels of a position enter by one axon,
and positions that see the same part of the kernel use the same weights. Any other synapse has an axon for every
source neuron that reaches the block.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np

from converters.graph import Shape
from snn_anml.errors import UserError

Block = tuple[slice, ...]
"""The neurons of a block, along every axis of the layer's shape."""


class Load(NamedTuple):
    """What a block takes of its core."""

    compartments: int
    axons_in: int
    axons_out: int
    synapse_bits: int

    @property
    def fits(self) -> bool:
        """Whether one core has all of it."""
        return all(used <= limit for used, limit in zip(self, LIMITS, strict=True))


LIMITS = Load(compartments=1024, axons_in=4096, axons_out=4096, synapse_bits=2**20)
"""Of one core of the first Loihi chip (nengo_loihi/block.py)."""

# Synapse memory (nengo_loihi.block.SynapseConfig): up to 64 weights behind one header, in whole units.
WEIGHT_BITS, HEADER_BITS, UNIT_BITS, GROUP = 8, 10, 64, 64
INDEX_BITS = (0, 6, 7, 8, 9, 10, 11, 12)
# An axon can shift its targets by less than this; further ones need weights of their own.
SHIFT = 256


def memory(weights: np.ndarray, largest_index: int) -> int:
    """Bits of lists with so many weights each, (k,) int, for targets up to an index; -1 for lists without indices."""
    index = next(bits for bits in INDEX_BITS if bits >= int(largest_index).bit_length()) if largest_index >= 0 else 0
    groups, rest = np.divmod(weights, GROUP)

    def units(n: np.ndarray | int) -> np.ndarray | int:
        return -(-(n * (WEIGHT_BITS + index) + HEADER_BITS) // UNIT_BITS)

    return int((groups * units(GROUP) + np.where(rest > 0, units(rest), 0)).sum()) * UNIT_BITS


@dataclass(frozen=True)
class Shared:
    """A convolution with shared weights.

    Args:
        source: (channels, height, width) of the neurons that spike.
        shape: of the neurons that receive.
        kernel: height and width.
        stride: down and across.
        before: zeros above and left of the source.
    """

    source: Shape
    shape: Shape
    kernel: tuple[int, int]
    stride: tuple[int, int]
    before: tuple[int, int]
    slots = 2  # of the table of outgoing axons: one that carries a channel needs two

    def _taps(self, axis: int, block: Block) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of every source row (or column): its first target in the block, the kernel's tap there, and how many targets
        there are."""
        targets = np.arange(block[1 + axis].start, block[1 + axis].stop)
        rows = np.arange(self.source[1 + axis])
        taps = rows[:, None] + self.before[axis] - targets * self.stride[axis]
        seen = (taps >= 0) & (taps < self.kernel[axis])
        first = seen.argmax(axis=1)
        return first, taps[rows, first], seen.sum(axis=1)

    def axons(self, block: Block) -> np.ndarray:
        """For every source position, (height, width) bool, whether it has an axon into the block."""
        if _is_whole(block, self.shape):  # nengo-loihi then takes all
            return np.ones(self.source[1:], bool)
        rows, columns = (self._taps(axis, block)[2] > 0 for axis in (0, 1))
        return rows[:, None] & columns

    def axons_from(self, part: Block, block: Block) -> int:
        """How many axons run from a part of the source into the block."""
        return int(self.axons(block)[part[1:]].sum())

    def bits(self, block: Block) -> int:
        """Memory of the weights of the block."""
        channels, height, width = (s.stop - s.start for s in block)
        keys = np.stack(
            np.broadcast_arrays(*(x[:, None] for x in self._taps(0, block)), *self._taps(1, block)), axis=-1
        ).reshape(-1, 6)
        row, row_tap, rows, column, column_tap, columns = keys[(keys[:, 2] > 0) & (keys[:, 5] > 0)].T
        beyond = (row * width + column) // SHIFT
        lists = np.unique(np.stack([row_tap, rows, column_tap, columns, beyond], axis=1), axis=0)
        _, rows, _, columns, beyond = lists.T
        last = beyond * SHIFT + (channels - 1) * height * width + (rows - 1) * width + columns - 1
        return memory(self.source[0] * channels * rows * columns, int(last.max(initial=0)))


@dataclass(frozen=True, eq=False)
class Full:
    """Any other synapse.

    Args:
        source: shape of the neurons that spike.
        shape: of the neurons that receive.
        reaches: (n, source neurons) bool, which weights there are.
    """

    source: Shape
    shape: Shape
    reaches: np.ndarray
    slots = 1

    def _counts(self, block: Block) -> np.ndarray:
        """Targets in the block of every source neuron."""
        neurons = np.arange(len(self.reaches)).reshape(self.shape)[block].ravel()
        return self.reaches[neurons].sum(axis=0)

    def axons(self, block: Block) -> np.ndarray:
        """For every source neuron, of the source's shape, whether it has an axon into the block."""
        if _is_whole(block, self.shape):
            return np.ones(self.source, bool)
        return self._counts(block).reshape(self.source) > 0

    def axons_from(self, part: Block, block: Block) -> int:
        """How many axons run from a part of the source into the block."""
        return int(self.axons(block)[part].sum())

    def bits(self, block: Block) -> int:
        """Memory of the weights of the block. (nengo-loihi forgets the indices that missing weights make needed.)"""
        return memory(self._counts(block), -1 if self.reaches.all() else size(block) - 1)


@dataclass(frozen=True, eq=False)
class LayerSize:
    """A layer to divide.

    Attributes:
        name: of the layer.
        source: name of the layer, or of the input, whose spikes it receives.
        synapse: how they arrive.
    """

    name: str
    source: str
    synapse: Shared | Full

    @property
    def shape(self) -> Shape:
        """Of the neurons."""
        return self.synapse.shape


class Division(NamedTuple):
    """A layer on cores: the shape of its blocks, and of every block, a core each, the neurons and the load."""

    shape: Shape
    blocks: tuple[Block, ...]
    loads: tuple[Load, ...]


def size(block: Block) -> int:
    """Neurons of a block."""
    return int(np.prod([s.stop - s.start for s in block]))


def _is_whole(block: Block, shape: Shape) -> bool:
    return size(block) == np.prod(shape)


def blocks_of(shape: Shape, block: Shape) -> tuple[Block, ...]:
    """A layer cut into blocks of one shape, smaller at the edges, in C order."""
    axes = [[slice(i, min(i + b, n)) for i in range(0, n, b)] for n, b in zip(shape, block, strict=True)]
    return tuple(product(*axes))


def block_shapes(shape: Shape) -> Iterator[Shape]:
    """Shapes of blocks with few enough neurons: fewest blocks first, then those that cut channels, not pictures."""
    sizes = [sorted({-(-n // k) for k in range(1, n + 1)}) for n in shape]
    found = [b for b in product(*sizes) if np.prod(b) <= LIMITS.compartments]

    def order(block: Shape) -> tuple[int, int]:
        count = int(np.prod([-(-n // b) for n, b in zip(shape, block, strict=True)]))
        return count, -int(np.prod(block[1:]))

    return iter(sorted(found, key=order))


def divide(layers: Sequence[LayerSize]) -> dict[str, Division]:
    """Divides every layer into the fewest blocks of one shape that fit their cores.

    The axons that leave a block depend on how the layers behind it are divided, so the last layer comes first.

    Raises:
        UserError: a layer whose neurons fit no core, however few there are on one.
    """
    divided: dict[str, Division] = {}
    for layer in reversed(layers):
        readers = [(other.synapse, divided[other.name].blocks) for other in layers if other.source == layer.name]
        for shape in block_shapes(layer.shape):
            blocks, loads = blocks_of(layer.shape, shape), []
            for block in blocks:
                loads.append(_load(layer, block, readers))
                if not loads[-1].fits:
                    break
            else:
                divided[layer.name] = Division(shape, blocks, tuple(loads))
                break
        else:
            needed = _load(layer, tuple(slice(0, 1) for _ in layer.shape), readers)
            raise UserError(
                f"{layer.name} does not fit the cores of a Loihi chip: one neuron alone takes {needed}, and a core has "
                f"{LIMITS}."
            )
    return {layer.name: divided[layer.name] for layer in layers}


def _load(layer: LayerSize, block: Block, readers: list[tuple[Shared | Full, tuple[Block, ...]]]) -> Load:
    out = sum(synapse.slots * synapse.axons_from(block, other) for synapse, others in readers for other in others)
    return Load(size(block), int(layer.synapse.axons(block).sum()), out, layer.synapse.bits(block))
