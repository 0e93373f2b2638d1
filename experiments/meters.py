"""Meters of energy: NVIDIA GPUs by NVML, CPUs by RAPL.

NVML is read through Zeus, imported when it is asked for (the import opens no socket and writes and prints nothing).
RAPL is read from the kernel's powercap files and not through Zeus, which starts a process for every counter that polls
it beside the work, re-imports the main module for that, and takes the zone `psys`, which contains the packages, for one
more CPU. A window is far shorter than what it takes a counter to overflow twice.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import torch

from snn_anml.errors import MissingExtraError, UserError

POWERCAP = Path("/sys/class/powercap")


class Meter(Protocol):
    """Energy of a part of the machine between two moments.

    Attributes:
        name: how the meter is called in a table.
        covers: the part of the machine whose energy it counts.
    """

    name: str
    covers: str

    def start(self) -> None:
        """Begins a window; what was put in a queue before has been done."""
        ...

    def stop(self) -> float:
        """Ends the window, and returns its energy, J."""
        ...


class NoMeterError(UserError):
    """There is no meter for a device, and the message says why."""


class NVML:
    """One NVIDIA GPU, by Zeus."""

    name = "NVML"

    def __init__(self, device: torch.device) -> None:
        index = torch.cuda.current_device() if device.index is None else device.index
        self.covers = f"GPU {index} ({torch.cuda.get_device_name(index)}) with its memory, without its host"
        try:
            from zeus.exception import ZeusBaseError
            from zeus.monitor import ZeusMonitor
        except ImportError as error:  # Zeus is missing, or another package stands where NVIDIA's bindings belong
            missing = (error.name or "").partition(".")[0] == "zeus"
            raise NoMeterError(str(MissingExtraError("NVML", "meter") if missing else error)) from None
        try:
            self._monitor = ZeusMonitor(gpu_indices=[index], cpu_indices=[])
            self.start()
            self.stop()
        except (ZeusBaseError, ValueError) as error:  # ValueError: Zeus has found no GPU
            raise NoMeterError(f"NVML does not tell the energy of GPU {index} ({error})") from None

    def start(self) -> None:
        self._monitor.begin_window("window", sync_execution=False)

    def stop(self) -> float:
        return self._monitor.end_window("window", sync_execution=False).total_energy


class RAPL:
    """All CPU packages, and their memory where it has a counter (Intel's RAPL, AMD's alike), by powercap files.

    Args:
        root: the folder with the zones.

    Raises:
        NoMeterError: no zone there, or no permission to read it.
    """

    name = "RAPL"

    def __init__(self, root: Path = POWERCAP) -> None:
        self._counters: list[tuple[Path, int]] = []
        names = []
        try:
            zones = sorted(root.glob("intel-rapl:*"))
            for zone in zones:
                name = (zone / "name").read_text().strip()
                # Zones within a package are parts of it, but for its memory; `psys` contains packages.
                if not name.startswith(("package", "dram")):
                    continue
                self._counters.append((zone / "energy_uj", int((zone / "max_energy_range_uj").read_text())))
                names.append(name)
            self._read()
        except PermissionError as error:
            raise NoMeterError(f"{error.filename} may be read by root only") from None
        except (OSError, ValueError) as error:
            raise NoMeterError(f"the counters in {root} cannot be read ({error})") from None
        if not names:
            raise NoMeterError(f"{root} has no counter of a CPU package (intel-rapl:*)")
        self.covers = f"CPU of the whole machine ({', '.join(names)}), all processes"

    def start(self) -> None:
        self._begin = self._read()

    def stop(self) -> float:
        spent = (end - begin for end, begin in zip(self._read(), self._begin, strict=True))
        # A counter that has passed its end starts again at zero.
        ranges = (most for _, most in self._counters)
        return sum(one if one >= 0 else one + most for one, most in zip(spent, ranges, strict=True)) * 1e-6

    def _read(self) -> list[int]:
        return [int(path.read_text()) for path, _ in self._counters]


def find_meter(device: torch.device) -> Meter:
    """The meter of a device.

    Raises:
        NoMeterError: there is none, or it cannot be read.
    """
    if device.type == "cpu":
        return RAPL()
    if device.type != "cuda" or torch.version.cuda is None or not torch.cuda.is_available():
        raise NoMeterError(f"no NVIDIA GPU for device {device}")
    return NVML(device)
