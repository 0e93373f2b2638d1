"""A graph as one safetensors file: tensors `node.field`, and the rest as JSON in the metadata.

The content hash covers the JSON and all tensors, and is checked when a file is read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from converters.graph import NODE_TYPES, SCHEMA_VERSION, Graph, Input, MaxPool2d, Node, Quantize
from snn_anml.checkpoint import sorted_header
from snn_anml.errors import UserError
from snn_anml.files import write_whole

FORMAT = "snn-anml-graph"

# Fields of version 2, left out where they say nothing; nodes of version 3, and its encoding `spikes`. A file is of the
# first version that has all its graph needs, so that a graph without them keeps its hash, and programs that do not
# know them read it.
LATER_FIELDS = {"dilation": (1, 1), "groups": 1}
LATER_NODES = (MaxPool2d, Quantize)


def save_graph(graph: Graph, path: str | Path) -> None:
    """Writes a graph, exactly and atomically."""
    description, tensors = take_apart(graph)
    metadata = {
        "format": FORMAT,
        "schema": str(json.loads(description)["schema"]),
        "graph": description,
        "sha256": _hash(description, tensors),
    }
    content = sorted_header(save_tensors(tensors, metadata))
    write_whole(Path(path), lambda temporary: temporary.write_bytes(content))


def load_graph(path: str | Path) -> Graph:
    """Reads what `save_graph` wrote.

    Raises:
        UserError: the file is missing, damaged, no graph, or of another schema version.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"Cannot read the graph {path}: {error.strerror}.") from None
    try:
        size = int.from_bytes(content[:8], "little")
        metadata = json.loads(content[8 : 8 + size])["__metadata__"]
        tensors = load_tensors(content)
        if metadata["format"] != FORMAT:
            raise KeyError
    except (SafetensorError, ValueError, KeyError, TypeError):
        raise UserError(f"{path} is damaged or no graph; write it with save_graph.") from None
    if metadata.get("schema") not in map(str, range(1, SCHEMA_VERSION + 1)):
        raise UserError(
            f"{path} has schema version {metadata.get('schema')}, but this program reads 1 to {SCHEMA_VERSION}; "
            "export the network again."
        )
    if metadata.get("sha256") != _hash(metadata.get("graph", ""), tensors):
        raise UserError(f"{path} is damaged: its content does not have the hash it was written with.")
    return put_together(json.loads(metadata["graph"]), tensors)


def graph_hash(graph: Graph) -> str:
    """sha256 of everything that defines a graph, hexadecimal; independent of the file format."""
    return _hash(*take_apart(graph))


def take_apart(graph: Graph) -> tuple[str, dict[str, np.ndarray]]:
    """A graph as JSON, and the arrays of its nodes under `node.field`."""
    tensors: dict[str, np.ndarray] = {}
    nodes, version = [], 1
    for node in graph.nodes:
        entry: dict[str, Any] = {"type": type(node).__name__}
        if isinstance(node, LATER_NODES) or (isinstance(node, Input) and node.encoding == "spikes"):
            version = 3
        for field in fields(node):
            value = getattr(node, field.name)
            if isinstance(value, np.ndarray):
                tensors[f"{node.name}.{field.name}"] = np.array(value, order="C")
            elif field.name not in LATER_FIELDS:
                entry[field.name] = value
            elif value != LATER_FIELDS[field.name]:
                entry[field.name], version = value, max(version, 2)
        nodes.append(entry)
    description = {"schema": version, "steps": int(graph.steps), "nodes": nodes}
    return json.dumps(description, sort_keys=True, separators=(",", ":"), default=np.generic.item), tensors


def put_together(description: dict[str, Any], tensors: Mapping[str, np.ndarray]) -> Graph:
    """The graph of `take_apart`, from the parsed JSON."""

    def as_tuple(value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    nodes: list[Node] = []
    for entry in description["nodes"]:
        kind = NODE_TYPES[entry["type"]]
        entry = LATER_FIELDS | entry
        values: dict[str, Any] = {
            field.name: as_tuple(entry[field.name]) if field.name in entry else tensors[f"{entry['name']}.{field.name}"]
            for field in fields(kind)
        }
        nodes.append(kind(**values))
    return Graph(tuple(nodes), description["steps"])


def _hash(description: str, tensors: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256(description.encode())
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f"\n{name} {value.dtype.str} {value.shape}\n".encode())
        digest.update(np.array(value, order="C").tobytes())
    return digest.hexdigest()
