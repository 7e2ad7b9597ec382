"""Serving: models that answer other programs, each in a process of its own that outlives browser and studio.

    WORKSPACE/served/NAME/
      state.json   what is served, its process and, once it answers, its address
      log.txt      what it said       lock   held by it       stop   asks it to end       pid   as it was launched
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import math
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from engine import files
from engine.config import UserError
from engine.inference.keys import usable
from engine.runs.folder import lives
from engine.runs.launch import python_path
from engine.runs.sources import Source, find, open_writer
from engine.runs.talking import takes_speaker
from engine.workspace import Workspace, slug

STARTING_SECONDS = 120.0    # at most, between the launch and the lock, on the busiest of machines
LOG_BYTES = 4096            # of a log's end, which is looked at many times a minute
_children: list[subprocess.Popen[bytes]] = []


@dataclass(frozen=True)
class Served:
    """One server. `state` is starting, running or ended; `problem` says why it ended if it did not have to."""

    name: str
    label: str = ""
    model: str = ""         # the name by which programs ask for it
    address: str = ""       # http://127.0.0.1:PORT/v1
    key: bool = False       # whether requests must bring one; it is kept nowhere
    answers: bool = False   # whether it has a chat template
    started: float = 0.0
    pid: int = 0
    state: str = "ended"
    problem: str = ""


def place(workspace: Workspace) -> Path:
    return workspace.path / "served"


def start(source: Source, workspace: Workspace, port: int = 0, key: str = "") -> Served:
    """Begin to serve a source on this machine, and return at once; `port` 0 is any free one.

    Raises UserError where it is served already, for a model that scores, for a port that is none, and for a
    key that no header carries.
    """
    if source.scores:
        raise UserError(f"{source.label} scores texts, and only models that write are served; choose another.",
                        where=source.label)
    if port and not 1024 <= port <= 65535:
        raise UserError(f"port {port} is not a port that anybody may use; choose one from 1024 to 65535, or none.",
                        where="port")
    key = usable(key)
    name = f"{slug(source.label)}-{files.fingerprint(source.label)[:4]}"
    folder = place(workspace) / name
    if (there := look(folder)) and there.state != "ended":
        raise UserError(f"{source.label} is served already; stop it first.", where=source.label)
    folder.mkdir(parents=True, exist_ok=True)
    for name_of in ("stop", "pid"):
        (folder / name_of).unlink(missing_ok=True)
    served = Served(name, source.label, source.label, key=bool(key), answers=source.answers, started=time.time())
    files.write_json(folder / "state.json", asdict(served))
    command = [sys.executable, "-m", "engine", "serve", str(source.folder.absolute()),     # it runs elsewhere
               "--workspace", str(workspace.path), "--port", str(port), "--precision", source.precision,
               "--record", str(folder), *(["--adapter"] if source.adapter else [])]
    # The key goes by the environment: other people of this machine can read the command lines of its processes.
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": python_path(), "STUDIO_API_KEY": key}
    with open(folder / "log.txt", "wb") as log:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                                 cwd=folder, env=environment, start_new_session=True)
    _children[:] = [*(each for each in _children if each.poll() is None), child]
    files.write(folder / "pid", str(child.pid))
    return look(folder) or served


def listing(workspace: Workspace) -> list[Served]:
    """Every server that was started here and not cleared away, newest first."""
    _children[:] = [child for child in _children if child.poll() is None]
    found = [look(folder) for folder in place(workspace).glob("*") if folder.is_dir()]
    return sorted(filter(None, found), key=lambda served: -served.started)


def look(folder: Path) -> Served | None:
    """How a server stands; None where there is no record of one that can be read."""
    served = _recorded(folder)
    if served is None:
        return None
    if files.held(folder / "lock"):
        state = "running" if served.address else "starting"
    else:
        # Until it has read its libraries nobody holds the lock.
        state = "starting" if not served.pid and _begins(folder, served) else "ended"
    problem = _said(folder) if state == "ended" and not (folder / "stop").exists() else ""
    return Served(**{**asdict(served), "state": state, "problem": problem,
                     "address": served.address if state == "running" else ""})


def _recorded(folder: Path) -> Served | None:
    """What state.json says, under the folder's own name; None unless each of its values is of its kind."""
    try:
        told = files.read_json(folder / "state.json")
        given = {field.name: told.get(field.name, field.default) for field in fields(Served)}
        if type(given["started"]) is int:
            given["started"] = float(given["started"])
    except (UserError, AttributeError, OverflowError):
        return None
    given["name"] = folder.name
    if not all(type(given[field.name]) is type(field.default) for field in fields(Served) if field.name != "name"):
        return None
    return Served(**given) if math.isfinite(given["started"]) else None


def stop(served: Served, workspace: Workspace) -> None:
    """Ask a server to end; it looks twice a second."""
    folder = place(workspace) / served.name
    if folder.is_dir():
        (folder / "stop").touch()


def clear(served: Served, workspace: Workspace) -> None:
    """Forget a server that ended."""
    if (there := look(place(workspace) / served.name)) and there.state == "ended":
        shutil.rmtree(place(workspace) / served.name, ignore_errors=True)


def _said(folder: Path) -> str:
    """Why a process ended, if its last line says so."""
    try:
        with open(folder / "log.txt", "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - LOG_BYTES))
            lines = file.read(LOG_BYTES).decode(errors="replace").strip().splitlines()
    except OSError:
        return ""
    last = lines[-1] if lines else ""
    return last.removeprefix("studio: ")[:400] if re.match(r"studio: |[\w.]*(Error|Exception)\b", last) else ""


def _begins(folder: Path, served: Served) -> bool:
    """Whether the process that was launched is on its way to the lock."""
    if time.time() - served.started > STARTING_SECONDS or _said(folder):
        return False
    try:
        return lives(int((folder / "pid").read_text()))
    except (OSError, ValueError, OverflowError):
        return True             # launched this very moment


# The process itself -------------------------------------------------------------------------------------


def takes_serve(command: argparse.ArgumentParser) -> None:
    takes_speaker(command)
    command.add_argument("--address", default="127.0.0.1", help="address to listen on; another one than this "
                                                                "machine's own needs a key (127.0.0.1)")
    command.add_argument("--port", type=int, default=8000, help="port to listen on; 0 is any free one (8000)")
    command.add_argument("--key", default=os.environ.get("STUDIO_API_KEY", ""), metavar="KEY",
                         help="key that requests must bring (default: $STUDIO_API_KEY)")
    command.add_argument("--record", type=Path, help=argparse.SUPPRESS)     # where the studio looks for it


def serve(arguments: argparse.Namespace) -> int:
    from engine.inference.serve import serve as answer

    if not 0 <= arguments.port <= 65535:
        raise UserError(f"port {arguments.port} is not a port; choose one from 1024 to 65535.", where="port")
    source = find(arguments.name, Workspace(arguments.workspace), arguments.precision, arguments.adapter)
    more: dict[str, Any] = {}
    with contextlib.ExitStack() as held:
        folder = source.folder.resolve()
        name = f"{folder.parts[-3]}-{folder.name}" if source.checkpoint else folder.name
        if arguments.record:
            held.enter_context(_holding(arguments.record))
            more["over"] = (arguments.record / "stop").exists
        model = open_writer(source)

        def ready(address: str) -> None:
            print(f"{name} answers at {address} (Ctrl+C ends it)", flush=True)
            if arguments.record:
                told = files.read_json(arguments.record / "state.json")
                files.write_json(arguments.record / "state.json", {
                    **told, "address": address, "model": name, "pid": os.getpid()})

        answer(model, name, arguments.address, arguments.port, arguments.key, ready=ready, **more)
    return 0


@contextlib.contextmanager
def _holding(folder: Path) -> Iterator[None]:
    """Hold the record's lock; UserError if another server does."""
    with open(folder / "lock", "a") as file:
        for attempt in range(20):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:     # a viewer tests the lock for some microseconds; a server keeps it
                if attempt == 19:
                    raise UserError(f"{folder.name} is served already; stop it first.", where=folder.name) from None
                time.sleep(0.05)
        yield
