"""The tokenizer lab and the chat preview without a browser."""

from __future__ import annotations

import json

import pytest
from planted import EVIL
from test_pages_data import opened, texts, ticked, tokens  # noqa: F401  fixtures of the same small world

from engine.model import ModelConfig, estimate
from engine.tokens import TokensConfig
from engine.tokens import tokenizer as bpe
from studio.lab_view import embedding_share
from studio.pages.tokens import Tokens


@pytest.fixture
def page(session, tokens):  # noqa: F811
    return opened(Tokens, session)


def test_a_lab_compares_sizes_with_another_tokenizer_and_puts_one_into_the_draft(session, page):
    other = session.workspace.path / "<b>other.json"
    bpe.train([["the old river was grey"] * 40], TokensConfig(vocab_size=262)).save(str(other))
    page.lab.sizes.value, page.lab.others.value = "280, 300 99999", other.name
    page.lab.typed.value = f"the old house {EVIL}"
    page.lab.start()
    assert page.lab.go.disabled
    page.lab.work.wait()
    ticked(page, page.lab.work)
    ticked(page, page.lab.cutting)
    shown = page.lab.table.html
    assert "280" in shown
    assert "&lt;b&gt;other.json" in shown
    assert "supports only" in shown
    assert "own.jsonl" in shown or "own" in shown
    assert "tokens per word" in shown.lower()
    assert page.lab.side.html.count("<section>") == 4
    assert "<script" not in page.lab.side.html
    assert page.lab.figure.object is not None
    page.lab.use("use 0")
    assert session.draft.recipe.tokens.vocab_size == 280
    assert "in the draft" in page.lab.table.html
    page.lab.use("use 3")
    assert session.draft.recipe.tokens.tokenizer == other.name
    assert opened(Tokens, session).lab.kept.value == page.lab.kept.value, "a lab is kept"


def test_a_lab_that_cannot_be_gives_its_sentence(page):
    page.lab.sizes.value = "12"
    page.lab.start()
    page.lab.work.wait()
    ticked(page, page.lab.work)
    assert "256 bytes" in page.lab.message.html
    assert not page.lab.go.disabled


def test_the_share_of_the_embeddings_is_that_of_the_estimate():
    tied, untied = embedding_share(ModelConfig(vocab_size=999), 2048)
    model = ModelConfig(vocab_size=2048)
    assert tied == pytest.approx(2048 * model.hidden_size / estimate.parameters(model))
    assert untied == pytest.approx(2 * 2048 * model.hidden_size
                                   / estimate.parameters(model.replace(tied_embeddings=False)))


def test_a_chat_template_is_shown_with_its_loss_mask_and_chosen(session, page):
    page.chat.typed.value = json.dumps([{"role": "user", "content": EVIL},
                                        {"role": "assistant", "content": "the house"}])
    ticked(page, page.chat.work)
    ticked(page, page.chat.work)
    shown = page.chat.turns.html
    assert "<script" not in shown
    learned = "".join(part.split("</span>")[0].split(">")[1] for part in shown.split('<span class="on"')[1:])
    assert learned == "the house&lt;|im_end|&gt;"
    assert "lacks" in shown
    page.chat.use()
    assert session.draft.recipe.tokens.chat_template == "chatml"
    page.chat.typed.value = "no json"
    ticked(page, page.chat.work)
    ticked(page, page.chat.work)
    assert "not JSON" in page.chat.turns.html
