"""Trained networks and learned heads as files, and back."""

from __future__ import annotations

import copy
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from snn_anml import checkpoint
from snn_anml.config import NetworkConfig
from snn_anml.device import check_device
from snn_anml.errors import UserError
from snn_anml.meta.heads import LinearHead
from snn_anml.meta.sequential import Learned
from snn_anml.networks import Network, PublishedANML, make_network
from snn_anml.networks.published import from_published


def save_model(path: Path, model: Network) -> None:
    """Writes weights, running statistics and configuration of a network."""
    header = {"network": asdict(model.config), "classes": model.classes, "size": model.size}
    checkpoint.save(path, "model", model.state_dict(), header)


def load(run: str | Path, device: str = "cpu") -> Network:
    """Loads the trained network of a run, in evaluation mode.

    Args:
        run: a run folder, or a model file in it.
        device: `cpu` or `cuda`.

    Returns:
        the network; its head is that of meta-training (see `load_head` for heads learned in the meta-test).

    Raises:
        FileNotFoundError: no model there.
        UserError: a file that is damaged or of another version, or a device that is not there.
    """
    path = Path(run)
    where = check_device(device)
    path = path / "model.safetensors" if path.suffix != ".safetensors" else path
    if not path.is_file():
        raise FileNotFoundError(f"There is no trained network at {path}; train it first, or name another run.")
    tensors, header = checkpoint.load(path, "model")
    try:
        network: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in header["network"].items()}
        config = NetworkConfig(**network)
        if config.layers == "published":  # its channels and biases are read from the weights
            model = from_published(tensors, header["size"])
        else:
            model = make_network(config, header["classes"], header["size"])
            model.load_state_dict(tensors)
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise UserError(f"{path} does not describe a network of this release ({reason}); train again.") from None
    return model.to(where).eval()


def save_heads(path: Path, heads: dict[tuple[str, int], Learned]) -> None:
    """Writes the heads learned in the first draw of a meta-test, by (head, number of classes)."""
    tensors, header = {}, {}
    for (name, classes), learned in heads.items():
        key = f"{name}.{classes}"
        tensors |= {f"{key}.weight": learned.head.weight, f"{key}.bias": learned.head.bias}
        header[key] = {"classes": learned.classes.tolist(), "learning_rate": learned.learning_rate}
    checkpoint.save(path, "heads", tensors, header)


def load_head(run: str | Path, name: str, classes: int) -> Learned:
    """Loads the head `name` as it was after `classes` classes.

    Raises:
        FileNotFoundError: the run has not been meta-tested.
        UserError: it holds no such head (with those that it holds), or the file is damaged.
    """
    path = Path(run) / "heads.safetensors"
    if not path.is_file():
        raise FileNotFoundError(f"There are no learned heads at {path}; run the meta-test first, or name another run.")
    tensors, header = checkpoint.load(path, "heads")
    key = f"{name}.{classes}"
    if key not in header:
        raise UserError(f"{path} holds no head {name!r} of {classes} classes; it holds {', '.join(sorted(header))}.")
    try:
        head = LinearHead(tensors[f"{key}.weight"], tensors[f"{key}.bias"], None)
        return Learned(head, np.asarray(header[key]["classes"]), header[key]["learning_rate"])
    except (KeyError, TypeError) as error:
        raise UserError(f"{path} lacks a part of its head {key} ({error}); run the meta-test again.") from None


def with_head(model: Network, head: LinearHead) -> Network:
    """A copy of the network that classifies with a learned head; output i is the i-th class learned."""
    model = copy.deepcopy(model)
    classes, features = head.weight.shape
    device = model.head.weight.device
    layer = torch.nn.Linear(features, classes, device=device)
    if isinstance(model, PublishedANML):
        model.pln.out = layer
    else:
        model.head = layer
    model.classes = classes
    with torch.no_grad():
        model.head.weight.copy_(head.weight)
        model.head.bias.copy_(head.bias)
    return model.eval()
