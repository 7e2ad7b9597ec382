"""Train in a real browser: errors beside the field, a start that names what is missing, one run a double click."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from engine import runs

pytestmark = pytest.mark.browser


def test_an_error_stands_beside_its_field_and_the_start_names_it(studio_page, server):
    studio_page.open("stages")
    expect(studio_page.button("Measure")).to_be_visible()     # its tooltip did not take the place of its name
    steps = studio_page.field("Steps")
    steps.fill("0")
    expect(studio_page.text("Is 0, must be at least 1")).to_be_visible()
    expect(studio_page.text("Train steps is 0, must be at least 1")).to_be_visible()
    expect(studio_page.page.get_by_role("button", name="Start", exact=True)).to_be_disabled()
    steps.fill("400")
    expect(studio_page.text("Ready to start")).to_be_visible()
    expect(studio_page.page.get_by_role("button", name="Start", exact=True)).to_be_enabled()
    studio_page.until(lambda: "400" in (server.workspace.path / "draft.yaml").read_text())
    studio_page.open("stages")
    expect(studio_page.field("Steps")).to_have_value("400")


def test_a_missing_corpus_is_named_with_the_way_there(studio_page):
    studio_page.open("corpus")
    path = studio_page.field("Path")
    before = path.input_value()
    path.fill("corpora/not-there")
    studio_page.goto("Train")
    expect(studio_page.text("The corpus has no file or folder corpora/not-there.")).to_be_visible()
    studio_page.button("Go there").click()
    path.fill(before)
    studio_page.goto("Train")
    expect(studio_page.text("Ready to start")).to_be_visible()


def test_a_number_can_be_typed_as_scientists_do_and_shown_as_code(studio_page):
    studio_page.open("optim")
    studio_page.field("Learning rate").fill("3e-4")
    studio_page.button("Show as code").click()
    expect(studio_page.page.locator("#command")).to_contain_text("optim.lr=0.0003")
    expect(studio_page.page.locator("#yaml")).to_contain_text("lr: 0.0003")


def test_a_double_click_starts_one_run_and_goes_to_it(studio_page, server):
    studio_page.open("stages")
    studio_page.field("Name").fill("twice")
    studio_page.field("Steps").fill("3")
    expect(studio_page.text("Ready to start “twice”")).to_be_visible()
    studio_page.page.get_by_role("button", name="Start", exact=True).dblclick()
    expect(studio_page.page.get_by_role("heading", name="twice", level=2, exact=True)).to_be_visible()
    assert [run.name for run in runs.listing(server.workspace) if run.name.startswith("twice")] == ["twice"]
    run = runs.find("twice", server.workspace)
    runs.stop(run)
    run.wait(120)
