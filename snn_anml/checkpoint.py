"""Checkpoints: safetensors files with their kind, version and configuration in the header.

They hold arrays and JSON only, so that loading one never executes code.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise
from torch import Tensor

from snn_anml.errors import UserError
from snn_anml.files import write_whole

VERSION = 1


def save(path: Path, kind: str, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Writes `tensors` and the JSON-able `header` to `path`, whole or not at all.

    Args:
        path: the file.
        kind: what it is (`model`, `training`, `head`, ...); `load` asks for the same.
        tensors: arrays by name, any device.
        header: JSON-able facts beside them.
    """
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(header)
    metadata = {
        "format": "snn-anml",
        "version": str(VERSION),
        "kind": kind,
        "header": text,
        "sha256": _sha256(text, contiguous),
    }
    content = sorted_header(serialise(contiguous, metadata))
    write_whole(path, lambda temporary: temporary.write_bytes(content))


def sorted_header(content: bytes) -> bytes:
    """A safetensors file with the keys of its header sorted: equal content then gives equal files.

    The library writes metadata in an order that changes from one process to the next.
    """
    size = int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8 : 8 + size]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # as the library does, so that the tensors stay aligned
    return len(header).to_bytes(8, "little") + header + content[8 + size :]


def load(path: Path, kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Reads what `save` wrote.

    Returns:
        the tensors by name, on the CPU, and the header.

    Raises:
        FileNotFoundError: no such file.
        UserError: the file is cut short or damaged, of another program, another kind or another version.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}; name another.")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path} is cut short or damaged ({error}); restore it, or train again.") from None
    if metadata.get("format") != "snn-anml" or metadata.get("kind") != kind:
        raise UserError(
            f"{path} is no snn-anml {kind}; it says format {metadata.get('format')!r}, kind {metadata.get('kind')!r}."
        )
    if metadata.get("version") != str(VERSION):
        raise UserError(
            f"{path} is of checkpoint version {metadata.get('version')}, this program reads version {VERSION}; "
            "use the release that wrote it, or train again."
        )
    if "sha256" in metadata and metadata["sha256"] != _sha256(metadata.get("header", ""), tensors):
        raise UserError(f"{path} is damaged: its content is not what was written; restore it, or train again.")
    return tensors, json.loads(metadata["header"])


def _sha256(header: str, tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(header.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
