"""A conversation in a real browser: Enter sends, the answer comes, is edited and cleared."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from planted import EVIL
from playwright.sync_api import expect

sys.path.insert(0, str(Path(__file__).parents[1] / "engine"))
pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    import toy_chat

    return toy_chat.bundle(tmp_path_factory.mktemp("toy"), context_length=4096)


def test_a_conversation_is_held_edited_and_cleared(studio_page, server, bundle):
    shutil.copytree(bundle, server.workspace.place("bundles") / "toy")
    page = studio_page.open("inference", bundle="toy").page
    studio_page.button("Conversation").click()
    entry = page.get_by_placeholder("Message")
    expect(entry).to_be_visible()
    expect(studio_page.field("Prompt")).to_be_hidden()
    entry.fill(f"kalo {EVIL}")
    studio_page.field("Seed").fill("x")
    entry.press("Enter")
    expect(studio_page.text("Must be a whole number, or empty")).to_be_visible()
    page.wait_for_timeout(500)      # in which the field would be emptied
    expect(entry).to_have_value(f"kalo {EVIL}")
    studio_page.field("Seed").fill("")
    entry.press("Enter")
    answers = page.locator(".turn.assistant:not(.writing)")
    expect(answers).to_have_count(1)
    expect(page.locator(".turn.user .said")).to_have_text(f"kalo {EVIL}")
    expect(studio_page.text("tokens per second, measured")).to_be_visible()
    expect(entry).to_have_value("")
    assert page.evaluate("window.hacked") is None

    studio_page.button("Edit last message").click()
    expect(entry).to_have_value(f"kalo {EVIL}")
    expect(page.locator(".turn")).to_have_count(0)
    entry.fill("mi")
    entry.press("Enter")
    expect(answers).to_have_count(1)
    expect(page.locator(".turn.user .said")).to_have_text("mi")
    expect(studio_page.button("Answer again")).to_be_enabled()
    studio_page.button("Clear").click()
    expect(studio_page.text("Say something.")).to_be_visible()
