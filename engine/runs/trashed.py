"""Trashed: runs that were moved to the workspace's trash, until they are brought back or deleted."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

from engine import files
from engine.config import UserError
from engine.runs.folder import Run
from engine.workspace import Workspace


def trash(run: Run, workspace: Workspace) -> Path:
    """Move a run that is not active to the workspace's trash; nothing is deleted."""
    if run.status().active:
        raise UserError(f"run {run.name} is {run.status().state}; stop it first.", where=run.name)
    target = workspace.path / "trash" / f"{run.name}-{int(time.time())}"
    number = 1
    while target.exists():
        number += 1
        target = target.with_name(f"{run.name}-{int(time.time())}.{number}")
    target.parent.mkdir(exist_ok=True)
    shutil.move(run.path, target)
    return target


def trashed(workspace: Workspace) -> list[Path]:
    """The folders of runs in the trash, latest first."""
    folder = workspace.path / "trash"
    found = [p for p in folder.iterdir() if (p / "recipe.yaml").exists()] if folder.is_dir() else []
    return sorted(found, key=lambda path: path.stat().st_ctime, reverse=True)


def restore(name: str, workspace: Workspace) -> Run:
    """Bring a run back among the others, under the name that it had, or with a number if that is taken."""
    source = _find(name, workspace)
    plain = was_called(source)
    target, number = workspace.place("runs") / plain, 1
    while target.exists():
        number += 1
        target = target.with_name(f"{plain}-{number}")
    os.replace(source, target)
    return Run(target)


def empty(workspace: Workspace) -> int:
    """Delete what is in the trash, for good; how many runs that were."""
    found = trashed(workspace)
    for path in found:
        try:
            shutil.rmtree(path)
        except OSError as error:
            raise files.unwritable(path, error) from error
    return len(found)


def was_called(path: Path) -> str:
    """The name that a run in the trash had."""
    return path.name.rpartition("-")[0] or path.name


def size_bytes(path: Path) -> int:
    """What a run takes on the disk."""
    return sum(p.stat().st_size for p in path.rglob("*") if p.is_file())


def _find(name: str, workspace: Workspace) -> Path:
    found = trashed(workspace)
    for path in found:
        if name in (path.name, was_called(path)):
            return path
    names = ", ".join(path.name for path in found[:12])
    raise UserError(f"there is no run called {name} in the trash; there are {names or 'none'}.", where=name)
