"""The device that computes, and its abilities."""

import ctypes
import os
import platform
import re
from functools import cache
from pathlib import Path

import torch

from common.errors import InputError

# Parameters of glibc's mallopt: larger blocks return to the system when freed, and so does a longer end of the heap.
M_MMAP_THRESHOLD, M_TRIM_THRESHOLD = -3, -1
LARGEST_THRESHOLD = 32 * 2**20  # that every version accepts
MUCH_MEMORY = 2**29  # bytes


def resolve_device(name: str) -> torch.device:
    """Set up this process and return the device `auto`, `cpu`, `cuda`, `cuda:n` or `mps` (Apple's GPU).

    Raises:
        InputError: no such device.
    """
    set_up_process()
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "mps":
        if not torch.backends.mps.is_available():
            raise InputError("no device 'mps' here (Apple's GPU): use --device=cpu")
        return torch.device(name)
    kind, _, number = name.partition(":")
    if name != "cpu" and (kind != "cuda" or not (number.isdecimal() or name == "cuda")):
        raise InputError(f"unknown device {name!r}: choose from auto, cpu, cuda, cuda:n, mps")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise InputError(f"no device {name!r} here ({torch.cuda.device_count()} CUDA devices): use --device=cpu")
    return torch.device(name)


def set_up_process() -> None:
    """Compute float32 exactly and keep freed memory, in every process that computes."""
    disable_tf32()
    keep_freed_memory()


def disable_tf32() -> None:
    """Keep GPUs from convolving float32 with ten bits of mantissa."""
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


def keep_freed_memory() -> bool:
    """Make glibc keep freed memory for the next tensor of that size, as PyTorch does on a GPU.

    Otherwise the system zeroes new pages for each large tensor, which can take longer than filling it. The process then
    holds more than it uses, until the heap settles after a few rounds of the same work.

    Returns:
        True if the C library is glibc and accepts.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if platform.system() == "Linux" else None
    if mallopt is None or not mallopt(M_TRIM_THRESHOLD, 2**31 - 1):
        return False
    return any(mallopt(M_MMAP_THRESHOLD, size) for size in (2**30, LARGEST_THRESHOLD))


def release_freed_memory() -> None:
    """Return freed memory to the system if this process holds much, between pieces of work of different shapes."""
    statm = Path("/proc/self/statm")
    if not statm.exists():
        return
    _size, resident, shared = map(int, statm.read_text(encoding="utf-8").split()[:3])
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None and (resident - shared) * os.sysconf("SC_PAGE_SIZE") > MUCH_MEMORY:
        trim(0)


@cache
def has_bfloat16(kind: str) -> bool:
    """Return whether the processor multiplies bfloat16 in hardware; elsewhere it is slower than float32."""
    if kind == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if kind != "cpu":
        return False
    return bool({"avx512_bf16", "amx_bf16", "bf16"} & set(_cpu_info().split()))


def _cpu_info() -> str:
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8") if path.exists() else ""


def mixed_precision(device: torch.device) -> torch.autocast:
    """Return a context in which matrix products and convolutions run in bfloat16 where the hardware has it."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=has_bfloat16(device.type))


def device_name(device: torch.device) -> str:
    """Return the hardware's name, for records."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "mps":
        return f"Apple GPU, {platform.machine()}"
    models = re.findall(r"^model name\s*: (.+)$", _cpu_info(), re.MULTILINE)
    threads = torch.get_num_threads()
    return f"{models[0] if models else platform.machine()}, {threads} {'thread' if threads == 1 else 'threads'}"
