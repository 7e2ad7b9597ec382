"""Runs: the process that does the work, and the folder that tells of it.

`start`, `resume`, `stop` and `listing` are all that a viewer needs; none of them imports torch.
"""

from __future__ import annotations

import errno
import json
import platform
import shutil
import time
import uuid
from dataclasses import asdict
from pathlib import Path

from engine import __version__, files
from engine.config import UserError
from engine.recipe import Recipe
from engine.runs import queue
from engine.runs.folder import Run, Status
from engine.runs.history import foretell
from engine.runs.launch import launch
from engine.runs.outside import hand_over, require_here
from engine.runs.possible import require_possible
from engine.runs.trashed import trash
from engine.workspace import Workspace, slug

__all__ = ["Run", "Status", "create", "enqueue", "find", "listing", "pause", "recipe_of", "resume", "start", "stop",
           "trash"]


def create(recipe: Recipe, workspace: Workspace | None = None) -> Run:
    """A new run folder that asks for the recipe; nothing is started. The name gets a number if it is taken. The folder
    is there in full or not at all, whatever happens meanwhile.

    Raises UserError for what is known to be impossible here, before there is a folder.
    """
    workspace = workspace or Workspace()
    require_possible(recipe, workspace)
    root, name = workspace.place("runs"), slug(recipe.name)
    files.require_space(root, 64 << 20)
    beside = root / f".{name}.{uuid.uuid4().hex[:8]}"
    try:
        (beside / "requests").mkdir(parents=True)
        _write_first(Run(beside), recipe)
        run = Run(_called(beside, name))
    except OSError as error:
        raise files.unwritable(root / name, error) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    foretell(run, recipe, workspace)
    return run


def _write_first(run: Run, recipe: Recipe) -> None:
    """All that a run's folder holds before anything is started."""
    files.write(run.recipe_path, recipe.to_yaml())
    files.write_json(run.path / "machine.json", {"studio": __version__, "python": platform.python_version(),
                                                 "system": platform.platform(), "host": platform.node(),
                                                 "seed": recipe.seed})
    files.write_json(run.path / "status.json", asdict(Status(created=time.time(), host=platform.node())))
    run.event("state", state="queued")


def _called(beside: Path, name: str) -> Path:
    """The folder under its name, or, while there is something of that name, with the next number behind it."""
    number = 1
    while True:
        path = beside.with_name(name if number == 1 else f"{name}-{number}")
        try:
            return beside.rename(path)  # takes the place of nothing but an empty folder
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
            number += 1


def start(recipe: Recipe, workspace: Workspace | None = None) -> Run:
    """Create a run and launch its worker; returns at once."""
    run = create(recipe, workspace)
    if not hand_over(run, recipe):
        launch(run)
    return run


def enqueue(recipe: Recipe, workspace: Workspace | None = None, *, device: str = "auto", start_at: float = 0.0,
            held: bool = False) -> Run:
    """Create a run and put it at the end of the queue; it starts when its device is free, not before `start_at`."""
    require_here(recipe, "the queue")
    run = create(recipe, workspace)
    queue.add(run, device=device, start_at=start_at, held=held)
    return run


def resume(run: Run) -> Run:
    """Go on in the same folder from the last complete checkpoint, wake a paused run, or start a waiting one now."""
    if queue.waiting(run):
        queue.start_now(run)
        return run
    status = run.status()
    if status.state == "paused":
        run.request("resume")
        return run
    if status.active and run.requested("pause", take=True):
        return run  # it had not paused yet
    if status.active:
        raise run.busy()
    if status.state == "finished":
        raise UserError(f"run {run.name} is finished; start a new run to train further.", where=run.name)
    if not hand_over(run, recipe_of(run)):
        launch(run)
    return run


def stop(run: Run) -> None:
    """Ask the run to save and stop at the next step boundary; one that waits in the queue is taken out of it."""
    status = run.status()
    if queue.waiting(run):
        queue.remove(run)
    elif status.awaits:
        run.write_status(state="stopped", awaits="", message="")
        run.event("state", state="stopped")
    elif status.active:
        run.request("stop")


def pause(run: Run) -> None:
    """Ask the run to save, and to wait at the next step boundary until it is resumed or stopped.

    Raises UserError when it is not training: other jobs are short, and can be stopped.
    """
    status = run.status()
    if not status.active or status.job not in ("", "train"):  # no job yet: it may well be training soon
        doing = f"at {status.job}" if status.active and status.job else status.state
        raise UserError(f"run {run.name} is {doing}, and only training can be paused.", where=run.name)
    run.request("pause")


def listing(workspace: Workspace | None = None) -> list[Run]:
    """All runs, newest first."""
    found = [Run(p) for p in (workspace or Workspace()).listing("runs") if (p / "recipe.yaml").exists()]
    return sorted(found, key=lambda run: _created(run), reverse=True)


def _created(run: Run) -> float:
    try:
        return float(json.loads((run.path / "status.json").read_text())["created"])
    except (OSError, ValueError, KeyError):
        return 0.0


def find(name: str | Path, workspace: Workspace | None = None) -> Run:
    """The run of that name, or at that path; a UserError lists the names there are."""
    workspace = workspace or Workspace()
    path = workspace.place("runs") / str(name)
    if path.parent != workspace.place("runs") or not (path / "recipe.yaml").exists():
        names = [run.name for run in listing(workspace)]
        raise UserError(f"there is no run called {name}; there are {', '.join(names[:12]) or 'none yet'}.",
                        where=str(name))
    return Run(path)


def recipe_of(run: Run) -> Recipe:
    """What the run was asked to do."""
    try:
        text = run.recipe_path.read_text(encoding="utf-8")
    except OSError:
        raise UserError(f"{run.recipe_path} is missing; the run cannot be resumed.", where=run.name) from None
    return Recipe.from_yaml(text, str(run.recipe_path))
