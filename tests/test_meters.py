"""Meters: powercap files and GPUs that are made up, and what a machine says that has none."""

from __future__ import annotations

import sys

import pytest
import torch

import experiments.meters as module
from experiments.meters import NVML, RAPL, NoMeterError, find_meter


def zones(root, values, most=1_000_000):
    """Powercap files: two packages, memory of one, and zones that are parts of others."""
    names = {"0": "package-0", "0:0": "core", "0:1": "dram", "1": "package-1", "2": "psys"}
    for number, name in names.items():
        zone = root / f"intel-rapl:{number}"
        zone.mkdir(exist_ok=True, parents=True)
        (zone / "name").write_text(name + "\n")
        (zone / "max_energy_range_uj").write_text(f"{most}\n")
        (zone / "energy_uj").write_text(f"{values[name]}\n")
    (root / "intel-rapl").mkdir(exist_ok=True)


def test_rapl_adds_packages_and_memory_once(tmp_path):
    zones(tmp_path, {"package-0": 100, "core": 50, "dram": 10, "package-1": 999_000, "psys": 0})
    meter = RAPL(tmp_path)
    assert "package-0, dram, package-1" in meter.covers
    meter.start()
    zones(tmp_path, {"package-0": 600, "core": 900, "dram": 30, "package-1": 1_000, "psys": 900_000})
    # package-1 has passed its end and begun again: 1,000 to the end and 1,000 more.
    assert meter.stop() == pytest.approx((500 + 20 + 2_000) * 1e-6)


def test_rapl_that_is_missing_or_may_not_be_read(tmp_path, monkeypatch):
    with pytest.raises(NoMeterError, match="has no counter of a CPU package"):
        RAPL(tmp_path / "nowhere")
    zones(tmp_path, dict.fromkeys(("package-0", "core", "dram", "package-1", "psys"), 1))
    (tmp_path / "intel-rapl:1" / "max_energy_range_uj").write_text("\n")
    with pytest.raises(NoMeterError, match="cannot be read"):
        RAPL(tmp_path)

    def refuse(self):
        raise PermissionError(13, "Permission denied", str(tmp_path / "intel-rapl:0" / "energy_uj"))

    (tmp_path / "intel-rapl:1" / "max_energy_range_uj").write_text("9\n")
    monkeypatch.setattr(RAPL, "_read", refuse)
    with pytest.raises(NoMeterError, match=r"energy_uj may be read by root only"):
        RAPL(tmp_path)


class FakeGPUs:
    """What Zeus asks of a machine's GPUs; each call takes 250 J."""

    def __init__(self):
        self.millijoules = 0

    def __len__(self):
        return 1

    def supports_get_total_energy_consumption(self, index):
        assert index == 0
        return True

    def get_total_energy_consumption(self, index):
        self.millijoules += 250_000
        return self.millijoules


def on_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "Made up")


def test_nvml_is_read_through_zeus(monkeypatch):
    """Zeus itself, with a GPU that is made up."""
    energy = pytest.importorskip("zeus.monitor.energy")
    on_a_gpu(monkeypatch)
    monkeypatch.setattr(energy, "get_gpus", FakeGPUs)
    meter = find_meter(torch.device("cuda"))
    assert isinstance(meter, NVML)
    assert meter.covers == "GPU 0 (Made up) with its memory, without its host"
    for _ in range(2):
        meter.start()
        assert meter.stop() == 250.0


def test_nvml_that_is_missing_says_so(monkeypatch):
    on_a_gpu(monkeypatch)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "zeus.exception", None)
        patch.setitem(sys.modules, "zeus.monitor", None)
        with pytest.raises(NoMeterError, match=r"pip install 'snn-anml\[meter\]'"):
            find_meter(torch.device("cuda"))
    energy = pytest.importorskip("zeus.monitor.energy")

    def none():
        raise energy.ZeusGPUInitError("NVML Shared Library Not Found")

    monkeypatch.setattr(energy, "get_gpus", none)
    with pytest.raises(NoMeterError, match="does not tell the energy of GPU 0"):
        find_meter(torch.device("cuda"))


def test_zeus_is_imported_only_for_a_gpu():
    assert not hasattr(module, "zeus")
    with pytest.raises(NoMeterError, match="no NVIDIA GPU for device meta"):
        find_meter(torch.device("meta"))
