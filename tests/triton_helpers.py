"""Triton kernels of the neurons compiled for a CUDA device that need not be there; run as a module by a test.

`python -m tests.triton_helpers` compiles, with the arguments of real calls, what a few layers launch, and prints one
line of JSON a kernel. Triton decides on import whether it compiles or interprets, hence a process of its own.
"""

# pyright: reportMissingImports=false

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

from snn_anml.neurons import LIFParameters, Surrogate, lif
from snn_anml.neurons import fused as fused_module
from snn_anml.neurons.gpu import scans
from tests.neuron_helpers import Layer, currents, derivatives, uniform


class NoDevice:
    """As much of a Triton driver as compiling asks for: a device of the Hopper generation."""

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0


def registers_and_stack(cubin: bytes) -> tuple[int, int]:
    """Registers of a thread, and bytes that it spills or keeps in memory."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(cubin)
        tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
        said = subprocess.run([tool, "-res-usage", path], capture_output=True, text=True, check=True).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+)", said)
    assert found is not None, said
    return int(found[1]), int(found[2])


def layers() -> Iterator[Layer]:
    """From the plainest to those in which all there is happens."""
    for dtype in (torch.float32, torch.float64):
        x, shape = currents((3, 2, 4, 5, 8), 0, dtype), (4, 1, 1)
        yield Layer(x, LIFParameters(), 3)
        yield Layer(x, LIFParameters(reset="none"), 3, uniform((1, 2, 4, 1, 1), 0.5, 1.5, 1, dtype))
        yield Layer(x, LIFParameters(reset="zero", detach_reset=False), 3, uniform((3, 2, 1, 5, 8), 0.5, 1.5, 1, dtype))
        learned = [uniform(shape, 0.5, 0.9, k, dtype) for k in range(4)]
        for delay, reset, name in ((True, "subtract", "sigmoid"), (False, "zero", "atan"), (False, "subtract", "atan")):
            beta, alpha, rho, adaptation = learned
            p = LIFParameters(beta, 1.0, reset, Surrogate(name), delay, False, alpha, rho, adaptation)
            yield Layer(x[:1].detach().requires_grad_(), p, 3)
        for name in ("triangular", "straight_through"):
            yield Layer(x, LIFParameters(surrogate=Surrogate(name)), 3)


def main() -> None:
    def run(self: Any, kernel: Any, *arguments: Any, many_rows: bool, **constants: Any) -> None:
        block = scans.block_size(self.like.dtype, many_rows)
        options = {"BLOCK": block, "num_warps": scans.WARPS, "enable_fp_fusion": False}
        built = kernel.run(*arguments, **constants, **options, grid=None, warmup=True)
        registers, stack = registers_and_stack(built.asm["cubin"])
        fused = len(re.findall(r"\bfma\.", built.asm["ptx"]))
        line = {"kernel": kernel.fn.__name__, "dtype": str(self.like.dtype), "how": constants["how"], "block": block}
        print(json.dumps({**line, "registers": registers, "stack": stack, "fused multiply-adds": fused}))

    driver.set_active(NoDevice())
    scans._Call.run = run
    fused_module.scans_for = lambda x: scans
    empty, torch.Tensor.new_empty = torch.Tensor.new_empty, torch.Tensor.new_zeros  # for nothing computes outputs
    for layer in layers():
        derivatives(layer, 0, lif)
        derivatives(layer, 0, lif, order=1)
    torch.Tensor.new_empty = empty


if __name__ == "__main__":
    assert os.environ.get("TRITON_INTERPRET", "0") == "0"
    main()
