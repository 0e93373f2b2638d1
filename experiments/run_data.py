"""The data of a run: which drawings it trains on, learns, and is counted with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from experiments.run_folder import RunFolder, check_data
from snn_anml.config import RunConfig
from snn_anml.data import ClassSplit, Dataset, load_dataset, split_classes, with_rotations
from snn_anml.data.tasks import pictures, sample_trajectories
from snn_anml.device import check_device
from snn_anml.errors import UserError


@dataclass(frozen=True, eq=False)
class Data:
    """A dataset, its class split, and its images as a tensor on the device of the run."""

    dataset: Dataset
    split: ClassSplit
    images: torch.Tensor


def load_data(config: RunConfig, device: str = "cpu") -> Data:
    """The data that a configuration asks for.

    Raises:
        UserError: no such data or device, or a configuration that asks for more than the data have.
    """
    where = check_device(device)
    options = {"classes": config.data.glyph_classes} if config.data.name == "glyphs" else {}
    dataset = load_dataset(config.data.name, size=config.data.size, **options)
    split = split_classes(dataset, config.data.meta_test_classes, config.data.selection_classes, config.seed)
    _check_fits(config, dataset, split)
    return Data(dataset, split, torch.from_numpy(dataset.images).to(where))


def load_data_of(folder: RunFolder, device: str = "cpu") -> Data:
    """The data of an existing run; `UserError` where they are not those that it was trained on."""
    data = load_data(folder.require(), device)
    check_data(folder, data.dataset.sha256)
    return data


def _check_fits(config: RunConfig, dataset: Dataset, split: ClassSplit) -> None:
    """Refuses at the start what a later stage would refuse after minutes of training."""
    sample_trajectories(np.random.default_rng(0), split.meta_train, dataset.drawings, config.meta)
    if config.meta_test.shots >= dataset.drawings:
        raise UserError(
            f"meta_test.shots = {config.meta_test.shots}, but a class of {dataset.name} has {dataset.drawings} "
            "drawings; keep some held out."
        )
    _check_held_out(config, dataset, config.export.classes, config.export.samples)


def training_classes(config: RunConfig, data: Data) -> tuple[torch.Tensor, np.ndarray]:
    """Images to train on, and the meta-training classes in them, turned ones among them with `data.rotations`."""
    if not config.data.rotations:
        return data.images, data.split.meta_train
    turned = torch.from_numpy(with_rotations(data.dataset.images[data.split.meta_train]))
    return turned.to(data.images.device), np.arange(len(turned))


def held_out_drawings(
    config: RunConfig, data: Data, classes: np.ndarray, count: int
) -> tuple[torch.Tensor, np.ndarray]:
    """`count` held-out drawings of the classes that a head has learned, spread over them, and their labels.

    Raises:
        UserError: fewer drawings than asked for, or none asked for.
    """
    _check_held_out(config, data.dataset, len(classes), count)
    i = np.arange(count)
    labels, drawing = i % len(classes), config.meta_test.shots + i // len(classes)
    return pictures(torch.from_numpy(data.dataset.images), classes[labels], drawing), labels


def _check_held_out(config: RunConfig, dataset: Dataset, classes: int, count: int) -> None:
    if count < 1:
        raise UserError(f"{count} drawings were asked for; export.samples (--check) must be at least 1.")
    held_out = (dataset.drawings - config.meta_test.shots) * classes
    if count > held_out:
        raise UserError(
            f"{count} drawings were asked for, but {classes} classes have {held_out} held-out drawings; "
            "lower export.samples (--check)."
        )
