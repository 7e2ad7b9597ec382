"""Run: the folder that tells of one run, the one contract of GUI, notebook and command line.

    recipe.yaml    what was asked; never rewritten        machine.json   versions, hardware, seed
    status.json    where it stands; replaced atomically   manifest.json  last: what was made
    metrics.jsonl  what plots read                        events.jsonl   what the timeline reads
    log.txt        stdout and stderr                      requests/      dropped by any viewer
    plan.json      what was foretold                      queue.json     while it waits in the queue
    notes.json     what people say of it
    checkpoints/step-000500/                              lock           held by the worker

One worker writes, any number of viewers read. The worker holds a lock on `lock` for as long as it
lives, so a viewer on the same machine knows at once when a worker died, however it died.
"""

from __future__ import annotations

import errno
import fcntl
import json
import math
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from engine import files
from engine.config import UserError

ACTIVE = ("queued", "running", "paused", "stopping")
REQUESTS = ("stop", "pause", "resume", "checkpoint", "sample", "requeue")
HEARTBEAT_SECONDS = 2.0
QUEUED = "queue.json"  # beside a run that waits in the queue
STALE_SECONDS = 30.0   # a worker on another machine counts as lost after this silence, if its folder is shared
SILENT_SECONDS = 600.0  # and after this one, if nothing is known of how often news come: a copy is made now and then

Cursor = tuple[int, int]  # the file's inode and the byte offset in it
START: Cursor = (0, 0)

# Of workers elsewhere: the last heartbeat seen, when this process saw it change, the longest time between two seen.
_BEATS: dict[Path, tuple[float, float, float]] = {}


@dataclass(frozen=True)
class Status:
    """Where a run stands. `state` is queued, running, paused, stopping, finished, stopped or failed;
    readers also see `lost`: it says it is active, but its worker is gone."""

    state: str = "queued"
    job: str = ""                     # curate, tokenize, train, evaluate or export
    step: int = 0                     # of the job in hand
    of: int = 0
    message: str = ""
    eta_seconds: float | None = None  # of the job in hand
    error: str = ""                   # one sentence: what went wrong and what to try
    created: float = 0.0              # seconds since the epoch, as all times here
    started: float = 0.0
    ended: float = 0.0
    heartbeat: float = 0.0
    pid: int = 0
    host: str = ""
    awaits: str = ""                  # torchrun or slurm, where these are to start the worker of a queued run

    @property
    def active(self) -> bool:
        return self.state in ACTIVE


class Run:
    """A run folder. Cheap to make; every call reads the disk afresh."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Run) and self.path == other.path

    def __hash__(self) -> int:
        return hash(self.path)

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def recipe_path(self) -> Path:
        return self.path / "recipe.yaml"

    # Status --------------------------------------------------------------------------------------

    def status(self) -> Status:
        """Where the run stands, `lost` inferred. A folder without a readable status counts as lost."""
        status = self._read_status()
        if status is None:
            time.sleep(0.02)  # on a full disk it is written over in place
            status = self._read_status()
        if status is None:
            return Status(state="lost", error=f"{self.path / 'status.json'} is missing or damaged.")
        if status.active and not self._alive(status):
            return replace(status, state="lost")
        return status

    def _read_status(self) -> Status | None:
        known = {f.name for f in fields(Status)}
        try:
            values = json.loads((self.path / "status.json").read_text())
            return Status(**{k: v for k, v in values.items() if k in known})
        except (OSError, ValueError, TypeError, AttributeError):
            return None

    def _alive(self, status: Status) -> bool:
        if status.state == "queued" and (status.awaits or (self.path / QUEUED).exists()):
            return True
        if status.host and status.host != platform.node():
            return self._beating(status.heartbeat)
        # Between the launch and the worker's first breath nobody holds the lock yet.
        return self.locked() or (status.state == "queued" and abs(time.time() - status.created) < STALE_SECONDS
                                 and (not status.pid or lives(status.pid)))

    def _beating(self, heartbeat: float) -> bool:
        """Whether a worker on another machine shows life. At first sight clocks tell; after that, since they jump,
        whether its heartbeat changes, three times as rarely as before at the most: rsync copies every few minutes."""
        now = time.monotonic()
        before, since, gap = _BEATS.get(self.path, (heartbeat, -math.inf, 0.0))
        if heartbeat != before:
            since, gap = now, max(gap, abs(heartbeat - before))
        _BEATS[self.path] = (heartbeat, since, gap)
        if since == -math.inf:
            return abs(time.time() - heartbeat) < SILENT_SECONDS
        return now - since < min(SILENT_SECONDS, max(STALE_SECONDS, 3 * gap))

    def write_status(self, **changes: Any) -> Status:
        """Replace the status; for the launcher and the worker alone. What is damaged is written anew."""
        status, path = replace(self._read_status() or Status(), **changes), self.path / "status.json"
        try:
            files.write_json(path, asdict(status))
        except UserError as problem:
            if getattr(problem.__cause__, "errno", None) not in files.FULL or not path.exists():
                raise
            # In place, where there is room even so: whoever looks shall read why nothing goes on.
            data = json.dumps(asdict(status)).encode()
            with open(path, "r+b", buffering=0) as file:
                file.write(data.ljust(os.fstat(file.fileno()).st_size))
        return status

    # The worker's lock ---------------------------------------------------------------------------

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run for this process; a UserError if another worker has it."""
        with open(self.path / "lock", "a") as file:
            for attempt in range(20):
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except OSError:  # a viewer tests the lock for some microseconds; a worker keeps it
                    if attempt == 19:
                        raise self.busy() from None
                    time.sleep(0.05)
            yield

    def busy(self) -> UserError:
        """The answer to whoever would start a second worker."""
        return UserError(f"run {self.name} is already running (process {self.status().pid}); "
                         "watch it, or stop it first.", where=self.name)

    def locked(self) -> bool:
        """Whether a worker on this machine holds the run."""
        return files.held(self.path / "lock")

    # Metrics and events --------------------------------------------------------------------------

    def append(self, name: str, *rows: dict[str, Any]) -> None:
        """Add whole lines to `metrics.jsonl` or `events.jsonl`, all or none; for the worker alone."""
        data = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
        with open(self.path / f"{name}.jsonl", "a+b", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            if size and os.pread(file.fileno(), 1, size - 1) != b"\n":
                data = b"\n" + data  # a kill cut the line before; it must not swallow this one
            try:
                if file.write(data) != len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError:
                file.truncate(size)
                raise

    def event(self, kind: str, **facts: Any) -> None:
        """Tell the timeline: state, job, reused, resolved, sample, checkpoint, warning, advice."""
        self.append("events", {"time": time.time(), "kind": kind, **facts})

    def rows(self, name: str, cursor: Cursor = START) -> tuple[list[dict[str, Any]], Cursor]:
        """The whole lines of `metrics.jsonl` or `events.jsonl` after a cursor, and the next cursor.

        A line cut off by a kill is skipped. A resume replaces the file, less what came after its
        checkpoint: then all rows come anew, and `cursor[0]` differs from the one passed in.
        """
        try:
            with open(self.path / f"{name}.jsonl", "rb") as file:
                facts = os.fstat(file.fileno())
                offset = cursor[1] if cursor[0] == facts.st_ino and cursor[1] <= facts.st_size else 0
                file.seek(offset)
                data = file.read()
        except FileNotFoundError:
            return [], START
        whole = data.rfind(b"\n") + 1
        found = []
        for line in data[:whole].splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
        return found, (facts.st_ino, offset + whole)

    # Requests ------------------------------------------------------------------------------------

    def request(self, kind: str) -> None:
        """Ask the worker for something; it looks at step boundaries. Any viewer may."""
        assert kind in REQUESTS, kind
        folder = self.path / "requests"
        folder.mkdir(exist_ok=True)
        (folder / kind).touch()

    def requested(self, kind: str, *, take: bool = False) -> bool:
        """Whether something was asked; `take` answers it."""
        path = self.path / "requests" / kind
        found = path.exists()
        if found and take:
            with suppress(OSError):  # on a read-only folder it is answered again and again, which harms nothing
                path.unlink(missing_ok=True)
        return found

    def requests(self) -> list[str]:
        """The names of what was asked; one system call."""
        try:
            return os.listdir(self.path / "requests")
        except OSError:
            return []

    # What it made --------------------------------------------------------------------------------

    @property
    def checkpoints(self) -> list[Path]:
        """The complete checkpoints, oldest first."""
        found = (self.path / "checkpoints").glob("step-*")
        return sorted((p for p in found if (p / "meta.json").exists()), key=lambda p: (len(p.name), p.name))

    def made(self) -> dict[str, Any]:
        """What the run made so far, by paths from the workspace: dataset, tokens, checkpoint, evaluation, bundle."""
        path = self.path / "made.json"
        return files.read_json(path) if path.exists() else {}

    def artefact(self, kind: str) -> Path:
        """The path of one thing the run made ("bundle"); a UserError if it made none."""
        made = self.made()
        if kind not in made:
            raise UserError(f"run {self.name} made no {kind}; it made {', '.join(made) or 'nothing yet'}.",
                            where=self.name)
        return self.path.parent.parent / made[kind]

    def log(self, last_bytes: int = 65536) -> str:
        """The end of the log."""
        try:
            with open(self.path / "log.txt", "rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - last_bytes))
                return file.read().decode("utf-8", "replace")
        except FileNotFoundError:
            return ""

    def wait(self, timeout_seconds: float = float("inf")) -> Status:
        """Sleep until the run is no longer active; raises UserError with its sentence if it failed."""
        until = time.monotonic() + timeout_seconds
        while (status := self.status()).active and time.monotonic() < until:
            time.sleep(0.2)
        if status.state in ("failed", "lost"):
            raise UserError(status.error or f"run {self.name} was lost: its worker died. Resume it.", where=self.name)
        return status


def lives(pid: int) -> bool:
    """Whether there is such a process here, and more of it than the exit code that its parent has not asked for."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except ProcessLookupError:
        return False
    except OSError:  # another user's, or no Linux
        return True
