"""The noun pages in a real browser: estimates that move, an upload, text that streams."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from planted import EVIL
from playwright.sync_api import expect

pytestmark = pytest.mark.browser


def hacked(studio_page) -> bool:
    return studio_page.page.evaluate("window.hacked === 1")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    import toy_bundle

    return toy_bundle.bundle(tmp_path_factory.mktemp("toy"))


def test_estimates_move_while_one_types_and_an_error_stands_beside_its_field(studio_page):
    studio_page.open("model")
    tiles = studio_page.page.locator("dl.tiles").first
    before = tiles.inner_text()
    layers = studio_page.field("Layers")
    layers.press_sequentially("2")
    studio_page.until(lambda: tiles.inner_text() != before)
    studio_page.field("Hidden size").fill("130")
    expect(studio_page.text("which does not divide")).to_be_visible()
    studio_page.field("Hidden size").fill("128")
    layers.fill("4")
    studio_page.until(lambda: tiles.inner_text() == before)


def test_an_upload_lands_in_the_workspace(studio_page, server, tmp_path):
    (tmp_path / "my text.txt").write_text("Some words of my own. " * 20)
    studio_page.open("corpus")
    studio_page.page.locator("input[type=file]").set_input_files(str(tmp_path / "my text.txt"))
    expect(studio_page.text("corpora/my text.txt: 1 file")).to_be_visible()
    assert (server.workspace.place("corpora") / "my text.txt").read_bytes() == (tmp_path / "my text.txt").read_bytes()
    studio_page.page.locator("tr", has_text="corpora/novels").get_by_role("button", name="Use alone").click()
    expect(studio_page.text("corpora/novels: 7 files")).to_be_visible()


def test_a_bundle_shows_its_proof_and_answers_with_probabilities(studio_page, server, bundle):
    shutil.copytree(bundle, server.workspace.place("bundles") / "toy")
    studio_page.open("export", bundle="toy")
    expect(studio_page.text("Parity passed")).to_be_visible()
    studio_page.button("Talk to it").click()
    studio_page.field("Prompt").fill(f"the {EVIL}")
    studio_page.button("Generate").click()
    expect(studio_page.text("Tokens per second, measured")).to_be_visible()
    # An untrained model may write half a character, which takes no room.
    token = studio_page.page.locator(".tokens.written .s[tabindex]").filter(visible=True).nth(1)
    token.hover()
    expect(token.locator(".pop")).to_be_visible()
    assert len(token.locator(".pop tr").all()) >= 5
    assert not hacked(studio_page)
    shutil.rmtree(server.workspace.place("bundles") / "toy")
