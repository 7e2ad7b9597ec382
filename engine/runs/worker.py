"""The worker: does the jobs of one run, in order, and keeps its folder truthful.

Signals and request files only set flags that are looked at where stopping is safe. Whatever
happens, the last thing written is a status that says what happened and what to do.
"""

from __future__ import annotations

import os
import platform
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from engine import files
from engine.config import UserError
from engine.progress import Stopped
from engine.recipe import Recipe
from engine.runs import cluster, jobs, recipe_of, spread
from engine.runs.cluster import Place
from engine.runs.folder import HEARTBEAT_SECONDS, Run
from engine.runs.follow import Mute, follow
from engine.workspace import Workspace


class Worker:
    """One execution of one run folder; `place` is this process's among those that an outer launcher started."""

    store: Any = None  # through which the ranks meet, where there are several

    def __init__(self, run: Run, place: Place = cluster.ALONE) -> None:
        self.run, self.place = run, place
        self.workspace = Workspace(run.path.parent.parent)
        self.made: dict[str, Any] = run.made()
        self.signalled = False  # by SIGTERM or SIGINT: a full disk would take no request
        self._facts: dict[str, Any] = {}  # all that the status says, so that nothing else stays in it for long
        self._fresh = False
        self._untold: list[dict[str, Any]] = []  # events that wait for room on the disk
        self._guard, self._silent = threading.Lock(), False
        self._since: tuple[float, int] | None = None  # when the job in hand was first told of, and at which step
        self.begun = time.time()  # the run, and then each job

    def work(self) -> str:
        """Do the run; returns its final state. Never raises for a run that went wrong: the status tells."""
        with self.run.lock():
            self._tell(state="running", pid=os.getpid(), host=platform.node(), started=time.time(), error="",
                       awaits="", message="starting", flush=True)
            self.event("state", state="running")
            handlers = {number: signal.signal(number, self.signalled_by)
                        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)}
            with self.heart():
                state, error = self._jobs()
            if error:
                print(error, flush=True)
            if state == "stopped":
                self.run.requested("stop", take=True)  # asked for twice
            self._tell(state=state, error=error, ended=time.time(), eta_seconds=None, flush=True)
            self.event("state", state=state, error=error)
            for number, handler in handlers.items():
                signal.signal(number, handler)
            return state

    def _jobs(self) -> tuple[str, str]:
        """Do every job; the final state, and what went wrong."""
        try:
            recipe = recipe_of(self.run)
            for job in recipe.jobs:
                self._begin(job)
                recipe = jobs.JOBS[job](self, recipe)
            self._write_manifest(recipe)
        except Stopped:
            return "stopped", ""
        except UserError as problem:
            if isinstance(problem, cluster.Lost) and cluster.again():
                self._tell(awaits="torchrun", message="a process died; torchrun starts all of them again")
                return "queued", ""
            return "failed", problem.sentence
        except MemoryError:
            return "failed", "The machine ran out of memory; choose a smaller micro-batch or a shorter context."
        except OSError as problem:
            traceback.print_exc()
            return "failed", files.unwritable(self.run.path, problem).sentence
        except Exception as problem:
            traceback.print_exc()
            return "failed", f"{type(problem).__name__}: {problem}. The log has the details."
        return "finished", ""

    # What jobs call --------------------------------------------------------------------------------

    def progress(self, done: int, of: int, message: str = "") -> None:
        """How far the job in hand is; raises Stopped if a viewer asked for a stop."""
        self.tell(done, of, message)
        if self.asked_to_stop():
            raise Stopped

    def asked_to_stop(self) -> bool:
        """Whether a viewer or a signal asked for a stop; a viewer's request is answered by that."""
        return self.signalled or self.run.requested("stop", take=True)

    def heed(self) -> None:
        """Leave at once if a signal asked for it, for where there is nothing to save."""
        if self.signalled:
            raise Stopped

    def tell(self, done: int, of: int, message: str = "") -> None:
        """How far the job in hand is, for jobs that look at requests themselves."""
        if self._since is None or done < self._since[1]:
            self._since = time.monotonic(), done
        begun, first = self._since
        pace = (time.monotonic() - begun) / max(1, done - first)
        eta = pace * (of - done) if done > first else None
        self._tell(step=done, of=of, message=message, eta_seconds=eta)

    def state(self, state: str) -> None:
        """Show another state (paused, stopping, running) at once."""
        self._since = None  # time spent paused says nothing of the pace
        self._tell(state=state, flush=True)
        self.event("state", state=state)

    def resolved(self, **facts: Any) -> None:
        """Tell what an `auto` became."""
        self.event("resolved", **facts)

    def event(self, kind: str, **facts: Any) -> None:
        """Tell the timeline; what a full disk does not take is told when there is room."""
        self._untold.append({"time": time.time(), "kind": kind, **facts})
        try:
            self.run.append("events", *self._untold)
            self._untold = []
        except OSError as problem:  # which must not end a training that can still save itself
            print(f"event not written: {problem}: {facts}", flush=True)

    def keep(self, **made: str) -> None:
        """Remember what was made: artefacts by the path that leads to them from the workspace."""
        self.made.update(made)
        files.write_json(self.run.path / "made.json", self.made)

    def signalled_by(self, number: int, _: Any) -> None:
        """The handler of signals that ask for a stop."""
        self.signalled = True
        with suppress(OSError):
            if self._silent:  # those who train in other processes see that alone
                self.run.request("stop")
            if number == signal.SIGUSR1:  # a batch system's time limit is near: its script starts the run again
                self.run.request("requeue")

    @contextmanager
    def heart(self) -> Iterator[None]:
        """Inside, the status is kept fresh."""
        over = threading.Event()
        beating = threading.Thread(target=self._beat, args=(over,), daemon=True)
        beating.start()
        try:
            yield
        finally:
            over.set()
            beating.join()

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Inside, another process trains, and writes the status in this one's stead."""
        with self._guard:
            self._flush()
            self._silent = True
            if self.signalled:
                self.run.request("stop")
            try:
                yield
            finally:
                self._silent = False
                told = self.run.status()
                self._facts.update(step=told.step, of=told.of, message=told.message)

    # Inside ------------------------------------------------------------------------------------------

    def _begin(self, job: str) -> None:
        self.heed()
        self._since, self.begun = None, time.time()
        self._tell(job=job, step=0, of=0, message="", eta_seconds=None, flush=True)
        self.event("job", job=job)
        print(f"== {job}", flush=True)

    def _tell(self, *, flush: bool = False, **changes: Any) -> None:
        with self._guard:
            self._facts.update(changes)
            self._fresh = True
            if flush:
                self._flush()

    def _flush(self) -> None:
        try:
            self.run.write_status(**self._facts, heartbeat=time.time())
            self._fresh = False
        except (UserError, OSError) as problem:  # a full disk must not end a training that can still save itself
            print(f"status not written: {problem}", flush=True)

    def _beat(self, over: threading.Event) -> None:
        due = 0.0
        while not over.wait(0.25):
            with self._guard:
                if self._fresh or time.monotonic() >= due:
                    self._flush()
                    due = time.monotonic() + HEARTBEAT_SECONDS

    def _write_manifest(self, recipe: Recipe) -> None:
        files.write_json(self.run.path / files.MANIFEST, {**self.made, "recipe": files.fingerprint(recipe.dump())})


class _Patient:
    """A stream that goes on when its disk is full: a log line is not worth a training."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._stream.write(text)
            self._stream.flush()  # a line that stayed in the buffer would fail again at exit
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def work(run_dir: str) -> int:
    """The entry of `python -m engine work RUN_DIR`: 0 if the run ended well, 1 if it failed.

    Raises UserError when the folder is no run of a workspace, before anything is written.
    """
    run = Run(Path(run_dir).resolve())
    if run.path.parent.name != "runs" or not run.recipe_path.is_file():
        raise UserError(f"{run_dir} is not a run folder: it must hold a recipe.yaml and lie in the runs folder of a "
                        "workspace.", where=run_dir)
    sys.stdout, sys.stderr = _Patient(sys.stdout), _Patient(sys.stderr)  # type: ignore[assignment]
    place = cluster.place()
    if place.follows:
        return follow(Worker(Mute(run.path) if place.rank else run, place))
    if place.size == 1:
        return 1 if Worker(run).work() == "failed" else 0
    worker = Worker(run, place)
    worker.store = cluster.meet(place)
    for kind in ("stop", "requeue"):  # of the execution before, whose processes were ended by a signal
        run.requested(kind, take=True)
    state = worker.work()
    with suppress(RuntimeError):  # whoever kept the store may be gone
        worker.store.set(spread.END, state)
    return 1 if state in ("failed", "queued") else 0
