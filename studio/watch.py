"""Watch: one thread a process follows run folders into numpy columns; every session pulls from them.

The thread touches files, numpy and nothing else. A session asks for a feed at each tick; a feed that
nobody asked for in a while is put to sleep, and one that slept long is forgotten.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from engine import runs
from engine.runs import Run, Status, columns, notes
from engine.runs.columns import AXES
from engine.runs.folder import START, Cursor
from engine.runs.notes import Notes
from engine.workspace import Workspace

POLL_SECONDS = 0.2
ASLEEP_SECONDS = 10.0
FORGOTTEN_SECONDS = 600.0
VAL_LOSS = b'"val/loss"'
ENDED_SECONDS = 2.0  # between two looks at a run that is over


class Series:
    """One metric over the run: where (step, tokens, time) and value, which grow in place."""

    def __init__(self) -> None:
        self.length = 0
        self._where, self._values = np.empty((3, 0)), np.empty(0)

    def add(self, step: float, tokens: float, moment: float, value: float) -> None:
        if self.length == len(self._values):
            room = max(256, self.length)
            self._where = np.concatenate([self._where, np.empty((3, room))], axis=1)
            self._values = np.concatenate([self._values, np.empty(room)])
        self._where[:, self.length] = step, tokens, moment
        self._values[self.length] = value
        self.length += 1

    def extend(self, where: np.ndarray, values: np.ndarray) -> None:
        """Take in a history, as it is: what is kept on the disk is read when it is looked at, and never written to."""
        if self.length:
            where = np.concatenate([self._where[:, : self.length], where], axis=1)
            values = np.concatenate([self.values, values])
        self._where, self._values, self.length = where, values, len(values)

    def axis(self, name: str) -> np.ndarray:
        """Steps, tokens or seconds since the epoch, of every value."""
        return self._where[AXES.index(name), : self.length]

    @property
    def values(self) -> np.ndarray:
        return self._values[: self.length]


@dataclass
class Feed:
    """What is known of one run. `anew` counts how often its history was replaced, as a resume does."""

    run: Run
    series: dict[str, Series] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    status: Status = field(default_factory=Status)
    version: int = 0
    anew: int = 0
    ready: bool = False
    asked: float = field(default_factory=time.monotonic)
    polled: float = 0.0
    _metrics: Cursor = START
    _happened: Cursor = START

    def last(self, metric: str) -> float | None:
        """The newest value of a metric, if there is one."""
        found = self.series.get(metric)
        return float(found.values[-1]) if found is not None and found.length else None

    def best(self, metric: str) -> tuple[float, int] | None:
        """The lowest value of a metric and its step."""
        found = self.series.get(metric)
        if found is None or not found.length or np.isnan(found.values).all():
            return None
        place = int(np.nanargmin(found.values))
        return float(found.values[place]), int(found.axis("step")[place])

    def told(self, kind: str) -> list[dict[str, Any]]:
        """The events of one kind, oldest first."""
        return [event for event in self.events if event.get("kind") == kind]

    def poll(self) -> None:
        """Read what was written since the last time."""
        self.polled = time.monotonic()
        changed = self._read_metrics() | self._read_events()
        status = self.run.status()
        if changed or status != self.status or not self.ready:
            self.status, self.ready = status, True
            self.version += 1

    def _read_metrics(self) -> bool:
        if self._metrics[0] != inode(self.run.path / "metrics.jsonl"):
            return self._read_history()
        rows, cursor = self.run.rows("metrics", self._metrics)
        self._metrics = cursor
        for row in rows:
            step, moment = _float(row.get("step")), _float(row.get("time"))
            tokens = _float(row.get("tokens"))
            for name, value in row.items():
                if "/" in name and isinstance(value, (int, float)):
                    self.series.setdefault(name, Series()).add(step, tokens, moment, value)
        return bool(rows)

    def _read_history(self) -> bool:
        found, self._metrics = columns.history(self.run)
        series: dict[str, Series] = {}
        for rows in found:
            for name, values in rows.values.items():
                series.setdefault(name, Series()).extend(rows.where, values)
        self.series = series
        self.anew += 1
        return True

    def _read_events(self) -> bool:
        rows, cursor = self.run.rows("events", self._happened)
        if cursor[0] != self._happened[0]:
            self.events = []
        self._happened = cursor
        self.events += rows
        return bool(rows)


def inode(path: Path) -> int:
    """The number of a file, which changes when it is replaced; 0 where there is none."""
    try:
        return path.stat().st_ino
    except OSError:
        return 0


def _float(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) else float("nan")


class Watch:
    """The feeds of one process, and the thread that fills them."""

    def __init__(self) -> None:
        self._feeds: dict[Path, Feed] = {}
        self._guard = threading.Lock()
        self._thread: threading.Thread | None = None

    def follow(self, run: Run) -> Feed:
        """The feed of a run, awake from now on. A new one is filled within a moment (`ready`)."""
        with self._guard:
            feed = self._feeds.setdefault(run.path, Feed(run))
            feed.asked = time.monotonic()
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._poll, name="watch", daemon=True)
                self._thread.start()
        return feed

    def _poll(self) -> None:
        while True:
            now = time.monotonic()
            with self._guard:
                self._feeds = {path: feed for path, feed in self._feeds.items()
                               if now - feed.asked < FORGOTTEN_SECONDS and path.exists()}
                awake = [feed for feed in self._feeds.values() if now - feed.asked < ASLEEP_SECONDS and not (
                    feed.ready and not feed.status.active and now - feed.polled < ENDED_SECONDS)]
                if not self._feeds:
                    self._thread = None
                    return
            for feed in awake:
                try:
                    feed.poll()
                except OSError:
                    continue  # moved to the trash, or on a disk that is gone for a moment
            time.sleep(POLL_SECONDS)


WATCH = Watch()


@dataclass(frozen=True)
class Line:
    """One run in a list."""

    name: str
    status: Status
    val_loss: float | None  # the lowest
    noted: Notes


def lines(workspace: Workspace) -> list[Line]:
    """Every run for a list, newest first. Reads a status each, and what was added to its metrics."""
    return [Line(run.name, run.status(), _lowest(run), _noted(run)) for run in runs.listing(workspace)]


_LOWEST: dict[Path, tuple[Cursor, float | None]] = {}
_NOTED: dict[Path, tuple[int, Notes]] = {}


def _lowest(run: Run) -> float | None:
    """The lowest validation loss, as a sweep and the best checkpoint have it. Reads what was written since the last
    look; of a long history at first the columns that were kept."""
    path = run.path / "metrics.jsonl"
    try:
        facts = path.stat()
        (inode, offset), lowest = _LOWEST.get(path, (START, None))
        if inode != facts.st_ino or offset > facts.st_size:
            found, (_, offset) = columns.kept(run)
            lowest = _least(None, *(float(value) for rows in found for value in rows.values.get("val/loss", ())))
        if offset < facts.st_size:
            with open(path, "rb") as file:
                file.seek(offset)
                data = file.read()
            data = data[: data.rfind(b"\n") + 1]
            offset += len(data)
            lowest = _least(lowest, *_val_losses(data))
    except OSError:
        return None
    _LOWEST[path] = (facts.st_ino, offset), lowest
    return lowest


def _val_losses(data: bytes) -> Iterator[float]:
    """Of whole lines, those that tell of a validation are few: the others are never split off."""
    place = data.find(VAL_LOSS)
    while place >= 0:
        end = data.find(b"\n", place)
        try:
            value = json.loads(data[data.rfind(b"\n", 0, place) + 1 : end])["val/loss"]
            if isinstance(value, (int, float)):
                yield value
        except (ValueError, KeyError, TypeError):
            pass
        place = data.find(VAL_LOSS, end)


def _least(*values: float | None) -> float | None:
    return min((value for value in values if value is not None and math.isfinite(value)), default=None)


def _noted(run: Run) -> Notes:
    """What was noted of the run, read when it changed."""
    try:
        mark = (run.path / notes.NOTES).stat().st_mtime_ns
    except OSError:
        return Notes()
    if _NOTED.get(run.path, (0, None))[0] != mark:
        _NOTED[run.path] = mark, notes.read(run)
    return _NOTED[run.path][1]
