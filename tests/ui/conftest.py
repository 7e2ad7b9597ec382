"""A real browser on a real server: no other host is reached, no error is silent."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlencode, urlsplit
from urllib.request import urlopen

import pytest
from playwright.sync_api import BrowserContext, Locator, Page, Request, WebError, expect, sync_playwright

from engine.workspace import Workspace

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "engine"))  # its toys
CHROMIUM = os.environ.get("STUDIO_CHROMIUM", "/usr/bin/chromium")
FLAGS = ("--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
         "--disable-component-update --disable-sync").split()
FLAGS.append("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")  # a route would take away the browser's cache
PATIENCE = 60_000  # milliseconds; two busy cores are slow
expect.set_options(timeout=PATIENCE)

GONE = ("WebSocketClosedError", "StreamClosedError", "self._session is not None")
"""What the server's libraries say when a browser leaves in the middle of a sentence."""


class Server:
    """One studio in a process of its own, with its workspace and its log."""

    def __init__(self, folder: Path) -> None:
        self.workspace = Workspace(folder / "workspace")
        self.log = folder / "server.log"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        environment = {**os.environ, "STUDIO_WORKSPACE": str(self.workspace.path), "PYTHONUNBUFFERED": "1"}
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "studio.cli", "app", "--port", str(self.port), "--no-browser"],
                cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT)
        self._wait()

    def _wait(self) -> None:
        until = time.monotonic() + 60
        while time.monotonic() < until and self.process.poll() is None:
            try:
                urlopen(f"{self.address}/favicon.ico", timeout=1).close()
                return
            except URLError as error:
                if "HTTP Error" in str(error):
                    return
                time.sleep(0.1)
        raise AssertionError(f"the studio did not start: {self.log.read_text()}")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(20)


    def empty(self) -> None:
        """Leave nothing of what an earlier file made but the workspace's own folders."""
        for each in [*self.workspace.path.iterdir(), *self.workspace.path.glob("*/*")]:
            if each.parent != self.workspace.path and each.is_dir():
                shutil.rmtree(each)
            elif not each.is_dir():
                each.unlink()


@pytest.fixture(scope="session")
def studio(tmp_path_factory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("studio"))
    yield made
    made.stop()


@pytest.fixture(scope="module")
def server(studio) -> Server:
    """The studio on a workspace that is empty when the file's first test begins."""
    studio.empty()
    return studio


@pytest.fixture(scope="session")
def context() -> Iterator[BrowserContext]:
    """A browser for all journeys, so that what every page loads is fetched and compiled once."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium.new_context(viewport={"width": 1440, "height": 1000})
        chromium.close()


class StudioPage:
    """A browser page on the studio, with the words that journeys are told in."""

    def __init__(self, page: Page, server: Server) -> None:
        self.page, self.server = page, server

    def open(self, noun: str = "home", **selected: str) -> StudioPage:
        """Load the studio at one page, and wait until it is there."""
        self.page.goto(f"{self.server.address}/?{urlencode({'page': noun, **selected})}")
        self.page.locator("main").wait_for()
        self.page.get_by_role("button", name="Help").wait_for()
        self.page.locator("#loader").wait_for(state="hidden")
        return self

    def goto(self, title: str) -> StudioPage:
        """Click a page's name in the navigation."""
        self.page.locator(".sidebar").get_by_text(title, exact=True).click()
        return self

    def field(self, label: str) -> Locator:
        return self.page.get_by_label(label, exact=True)

    def text(self, words: str) -> Locator:
        return self.page.get_by_text(words).first

    def button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name)

    def figures(self) -> list[list[list[float]]]:
        """The x columns of each figure that is drawn now."""
        return self.page.evaluate("""() => {
          const found = []
          for (const figure of window.Bokeh?.documents?.[0]?._all_models.values() ?? []) {
            if (figure.type !== 'Figure') continue
            found.push(figure.renderers.map(r => Array.from(r.data_source.data.x ?? [])))
          }
          return found
        }""")

    def ranges(self) -> list[tuple[float, float]]:
        """The x range of each figure."""
        return self.page.evaluate("""() => [...Bokeh.documents[0]._all_models.values()]
          .filter(m => m.type === 'Figure').map(f => [f.x_range.start, f.x_range.end])""")

    def until(self, true: Callable[[], object], seconds: float = 30) -> None:
        """Wait until a function of no arguments is true; a file that it reads may not be there yet."""
        end = time.monotonic() + seconds
        while True:
            with suppress(FileNotFoundError):
                if true():
                    return
            assert time.monotonic() < end, "waited in vain"
            self.page.wait_for_timeout(100)


@pytest.fixture
def studio_page(server, context) -> Iterator[StudioPage]:
    """A fresh browser session; the test fails on any request elsewhere, page error or traceback in the server's log."""
    before = server.log.stat().st_size
    errors, abroad = [], []

    def ask(request: Request) -> None:
        where = urlsplit(request.url)
        if where.scheme not in ("data", "blob") and where.hostname != "127.0.0.1":
            abroad.append(request.url)

    def fail(error: WebError) -> None:
        errors.append(str(error.error))

    context.on("request", ask)
    context.on("weberror", fail)
    context.set_default_timeout(PATIENCE)
    yield StudioPage(context.new_page(), server)
    for page in context.pages:
        page.close()
    context.remove_listener("request", ask)
    context.remove_listener("weberror", fail)
    written = server.log.read_bytes()[before:].decode()
    assert not abroad, abroad
    assert not errors, errors
    blocks = written.split("Traceback (most recent call last)")[1:]
    assert all(any(word in block for word in GONE) for block in blocks), written
