"""Measured: what steps took on this machine, kept in the workspace by probes and by finished trainings."""

from __future__ import annotations

import fcntl
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from engine import files
from engine.config import UserError
from engine.plan import speed
from engine.plan.here import Here, precision_of
from engine.recipe import Recipe
from engine.workspace import Workspace

MOST_SAVED = 0.2         # of a step by compiling, as far as was ever measured here
COMPILE_SECONDS = 40.0   # that compiling takes, before it was tried on a model
NEAR = 4.0               # times the arithmetic or width, or a part, within which a shape's speed tells of another's
KEPT = 200               # newest measurements


class Measured(NamedTuple):
    """What real steps took, on one machine with one shape of batch and model. 0 is what was not measured."""

    step_seconds: float
    look_seconds: float    # one micro-batch of validation
    token_seconds: float   # one token of a sample
    save_seconds: float    # one checkpoint
    start_seconds: float   # from the start of the process to the first step, with what is slower in the first few
    peak_gib: float        # without the copy for a checkpoint
    watts: float
    flops: float           # of the step, a second
    steps: int             # how many were measured
    source: str            # the run that measured


class Near(NamedTuple):
    """A measurement of another shape: how much longer a step took than was reckoned, and where."""

    factor: float
    source: str


def key(recipe: Recipe, machine: Here, compiled: bool) -> str:
    """What a measurement holds for: the shape of model and batch, the optimizer, the processes and this machine.

    `compiled`: whether `torch.compile` is tried; what it then came to belongs to the measurement.
    """
    train, shared = recipe.train, speed.shared(recipe, machine)
    return files.fingerprint(recipe.model.dump(), train.micro_batch_size, train.accumulation, recipe.optim.kind,
                             [layer.dump() for layer in recipe.optim.layers], recipe.stage.dump(),
                             train.ema_decay > 0, recipe.tokens.document_mask, train.precision, train.device,
                             [shared.here, shared.all, train.strategy if shared.all > 1 else ""], compiled,
                             machine.name, machine.cores)


def compiles(recipe: Recipe, step_seconds: float) -> bool:
    """Whether a run whose steps take so long, not compiled, tries `torch.compile` (`runs.compiling`)."""
    asked = recipe.train.compile
    if asked == "auto":
        return step_seconds * recipe.train.max_steps * MOST_SAVED >= COMPILE_SECONDS
    return asked == "on"


def keep(workspace: Workspace, recipe: Recipe, measured: Measured, machine: Here, *, compiled: bool = False) -> None:
    """Remember a measurement in the workspace; the newest of a key replaces those before.

    What was tried and left uncompiled holds for runs that try it and for those that do not.
    """
    path = _path(workspace)
    estimated, _ = speed.step(recipe, machine)
    entry = {**measured._asdict(), "machine": machine.name, "precision": precision_of(recipe, machine),
             "estimated_seconds": estimated, "step_flops": speed.flops(recipe, machine),
             "width": recipe.model.hidden_size, "compiled": compiled}
    with open(path.with_name(f".{path.name}.lock"), "a") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)  # trials of a sweep end at the same time
        known = _known(path)
        for tried in {True} if compiled else {False, compiles(recipe, measured.step_seconds)}:
            known.pop(mark := key(recipe, machine, tried), None)  # the newest stands last
            known[mark] = entry
        files.write_json(path, dict(list(known.items())[-KEPT:]))


def measured(workspace: Workspace, recipe: Recipe, machine: Here) -> Measured | None:
    """What was measured of exactly this, if it was."""
    known = _known(_path(workspace))
    plain, tried = (_read(known.get(key(recipe, machine, each))) for each in (False, True))
    told = plain or tried
    return (tried if compiles(recipe, told.step_seconds) else plain) if told else None


def near(workspace: Workspace, recipe: Recipe, machine: Here) -> Near | None:
    """The measurement on this machine in the same format whose shape is nearest; None if none is near."""
    wanted, width = speed.flops(recipe, machine), recipe.model.hidden_size
    best: tuple[float, Near] | None = None
    for found in _of(workspace, machine):
        try:
            if found["precision"] != precision_of(recipe, machine):
                continue
            more, wider = abs(math.log(found["step_flops"] / wanted)), abs(math.log(found["width"] / width))
            factor = found["step_seconds"] / found["estimated_seconds"]
        except (KeyError, TypeError, ValueError, ZeroDivisionError):
            continue  # of an earlier version
        if max(more, wider) <= math.log(NEAR) and (best is None or more + wider <= best[0]):
            best = more + wider, Near(factor, str(found.get("source", "")))
    return best[1] if best else None


def start_seconds(workspace: Workspace, machine: Here) -> float:
    """What the newest training here took from the start of its process to its first step, not compiled; 0 if nobody
    knows. The shape hardly matters: libraries are loaded."""
    return next((found["start_seconds"] for found in reversed(list(_of(workspace, machine)))
                 if not found.get("compiled") and isinstance(found.get("start_seconds"), float)
                 and found["start_seconds"] > 0), 0.0)


def _of(workspace: Workspace, machine: Here) -> Iterator[dict[str, Any]]:
    return (found for found in _known(_path(workspace)).values()
            if isinstance(found, dict) and found.get("machine") == machine.name)


def _path(workspace: Workspace) -> Path:
    return workspace.path / "measured.json"


def _known(path: Path) -> dict[str, Any]:
    try:
        found = files.read_json(path) if path.exists() else {}
    except UserError:  # damaged: it is measured again
        return {}
    return found if isinstance(found, dict) else {}


def _read(found: dict[str, Any] | None) -> Measured | None:
    try:
        return Measured(**{name: found[name] for name in Measured._fields}) if found else None
    except (KeyError, TypeError):
        return None
