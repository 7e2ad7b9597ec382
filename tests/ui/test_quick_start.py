"""Quick start in a real browser: one press and a GPT learns in sight; it stops, goes on, and outlives the page."""

from __future__ import annotations

import shutil

import pytest
from playwright.sync_api import expect

from engine import runs
from engine.workspace import ASSETS

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]  # a busy machine curates and tokenizes for minutes


def newest_step(studio_page) -> float:
    """The last step that any curve in sight has reached."""
    return max((column[-1] for figure in studio_page.figures() for column in figure if column), default=0)


def test_one_press_and_a_model_learns_in_sight(studio_page, server):
    shelf = server.workspace.place("corpora") / "novels"    # comes before the bundled one, and is sooner prepared
    shelf.mkdir()
    for novel in sorted((ASSETS / "corpora" / "novels").glob("*.txt"), key=lambda path: path.stat().st_size)[:2]:
        shutil.copy(novel, shelf)
    studio_page.open("home")
    studio_page.button("Quick start").click()
    studio_page.until(lambda: any(run.name.startswith("demo") for run in runs.listing(server.workspace)))
    run = next(run for run in runs.listing(server.workspace) if run.name.startswith("demo"))
    try:
        studio_page.until(lambda: newest_step(studio_page) >= 8, seconds=240)

        studio_page.page.close()  # the run does not notice
        assert run.status().active
        studio_page.page = studio_page.page.context.new_page()
        studio_page.open("runs", run=run.name)
        studio_page.until(lambda: newest_step(studio_page) >= 12, seconds=60)

        studio_page.button("Stop and save").first.click()
        expect(studio_page.button("Resume").first).to_be_visible()
        saved = runs.find(run.name, server.workspace).status().step
        assert run.status().state == "stopped"
        assert run.checkpoints[-1].name == f"step-{saved:06d}"

        studio_page.button("Resume").first.click()
        studio_page.until(lambda: newest_step(studio_page) > saved + 2, seconds=60)
        studio_page.button("Stop and save").first.click()
        expect(studio_page.button("Resume").first).to_be_visible()
    finally:
        runs.stop(run)
        run.wait(120)
    steps = [row["step"] for row in run.rows("metrics")[0] if "train/loss" in row]
    assert steps == list(range(1, steps[-1] + 1)), "each step once, none left out"
