"""Turns: the process that starts what waits in the queue, each run in its turn, and ends when nothing is left."""

from __future__ import annotations

import fcntl
import os
import time
from dataclasses import replace
from typing import IO, Any

import yaml

from engine import files
from engine.config import UserError
from engine.runs.folder import STALE_SECONDS, Run
from engine.runs.launch import launch, reap
from engine.runs.queue import DEVICE, TURN, Entry, devices, editing, entries, folder, todo, waiting
from engine.workspace import Workspace

POLL_SECONDS = 1.0
TRIES = 3  # what kills its worker that often, such as memory, would do so for ever


def drive(workspace: Workspace, poll_seconds: float = POLL_SECONDS) -> None:
    """Start what waits, each in its turn, until nothing is left to start. Returns soon if another process does so."""
    while todo(workspace):  # asked again without the lock: what came in between found it held and went away
        with open(folder(workspace) / "lock", "a") as file:
            if not _taken(file):
                return
            while todo(workspace):
                turn(workspace)
                time.sleep(poll_seconds)


def _taken(file: IO[str]) -> bool:
    """Whether the lock is now this process's. A viewer tests it for some microseconds; a process keeps it."""
    for _ in range(20):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError:
            time.sleep(0.02)
    return False


def turn(workspace: Workspace) -> None:
    """One look: drop what ended, resume what was lost, start what may start."""
    with editing(workspace):
        reap()
        known = entries(workspace)
        for entry in known:
            if entry.begun:
                _look_after(entry)
        used = _used(workspace)
        for entry in known:
            if entry.begun or entry.held or entry.start_at > time.time():
                continue
            free = [device for device in _choices(entry) if device not in used]
            if free:
                _begin(entry, free[0])
                used.add(free[0])


def _look_after(entry: Entry) -> None:
    """A run that had its turn: it ended, goes on, or was lost with the machine and is resumed."""
    state = entry.run.status().state
    if state == "lost" and entry.tries < TRIES:
        _begin(entry, entry.device)
    elif state in ("finished", "stopped", "failed", "lost"):
        if state == "lost":
            entry.run.event("warning", sentence=f"The worker of this run died {TRIES} times; the queue goes on "
                                                "without it. The log may say why.")
        entry.drop()
        print(f"{entry.run.name} is {state}", flush=True)


def _begin(entry: Entry, device: str) -> None:
    print(f"{entry.run.name} starts on {device}", flush=True)
    replace(entry, begun=time.time(), tries=entry.tries + 1, device=device).write()
    before = os.environ.get("CUDA_VISIBLE_DEVICES")
    try:
        if device.startswith("cuda:"):
            os.environ["CUDA_VISIBLE_DEVICES"] = device.removeprefix("cuda:")
        launch(entry.run)
    except UserError as problem:  # somebody else started it in this moment
        print(problem.sentence, flush=True)
    finally:
        if before is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = before
        else:
            os.environ.pop("CUDA_VISIBLE_DEVICES", None)


def _choices(entry: Entry) -> list[str]:
    """The devices that a run may have: the one that was asked for, or any of the kind that its recipe trains on."""
    if entry.device != "auto":
        return [entry.device]
    gpus = [device for device in devices() if device != "cpu"]
    return gpus if gpus and _asked(entry.run) != "cpu" else ["cpu"]


def _used(workspace: Workspace) -> set[str]:
    """The devices that have a run, started from here or by hand."""
    found = set()
    for path in workspace.listing("runs"):
        run = Run(path)
        if not (run.locked() or _about_to_start(run)):
            continue
        told = path / (TURN if (path / TURN).exists() else DEVICE)
        try:
            found.add(str(files.read_json(told)["device"]))
        except (UserError, KeyError):
            found.add("cpu" if len(devices()) == 1 or _asked(run) == "cpu" else devices()[0])
    return found


def _about_to_start(run: Run) -> bool:
    """Whether a worker was launched that has not taken its lock yet."""
    try:
        fresh = time.time() - (run.path / "status.json").stat().st_mtime < STALE_SECONDS
    except OSError:
        return False
    return fresh and not waiting(run) and run.status().state == "queued"


def _asked(run: Run) -> str:
    """The device that a run's recipe asks for: auto, cpu or cuda."""
    try:
        recipe: Any = yaml.safe_load(run.recipe_path.read_text(encoding="utf-8"))
        return str(recipe["train"]["device"])
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        return "auto"
