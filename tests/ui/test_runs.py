"""Runs in a real browser: replayed, live, compared, zoomed, and safe to look at."""

from __future__ import annotations

import pytest
from planted import EVIL, append, plant
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
    studio_page.until(lambda: [150, 250] in ends(studio_page))
    assert "others=second" in studio_page.page.url
    studio_page.page.reload()
    studio_page.until(lambda: [150, 250] in ends(studio_page))
    studio_page.page.locator("#loader").wait_for(state="hidden")
    studio_page.button("kWh").click()
    studio_page.until(lambda: any(found == pytest.approx([140e-5, 240e-5]) for found in ends(studio_page)),
                      60)  # what the last readings say
    expect(studio_page.text("These runs were asked the same, but for their names.")).to_be_visible()


ENDS = """() => {
  const found = []
  for (const model of window.Bokeh?.documents?.[0]?._all_models.values() ?? [])
    if (model.type === 'GlyphRenderer' && model.glyph.type === 'MultiLine')
      found.push(Array.from(model.data_source.data.xs ?? []).map(xs => xs[xs.length - 1]).sort((a, b) => a - b))
  return found
}"""


def ends(studio_page) -> list[list[float]]:
    """Where the curves of each comparing figure end; a figure that was replaced may be among them."""
    return studio_page.page.evaluate(ENDS)


def test_a_run_waits_is_held_and_taken_out_of_the_queue(studio_page, server):
    from engine import runs
    from engine.recipe import Recipe

    for name in ("waits", "waits-too"):
        runs.queue.add(runs.create(Recipe().override(f"name={name}"), server.workspace), held=True)
    studio_page.open("runs", run="waits")
    row = studio_page.page.locator(".queue li", has_text="waits-too")
    row.get_by_title("Earlier").click()
    expect(studio_page.page.locator(".queue li").first).to_contain_text("waits-too")
    row.get_by_role("button", name="Remove").click()
    expect(row).to_have_count(0)
    studio_page.page.locator(".queue li").get_by_role("button", name="Remove").click()
    expect(studio_page.page.locator(".queue li")).to_have_count(0)


def test_notes_are_written_and_shown_as_what_they_are(studio_page, server):
    plant(server.workspace, "noted", steps=50)
    studio_page.open("runs", run="noted")
    studio_page.button("Add notes or tags").click()
    studio_page.field("Notes, in Markdown").fill(f"**warm** {EVIL}")
    studio_page.field("Tags, with commas between").fill("base")
    studio_page.page.get_by_role("button", name="Save", exact=True).click()
    expect(studio_page.page.locator(".noted strong", has_text="warm")).to_be_visible()
    assert studio_page.page.evaluate("() => window.hacked") is None
    studio_page.field("Filter runs").press_sequentially("#base")
    expect(studio_page.page.locator(".run")).to_have_count(1)


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
