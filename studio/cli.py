"""The console script `studio`: the engine's commands, and `app`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from engine.__main__ import main as engine_main
from engine.config import UserError


def takes_app(command: argparse.ArgumentParser) -> None:
    command.add_argument("--port", type=int, default=0, help="port to listen on (default: 5006, or the next free one)")
    command.add_argument("--address", default="127.0.0.1",
                         help="address to listen on; anything but 127.0.0.1 lets other machines in")
    command.add_argument("--no-browser", action="store_true", help="only print the address")


def app(arguments: argparse.Namespace) -> int:
    from studio.serve import serve

    if not 0 <= arguments.port <= 65535:
        raise UserError(f"port {arguments.port} is not a port; choose one from 1024 to 65535.", where="port")

    serve(arguments.workspace, port=arguments.port, address=arguments.address, open_browser=not arguments.no_browser)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    return engine_main(argv, extra={"app": ("open the studio in the browser", takes_app, app)})


if __name__ == "__main__":
    sys.exit(main())
