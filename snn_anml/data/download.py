"""One file from the net: checked against its checksum, with a progress bar, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pooch
import requests
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from snn_anml.errors import UserError

TIMEOUT_S = 30.0
"""Longest silence of the server before the download counts as failed, s."""


class DownloadBar:
    """A rich progress bar with the four members that pooch's downloader uses."""

    def __init__(self, title: str) -> None:
        self._total = 0
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._task = self._progress.add_task(title, total=None)
        self._progress.start()

    @property
    def total(self) -> int:
        """Size of the file, bytes."""
        return self._total

    @total.setter
    def total(self, size: int) -> None:
        self._total = size
        self._progress.update(self._task, total=size or None)

    def update(self, amount: int) -> None:
        """Counts `amount` more bytes."""
        self._progress.update(self._task, advance=amount)

    def reset(self) -> None:
        """Starts again from zero bytes (pooch does it once, just before the last update)."""
        self._progress.update(self._task, completed=0)

    def close(self) -> None:
        """Stops the drawing and gives the terminal back."""
        self._progress.stop()


def download(url: str, md5: str, path: Path) -> Path:
    """Downloads one file; an existing file at `path` with another checksum is replaced.

    Args:
        url: http or https address.
        md5: published checksum, hexadecimal.
        path: where the complete and checked file is put.

    Raises:
        UserError: no connection, a refusal by the server, another checksum, or an unwritable folder.
    """
    bar = DownloadBar(path.name)
    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel("ERROR")  # the bar already says what pooch would log
    try:
        downloader = pooch.HTTPDownloader(progressbar=bar, timeout=TIMEOUT_S)  # type: ignore[arg-type]
        pooch.retrieve(url, f"md5:{md5}", path.name, path.parent, downloader=downloader)  # type: ignore[arg-type]
    except requests.RequestException as error:
        raise UserError(
            f"{path.name} could not be downloaded from {url} ({_brief(error)}); "
            f"check the connection and try again, or put the file into {path.parent} yourself."
        ) from error
    except OSError as error:
        raise UserError(
            f"{path.name} cannot be written to {path.parent} ({_brief(error)}); "
            "set SNN_ANML_CACHE to a folder that can."
        ) from error
    except ValueError as error:
        raise UserError(
            f"{path.name} from {url} has another checksum than the published {md5}; "
            f"try again, or put the file into {path.parent} yourself."
        ) from error
    finally:
        logger.setLevel(level)
        bar.close()
    return path


def _brief(error: Exception) -> str:
    """The error in at most one line of 160 characters."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 160 else text[:157] + "..."
