"""What the machine offers a training: memory, and how it is given back."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import torch

CGROUP = Path("/sys/fs/cgroup")


def available(device: str) -> int:
    """Return the bytes a training may take: free memory of the device, or of our container."""
    if device == "cuda":
        return int(torch.cuda.mem_get_info()[0])
    if device == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    free = int(psutil.virtual_memory().available)
    with suppress(OSError, ValueError):  # no container, or one without a limit
        limit, used = (int((CGROUP / f"memory.{name}").read_text()) for name in ("max", "current"))
        stat = dict(line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
        cached = sum(int(stat.get(f"{kind}active_file", 0)) for kind in ("", "in"))  # reclaimable
        free = min(free, limit - used + cached)
    return free


def peak(device: str) -> int:
    """Return the most bytes this process has held at once on the device."""
    if device == "cuda":
        return int(torch.cuda.max_memory_allocated())
    if device == "mps":
        return int(torch.mps.driver_allocated_memory())
    try:
        import resource
    except ImportError:  # Windows keeps the peak itself
        return int(psutil.Process().memory_info().peak_wset)
    unit = 1 if psutil.MACOS else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def forget_peak(device: str) -> None:
    """Let `peak` begin anew, where the system can."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    with suppress(OSError):  # Linux
        Path("/proc/self/clear_refs").write_text("5")


def ran_out(error: RuntimeError) -> bool:
    """Tell whether an error is memory that could not be had."""
    return isinstance(error, torch.OutOfMemoryError) or any(
        words in str(error)
        for words in ("can't allocate memory", "not enough memory", "out of memory")
    )


def release(device: str) -> None:
    """Give cached blocks back after a failed attempt."""
    module: Any = {"cuda": torch.cuda, "mps": torch.mps}.get(device)
    if module is not None:
        module.empty_cache()
