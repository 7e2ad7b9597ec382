"""The console script `studio`: the engine's commands, and `app` and `bias`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from engine.__main__ import main as engine_main
from engine.config import UserError
from engine.workspace import Workspace


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


def takes_dataset(command: argparse.ArgumentParser) -> None:
    command.add_argument("dataset", metavar="DATASET", help="the name of a dataset, or the beginning of it")
    command.add_argument("--json", action="store_true", help="print the whole report")


def bias(arguments: argparse.Namespace) -> int:
    from engine.corpus.bias_report import of_dataset
    from engine.corpus.bias_table import NOTE, digest, heads, rows
    from engine.runs.costs import HOW, costs

    workspace = Workspace(arguments.workspace)
    dataset = workspace.find("datasets", arguments.dataset)
    report = of_dataset(dataset)
    if arguments.json:
        print(json.dumps(report, indent=2, ensure_ascii=False))
        return 0
    short = digest(report)
    lines = [(dataset.name, heads(short)), *rows(short)]
    widths = [max(len(name) for name, _ in lines), *(max(map(len, column)) for column in zip(*(
        values for _, values in lines), strict=True))]
    for name, values in lines:
        print("  ".join([name.ljust(widths[0]), *(value.rjust(width) for value, width in
                                                  zip(values, widths[1:], strict=True))]))
    print(NOTE)
    models = costs(dataset, workspace)
    for before, after, cost in models:
        print(f"{before} -> {after}: {cost['sentence']}")
    if report["steps"] and not models:
        print(HOW)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    return engine_main(argv, extra={
        "app": ("open the studio in the browser", takes_app, app),
        "bias": ("tell how groups of people stand in a dataset", takes_dataset, bias)})


if __name__ == "__main__":
    sys.exit(main())
