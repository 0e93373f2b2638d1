"""Spiking neuromodulated meta-learning (ANML) in torch."""

from importlib.metadata import PackageNotFoundError, version

from snn_anml.config import RunConfig
from snn_anml.errors import MissingExtraError, UserError
from snn_anml.model_io import load, load_head, with_head
from snn_anml.networks import ANML

try:
    __version__ = version("snn-anml")
except PackageNotFoundError:  # used from a source tree that was not installed
    __version__ = "0+unknown"

__all__ = ["ANML", "MissingExtraError", "RunConfig", "UserError", "__version__", "load", "load_head", "with_head"]
