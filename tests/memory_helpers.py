"""Memory traffic as numbers, and the small networks that it is counted on."""

from __future__ import annotations

import numpy as np

from converters.energy import count
from converters.energy.traffic import OPERATIONS, traffic
from converters.graph import (
    Activation,
    Affine,
    Conv2d,
    Graph,
    Input,
    Integrator,
    Readout,
)
from tests.energy_helpers import lif, recording_of, scalar


def only(found):
    """Counts that are not zero, as numbers."""
    return {name: float(times) for name, times in found.items() if times}


def rows_of(graph, recording, accounting="exact"):
    return {row.layer: row for row in traffic(graph, count(graph, recording), accounting)}


def operations(row):
    return only({name: getattr(row, name) for name in OPERATIONS})


def spiking_layer(layer, shape, steps, reader="lif"):
    """Spikes, a layer, neurons."""
    end = lif("end", "layer") if reader == "lif" else Integrator("end", ("layer",), scalar(0.9))
    return Graph((Input("input", (), shape, "rate"), layer, end, Readout("y", ("end",))), steps)


def twin(pool=None):
    """Formal layers: conv, relu, (pool,) linear."""
    pooled = [pool] if pool else []
    last = pool.name if pool else "relu"
    n = 2 * (1 if pool else 4)
    nodes = (
        Input("input", (), (1, 4, 4)),
        Conv2d("conv", ("input",), np.ones((2, 1, 3, 3), np.float32), np.ones(2, np.float32), (2, 2), (1, 1)),
        Activation("relu", ("conv",), "relu"),
        *pooled,
        Affine("fc", (last,), np.ones((3, n), np.float32), np.ones(3, np.float32)),
        Readout("y", ("fc",)),
    )
    graph = Graph(nodes, 1)
    return graph, recording_of(graph, 2, np.random.default_rng(0))
