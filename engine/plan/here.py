"""Here: this machine as the plan sees it, without torch."""

from __future__ import annotations

import re
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from engine import files, hardware
from engine.config import UserError
from engine.plan import prices
from engine.plan.gpu import gpus
from engine.plan.prices import Machine
from engine.recipe import Recipe
from engine.workspace import Workspace

PROBE_SECONDS = 0.05
PROBE_SIZE = 64  # rows and columns: numpy's library multiplies so small a matrix on one core, whoever else is at work


class Here(NamedTuple):
    """One machine: what it has, and which number format `auto` will most likely become there."""

    name: str
    device: str            # cpu or cuda
    cores: float
    memory_bytes: float    # of the device; 0 if nobody knows
    precision: str
    core_flops: float = 0.0  # FLOP/s of a float32 product on one core, as numpy makes it; 0 where it was not tried
    gpus: int = 1          # of that name, which a training would take


def here(workspace: Workspace | None = None) -> Here:
    """This machine. How fast a core multiplies is tried once, for 50 ms, and remembered in the workspace."""
    found = gpus()
    if not found:
        name = hardware.processor()
        return Here(name, "cpu", hardware.cores(), float(hardware.memory()[0]), _processor_precision(),
                    _core_flops(workspace, name) if workspace is not None else 0.0)
    name, memory_bytes = found[0]
    try:
        figures = prices.load(workspace)
    except UserError:  # whoever asks for the plan hears of it
        figures = prices.load()
    known = figures.machine_of(name, memory_bytes)
    alike = sum(gpu.name == name for gpu in found)
    return Here(name, "cuda", hardware.cores(), memory_bytes or (known.memory_gb * 1e9 if known else 0.0),
                known.precision if known else "bf16", gpus=alike)


def rented(machine: Machine, devices: int = 1) -> Here:
    """So many devices of one kind elsewhere, as if they were here."""
    return Here(machine.name, "cuda", 0.0, machine.memory_gb * 1e9, machine.precision, gpus=devices)


def _processor_precision() -> str:
    """What the probe at a run's start will most likely find (`hardware.choose_precision`)."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "float32"
    flags = re.search(r"^flags\s*:(.*)$", text, re.MULTILINE)
    known = set(flags.group(1).split()) if flags else set()
    # An Intel Xeon with avx512_bf16 and no AMX is slower in bf16 than in float32 (see `engine.hardware`).
    intel = "GenuineIntel" in text
    return "bf16" if "amx_bf16" in known or ("avx512_bf16" in known and not intel) else "float32"


def precision_of(recipe: Recipe, machine: Here) -> str:
    """The number format that the recipe will be trained in."""
    return machine.precision if recipe.train.precision == "auto" else recipe.train.precision


def _core_flops(workspace: Workspace, name: str) -> float:
    """As tried now, or as remembered of a processor of that name."""
    path = workspace.path / "processors.json"
    try:
        known = files.read_json(path) if path.exists() else {}
        if isinstance(known, dict) and float(known.get(name, 0)) > 0:
            return float(known[name])
    except (UserError, TypeError, ValueError):  # damaged: it is tried again
        known = {}
    found = multiply()
    with suppress(UserError, OSError):  # where nothing can be kept, it is tried each time
        files.write_json(path, {**(known if isinstance(known, dict) else {}), name: found})
    return found


def multiply(seconds: float = PROBE_SECONDS) -> float:
    """FLOP/s of a product of two small float32 matrices on one core, the best of many."""
    import numpy as np

    a, b, out = (np.full((PROBE_SIZE, PROBE_SIZE), 0.5, np.float32) for _ in range(3))
    best, until = float("inf"), time.perf_counter() + seconds
    while best == float("inf") or time.perf_counter() < until:
        begun = time.perf_counter()
        for _ in range(4):
            np.dot(a, b, out=out)
        best = min(best, time.perf_counter() - begun)
    return 4 * 2 * PROBE_SIZE**3 / best
