"""The studio in a Jupyter cell: the same app, served inside the kernel and shown in a frame.

    show()          the whole studio          show("corpus")   opened at one page
    show(run)       one run, live             show(run, height=900)

The server runs in a thread, so the frame stays alive while a cell computes, and needs no network.
"""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from engine.config import UserError
from engine.runs import Run
from engine.workspace import Workspace

START_SECONDS = 20.0

_PORTS: dict[Path, int] = {}


def show(what: Any = None, *, workspace: Workspace | str | Path | None = None, height: int | None = None) -> Any:
    """A frame with the studio (nothing given), a page (its noun or its class) or a run.

    The workspace of a run is where the run lies; otherwise it is the one given, or the default one.
    """
    from IPython.display import IFrame

    from studio.pages import PAGES

    if isinstance(what, Run):
        address, asked = "/run", {"run": what.name}
        workspace = what.path.parent.parent
    else:
        noun = what if isinstance(what, str) else getattr(what, "noun", "home")
        nouns = [page.noun for page in PAGES]
        if noun not in nouns:
            raise ValueError(f"there is no page {noun!r}; there are {', '.join(nouns)}")
        address, asked = "/", {"page": noun}
    place = workspace if isinstance(workspace, Workspace) else Workspace(workspace)
    return IFrame(f"http://127.0.0.1:{_port(place)}{address}?{urlencode(asked)}", width="100%",
                  height=height or (720 if isinstance(what, Run) else 860))


def _port(workspace: Workspace) -> int:
    """The port of this kernel's server for a workspace; it is started by the first frame."""
    from studio.serve import LOCAL, free_port, serve

    if workspace.path not in _PORTS:
        port = free_port(0, LOCAL[0])
        # The server's thread inherits from the one that starts it that it keeps no kernel alive.
        starter = threading.Thread(target=serve, args=(workspace,), daemon=True,
                                   kwargs={"port": port, "open_browser": False, "threaded": True})
        starter.start()
        starter.join()
        _wait_for(port)
        _PORTS[workspace.path] = port
    return _PORTS[workspace.path]


def _wait_for(port: int) -> None:
    """A frame that knocks before the server listens stays empty."""
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise UserError(f"the studio did not start on port {port} within {START_SECONDS:.0f} seconds; run the cell again.")
