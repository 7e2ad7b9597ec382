"""Many long runs in the studio: how soon their curves are drawn, and whether they can be panned without a stutter.

    python benchmarks/runs.py WORKSPACE            makes 100 runs of 100,000 steps there (2 GB) if they are missing

Measured in a real Chromium, on the address of a real server, each time in a fresh browser session and, for the figure
that is called cold, in a fresh server without columns kept from before.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import Page, sync_playwright

from engine import files
from engine.recipe import Recipe
from engine.runs import columns, create
from engine.workspace import Workspace
from studio.serve import free_port

CHROMIUM = os.environ.get("STUDIO_CHROMIUM", "/usr/bin/chromium")
FLAGS = ("--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
         "--disable-component-update --disable-sync").split()

# The curves that the comparison's figure holds, of the glyph with the most of them.
CURVES = """() => {
  let most = 0
  for (const model of window.Bokeh?.documents?.[0]?._all_models.values() ?? [])
    if (model.type === 'GlyphRenderer' && model.glyph.type === 'MultiLine')
      most = Math.max(most, model.data_source.data.xs?.length ?? 0)
  return most
}"""

# Resolves with the seconds that each frame took until `seconds` went by.
FRAMES = """seconds => new Promise(done => {
  const found = []
  let before = performance.now(), end = before + 1000 * seconds
  const next = now => { found.push(now - before); before = now; now < end ? requestAnimationFrame(next) : done(found) }
  requestAnimationFrame(next)
})"""


def plant(workspace: Workspace, num_runs: int, num_steps: int) -> None:
    """Runs as a worker leaves them: a row a step, a validation each 100 steps, a gauge each 200."""
    for number in range(num_runs):
        if (workspace.place("runs") / f"long-{number:03d}" / "status.json").exists():
            continue
        dice = np.random.default_rng(number)
        run = create(Recipe.load("demo").override(f"name=long-{number:03d}", f"optim.lr={1e-4 * (1 + number):g}",
                                                  f"train.max_steps={num_steps}"), workspace)
        steps = np.arange(1, num_steps + 1)
        loss = 2.5 + dice.random() + 5 * np.exp(-np.log1p(steps / 50) * (0.5 + dice.random()))
        noisy, norms = loss + dice.normal(0, 0.05, num_steps), np.abs(dice.normal(0.6, 0.1, num_steps))
        begun = time.time() - num_steps * 0.3
        lines = []
        for step, mean, value, norm in zip(steps.tolist(), loss.tolist(), noisy.tolist(), norms.tolist(), strict=True):
            facts: dict[str, Any] = {"step": step, "time": begun + step * 0.3, "tokens": step * 4096}
            lines.append(json.dumps({**facts, "train/loss": value, "train/lr": 3e-3, "train/grad_norm": norm,
                                     "speed/tokens_per_second": 14_000.0, "speed/data_wait": 0.01}))
            if step % 100 == 0:
                lines.append(json.dumps({**facts, "val/loss": mean + 0.1, "val/bits_per_byte": mean / 2.5}))
            if step % 200 == 0:
                lines.append(json.dumps({**facts, "energy/kwh": step * 1e-5, "energy/watts": 41.0}))
        files.write(run.path / "metrics.jsonl", "\n".join(lines) + "\n")
        run.write_status(state="finished", job="train", step=num_steps, of=num_steps, started=begun, ended=time.time())


class Server:
    """A studio of its own on the workspace."""

    def __init__(self, workspace: Workspace) -> None:
        self.port = free_port(0, "127.0.0.1")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "studio.cli", "app", "--workspace", str(workspace.path), "--port", str(self.port),
             "--no-browser"], stdout=subprocess.DEVNULL)
        while socket.socket().connect_ex(("127.0.0.1", self.port)):
            assert self.process.poll() is None, "the studio did not start"
            time.sleep(0.1)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: Any) -> None:
        self.process.terminate()
        self.process.wait(20)


def opened(page: Page, port: int, query: str = "") -> None:
    page.goto(f"http://127.0.0.1:{port}/?page=runs{query}")
    page.get_by_role("button", name="Help").wait_for()
    page.locator("#loader").wait_for(state="hidden")


def until_drawn(page: Page, curves: int, begun: float, limit: float = 300) -> tuple[float, float]:
    """Seconds until the first curve and until all of them have been painted."""
    first = 0.0
    while time.perf_counter() - begun < limit:
        there = page.evaluate(CURVES)
        now = time.perf_counter() - begun
        if there and not first:
            first = now
        if there >= curves:
            page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
            return first, time.perf_counter() - begun
        page.wait_for_timeout(20)
    raise SystemExit("the curves were not drawn")


def compare(page: Page, curves: int) -> tuple[float, float]:
    """From the click on "Compare all" to painted curves."""
    button = page.get_by_role("button", name="Compare all")
    button.wait_for()
    page.wait_for_timeout(1500)  # the page is at rest, as it is for a person
    begun = time.perf_counter()
    button.click()
    return until_drawn(page, curves, begun)


def pan(page: Page, seconds: float) -> list[float]:
    """Milliseconds of each frame while the figure is dragged to and fro."""
    page.locator(".bk-Canvas").first.scroll_into_view_if_needed()
    page.evaluate("""() => { for (const m of Bokeh.documents[0]._all_models.values())
      if (m.type === 'Figure' && m.renderers.some(r => r.glyph.type === 'MultiLine')) {
        m.toolbar.active_drag = m.toolbar.tools.find(t => t.type === 'PanTool')
        for (const t of m.toolbar.tools) if (t.type === 'PanTool') t.active = true
                                         else if (t.type === 'BoxZoomTool') t.active = false } }""")
    page.wait_for_timeout(500)
    box = page.locator(".bk-Canvas").first.bounding_box()
    assert box
    y, middle, reach = box["y"] + box["height"] / 2, box["x"] + box["width"] / 2, box["width"] / 3
    page.mouse.move(middle, y)
    page.mouse.down()
    page.evaluate("seconds => { window.frames_ = (" + FRAMES + ")(seconds) }", seconds)
    end, place = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        place += 1
        page.mouse.move(middle + reach * float(np.sin(place / 12)), y)
        page.wait_for_timeout(12)
    page.mouse.up()
    return list(page.evaluate("() => window.frames_"))


def told(frames: list[float]) -> str:
    return (f"median {statistics.median(frames):.0f} ms, 95th percentile {np.percentile(frames, 95):.0f} ms, longest "
            f"{max(frames):.0f} ms ({len(frames)} frames)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workspace")
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--picture", type=Path)
    asked = parser.parse_args()
    workspace = Workspace(asked.workspace)
    plant(workspace, asked.runs, asked.steps)
    names = [path.name for path in workspace.listing("runs") if path.name.startswith("long-")]
    size = sum((workspace.place("runs") / name / "metrics.jsonl").stat().st_size for name in names)
    print(f"{len(names)} runs of {asked.steps:,} steps, {size / 1e9:.2f} GB of metrics")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        found: dict[str, list[tuple[float, float]]] = {"nothing kept": [], "columns kept": [], "server warm": []}
        frames: list[float] = []

        def once(server: Server, kind: str, last: bool = False) -> None:
            page = chromium.new_page(viewport={"width": 1440, "height": 1000})
            opened(page, server.port)
            found[kind].append(compare(page, len(names)))
            if last:
                frames.extend(pan(page, 6))
                if asked.picture:
                    page.screenshot(path=asked.picture)
            page.close()

        for name in names:
            (workspace.place("runs") / name / columns.CACHE).unlink(missing_ok=True)
        with Server(workspace) as server:
            once(server, "nothing kept")
        for _ in range(asked.times):
            with Server(workspace) as server:
                once(server, "columns kept")
        with Server(workspace) as server:
            once(server, "columns kept")
            for place in range(asked.times):
                once(server, "server warm", last=place == asked.times - 1)
        chromium.close()
    for kind, times in found.items():
        first, all_of_them = (statistics.median(column) for column in zip(*times, strict=True))
        print(f"{kind:<14} first curve {first:.2f} s, all curves {all_of_them:.2f} s (median of {len(times)})")
    print(f"panning        {told(frames)}")


if __name__ == "__main__":
    main()
