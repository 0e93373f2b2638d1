"""The record saved beside every export: which graph, compared with what, by which versions, how closely."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
    """

    graph: str
    versions: dict[str, str]
    comparisons: tuple[Fidelity, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "certificate": CERTIFICATE_VERSION,
            "graph": self.graph,
            "versions": self.versions,
            "comparisons": [comparison.to_dict() for comparison in self.comparisons],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Certificate:
        """The inverse of `to_dict`; raises `UserError` for anything else."""
        if not isinstance(data, Mapping) or data.get("certificate") != CERTIFICATE_VERSION:
            raise UserError(f"This is no certificate of version {CERTIFICATE_VERSION}.")
        try:
            comparisons = tuple(Fidelity.from_dict(one) for one in data["comparisons"])
            return cls(str(data["graph"]), dict(data["versions"]), comparisons)
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"This certificate is damaged: {error}.") from None


def certify(graph: Graph, comparisons: Sequence[Fidelity]) -> Certificate:
    """A certificate of these comparisons, with the versions that are installed now."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return Certificate(graph_hash(graph), versions, tuple(comparisons))


def save_certificate(certificate: Certificate, path: str | Path) -> None:
    """Writes a certificate as JSON, atomically."""
    write_text(Path(path), json.dumps(certificate.to_dict(), indent=2, allow_nan=False) + "\n")


def load_certificate(path: str | Path) -> Certificate:
    """Reads what `save_certificate` wrote; raises `UserError` for a missing, damaged or foreign file."""
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"Cannot read the certificate {path}: {error}.") from None
    return Certificate.from_dict(data)
