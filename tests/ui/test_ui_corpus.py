"""The data bench in a real browser: steps moved, switched and opened; a dataset's ledger, documents and card."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
import yaml
from planted import EVIL
from playwright.sync_api import expect

from engine.corpus import CorpusConfig
from engine.corpus.pipeline import curate
from engine.progress import silent

pytestmark = pytest.mark.browser
HOUSE = "The old grey house stood by the river and nobody came near it in the long winter, not even the birds. "
STEPS = [{"kind": "clean"}, {"kind": "quality"}, {"kind": "near_duplicates"}]

CARDS = """main => {
  const found = []
  const walk = root => root.querySelectorAll('*').forEach(each => {
    const sheet = each.shadowRoot?.querySelector('.MuiPaper-root')
    if (sheet && sheet.getBoundingClientRect().height) {
      const {top, bottom} = sheet.getBoundingClientRect()
      found.push([top, bottom])
    } else if (each.shadowRoot) walk(each.shadowRoot)
  })
  walk(main)
  return found
}"""
"""Top and end in pixels of each sheet that lies in no other, drawn as high as it is (its host may be lower)."""


@pytest.fixture(scope="module")
def dataset(server):
    """A corpus whose texts, ids and file names are markup, its dataset, and a draft that reads it."""
    folder = server.workspace.place("corpora") / f"evil {EVIL.replace('/', '')}"
    folder.mkdir()
    rows = [{"text": f"{EVIL} {number}"} for number in range(4)]
    rows += [{"text": f"{EVIL}  {HOUSE * 4}{'xyz' * number}"} for number in range(2)]
    rows += [{"text": f"{number} stones lay {EVIL}\u0007 {' '.join(f'word{number}{i}' for i in range(40))}."}
             for number in range(20)]
    (folder / f"{folder.name}.jsonl").write_text("\n".join(map(json.dumps, rows)) + f"\n{{{EVIL}\n")
    corpus = CorpusConfig(sources=({"path": "corpora/evil*/*"},), steps=STEPS)
    (server.workspace.path / "draft.yaml").write_text(yaml.safe_dump({"corpus": corpus.dump()}))
    return curate(corpus, server.workspace, "evil", silent)


def step(studio_page, place):
    return studio_page.page.locator(f".step[data-place='{place}']")


def hacked(studio_page) -> bool:
    return studio_page.page.evaluate("window.hacked === 1")


def test_steps_are_moved_switched_and_opened_and_the_sample_follows(studio_page, dataset):
    studio_page.open("corpus")
    expect(step(studio_page, 1)).to_contain_text("−4 dropped")
    expect(step(studio_page, 2)).to_contain_text("−1 dropped")

    step(studio_page, 1).get_by_role("switch").click()
    expect(step(studio_page, 1)).to_contain_text("off")
    expect(step(studio_page, 2)).to_contain_text("26→")
    step(studio_page, 1).get_by_role("switch").click()
    expect(step(studio_page, 1)).to_contain_text("−4 dropped")

    grip = step(studio_page, 1).locator("[data-grip]")
    grip.focus()
    grip.press("ArrowUp")
    expect(step(studio_page, 0)).to_contain_text("Quality")
    expect(step(studio_page, 0).locator("[data-grip]")).to_be_focused()
    step(studio_page, 2).locator("[data-grip]").drag_to(step(studio_page, 0), target_position={"x": 200, "y": 6})
    expect(step(studio_page, 0)).to_contain_text("Near duplicates")
    expect(step(studio_page, 1)).to_contain_text("Quality")

    studio_page.button("Open Clean").click()
    expect(studio_page.page.locator(".diff del").first).to_be_visible()
    expect(studio_page.page.locator(".diff").first).to_contain_text("<img src=x onerror='window.hacked")
    assert not hacked(studio_page)

    for name in ("Near duplicates", "Quality"):
        studio_page.button(f"Open {name}").click()
        studio_page.button(f"Close {name}").wait_for()
    expect(studio_page.text("Which pairs are found")).to_be_visible()
    tops_and_ends = studio_page.page.locator("main").evaluate(CARDS)
    assert len(tops_and_ends) == 4
    assert all(end <= top for (_, end), (top, _) in pairwise(tops_and_ends)), "a card lies on the one above it"
    studio_page.page.get_by_role("button").filter(has_text="Curate").last.click(trial=True)


def test_a_dataset_is_looked_through_and_a_row_pardoned_and_no_text_is_markup(studio_page, dataset):
    studio_page.open("corpus")
    page = studio_page.page
    turn = lambda name: page.get_by_role("tab", name=name).last.click()  # noqa: E731
    turn("Ledger")
    studio_page.field("Text, id or source holds").fill("WINDOW.hacked")
    expect(page.locator(".entry mark").first).to_be_visible()
    studio_page.field("Reason holds").fill("fewer than 10")
    page.locator(".entry", has_text="fewer than 10 words").get_by_role("button", name="Pardon").first.click()
    expect(studio_page.text("Kept although a step would drop them")).to_be_visible()
    turn("Duplicates")
    page.locator("[data-press^='cluster near']").first.click()
    expect(page.locator(".sides")).to_contain_text("<script>window.hacked")
    turn("Documents")
    page.locator(".rows [data-press='open 0']").click()
    expect(page.locator(".whole .prose")).to_contain_text("<script>window.hacked")
    turn("Not read")
    expect(page.locator("td", has_text="onerror").last).to_be_visible()
    turn("Card")
    expect(page.locator(".cardtext h1")).to_have_text("evil")
    assert not hacked(studio_page)
    assert page.locator("img[src=x]").count() == 0
