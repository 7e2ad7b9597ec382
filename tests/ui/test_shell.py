"""The shell in a real browser: every page while nothing is made, light and dark, help, links, reload."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from studio.pages import PAGES

pytestmark = pytest.mark.browser


NOTHING = {"corpus": "Nothing is curated yet", "tokens": "There are no tokens yet",
           "runs": "There are no runs yet", "evaluate": "There is no report yet", "export": "There is no bundle yet",
           "inference": "There is no bundle yet: export a run first"}
"""What pages say while nothing is made."""


def test_every_page_opens_from_the_navigation_fits_a_small_window_and_says_what_to_do_first(studio_page):
    studio_page.page.set_viewport_size({"width": 1024, "height": 900})
    studio_page.open()
    expect(studio_page.text("Watch a language model learn")).to_be_visible()
    for page in PAGES[1:]:
        studio_page.goto(page.title)
        expect(studio_page.page.get_by_role("heading", name=page.title, exact=True, level=1)).to_be_visible()
        assert f"page={page.noun}" in studio_page.page.url
        expect(studio_page.page.get_by_text("could not be shown")).to_have_count(0)
        if page.noun in NOTHING:
            expect(studio_page.text(NOTHING[page.noun])).to_be_visible()
        studio_page.page.wait_for_timeout(500)
        wide = studio_page.page.locator("main").evaluate("""main => [main, ...main.querySelectorAll('*')]
          .filter(e => e.scrollWidth > e.clientWidth + 1 && ['auto', 'scroll'].includes(getComputedStyle(e).overflowX))
          .map(e => e.className + ' ' + e.scrollWidth + ' > ' + e.clientWidth)""")
        assert not wide, (page.noun, wide)
    studio_page.button("Go to Export").click()
    expect(studio_page.button("Go to Train")).to_be_visible()


def test_dark_is_dark_and_is_remembered(studio_page):
    studio_page.open()
    page = studio_page.page

    def lightness() -> int:
        return page.locator("main").evaluate("e => getComputedStyle(e).backgroundColor.match(/\\d+/g).map(Number)[0]")

    assert lightness() > 200
    page.get_by_label("Toggle theme").click()
    studio_page.until(lambda: lightness() < 60)
    studio_page.until(lambda: "true" in (studio_page.server.workspace.path / "studio.json").read_text())
    studio_page.open()
    studio_page.until(lambda: lightness() < 60)
    page.get_by_label("Toggle theme").click()
    studio_page.until(lambda: lightness() > 200)


def test_links_the_back_button_and_a_reload_keep_the_place_and_help_speaks_of_it(studio_page):
    studio_page.open("stages")
    studio_page.goto("Model")
    expect(studio_page.page.get_by_role("heading", name="Model", exact=True, level=1)).to_be_visible()
    studio_page.page.go_back()
    expect(studio_page.page.get_by_role("heading", name="Train", exact=True, level=1)).to_be_visible()
    studio_page.page.reload()
    expect(studio_page.page.get_by_role("heading", name="Train", exact=True, level=1)).to_be_visible()
    studio_page.page.locator("#loader").wait_for(state="hidden")
    studio_page.button("Help").click()
    expect(studio_page.page.locator(".MuiDrawer-root").get_by_role("heading", name="Train").first).to_be_visible()
