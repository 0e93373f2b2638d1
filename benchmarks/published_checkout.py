"""The published ANML code as a meta-step to time, imported from a checkout that the user names.

The code is that of github.com/shawnbeaulieu/ANML (later github.com/uvm-neurobotics-lab/ANML): `ModelFactory` lists the
layers, `MetaLearingClassification` holds the network and an optimiser, and its `forward` is one whole meta-step. It is
called as it is; only the optimiser is replaced by one whose step does nothing. Weights and drawings are ours.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from snn_anml.errors import UserError
from snn_anml.meta.published import Drawings, MetaStep
from snn_anml.networks.published import Weights

REPOSITORY = "https://github.com/shawnbeaulieu/ANML"
FILES = ("model/modelfactory.py", "model/learner.py", "model/meta_learner.py")
PACKAGES = ("model", "datasets", "experiment", "utils")  # its own, of names that others have too
TREATMENT, DATASET = "Neuromodulation", "omniglot"  # how it calls the network with a gate
LAYERS = ("conv1", "norm1", "conv2", "norm2", "conv3", "norm3", "out")
NAMES = tuple(f"{net}.{layer}.{part}" for net in ("nm", "pln") for layer in LAYERS for part in ("weight", "bias"))
TOLERANCE = 1e-4  # of the losses, relative, in float32


@dataclass(frozen=True)
class Published:
    """A checkout's meta-learner, and the git commit it is of (`unknown` outside of git, `+changes` where edited)."""

    commit: str
    learner: Any

    def ready(self, weights: Weights, drawings: Drawings, inner_lr: float) -> Callable[[], MetaStep]:
        """Loads weights and drawings, and returns its first-order meta-step on them, to be called any number of times.

        Args:
            weights: of the network with gate and biases of the convolutions, by published name; copied.
            drawings: trajectory and queries.
            inner_lr: learning rate of the inner SGD; as in its documented training, all of the PLN learns and no more.

        Returns:
            Its forward and backward pass, no optimiser step. A call overwrites the gradients of the call before.

        Raises:
            UserError: its network has other shapes.
        """
        parameters = list(self.learner.net.parameters())
        theirs, ours = [tuple(p.shape) for p in parameters], [tuple(weights[name].shape) for name in NAMES]
        if theirs != ours:
            raise UserError(f"The checkout's network has tensors of {theirs}, not {ours}; use the published sizes.")
        self.learner.to(weights[NAMES[0]].dtype)
        with torch.no_grad():
            for name, parameter in zip(NAMES, parameters, strict=True):
                parameter.copy_(weights[name])
                parameter.learn = name.startswith("pln.")
        self.learner.update_lr, self.learner.update_step = inner_lr, drawings.support
        x = drawings.pictures.expand(-1, weights["pln.conv1.weight"].shape[1], -1, -1).contiguous()
        S, start, y = drawings.support, drawings.query_from, drawings.labels
        batch = x[:S, None], y[:S, None], x[None, start:], y[None, start:]

        def step() -> MetaStep:
            accuracy, loss = self.learner(*batch)
            gradient = {name: p.grad for name, p in zip(NAMES, parameters, strict=True)}
            return MetaStep(loss.detach(), loss.new_tensor(accuracy), gradient)

        return step


def load(path: Path) -> Published:
    """The published code of a checkout; its module names and its place in `sys.path` are given up again.

    Raises:
        UserError: no such folder, not that repository, or code that cannot be imported here or does not make the
            network.
    """
    if not path.is_dir():
        raise UserError(f"No folder {path}; name a checkout of {REPOSITORY}.")
    if missing := [name for name in FILES if not (path / name).is_file()]:
        raise UserError(f"{path} has no {', '.join(missing)}; name a checkout of {REPOSITORY}.")
    try:
        with _importing_from(path.resolve()):
            factory = importlib.import_module("model.modelfactory").ModelFactory
            kind = importlib.import_module("model.meta_learner").MetaLearingClassification
        arguments = SimpleNamespace(update_lr=0.0, meta_lr=0.0, update_step=0)
        with torch.random.fork_rng(devices=[]):  # its initial weights come from the global generator
            learner = kind(arguments, factory.get_model(TREATMENT, DATASET), TREATMENT)
    except ModuleNotFoundError as error:
        raise UserError(
            f"The code in {path} needs the package {error.name}, which is not installed; install it."
        ) from error
    except Exception as error:  # foreign code may raise anything
        said = f"{type(error).__name__}: {error}"
        raise UserError(f"The code in {path} fails with {said}; name a checkout of {REPOSITORY} that works.") from error
    learner.optimizer = SimpleNamespace(step=lambda: None)
    return Published(_commit(path), learner)


def require_same(published: MetaStep, ours: MetaStep) -> None:
    """Holds the losses of the two against each other.

    Raises:
        UserError: they differ, so that their times are not of the same function.
    """
    gap = abs(published.loss.item() / ours.loss.item() - 1)
    if not gap <= TOLERANCE:  # so that NaN is refused too
        raise UserError(
            f"The published code's loss is {published.loss.item():.6g} and ours {ours.loss.item():.6g} on the same "
            f"drawings, more than {TOLERANCE} apart; name a checkout of {REPOSITORY} without changes."
        )


@contextmanager
def _importing_from(folder: Path) -> Iterator[None]:
    """Has its packages' names mean the folder's, and then again what they meant; leaves no byte-code there."""

    def taken() -> dict[str, Any]:
        names = [name for name in sys.modules if name.split(".")[0] in PACKAGES]
        return {name: sys.modules.pop(name) for name in names}

    path, no_bytecode, before = list(sys.path), sys.dont_write_bytecode, taken()
    sys.path.insert(0, str(folder))
    sys.dont_write_bytecode = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # it compares strings by identity
            yield
    finally:
        taken()
        sys.modules.update(before)
        sys.path[:], sys.dont_write_bytecode = path, no_bytecode


def _commit(folder: Path) -> str:
    """The folder's own commit, not that of a repository it lies in."""
    command = ["git", f"--git-dir={folder / '.git'}", f"--work-tree={folder}", "describe"]
    options = ["--always", "--abbrev=40", "--exclude=*", "--dirty=+changes"]
    try:
        done = subprocess.run([*command, *options], capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip()
