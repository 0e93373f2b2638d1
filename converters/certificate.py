"""The record saved beside every export: which graph, compared with what, by which versions, how closely."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from converters.fidelity import Fidelity
from converters.graph import Graph
from converters.graph_io import graph_hash
from snn_anml.errors import UserError
from snn_anml.files import write_text

CERTIFICATE_VERSION = 1
PACKAGES = ("snn-anml", "numpy", "torch", "snntorch", "nengo", "nengo-dl", "tensorflow", "nengo-loihi", "nir")


@dataclass(frozen=True)
class Certificate:
    """Comparisons of one graph.

    Attributes:
        graph: sha256 of the graph's content, hexadecimal.
        versions: installed packages that may have taken part, name to version.
        comparisons: one for every backend compared.
        gates: for every form of the gates the comparison, or the sentence that refuses it; see `compare_gate_forms`.
        lossy: what other readers of the exported NIR file do otherwise, a sentence each; see `save_nir`.
    """

    graph: str
    versions: dict[str, str]
    comparisons: tuple[Fidelity, ...]
    gates: dict[str, Fidelity | str] = field(default_factory=dict)
    lossy: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "certificate": CERTIFICATE_VERSION,
            "graph": self.graph,
            "versions": self.versions,
            "comparisons": [comparison.to_dict() for comparison in self.comparisons],
            "gates": {form: one if isinstance(one, str) else one.to_dict() for form, one in self.gates.items()},
            "lossy": list(self.lossy),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], source: str = "This") -> Certificate:
        """The inverse of `to_dict`; raises `UserError` for anything else, which names the source."""
        remedy = "delete it and export the network again"  # an export reads the certificate that is there
        if not isinstance(data, Mapping) or data.get("certificate") != CERTIFICATE_VERSION:
            raise UserError(f"{source} is no certificate of version {CERTIFICATE_VERSION}; {remedy}.")
        try:
            comparisons = tuple(Fidelity.from_dict(one) for one in data["comparisons"])
            gates = {  # records of 0.1.0 have neither these nor what is lost
                form: one if isinstance(one, str) else Fidelity.from_dict(one)
                for form, one in data.get("gates", {}).items()
            }
            lossy = tuple(str(sentence) for sentence in data.get("lossy", ()))
            return cls(str(data["graph"]), dict(data["versions"]), comparisons, gates, lossy)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"{source} is a damaged certificate ({str(error).rstrip('.')}); {remedy}.") from None


def certify(
    graph: Graph,
    comparisons: Sequence[Fidelity],
    gates: Mapping[str, Fidelity | str] | None = None,
    lossy: Sequence[str] = (),
) -> Certificate:
    """A certificate of these comparisons, with the versions that are installed now; see `Certificate`."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return Certificate(graph_hash(graph), versions, tuple(comparisons), dict(gates or {}), tuple(lossy))


def save_certificate(certificate: Certificate, path: str | Path) -> None:
    """Writes a certificate as JSON, atomically."""
    write_text(Path(path), json.dumps(certificate.to_dict(), indent=2, allow_nan=False) + "\n")


def load_certificate(path: str | Path) -> Certificate:
    """Reads what `save_certificate` wrote; raises `UserError` for a missing, damaged or foreign file."""
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"Cannot read the certificate {path}: {error}.") from None
    return Certificate.from_dict(data, str(path))
