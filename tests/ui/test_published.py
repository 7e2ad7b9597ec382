"""A model that others trained, in a real browser: brought in, exported, timed; and one that scores is asked."""

from __future__ import annotations

import re

import pytest
import toy_bundle
import toy_models
import toy_scorer
from playwright.sync_api import expect

from engine import inference

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def published(server):
    """The folder of a Llama as transformers saves it, in the workspace."""
    import transformers

    folder = server.workspace.path / "published" / "tiny"
    folder.parent.mkdir()
    toy_bundle.checkpoint(folder.parent / "ours")   # for its tokenizer
    theirs = transformers.LlamaForCausalLM(transformers.LlamaConfig(
        vocab_size=toy_bundle.VOCABULARY, hidden_size=48, intermediate_size=88, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=32, bos_token_id=None,
        eos_token_id=None))
    toy_models.stir(theirs).save_pretrained(folder)
    (folder.parent / "tokenizer.json").rename(folder / "tokenizer.json")
    return folder


def test_a_published_model_is_brought_in_exported_and_timed(studio_page, published):
    page = studio_page.page
    press = lambda name: page.locator("main").get_by_role("button", name=name, exact=True).click()  # noqa: E731
    studio_page.open("model")
    studio_page.field("Folder").fill(str(published))
    press("Bring in from the folder")
    expect(page.get_by_role("heading", name="tiny", level=2, exact=True)).to_be_visible()
    expect(studio_page.text("finished after")).to_be_visible()

    studio_page.goto("Export")
    press("Export")
    expect(page.get_by_role("heading", name="tiny-export", level=2, exact=True)).to_be_visible()
    expect(studio_page.text("The export is the same model.")).to_be_visible()

    studio_page.goto("Export")
    for label, value in (("Prompt tokens", "8"), ("New tokens", "4"), ("Rounds", "1")):
        studio_page.field(label).fill(value)
    press("Measure the speed")
    row = page.locator("tr", has_text="this bundle, float32").filter(visible=True)
    expect(row.locator("td.num").nth(1)).to_have_text(re.compile(r"\d"))


def test_texts_are_scored_by_an_exported_reward_model(studio_page, server, tmp_path_factory):
    bundle = toy_scorer.bundle(tmp_path_factory.mktemp("toy"))
    bundle.rename(server.workspace.place("bundles") / bundle.name)
    studio_page.open("inference", bundle=bundle.name)
    studio_page.field("Prompt").fill("kalo mi")
    studio_page.button("Score").click()
    score = inference.load_scorer(server.workspace.place("bundles") / bundle.name).score(["kalo mi"])[0, 0]
    expect(studio_page.page.locator("td", has_text=f"{score:+.4f}")).to_be_visible()
