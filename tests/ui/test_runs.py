"""Runs in a real browser: replayed, live, compared, zoomed, and safe to look at."""

from __future__ import annotations

import pytest
from planted import append, plant
from playwright.sync_api import expect

pytestmark = pytest.mark.browser


def test_a_finished_run_is_replayed_with_its_samples_and_verdict(studio_page, server):
    plant(server.workspace, "replayed", steps=400)
    studio_page.open("runs", run="replayed")
    expect(studio_page.page.get_by_role("heading", name="replayed", level=2)).to_be_visible()
    expect(studio_page.text("at step 400")).to_be_visible()
    expect(studio_page.text("The export is the same model.")).to_be_visible()
    studio_page.until(lambda: any(400 in column for figure in studio_page.figures() for column in figure))
    slider = studio_page.page.get_by_role("slider").last
    slider.focus()
    slider.press("Home")
    expect(studio_page.text("at step 100")).to_be_visible()


def test_a_live_run_streams_and_keeps_the_zoom(studio_page, server):
    run = plant(server.workspace, "growing", steps=200, state="running")
    with run.lock():  # as its worker would
        studio_page.open("runs", run="growing")
        expect(studio_page.text("running")).to_be_visible()
        ends = lambda: max((column[-1] for figure in studio_page.figures() for column in figure if column), default=0)  # noqa: E731
        studio_page.until(lambda: ends() == 200)
        append(run, 201, 300)
        studio_page.until(lambda: ends() == 300)

        plot = studio_page.page.locator(".bk-Canvas").first
        plot.scroll_into_view_if_needed()
        studio_page.page.wait_for_timeout(600)
        box = plot.bounding_box()
        studio_page.page.mouse.move(box["x"] + box["width"] * 0.45, box["y"] + box["height"] * 0.5)
        studio_page.page.mouse.down()
        studio_page.page.mouse.move(box["x"] + box["width"] * 0.65, box["y"] + box["height"] * 0.55, steps=6)
        studio_page.page.mouse.up()
        studio_page.until(lambda: studio_page.ranges()[0][1] - studio_page.ranges()[0][0] < 150)
        zoomed = studio_page.ranges()[0]
        append(run, 301, 420)
        run.write_status(step=420)
        expect(studio_page.text("420 of 1,200")).to_be_visible()
        studio_page.page.wait_for_timeout(1500)
        assert studio_page.ranges()[0] == zoomed
    expect(studio_page.text("The process behind this run is gone")).to_be_visible()


def test_runs_are_compared_and_the_choice_is_in_the_address(studio_page, server):
    plant(server.workspace, "first", steps=150)
    plant(server.workspace, "second", steps=250, floor=2.5)
    studio_page.open("runs", run="first")
    row = studio_page.page.locator(".run", has_text="second")
    row.get_by_title("Compare with the selected run").click()
    studio_page.until(lambda: any({150, 250} <= {c[-1] for c in figure if c} for figure in studio_page.figures()))
    assert "others=second" in studio_page.page.url
    studio_page.page.reload()
    studio_page.until(lambda: any({150, 250} <= {c[-1] for c in figure if c} for figure in studio_page.figures()))


def test_a_failed_run_says_what_to_try_and_offers_to_resume(studio_page, server):
    sentence = "The loss became NaN at step 121; try a lower rate."
    plant(server.workspace, "broken", steps=120, state="failed", error=sentence)
    studio_page.open("runs", run="broken")
    expect(studio_page.text(sentence)).to_be_visible()
    expect(studio_page.button("Resume").first).to_be_visible()


def test_what_a_model_writes_is_never_run(studio_page, server):
    plant(server.workspace, "evil", steps=200, state="stopped", evil=True)
    for noun in ("runs", "home"):
        studio_page.open(noun, run="evil")
        expect(studio_page.text("<script>window.hacked = 1</script>")).to_be_visible()
    studio_page.open("runs", run="evil")
    studio_page.page.get_by_role("tab", name="Log").click()
    expect(studio_page.page.locator("pre.log")).to_contain_text("<img src=x")
    assert studio_page.page.evaluate("() => window.hacked") is None
