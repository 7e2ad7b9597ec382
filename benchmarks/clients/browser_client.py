"""@huggingface/transformers reads our bundles in headless Chromium and writes the same greedy text.

    npm install --ignore-scripts @huggingface/transformers
    python benchmarks/clients/browser_client.py FOLDER NODE_MODULES [BUNDLE ...]

FOLDER is what `make.py` made, NODE_MODULES the folder that npm installed into. Page, packages, wasm and bundles come
from a server on this machine, and requests to any other host are refused and told of. Exits with 1 unless the text is
equal, of rounded weights the probabilities close, and nothing else was asked for. $STUDIO_CHROMIUM names another
browser than /usr/bin/chromium.
"""

from __future__ import annotations

import functools
import os
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from checks import Verdict, asked
from playwright.sync_api import Error, Route, sync_playwright

KINDS = {"model.onnx": "fp32", "model_fp16.onnx": "fp16", "model_quantized.onnx": "q8", "model_int8.onnx": "int8",
         "model_q4.onnx": "q4"}
FLAGS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]
PAGE = Path(__file__).with_name("browser.html")
PATIENCE = 300_000     # milliseconds; a busy machine compiles 27 MB of wasm


class Served(SimpleHTTPRequestHandler):
    """The page, and the files of two folders; nothing above them."""

    extensions_map = {**SimpleHTTPRequestHandler.extensions_map, ".mjs": "text/javascript", ".wasm": "application/wasm"}

    def __init__(self, *arguments: Any, roots: dict[str, Path], **named: Any) -> None:
        self.roots = roots
        super().__init__(*arguments, **named)

    def translate_path(self, path: str) -> str:
        _, first, *rest = unquote(urlsplit(path).path).split("/")
        if not first:
            return str(PAGE)
        root = self.roots.get(first, PAGE.parent / "nowhere").resolve()
        found = root.joinpath(*filter(None, rest)).resolve()
        return str(found if found.is_relative_to(root) and found.is_file() else root / "nowhere")

    def log_message(self, *_: Any) -> None:
        """Its lines would stand among the table's."""


def main(folder: Path, packages: Path, names: list[str]) -> None:
    verdict = Verdict()

    def only_here(route: Route) -> None:
        where = urlsplit(route.request.url)
        if where.scheme in ("data", "blob") or where.hostname == "127.0.0.1":
            route.continue_()
        else:
            verdict.wrong("another host", "was asked for:", route.request.url)
            route.abort()

    roots = {"packages": packages, "bundles": folder}
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Served, roots=roots))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=os.environ.get("STUDIO_CHROMIUM", "/usr/bin/chromium"), args=FLAGS)
        page = browser.new_page()
        page.set_default_timeout(PATIENCE)
        page.route("**/*", only_here)
        page.goto(f"http://127.0.0.1:{server.server_port}/")
        page.wait_for_function("window.greedy !== undefined")
        for name, wanted in asked(folder, names):
            for file, ours in wanted["files"].items():
                given = [name, KINDS[file], wanted["prompt"], len(ours["new"])]
                try:
                    verdict.tell(name, file, page.evaluate("given => greedy(...given, false)", given), ours["text"])
                    verdict.tell(name, file, page.evaluate("given => greedy(...given, true)", given),
                                 ours["ended_text"], ", to its end")
                    rows = page.evaluate("given => logits(...given)", [name, KINDS[file], wanted["read"]])
                    verdict.near(name, file, rows, ours["logits"])
                except Error as error:
                    verdict.wrong(name, file, str(error).splitlines()[0][:200])
        browser.close()
    server.shutdown()
    verdict.end()


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve(), sys.argv[3:])
