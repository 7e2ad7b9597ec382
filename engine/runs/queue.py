"""Queue: runs that wait for their turn, one at a time on each device, and the small process that starts them.

A run that waits is a run folder with a `queue.json`, which says its place, whether it is held, when it may start
and on which device; while it has its turn it is `turn.json`. There is no other list, so nothing can disagree with it.

    python -m engine queue work

starts what waits and ends when nothing is left to start. Whoever adds a run wakes it; neither browser nor server are
needed. It holds a lock, so there is one a workspace. When it was killed or the machine went down, the next one goes
on: a run that had its turn and is lost is resumed.
"""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from engine import files
from engine.config import UserError
from engine.runs.folder import QUEUED, Run
from engine.runs.launch import launch, python_path
from engine.workspace import Workspace

TURN = "turn.json"
DEVICE = "device.json"  # beside a run that a sweep started on a GPU of its own
_ended: list[subprocess.Popen[bytes]] = []


@dataclass(frozen=True)
class Entry:
    """A run in the queue. `place` orders, `start_at` is in seconds since the epoch (0: at once), `tries` counts the
    launches, `begun` is the time of the last one (0: it waits)."""

    run: Run
    place: float = 0.0
    device: str = "auto"
    held: bool = False
    start_at: float = 0.0
    begun: float = 0.0
    tries: int = 0

    @property
    def later(self) -> str:
        """"not before Tue 22:30"; empty where it may start at once."""
        return f"not before {time.strftime('%a %H:%M', time.localtime(self.start_at))}" * (self.start_at > time.time())

    def write(self) -> None:
        """Keep the entry beside its run; what has its turn no longer waits."""
        values = {key: value for key, value in vars(self).items() if key != "run"}
        files.write_json(self.run.path / (TURN if self.begun else QUEUED), values)
        if self.begun:
            (self.run.path / QUEUED).unlink(missing_ok=True)

    def drop(self) -> None:
        for name in (QUEUED, TURN):
            (self.run.path / name).unlink(missing_ok=True)


def entries(workspace: Workspace) -> list[Entry]:
    """What has its turn, then what waits, in order."""
    found = {}
    for name in (QUEUED, TURN):  # where a kill left both, it has its turn
        for path in workspace.place("runs").glob(f"*/{name}"):
            try:
                found[path.parent] = Entry(run=Run(path.parent), **files.read_json(path))
            except (UserError, TypeError):
                continue  # taken out this moment, or written by hand
    return sorted(found.values(), key=lambda entry: (not entry.begun, entry.place, entry.run.name))


def waiting(run: Run) -> bool:
    """Whether a run waits in the queue."""
    return (run.path / QUEUED).exists()


# What a person does with it ----------------------------------------------------------------------------


def add(run: Run, *, device: str = "auto", held: bool = False, start_at: float = 0.0) -> Entry:
    """Put a run at the end of the queue, to be started, or to go on from its last checkpoint; and wake the queue.

    Raises UserError for a run that is active or finished, and for a device that is not here.
    """
    workspace = _workspace(run)
    if device not in ("auto", *devices()):
        raise UserError(f"there is no device {device}; there are {', '.join(devices())}.", where="device")
    with editing(workspace):
        status = run.status()
        if waiting(run) or run.locked() or status.state in ("finished", "running", "paused", "stopping"):
            state = "in the queue" if waiting(run) else status.state
            raise UserError(f"run {run.name} is {state} already, so it cannot be queued.", where=run.name)
        entry = Entry(run, max((e.place for e in entries(workspace)), default=0.0) + 1, device, held, start_at)
        entry.write()
        run.write_status(state="queued", error="")
        run.event("state", state="queued")
    wake(workspace)
    return entry


def remove(run: Run) -> None:
    """Take a waiting run out of the queue. It stays among the runs, stopped."""
    with editing(_workspace(run)):
        _found(run).drop()
        run.write_status(state="stopped")
        run.event("state", state="stopped")


def start_now(run: Run) -> None:
    """Start a waiting run at once, whatever else the device does."""
    with editing(_workspace(run)):
        _found(run).drop()
        launch(run)


def move(run: Run, to: int) -> int:
    """Give a waiting run another place: 0 is next. Returns the place that it has then, which is the nearest one."""
    with editing(_workspace(run)):
        own = _found(run)
        others = [e for e in entries(_workspace(run)) if not e.begun and e.run != run]
        to = min(max(0, to), len(others))
        others.insert(to, own)
        for place, entry in enumerate(others, 1):
            if entry.place != place:
                replace(entry, place=float(place)).write()
    return to


def change(run: Run, *, held: bool | None = None, start_at: float | None = None) -> None:
    """Hold or release a waiting run, or let it start at another time."""
    with editing(_workspace(run)):
        own = _found(run)
        replace(own, held=own.held if held is None else held,
                start_at=own.start_at if start_at is None else start_at).write()
    wake(_workspace(run))


def moment(clock: str, now: float | None = None) -> float:
    """The next time that a clock here shows "22:30", in seconds since the epoch; 0 for no time at all."""
    if not clock.strip():
        return 0.0
    found = re.fullmatch(r"\s*([01]?\d|2[0-3])[:.]([0-5]\d)\s*", clock)
    if not found:
        raise UserError(f"{clock!r} is no time of day; write it as 22:30.", where="start_at")
    now = time.time() if now is None else now
    today = time.localtime(now)
    at = [*today[:3], int(found[1]), int(found[2]), 0, 0, 0, -1]
    if (then := time.mktime(tuple(at))) <= now:  # type: ignore[arg-type]
        at[2] += 1  # a day may have 23 hours
        then = time.mktime(tuple(at))  # type: ignore[arg-type]
    return then


def devices() -> list[str]:
    """What trains here, one run at a time on each: the GPUs in torch's words, or else the processor."""
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    there = sorted(int(p.name.removeprefix("nvidia")) for p in Path("/dev").glob("nvidia[0-9]*"))
    if shown is not None:
        there = [number for number in there if str(number) in shown.split(",")]
    return [*(f"cuda:{number}" for number in there), "cpu"]


def _found(run: Run) -> Entry:
    for entry in entries(_workspace(run)):
        if entry.run == run and not entry.begun:
            return entry
    raise UserError(f"run {run.name} does not wait in the queue.", where=run.name)


def _workspace(run: Run) -> Workspace:
    return Workspace(run.path.parent.parent)


# Behind it ---------------------------------------------------------------------------------------------


def wake(workspace: Workspace) -> None:
    """See to it that what waits will be started: launch the queue's process if there is none and it has work."""
    _ended[:] = [child for child in _ended if child.poll() is None]
    if not todo(workspace) or _locked(workspace):
        return
    with open(folder(workspace) / "log.txt", "ab") as log:
        _ended.append(subprocess.Popen(
            [sys.executable, "-m", "engine", "queue", "work", "--workspace", str(workspace.path)],
            stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, cwd=workspace.path,
            env={**os.environ, "PYTHONPATH": python_path(), "PYTHONUNBUFFERED": "1"}, start_new_session=True))


def todo(workspace: Workspace) -> bool:
    """Whether something has its turn, or waits and is not held."""
    return any(entry.begun or not entry.held for entry in entries(workspace))


def folder(workspace: Workspace) -> Path:
    """Where the queue's process keeps its lock and its log."""
    path = workspace.path / "queue"
    path.mkdir(exist_ok=True)
    return path


def _locked(workspace: Workspace) -> bool:
    with open(folder(workspace) / "lock", "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


@contextmanager
def editing(workspace: Workspace) -> Iterator[None]:
    """One at a time changes the queue."""
    with open(folder(workspace) / "edit", "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
