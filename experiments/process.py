"""How a process computes that belongs to `snn-anml` alone: the command line, or one of the runs that it starts."""

from __future__ import annotations

from experiments.allocator import keep_large_buffers


def prepare_process(device: str, threads: int | None = None) -> None:
    """Large buffers are kept; on a GPU full float32 and one order of adds, which training resumes bit for bit from.

    Args:
        device: where it will compute.
        threads: of torch, which it decides itself where None.
    """
    keep_large_buffers()
    if threads is None and not device.startswith("cuda"):
        return
    import torch  # late, since `snn-anml --help` need not wait for it

    if threads is not None:
        torch.set_num_threads(threads)
    if device.startswith("cuda"):
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.deterministic = True
