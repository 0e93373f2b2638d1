"""Spiking neuromodulated meta-learning (ANML) in torch."""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from snn_anml.config import RunConfig
from snn_anml.errors import MissingExtraError, UserError

if TYPE_CHECKING:
    from snn_anml import neurons
    from snn_anml.model_io import load, load_head, with_head
    from snn_anml.networks import ANML

try:
    __version__ = version("snn-anml")
except PackageNotFoundError:  # used from a source tree that was not installed
    __version__ = "0+unknown"

__all__ = [
    "ANML",
    "MissingExtraError",
    "RunConfig",
    "UserError",
    "__version__",
    "load",
    "load_head",
    "neurons",
    "with_head",
]

# Imported when first used: torch takes seconds, for which `snn-anml --help` need not wait.
_LATER = {
    "ANML": "snn_anml.networks",
    "load": "snn_anml.model_io",
    "load_head": "snn_anml.model_io",
    "with_head": "snn_anml.model_io",
}


def __getattr__(name: str) -> Any:
    if name == "neurons":
        return import_module("snn_anml.neurons")
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LATER[name]), name)
