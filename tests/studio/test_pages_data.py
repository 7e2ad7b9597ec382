"""Corpus, Tokens, Model and Optimizer without a browser: what a person would see, and what the engine says."""

from __future__ import annotations

import json
import random
import re
import time

import numpy as np
import pytest
from planted import EVIL

from engine import runs
from engine.corpus import CorpusConfig, Source
from engine.corpus.pipeline import curate
from engine.model import ModelConfig, estimate
from engine.progress import silent
from engine.tokens import TokensConfig
from engine.tokens.pack import waste
from engine.tokens.shards import tokenize
from studio.pages import PAGES
from studio.pages.corpus import Corpus
from studio.pages.model import Model
from studio.pages.optim import Optim
from studio.pages.tokens import Tokens
from studio.texts import percent

WORDS = ("the", "a", "small", "old", "grey", "river", "house", "light", "winter", "door", "garden", "stone", "bird")


def prose(sentences, seed):
    dice = random.Random(seed)
    return " ".join(" ".join(dice.choices(WORDS, k=9)).capitalize() + "." for _ in range(sentences))


def opened(page_type, session):
    page = page_type(session)
    page.view().get_root()
    page.shown()
    return page


def ticked(page, *works):
    """Ticks until the threads have answered."""
    until = time.monotonic() + 60
    while True:
        page.tick()
        if not any(work.busy for work in works):
            return page
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.fixture
def texts(workspace):
    folder = workspace.place("corpora") / "own"
    folder.mkdir()
    lines = [{"text": prose(30, seed=number)} for number in range(30)]
    lines += [{"text": f"{EVIL} too short"}, lines[0]]
    (folder / "own.jsonl").write_text("\n".join(json.dumps(line) for line in lines) + "\n{broken\n")
    return CorpusConfig(sources=(Source(path="corpora/own"),), steps=("clean", "quality", "exact_duplicates"))


@pytest.fixture
def tokens(texts, workspace):
    return tokenize(TokensConfig(vocab_size=300), curate(texts, workspace, "own", silent), workspace, "own")


@pytest.mark.parametrize("page_type", PAGES, ids=lambda page: page.noun)
def test_every_page_works_with_nothing_made_yet(page_type, session):
    opened(page_type, session).tick()


# Corpus -----------------------------------------------------------------------------------------------


def test_a_trial_tells_what_would_be_dropped_and_why_and_writes_nothing(session, texts):
    session.draft.put(("corpus",), texts.dump())
    page = opened(Corpus, session)
    page.begin_trial()
    page.trial.wait()
    ticked(page, page.trial)
    shown = page.tried
    assert "fewer than 10 words" in shown.reasons.html
    assert "duplicate" in shown.reasons.html
    assert "32" in shown.facts.html
    assert "own.jsonl" in shown.lost.html
    assert "&lt;script&gt;" in shown.changed.html
    assert "<script" not in shown.changed.html + shown.kept.html + shown.lost.html
    shown._choose("quality dropped")
    assert "too short" in shown.changed.html
    assert "edited" not in shown.changed.html
    assert not session.workspace.listing("datasets")


def test_a_trial_that_cannot_be_gives_its_sentence(session):
    (session.workspace.place("corpora") / "empty.txt").write_text("")
    session.draft.put(("corpus", "sources"), [{"path": "corpora/empty.txt"}])
    page = opened(Corpus, session)
    page.begin_trial()
    ticked(page, page.trial)
    assert "empty.txt" in page.message.html
    assert not page.result.visible


def test_a_dataset_s_ledger_can_be_looked_at(session, texts):
    curate(texts, session.workspace, "own", silent)
    page = opened(Corpus, session)
    page.tick()
    ticked(page, page.looking)
    assert page.account.visible
    assert "fewer than 10 words" in page.account.reasons.html
    assert "&lt;script&gt;" in page.account.changed.html


@pytest.mark.parametrize(("name", "kept"), [("../../evil.txt", "evil.txt"), ("a<b>.txt", "a-b-.txt"),
                                            ("..", "unnamed.txt"), ("C:\\x\\novel.txt", "novel.txt"),
                                            ("é" * 300 + ".txt", "é" * 98 + ".txt")])
def test_a_file_that_is_brought_in_gets_a_safe_name_inside_the_workspace(workspace, name, kept):
    assert workspace.bring_in(name, b"some text") == workspace.place("corpora") / kept
    assert (workspace.place("corpora") / kept).read_bytes() == b"some text"


def test_uploaded_files_take_the_place_of_the_bundled_ones(session):
    page = opened(Corpus, session)
    page.upload.param.update(filename=["a.txt", "../b<.txt"], mime_type=["text/plain"] * 2, value=[b"one", b"two"])
    assert (session.workspace.place("corpora") / "b-.txt").read_bytes() == b"two"
    assert [source.path for source in session.draft.recipe.corpus.sources] == ["corpora/a.txt", "corpora/b-.txt"]
    assert page.upload.value is None


def test_a_second_file_of_one_name_replaces_nothing(workspace):
    first, same, other = (workspace.bring_in("a.txt", text) for text in (b"one", b"one", b"two"))
    assert first == same != other
    assert (first.read_bytes(), other.read_bytes()) == (b"one", b"two")


def test_a_folder_outside_is_read_only_after_it_was_allowed(session, tmp_path):
    outside = tmp_path / "elsewhere"
    outside.mkdir()
    (outside / "a.txt").write_text("text")
    session.draft.put(("corpus", "sources"), [{"path": str(outside / "*.txt")}])
    page = opened(Corpus, session)
    assert "Allow this folder" in page.sources.html
    assert not session.workspace.permits(outside)
    page._press(f"allow {outside}")
    assert "1 file" in page.sources.html
    assert "Allow" not in page.sources.html


def test_what_is_here_can_be_added_or_used_alone(session, texts):
    page = opened(Corpus, session)
    page._press("add corpora/own")
    assert [s.path for s in session.draft.recipe.corpus.sources] == ["corpora/novels", "corpora/own"]
    page._press("only corpora/own")
    assert [s.path for s in session.draft.recipe.corpus.sources] == ["corpora/own"]


@pytest.mark.parametrize(("page_type", "jobs"), [(Corpus, ("curate",)), (Tokens, ("curate", "tokenize"))])
def test_the_button_starts_a_run_even_if_the_model_is_wrong_still(session, monkeypatch, page_type, jobs):
    monkeypatch.setattr(runs, "launch", lambda run: None)
    session.draft.put(("model", "num_layers"), 0)
    page = opened(page_type, session)
    assert not page.go.disabled
    page.start()
    assert runs.recipe_of(runs.listing(session.workspace)[0]).jobs == jobs
    session.draft.put((page_type.noun, "validation_fraction" if page_type is Corpus else "vocab_size"), -1)
    assert page.go.disabled


# Tokens -----------------------------------------------------------------------------------------------


def test_shares_are_those_of_the_documents_and_a_context_can_be_taken(session, tokens):
    page = opened(Tokens, session)
    ticked(page, page.looking)
    lengths = np.concatenate([np.diff(np.load(tokens / f"{split}-documents.npy")) for split in ("train", "val")])
    length = int(np.median(lengths))
    assert page._share(length) == np.mean(lengths <= length)
    assert "in the draft" in page.shares.html
    page._choose("context 512")
    assert session.draft.recipe.model.context_length == 512
    ticked(page, page.weighing)
    ticked(page, page.weighing)
    share, found = percent(float(np.mean(lengths <= 512))), waste(lengths, 512, "best_fit")
    row = next(row for row in page.shares.html.split("<tr>") if "512 tokens" in row)
    wanted = [share, percent(waste(lengths, 512, "concatenate").cut), percent(found.cut), percent(found.padding)]
    assert re.findall(r'"num">([^<]+)<', row) == wanted
    assert "in the draft" in row
    page._choose("packing best_fit")
    assert session.draft.recipe.tokens.packing == "best_fit"


def test_typed_text_is_cut_by_the_made_tokenizer_and_escaped(session, tokens):
    page = opened(Tokens, session)
    page.typed.value = f"the old house {EVIL}"
    page.tick()
    ticked(page, page.looking)
    ticked(page, page.cutting)
    assert page.coloured.html.count("title=") > 5
    assert "<script" not in page.coloured.html
    assert "the</span>" in page.coloured.html


def test_a_damaged_tokens_folder_gives_its_sentence(session, tokens):
    (tokens / "val-documents.npy").write_bytes(b"cut")
    page = opened(Tokens, session)
    ticked(page, page.looking)
    assert "tokenize again" in page.facts.html
    assert page.shares.html == ""


# Model and Optimizer ----------------------------------------------------------------------------------


def test_the_figures_follow_the_form_and_a_wrong_value_keeps_them(session):
    page = opened(Model, session)
    session.draft.put(("model", "num_layers"), 12)
    config = ModelConfig(num_layers=12)
    assert f"{estimate.parameters(config) / 1e6:.3g}M" in page.facts.html
    before = page.areas.object
    page.tick()
    assert page.areas.object is not before
    told = page.facts.html
    session.draft.put(("model", "num_heads"), 5)
    page.tick()
    assert session.draft.problem(("model", "num_heads"))
    assert page.facts.html == told


def test_a_model_too_large_for_this_machine_is_said_to_be(session, monkeypatch):
    monkeypatch.setattr("engine.hardware.memory", lambda: (8 << 30, 6 << 30))
    page = opened(Model, session)
    assert "check_circle" in page.fit.html
    session.draft.put(("model", "size"), "1b")
    assert "does not fit" in page.fit.html
    assert ">error<" in page.fit.html


def test_the_curve_follows_the_schedule(session):
    page = opened(Optim, session)
    session.draft.put(("schedule",), {"kind": "constant", "warmup_steps": 0})
    session.draft.put(("optim", "lr"), 0.25)
    page.tick()
    curve = page.curve.object.Curve.I
    assert {float(v) for v in curve["learning rate"]} == {0.25}
    session.draft.put(("schedule", "warmup_steps"), 900)
    assert "Shorten the warmup" in page.words.html
