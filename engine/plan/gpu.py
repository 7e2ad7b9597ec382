"""GPU: the NVIDIA GPUs of this machine as their driver tells them; torch, which would know, takes seconds to ask."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

GPUS = Path("/proc/driver/nvidia/gpus")


class Gpu(NamedTuple):
    """One GPU. `memory_bytes` is 0 where nobody tells it."""

    name: str
    memory_bytes: float


def gpus() -> list[Gpu]:
    """Every NVIDIA GPU, by NVML (the extra `gpu`), else by name alone from the kernel's driver."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return []
    return _by_nvml() or _by_kernel()


def _by_nvml() -> list[Gpu]:
    try:
        import pynvml

        pynvml.nvmlInit()
        found = []
        for place in range(pynvml.nvmlDeviceGetCount()):
            handle = pynvml.nvmlDeviceGetHandleByIndex(place)
            name = pynvml.nvmlDeviceGetName(handle)
            found.append(Gpu(name.decode() if isinstance(name, bytes) else str(name),
                             float(pynvml.nvmlDeviceGetMemoryInfo(handle).total)))
        return found
    except Exception:  # no library, no driver, no permission: each is its own error there
        return []


def _by_kernel() -> list[Gpu]:
    try:
        texts = [path.read_text() for path in sorted(GPUS.glob("*/information"))]
    except OSError:
        return []
    return [Gpu(line.partition(":")[2].strip(), 0.0) for text in texts for line in text.splitlines()
            if line.startswith("Model")]
