"""Start the worker of a run: a process of its own that outlives browser, server and notebook.

    python -m engine work RUN_DIR

is the whole interface; the same line runs by hand, under torchrun and from a batch script.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from pathlib import Path

from engine.runs.folder import Run

PROJECT = Path(__file__).resolve().parents[2]
_children: list[subprocess.Popen[bytes]] = []


def python_path() -> str:
    """PYTHONPATH for a process that shall run this code, wherever it is started."""
    return os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH")]))


def launch(run: Run, **variables: str) -> None:
    """Start a worker on the run folder and return at once; the log takes its output, the environment `variables`."""
    if run.locked():
        raise run.busy()
    reap()
    clear(run)
    run.write_status(state="queued", created=time.time(), error="", host=platform.node(), pid=0)
    # Idle OpenMP threads that spin cost 3-5 times the CPU on a busy machine.
    environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ, "PYTHONUNBUFFERED": "1", "DO_NOT_TRACK": "1",
                   "PYTHONPATH": python_path(), **variables}
    with open(run.path / "log.txt", "ab") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "engine", "work", str(run.path)],
            stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            cwd=run.path, env=environment, start_new_session=True,
        )
    _children.append(child)
    run.write_status(pid=child.pid)  # so that a worker that dies before it holds the lock is known to be gone


def clear(run: Run) -> None:
    """Forget what was asked of an execution before."""
    for kind in ("stop", "pause", "resume", "requeue"):
        run.requested(kind, take=True)


def reap() -> None:
    """Collect the exit codes of finished workers, so that none stays behind as a zombie."""
    _children[:] = [child for child in _children if child.poll() is None]
