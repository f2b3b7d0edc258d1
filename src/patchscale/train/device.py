"""The device that trains: its memory, its threads, and its determinism."""

import os
import shutil
import sys
import sysconfig
import tempfile
import textwrap
import time
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import torch

CACHE = "TORCHINDUCTOR_CACHE_DIR"
CGROUP = Path("/sys/fs/cgroup")


def prepare(device: str, threads: int, compiled: bool) -> None:
    """Make trainings in this process deterministic on `threads` threads.

    Parameters
    ----------
    device
        `cuda`, `mps` or `cpu`.
    threads
        Threads of CPU operations. Another number gives other last bits.
    compiled
        Whether layers will be compiled. The compiler then forgets earlier models, because it
        gives up after a few shapes in one process.
    """
    if device == "cuda":
        # cuBLAS is deterministic only with a workspace of fixed size
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(threads)
    if compiled:
        torch.compiler.reset()
    reset_peak(device)


def emulates_bfloat16(device: str) -> bool:
    """Tell whether the device is a CPU whose products of bfloat16 are slower than of float32.

    oneDNN multiplies bfloat16 matrices with AVX-512 or its ARM counterparts. Without them torch
    falls back to a loop on one thread.
    """
    return device == "cpu" and not torch.ops.mkldnn._is_mkldnn_bf16_supported()


def leave_unwritable_cache() -> None:
    """Unset TORCHINDUCTOR_CACHE_DIR where that folder cannot be written, and say so.

    Torch cannot even build a model then. Without the variable it uses a temporary folder.
    """
    if folder := os.environ.get(CACHE):
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            del os.environ[CACHE]
            reason = f"{folder!r} cannot be written ({error.strerror})"
            print(f"{CACHE}: {reason}; a temporary folder is used", file=sys.stderr)


@cache
def can_compile(device: str) -> bool:
    """Tell whether torch.compile works here; print a line that says why it does not.

    A tiny function is compiled to find out, once in a process.
    """
    reason = _missing(device) or _fault(device)
    if reason:
        print(f"layers are not compiled, which takes longer: {reason}", file=sys.stderr)
    return not reason


def _missing(device: str) -> str:
    """Return what a compilation lacks, or an empty string."""
    if device == "cuda":
        return "" if find_spec("triton") else "Triton is not installed"
    if not Path(sysconfig.get_paths()["include"], "Python.h").is_file():
        return "the header Python.h is missing"
    compilers = (os.environ.get("CXX", ""), "clang++", "g++")
    return "" if any(map(shutil.which, compilers)) else "there is no C++ compiler"


def _fault(device: str) -> str:
    """Compile a function that no cache contains; return why that failed, or an empty string."""
    factor = 1 + time.time_ns() % 10**9 / 10**9

    def scaled(x: torch.Tensor) -> torch.Tensor:
        return x * factor

    try:
        compiled = torch.compile(scaled, dynamic=False, options={"fx_graph_cache": False})
        compiled(torch.ones(8, device=device))
    except Exception as error:  # of Dynamo, Inductor, the compiler, the loader, or the disk
        return why_not_compiled(error)
    return ""


def is_of_compiler(error: Exception) -> bool:
    """Tell whether an error of a compiled step is one of the compiler or of its files."""
    from torch._dynamo.exc import BackendCompilerFailed

    return isinstance(error, BackendCompilerFailed | OSError)


def why_not_compiled(error: Exception) -> str:
    """Return the reason of a failed compilation in one line."""
    inner = getattr(error, "inner_exception", error)
    lines = [line for line in str(getattr(inner, "output", inner)).splitlines() if line.strip()]
    telling = [line for line in lines if "error:" in line.lower()] or lines
    line = telling[0] if telling else type(inner).__name__
    return textwrap.shorten(line, 200, placeholder=" ...")


def available(device: str) -> int:
    """Return the free memory of the device in bytes; on a CPU that of this container."""
    if device == "cuda":
        return int(torch.cuda.mem_get_info()[0])
    if device == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    free = int(psutil.virtual_memory().available)
    with suppress(OSError, ValueError):  # there is no container, or it has no limit
        limit, used = (int((CGROUP / f"memory.{name}").read_text()) for name in ("max", "current"))
        stat = dict(line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
        cached = sum(int(stat.get(f"{kind}active_file", 0)) for kind in ("", "in"))  # reclaimable
        free = min(free, limit - used + cached)
    return free


def peak(device: str) -> int:
    """Return the largest number of bytes that this process has held on the device."""
    if device == "cuda":
        return int(torch.cuda.max_memory_allocated())
    if device == "mps":
        return int(torch.mps.driver_allocated_memory())
    try:
        import resource
    except ImportError:  # Windows records the peak itself
        return int(psutil.Process().memory_info().peak_wset)
    unit = 1 if psutil.MACOS else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def reset_peak(device: str) -> None:
    """Reset what `peak` returns, where the system allows it (CUDA and Linux)."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def ran_out(error: RuntimeError) -> bool:
    """Tell whether an error means that the device has too little memory."""
    return isinstance(error, torch.OutOfMemoryError) or any(
        words in str(error)
        for words in ("can't allocate memory", "not enough memory", "out of memory")
    )


def release(device: str) -> None:
    """Return cached memory blocks to the device after a failed attempt."""
    module: Any = {"cuda": torch.cuda, "mps": torch.mps}.get(device)
    if module is not None:
        module.empty_cache()
