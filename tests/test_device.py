"""Devices by name."""

import pytest
import torch

from snn_anml.device import check_device
from snn_anml.errors import UserError


@pytest.mark.parametrize("name", ["", "gpu", "mps", "meta", "cpu:x"])
def test_unknown_devices_are_refused(name):
    with pytest.raises(UserError, match=f"Unknown device '{name}'; use cpu or cuda"):
        check_device(name)


def test_a_gpu_that_is_not_there_is_refused(monkeypatch):
    assert check_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="Device cuda was asked for, but torch sees no GPU here; use --device cpu"):
        check_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert check_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(UserError, match="Device cuda:2 was asked for, but torch sees 2 GPUs"):
        check_device("cuda:2")
