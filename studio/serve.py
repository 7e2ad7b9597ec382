"""The server: on this machine only, unless asked; and what makes a session of it."""

from __future__ import annotations

import gc
import logging
import socket
from pathlib import Path
from typing import Any

import panel as pn

from engine.config import UserError
from engine.workspace import Workspace

PORT = 5006
LOCAL = ("127.0.0.1", "localhost", "::1")
IN_USE = (98, 48, 10048)  # the error's number on Linux, macOS and Windows


def create(workspace: Workspace | str | Path | None = None) -> Any:
    """The whole studio for one browser session."""
    from studio.session import Session
    from studio.shell import Studio

    studio = Studio(Session(workspace))
    _begin(studio, studio.session)
    return studio.view


def create_run(workspace: Workspace | str | Path | None = None) -> Any:
    """One run alone, named in the address, as a notebook shows it."""
    from studio.session import Session
    from studio.shell import RunAlone

    alone = RunAlone(Session(workspace))
    _begin(alone, alone.session)
    return alone.view


def _begin(app: Any, session: Any) -> None:
    """Let a session's page look at the world twice a second for as long as its browser is there."""
    from studio.shell import TICK_MILLISECONDS, complain

    pn.config.exception_handler = complain
    pn.config.notifications = True
    if pn.state.curdoc is not None and pn.state.curdoc.session_context is not None:
        # Not before the browser is there: a change that it is sent while it still loads is lost.
        pn.state.onload(lambda: pn.state.add_periodic_callback(app.tick, TICK_MILLISECONDS))
        pn.state.on_session_destroyed(lambda context: session.keep())


def serve(workspace: Workspace | str | Path | None = None, *, port: int = 0, address: str = LOCAL[0],
          open_browser: bool = True, threaded: bool = False) -> Any:
    """Serve the studio until it is interrupted (or, `threaded`, return the server's thread).

    `port` 0 is 5006 or the next free one. Raises UserError when a port that was asked for is taken,
    or the address is not this machine's.
    """
    place = workspace if isinstance(workspace, Workspace) else Workspace(workspace)
    chosen = free_port(port, address)
    if not threaded:
        shown = LOCAL[0] if address == "0.0.0.0" else address
        print(f"Training Studio: http://{shown}:{chosen}    workspace: {place.path}", flush=True)
        if address not in LOCAL:
            print("Other machines can reach this address: whoever does can read the workspace and start runs.",
                  flush=True)
    logging.getLogger("bokeh").setLevel(logging.ERROR if threaded else logging.WARNING)
    if not threaded:    # a notebook's process is not ours to tune
        spare_collections()
    return pn.serve(
        {"/": lambda: create(place), "/run": lambda: create_run(place)}, port=chosen, address=address,
        title="Training Studio", websocket_origin=origins(address, chosen), show=open_browser, threaded=threaded,
        verbose=False)


def spare_collections() -> None:
    """Let the garbage collector leave alone what stays, and look at the rest less often.

    A page makes 100,000 objects, which set off a collection of everything, libraries included: up to 0.3 s in which
    the page stands still.
    """
    from studio import shell  # noqa: F401    what a first session would import

    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 10)


def origins(address: str, port: int) -> list[str]:
    """The pages that may open a connection: those that this server itself serves."""
    names = LOCAL[:2] if address in LOCAL else (address, socket.gethostname(), *LOCAL[:2])
    return [f"{name}:{port}" for name in dict.fromkeys(names)]


def free_port(asked: int, address: str) -> int:
    """The port asked for if it is free; else, if none was asked for, the first free one from 5006 on."""
    for port in [asked] if asked else range(PORT, PORT + 100):
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
                return port
            except OSError as error:
                if error.errno not in IN_USE:
                    raise UserError(f"{address}:{port} can't be listened on ({error.strerror}); choose another "
                                    "--address or --port.", where="port") from None
    if asked:
        raise UserError(f"port {asked} is in use; choose another with --port, or leave it out and the next free one "
                        "is taken.", where="port")
    raise UserError(f"ports {PORT} to {PORT + 99} are all in use; name a free one with --port.", where="port")
