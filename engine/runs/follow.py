"""Follow: what a process does that trains for a run whose jobs another process does.

Under the local launcher these are all ranks, and the first of them writes the folder while it trains; under torchrun
and SLURM they are the ranks after the first.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from engine.runs import cluster, dispatch, spread
from engine.runs.cluster import Place
from engine.runs.folder import Run, Status
from engine.runs.local import PEER_LOST

if TYPE_CHECKING:
    from engine.runs.worker import Worker

LOOK_SECONDS = 0.1
PR_SET_PDEATHSIG = 1  # of Linux's prctl.h


class Mute(Run):
    """A run folder as ranks after the first use it: they write nothing, and what is asked is the first one's to see."""

    def append(self, name: str, *rows: dict[str, Any]) -> None:
        pass

    def write_status(self, **changes: Any) -> Status:
        return self.status()

    def request(self, kind: str) -> None:
        pass

    def requests(self) -> list[str]:
        return []

    def requested(self, kind: str, *, take: bool = False) -> bool:
        return False


def follow(worker: Worker) -> int:
    """Wait for the training, take part in it, and tell how it ended; the exit code is 0 if it ended in order."""
    place = worker.place
    _die_with_parent(place)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, worker.signalled_by)
    if place.rank:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    worker.store = cluster.meet(place)
    task = _task(worker.store)
    if not task:
        return 0
    outcome: dict[str, Any] = {}
    code = 0
    try:
        with worker.heart():
            outcome = {"checkpoint": str(dispatch.take_part(worker, *spread.heard(task)))}
    except Exception as problem:
        if cluster.lost(problem):
            print(f"rank {place.rank}: another process of this training is gone ({problem})", file=sys.stderr)
            return PEER_LOST
        outcome = spread.failure(problem)
        if "failed" in outcome:
            traceback.print_exc()
            code = 0 if place.rank == 0 else 1
    if place.launcher == "local" and (place.rank == 0 or "failed" in outcome or "memory" in outcome):
        worker.store.set("outcome", json.dumps(outcome))
    return code


def _task(store: Any) -> bytes:
    """The training that the first rank tells of; nothing if its jobs end without one."""
    while not store.check([spread.TASK]):
        if store.check([spread.END]):
            return b""
        time.sleep(LOOK_SECONDS)
    return bytes(store.get(spread.TASK))


def _die_with_parent(place: Place) -> None:
    """A worker that is killed takes the ranks that it started along: they would write into a run that goes on."""
    if place.launcher == "local":
        with suppress(OSError, AttributeError):  # other systems than Linux
            ctypes.CDLL("libc.so.6").prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != int(os.environ[cluster.LOCAL]):  # gone before it could take this one along
            os._exit(1)
