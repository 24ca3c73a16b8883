"""The processor that the work runs on, and what it can do."""

import ctypes
import platform
import re
from functools import cache
from pathlib import Path

import torch

from common.errors import InputError


def resolve_device(name: str) -> torch.device:
    """`auto`, `cpu`, `cuda` or `cuda:n` -> a device that is there.

    Raises:
        InputError: no such device.
    """
    set_up_process()
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, number = name.partition(":")
    if name != "cpu" and (kind != "cuda" or not (number.isdecimal() or name == "cuda")):
        raise InputError(f"unknown device {name!r}: choose from auto, cpu, cuda, cuda:n")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise InputError(f"no device {name!r} here ({torch.cuda.device_count()} CUDA devices): use --device=cpu")
    return torch.device(name)


def set_up_process() -> None:
    """What every process that computes needs: float32 meant as float32, and memory that stays."""
    exact_float32()
    keep_freed_memory()


def exact_float32() -> None:
    """PyTorch lets a GPU convolve float32 with ten bits of mantissa (TF32); here it doesn't."""
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


# Of glibc's malloc.h. Blocks larger than the one go back to the system when they are freed, the heap's end when it is
# longer than the other.
M_MMAP_THRESHOLD, M_TRIM_THRESHOLD = -3, -1
LARGEST = 32 * 2**20  # the largest threshold that every version takes


def keep_freed_memory() -> bool:
    """Have the C library keep freed memory for the next tensor of that size, as PyTorch does on a GPU.

    Otherwise each large tensor gets its pages anew from the system, zeroed, which can take longer than filling it. In
    return the process holds more than it uses: small blocks that come to lie between large ones keep their places from
    being taken by others as large, which settles after a few rounds of the same work. Where the library is not glibc,
    nothing changes.

    Returns:
        Whether it does.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if platform.system() == "Linux" else None
    if mallopt is None:
        return False
    return bool(mallopt(M_TRIM_THRESHOLD, 2**31 - 1)) and any(
        mallopt(M_MMAP_THRESHOLD, size) for size in (2**30, LARGEST)
    )


@cache
def has_bfloat16(kind: str) -> bool:
    """Whether the processor multiplies bfloat16 in hardware; elsewhere bfloat16 is slower than float32."""
    if kind == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool({"avx512_bf16", "amx_bf16", "bf16"} & set(_cpu_info().split()))


def _cpu_info() -> str:
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8") if path.exists() else ""


def mixed_precision(device: torch.device) -> torch.autocast:
    """Return a `with` block in which matrix products and convolutions run in bfloat16 where that pays."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=has_bfloat16(device.type))


def device_name(device: torch.device) -> str:
    """The hardware in words, for the record of a run."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    models = re.findall(r"^model name\s*: (.+)$", _cpu_info(), re.MULTILINE)
    threads = torch.get_num_threads()
    return f"{models[0] if models else platform.machine()}, {threads} {'thread' if threads == 1 else 'threads'}"
