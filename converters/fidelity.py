"""How closely one simulation follows another, in numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from converters.recording import Recording
from snn_anml.errors import UserError


@dataclass(frozen=True)
class Divergence:
    """The first spike slot of a layer in which two simulations differ.

    Attributes:
        sample: index of the sample, from 0.
        step: index of the time step, from 0; no sample differs earlier.
        neuron: index of the neuron, in C order.
        margin: |membrane - threshold| in the simulation in which the neuron stayed silent: how far it was from
            firing. (The other membrane may already have been reset.) None if the threshold was not recorded.
    """

    sample: int
    step: int
    neuron: int
    margin: float | None


@dataclass(frozen=True)
class LayerFidelity:
    """One `LIF` layer of two simulations.

    Attributes:
        slots: number of spike slots, B * T * n.
        mismatches: how many of them differ.
        max_membrane_difference: largest |difference| of the membranes over all slots; after a mismatch it holds
            the reset as well.
        first: the first mismatch, or None.
        correlation: Pearson correlation of the spike counts over the T steps, of all samples and neurons; None where
            one of the two has the same count everywhere.
    """

    slots: int
    mismatches: int
    max_membrane_difference: float
    first: Divergence | None
    correlation: float | None = None


@dataclass(frozen=True)
class Fidelity:
    """A simulation against a reference.

    Attributes:
        backend: backend of the simulation.
        reference: backend of the reference.
        samples: B.
        steps: T, or 0 for a graph without spiking layers.
        layers: for every `LIF` node.
        max_output_difference: largest |difference| of the outputs.
        argmax_agreement: fraction of the samples with the same predicted class.
        accuracy: fraction of the samples classified rightly, or None without labels.
        reference_accuracy: the same for the reference.
        host: names of the nodes that the target of the simulation leaves to the host computer.
        cores: on a chip, how many each `LIF` node takes.
    """

    backend: str
    reference: str
    samples: int
    steps: int
    layers: dict[str, LayerFidelity]
    max_output_difference: float
    argmax_agreement: float
    accuracy: float | None = None
    reference_accuracy: float | None = None
    host: tuple[str, ...] = ()
    cores: dict[str, int] = field(default_factory=dict)

    @property
    def slots(self) -> int:
        """Spike slots of all layers."""
        return sum(layer.slots for layer in self.layers.values())

    @property
    def mismatches(self) -> int:
        """Spike slots of all layers that differ."""
        return sum(layer.mismatches for layer in self.layers.values())

    @property
    def origin(self) -> tuple[str, Divergence] | None:
        """The layer and slot where the simulations first part: the earliest step, and in it the earliest layer.

        Its margin tells rounding from error; later layers of the same step inherit the flip, whatever theirs is.
        """
        found = [(name, layer.first) for name, layer in self.layers.items() if layer.first is not None]
        return min(found, key=lambda pair: pair[1].step, default=None)

    @property
    def accuracy_delta(self) -> float | None:
        """Accuracy minus that of the reference, or None without labels."""
        if self.accuracy is None or self.reference_accuracy is None:
            return None
        return self.accuracy - self.reference_accuracy

    @property
    def identical(self) -> bool:
        """Whether spikes, membranes and outputs are equal in every bit that counts (0 equals -0)."""
        same = all(x.max_membrane_difference == 0 for x in self.layers.values())
        return same and self.mismatches == 0 and self.max_output_difference == 0

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, with what follows from the layers, for the reader."""
        sums = {name: getattr(self, name) for name in ("slots", "mismatches", "accuracy_delta", "identical")}
        origin = None if self.origin is None else {"layer": self.origin[0], **asdict(self.origin[1])}
        return asdict(self) | sums | {"origin": origin}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Fidelity:
        """The inverse of `to_dict`; raises `UserError` for anything else."""
        try:
            layers = {
                name: LayerFidelity(
                    layer["slots"],
                    layer["mismatches"],
                    layer["max_membrane_difference"],
                    None if layer["first"] is None else Divergence(**layer["first"]),
                    layer.get("correlation"),  # records of 0.1.0 do not have it
                )
                for name, layer in data["layers"].items()
            }
            fields = {name: data[name] for name in cls.__dataclass_fields__ if name not in ("layers", "host", "cores")}
            fields |= {"host": tuple(data.get("host", ())), "cores": dict(data.get("cores", {}))}  # likewise
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(f"This is no fidelity record: {error!r}.") from None
        return cls(layers=layers, **fields)


def compare(recording: Recording, reference: Recording, labels: Any = None) -> Fidelity:
    """Compares two simulations of the same samples on the same graph.

    Args:
        recording: the simulation to judge.
        reference: what it should have been.
        labels: (B,) int, the right classes, for the accuracies; optional.

    Raises:
        UserError: recordings of different layers or shapes, values that are no finite numbers, or another number of
            labels than of samples.
    """
    if recording.spikes.keys() != reference.spikes.keys():
        raise UserError(
            f"The recordings are of different graphs: spiking layers {sorted(recording.spikes)} and "
            f"{sorted(reference.spikes)}."
        )
    _check("output", recording.output, reference.output)
    _check_finite("output", recording.output, recording.backend)
    _check_finite("output", reference.output, reference.backend)
    layers = {name: _compare_layer(name, recording, reference) for name in reference.spikes}
    predicted, expected = recording.output.argmax(axis=1), reference.output.argmax(axis=1)
    accuracy = reference_accuracy = None
    if labels is not None:
        labels = np.asarray(labels)
        if labels.shape != predicted.shape:
            raise UserError(f"labels have shape {labels.shape}, but there are {len(predicted)} samples.")
        accuracy, reference_accuracy = float(np.mean(predicted == labels)), float(np.mean(expected == labels))
    return Fidelity(
        backend=recording.backend,
        reference=reference.backend,
        samples=len(reference.output),
        steps=next((s.shape[1] for s in reference.spikes.values()), 0),
        layers=layers,
        max_output_difference=_max_difference(recording.output, reference.output),
        argmax_agreement=float(np.mean(predicted == expected)),
        accuracy=accuracy,
        reference_accuracy=reference_accuracy,
        host=recording.host,
        cores=recording.cores,
    )


def _compare_layer(name: str, recording: Recording, reference: Recording) -> LayerFidelity:
    spikes, expected = recording.spikes[name], reference.spikes[name]
    membrane, expected_membrane = recording.membrane[name], reference.membrane[name]
    _check(f"spikes of {name}", spikes, expected)
    _check(f"membrane of {name}", membrane, expected_membrane)
    _check_finite(f"membrane of {name}", membrane, recording.backend)
    _check_finite(f"membrane of {name}", expected_membrane, reference.backend)
    differs = spikes != expected
    mismatches = int(np.count_nonzero(differs))
    first = None
    if mismatches:
        step = int(np.argmax(differs.any(axis=(0, 2))))
        sample, neuron = (int(i) for i in np.argwhere(differs[:, step])[0])
        slot = sample, step, neuron
        margin = None
        if name in reference.threshold:
            threshold = np.broadcast_to(reference.threshold[name], spikes.shape[2])[neuron]
            silent = expected_membrane if spikes[slot] else membrane
            margin = abs(float(silent[slot]) - float(threshold))
        first = Divergence(sample, step, neuron, margin)
    difference = _max_difference(membrane, expected_membrane)
    return LayerFidelity(spikes.size, mismatches, difference, first, _count_correlation(spikes, expected))


def _count_correlation(spikes: np.ndarray, expected: np.ndarray) -> float | None:
    """Pearson correlation of the spike counts of (B, T, n), or None where one of them does not vary."""
    counts, other = (s.sum(axis=1, dtype=np.float64).ravel() for s in (spikes, expected))
    if counts.size == 0:
        return None
    counts, other = counts - counts.mean(), other - other.mean()
    scale = np.sqrt((counts @ counts) * (other @ other))
    return float(counts @ other / scale) if scale > 0 else None


def _max_difference(a: np.ndarray, b: np.ndarray) -> float:
    """Largest |a - b|, sample by sample, so that no copy of the whole recording is made."""
    return max((float(np.abs(x - y).max()) for x, y in zip(a, b, strict=True) if x.size), default=0.0)


def _check(what: str, a: np.ndarray, b: np.ndarray) -> None:
    if a.shape != b.shape:
        raise UserError(f"The {what} has shape {a.shape}, but the reference has {b.shape}; compare like with like.")


def _check_finite(what: str, values: np.ndarray, backend: str) -> None:
    """NaN equals nothing and never spikes, so that it would pass for an agreement."""
    for sample, each in enumerate(values):
        if not np.isfinite(each).all():
            raise UserError(
                f"The {what} on {backend} is NaN or infinite for sample {sample}: the network overflows float32 there, "
                "and nothing can be compared; lower its weights or inputs."
            )
