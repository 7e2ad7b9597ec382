"""Watch: one thread a process follows run folders into numpy columns; every session pulls from them.

The thread touches files, numpy and nothing else. A session asks for a feed at each tick; a feed that
nobody asked for in a while is put to sleep, and one that slept long is forgotten.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from engine import runs
from engine.runs import Run, Status
from engine.runs.folder import START, Cursor
from engine.workspace import Workspace

POLL_SECONDS = 0.2
ASLEEP_SECONDS = 10.0
FORGOTTEN_SECONDS = 600.0
AXES = ("step", "tokens", "time")


class Series:
    """One metric over the run: columns step, tokens, time and value, that grow in place."""

    def __init__(self) -> None:
        self.length = 0
        self._columns = np.empty((4, 256))

    def add(self, step: float, tokens: float, moment: float, value: float) -> None:
        if self.length == self._columns.shape[1]:
            self._columns = np.concatenate([self._columns, np.empty_like(self._columns)], axis=1)
        self._columns[:, self.length] = step, tokens, moment, value
        self.length += 1

    def axis(self, name: str) -> np.ndarray:
        """Steps, tokens or seconds since the epoch, of every value."""
        return self._columns[AXES.index(name), : self.length]

    @property
    def values(self) -> np.ndarray:
        return self._columns[3, : self.length]


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
        changed = self._read_metrics() | self._read_events()
        status = self.run.status()
        if changed or status != self.status or not self.ready:
            self.status, self.ready = status, True
            self.version += 1

    def _read_metrics(self) -> bool:
        rows, cursor = self.run.rows("metrics", self._metrics)
        if cursor[0] != self._metrics[0]:
            self.series = {}
            self.anew += 1
        self._metrics = cursor
        for row in rows:
            step, moment = _float(row.get("step")), _float(row.get("time"))
            tokens = _float(row.get("tokens"))
            for name, value in row.items():
                if "/" in name and isinstance(value, (int, float)):
                    self.series.setdefault(name, Series()).add(step, tokens, moment, value)
        return bool(rows)

    def _read_events(self) -> bool:
        rows, cursor = self.run.rows("events", self._happened)
        if cursor[0] != self._happened[0]:
            self.events = []
        self._happened = cursor
        self.events += rows
        return bool(rows)


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
                awake = [feed for feed in self._feeds.values() if now - feed.asked < ASLEEP_SECONDS]
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
    val_loss: float | None


def lines(workspace: Workspace) -> list[Line]:
    """Every run for a list, newest first. Reads a status each, and the end of its metrics when they changed."""
    return [Line(run.name, run.status(), _val_loss(run)) for run in runs.listing(workspace)]


_LOSSES: dict[Path, tuple[tuple[int, int], float | None]] = {}


def _val_loss(run: Run) -> float | None:
    """The newest validation loss, from the last rows of the metrics."""
    path = run.path / "metrics.jsonl"
    try:
        facts = path.stat()
    except OSError:
        return None
    mark = (facts.st_ino, facts.st_size)
    if _LOSSES.get(path, (None, None))[0] != mark:
        rows, _ = run.rows("metrics", (facts.st_ino, max(0, facts.st_size - 262_144)))
        found = [row["val/loss"] for row in rows if isinstance(row.get("val/loss"), (int, float))]
        earlier = _LOSSES[path][1] if path in _LOSSES else None
        _LOSSES[path] = mark, found[-1] if found else earlier
    return _LOSSES[path][1]
