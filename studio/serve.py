"""The server: on this machine only, unless asked; and the one function that makes a session."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import panel as pn

from engine.config import UserError
from engine.workspace import Workspace

PORT = 5006
LOCAL = ("127.0.0.1", "localhost", "::1")


def create(workspace: Workspace | str | Path | None = None, **start: Any) -> Any:
    """The studio for one browser session, ready to be served."""
    from studio.session import Session
    from studio.shell import TICK_MILLISECONDS, Studio, complain

    pn.config.exception_handler = complain
    pn.config.notifications = True
    studio = Studio(Session(workspace, **start))
    if pn.state.curdoc is not None and pn.state.curdoc.session_context is not None:
        pn.state.add_periodic_callback(studio.tick, TICK_MILLISECONDS)
        pn.state.on_session_destroyed(lambda context: studio.session.keep())
    return studio.view


def serve(workspace: Workspace | str | Path | None = None, *, port: int = 0, address: str = "127.0.0.1",
          open_browser: bool = True, threaded: bool = False, app: Callable[[], Any] | None = None) -> Any:
    """Serve the studio until it is interrupted (or, `threaded`, return the server's thread).

    `port` 0 is 5006 or the next free one. Raises UserError when a port that was asked for is taken,
    or the address is not this machine's.
    """
    place = workspace if isinstance(workspace, Workspace) else Workspace(workspace)
    chosen = free_port(port, address)
    hosts = [address, *(LOCAL[:2] if address in LOCAL or address == "0.0.0.0" else ()), *(
        [socket.gethostname()] if address not in LOCAL else [])]
    logging.getLogger("bokeh").setLevel(logging.WARNING)
    shown = "127.0.0.1" if address == "0.0.0.0" else address
    print(f"Training Studio: http://{shown}:{chosen}    workspace: {place.path}", flush=True)
    if address not in LOCAL:
        print("Other machines can reach this address; whoever does can read the workspace and start runs.", flush=True)
    return pn.serve(
        {"": app or (lambda: create(place))}, port=chosen, address=address, title="Training Studio",
        websocket_origin=[f"{host}:{chosen}" for host in dict.fromkeys(hosts)], show=open_browser, threaded=threaded,
        verbose=False)


def free_port(asked: int, address: str) -> int:
    """The port asked for if it is free; else, if none was asked for, the first free one from 5006 on."""
    for port in [asked] if asked else range(PORT, PORT + 100):
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
                return port
            except OSError as error:
                if error.errno not in (98, 48, 10048):  # in use: Linux, macOS, Windows
                    raise UserError(f"{address}:{port} can't be listened on ({error.strerror}); choose another "
                                    "--address or --port.", where="port") from None
    if asked:
        raise UserError(f"port {asked} is in use; choose another with --port, or leave it out and the next free one "
                        "is taken.", where="port")
    raise UserError(f"ports {PORT} to {PORT + 99} are all in use; name a free one with --port.", where="port")
