"""Here: this machine as the plan sees it, and what was measured on it before."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

from engine import files, hardware
from engine.config import UserError
from engine.recipe import Recipe
from engine.workspace import Workspace

GPUS = Path("/proc/driver/nvidia/gpus")
ASSUMED_FLOPS = {"bf16": 120e9, "float32": 45e9}
"""FLOP/s of a training step on one core before anything was measured here: what the engine reached on a processor with
bf16 products (Zen 5), and on the same one without them. Others may be three times as fast or as slow."""


class Here(NamedTuple):
    """One machine: what it has, and which number format `auto` will most likely become there."""

    name: str
    device: str            # cpu or cuda
    cores: float
    memory_bytes: float    # of the device
    precision: str


class Measured(NamedTuple):
    """What a few real steps took, on one machine with one shape of batch and model."""

    step_seconds: float
    look_seconds: float    # one micro-batch of validation
    token_seconds: float   # one token of a sample
    save_seconds: float    # one checkpoint
    start_seconds: float   # from the start of the process to the first step
    peak_gib: float
    watts: float
    flops: float           # of the step, a second
    steps: int             # how many were measured
    source: str            # the run that measured


def here() -> Here:
    """This machine."""
    gpu = _gpu()
    if gpu:
        return Here(gpu, "cuda", hardware.cores(), 0.0, "bf16")
    return Here(hardware.processor(), "cpu", hardware.cores(), float(hardware.memory()[0]), _processor_precision())


def _gpu() -> str:
    """The first NVIDIA GPU's name as its driver tells it; torch, which would know, takes seconds to ask."""
    try:
        texts = [path.read_text() for path in sorted(GPUS.glob("*/information"))]
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for text in texts for line in text.splitlines()
                 if line.startswith("Model")), "")


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


# Measurements -----------------------------------------------------------------------------------------


def key(recipe: Recipe, machine: Here) -> str:
    """What a measurement holds for: the shape of model and batch, the optimizer and this machine."""
    train = recipe.train
    return files.fingerprint(recipe.model.dump(), train.micro_batch_size, train.accumulation, recipe.optim.kind,
                             recipe.stage.dump(), train.ema_decay > 0, recipe.tokens.document_mask,
                             train.precision, train.device, machine.name, machine.cores)


def keep(workspace: Workspace, recipe: Recipe, measured: Measured, machine: Here) -> None:
    """Remember a measurement in the workspace; the newest of a key replaces those before."""
    path = _path(workspace)
    known = _known(path)
    known.pop(mark := key(recipe, machine), None)  # the newest stands last
    known[mark] = {**measured._asdict(), "machine": machine.name, "precision": precision_of(recipe, machine)}
    files.write_json(path, dict(list(known.items())[-200:]))


def measured(workspace: Workspace, recipe: Recipe, machine: Here) -> Measured | None:
    """What was measured of exactly this, if it was."""
    found = _known(_path(workspace)).get(key(recipe, machine))
    return _read(found) if found else None


def reached(workspace: Workspace, recipe: Recipe, machine: Here) -> tuple[float, str] | None:
    """(FLOP/s, run) that the newest training of another shape reached on this machine in the same format."""
    for found in reversed(list(_known(_path(workspace)).values())):
        if found.get("machine") == machine.name and found.get("precision") == precision_of(recipe, machine):
            made = _read(found)
            return (made.flops, made.source) if made else None
    return None


def _path(workspace: Workspace) -> Path:
    return workspace.path / "measured.json"


def _known(path: Path) -> dict[str, Any]:
    try:
        found = files.read_json(path) if path.exists() else {}
    except UserError:  # damaged: it is measured again
        return {}
    return found if isinstance(found, dict) else {}


def _read(found: dict[str, Any]) -> Measured | None:
    try:
        return Measured(**{name: found[name] for name in Measured._fields})
    except (KeyError, TypeError):
        return None
