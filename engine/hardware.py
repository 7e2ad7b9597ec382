"""Hardware: what this machine has, and what it is measured to do best. torch is imported inside functions alone.

Which number format is fastest is measured and not looked up. Processors without bf16 instructions offer
bf16 all the same, at a fifteenth to two thirds of float32's speed, and so do some that list the
instructions: an Intel Xeon with avx512_bf16 but no AMX was measured at half.
"""

from __future__ import annotations

import ctypes
import os
import platform
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from engine.config import UserError

PROBE_SECONDS = 0.012     # for each candidate
PROBE_SIZE = 256          # rows and columns: 34 MFLOP
WORTH_IT = 1.15           # bf16 has 8 bits of precision; a smaller gain than this is not worth them
MEDIUM_ERROR = 1e-3       # relative error of a float32 product above which "medium" rounds to fewer bits
GIB = 1 << 30


def cores() -> float:
    """Processor cores that this process may use: affinity and the container's share looked at."""
    allowed = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    quota = _cgroup("cpu.max").split()
    if len(quota) == 2 and quota[0].isdigit():
        allowed = min(allowed, int(quota[0]) / int(quota[1]))
    return allowed


def memory() -> tuple[int, int]:
    """Bytes of main memory, in all and available now; a container's limit counts as all."""
    state = psutil.virtual_memory()
    limit, used = _cgroup("memory.max"), _cgroup("memory.current")
    if limit.isdigit() and used.isdigit() and int(limit) < state.total:
        return int(limit), max(0, min(state.available, int(limit) - int(used)))
    return state.total, state.available


def processor() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def devices() -> list[dict[str, Any]]:
    """Every device that can train: {"device", "name", "memory_bytes"}; the processor comes last."""
    import torch

    found = []
    for i in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        facts = torch.cuda.get_device_properties(i)
        found.append({"device": f"cuda:{i}", "name": facts.name, "memory_bytes": facts.total_memory})
    return [*found, {"device": "cpu", "name": processor(), "memory_bytes": memory()[0]}]


def choose_device(asked: str = "auto") -> str:
    """"cuda" or "cpu": what was asked, or a GPU if there is one. UserError if what was asked is not there."""
    import torch

    if asked == "cuda" and not torch.cuda.is_available():
        raise UserError("train.device is cuda, but torch finds no CUDA device here; choose auto or cpu.",
                        where="train.device")
    return ("cuda" if torch.cuda.is_available() else "cpu") if asked == "auto" else asked


def choose_precision(device: str = "cpu") -> tuple[str, str]:
    """("bf16" or "float32", why): whichever multiplies matrices faster here, measured for about 50 ms."""
    import torch

    full, _ = choose_matmul_precision(device)
    float32 = _with_matmul_precision(full, lambda: _probe(device, torch.float32))
    try:
        bf16 = _probe(device, torch.bfloat16)
    except RuntimeError:
        return "float32", "this device cannot multiply in bf16"
    unit = "GFLOP/s" if device.startswith("cuda") else "GFLOP/s a core"
    figures = f"a matrix product runs at {bf16 / 1e9:.3g} {unit} in bf16 and {float32 / 1e9:.3g} in float32 here"
    return ("bf16" if bf16 > WORTH_IT * float32 else "float32"), figures


def choose_matmul_precision(device: str = "cpu") -> tuple[str, str]:
    """(value for `torch.set_float32_matmul_precision`, why).

    On a processor "medium" lets oneDNN multiply, which on AMD is about twice as fast as MKL and as
    exact; where it rounds to bf16 instead, "highest" stays. A GPU gets TF32.
    """
    import torch

    if device.startswith("cuda"):
        return "high", "TF32 keeps float32's range and 10 of its 23 bits, at several times the speed"
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(128, 128, generator=generator) for _ in range(2))
    exact = a.double() @ b.double()
    error = _with_matmul_precision("medium", lambda: float((a @ b - exact).abs().max() / exact.abs().max()))
    if error > MEDIUM_ERROR:
        return "highest", f"medium rounds float32 to fewer bits here (relative error {error:.0e})"
    speeds = {value: _with_matmul_precision(value, lambda: _probe(device, torch.float32))
              for value in ("highest", "medium")}
    why = ", ".join(f"{value} {speed / 1e9:.3g}" for value, speed in speeds.items()) + " GFLOP/s a core"
    return ("medium" if speeds["medium"] >= speeds["highest"] else "highest"), why


def peak_flops(device: str = "cpu", precision: str = "float32", seconds: float = 0.3) -> float:
    """FLOP/s of the largest matrix product that is worth measuring: the 100 % of a model's utilisation (MFU)."""
    import torch

    dtype = {"bf16": torch.bfloat16, "float32": torch.float32}[precision]
    return _flops(device, dtype, 8192 if device.startswith("cuda") else 1024, seconds)


def memory_bandwidth(seconds: float = 1.0) -> float:
    """Bytes of main memory that all cores together read in a second, the best of many short looks.

    They go round in an array larger than caches, each at a part of it that the others have pushed out.
    """
    import torch

    parts = torch.ones(32, min(512 << 20, max(64 << 20, memory()[1] // 8)) // 128)
    best, until, looks = float("inf"), time.perf_counter() + seconds, 0
    while looks < len(parts) or time.perf_counter() < until:
        part = parts[looks % len(parts)]
        begun = time.perf_counter()
        part.sum()
        best, looks = min(best, time.perf_counter() - begun), looks + 1
    return parts[0].numel() * 4 / best


def keep_freed_memory() -> bool:
    """Let glibc keep what tensors free, instead of giving it to the kernel and faulting it in again each step.

    Worth 13-18 % of a training step on a processor. Call once, early; True if it took effect.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False  # not glibc
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of malloc.h
    # Older glibc refuses a threshold above 32 MiB.
    large = any(mallopt(mmap_threshold, size) for size in (GIB, 32 << 20))
    return bool(large and mallopt(trim_threshold, 2 * GIB - 1))


def describe() -> dict[str, Any]:
    """The machine as JSON values, for a run's machine.json."""
    packages = {}
    for name in ("torch", "lightning", "tokenizers", "daft", "onnx", "onnxruntime", "numpy"):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = ""
    total, available = memory()
    return {"system": platform.platform(), "python": platform.python_version(), "processor": processor(),
            "cores": cores(), "memory_gib": round(total / GIB, 2), "memory_available_gib": round(available / GIB, 2),
            "devices": devices(), "packages": packages}


def _probe(device: str, dtype: Any) -> float:
    """A short look at one format. One thread: on a busy machine several wait for the one that was put aside."""
    import torch

    if device.startswith("cuda"):  # where small products measure the launch and not the arithmetic
        return _flops(device, dtype, 4096, PROBE_SECONDS)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _flops(device, dtype, PROBE_SIZE, PROBE_SECONDS)
    finally:
        torch.set_num_threads(threads)


def _flops(device: str, dtype: Any, size: int, seconds: float) -> float:
    """The best FLOP/s of a product of two square matrices within the time; the first one warms up."""
    import torch

    a, b = (torch.full((size, size), 0.5, dtype=dtype, device=device) for _ in range(2))
    wait = torch.cuda.synchronize if device.startswith("cuda") else (lambda: None)
    torch.mm(a, b)
    wait()
    best, until = float("inf"), time.perf_counter() + seconds
    while best == float("inf") or time.perf_counter() < until:
        begun = time.perf_counter()
        torch.mm(a, b)
        wait()
        best = min(best, time.perf_counter() - begun)
    return 2 * size**3 / best


def _with_matmul_precision(value: str, measure: Any) -> float:
    import torch

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(value)
    try:
        return float(measure())
    finally:
        torch.set_float32_matmul_precision(before)


def _cgroup(name: str) -> str:
    """A limit of the container this process is in, as the kernel writes it; empty without one."""
    try:
        return (Path("/sys/fs/cgroup") / name).read_text().strip()
    except OSError:
        return ""
