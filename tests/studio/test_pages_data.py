"""Corpus, Tokens, Model and Optimizer without a browser: what a person would see, and what the engine says."""

from __future__ import annotations

import json
import random
import re
import threading
import time
from fnmatch import fnmatchcase

import numpy as np
import pytest
from planted import EVIL

from engine import runs
from engine.config import settings
from engine.corpus import STEPS, CorpusConfig, Source, profile
from engine.corpus.pipeline import curate, preview
from engine.corpus.presets import PRESETS
from engine.model import ModelConfig, estimate
from engine.plan import measured
from engine.plan.here import here
from engine.plan.outline import outline
from engine.progress import silent
from engine.tokens import TokensConfig
from engine.tokens.pack import waste
from engine.tokens.shards import tokenize
from studio.corpus_entries import rule
from studio.pages import PAGES
from studio.pages.corpus import Corpus
from studio.pages.model import Model
from studio.pages.optim import Optim
from studio.pages.tokens import Tokens
from studio.texts import percent, reason_words

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


def made(session):
    """The corpus page; drawing it for a browser costs seconds, and nothing here looks at that."""
    page = Corpus(session)
    page.view()
    page.shown()
    return page


def tried(session, corpus):
    """The corpus page once the steps of the draft were tried on the sample."""
    session.draft.put(("corpus",), corpus.dump())
    page = made(session)
    page.steps.trial.quiet_seconds = 0
    page.tick()
    return ticked(page, page.steps.trial)


def test_the_steps_are_tried_on_a_sample_and_nothing_is_written(session, texts):
    page = tried(session, texts)
    clean, quality, exact = (row.head.html for row in page.steps.rows)
    assert "nothing changed" in clean
    assert "32<span>→</span><b>31</b>" in quality
    assert "−1 dropped" in quality
    assert "31<span>→</span><b>30</b>" in exact
    page.steps.press("open 1")
    evidence = page.steps._states[1].body.evidence.html
    assert "fewer than 10 words" in evidence
    assert "&lt;script&gt;" in evidence
    assert "too short" in evidence
    assert "own.jsonl" in page.sample.lost.html
    assert "<script" not in evidence + page.sample.kept.html + page.sample.lost.html
    assert not session.workspace.listing("datasets")


def test_what_the_language_step_tells_is_no_drop_and_no_change(session, texts):
    page = tried(session, texts.replace(steps=[{"kind": "language", "languages": ["en"], "min_confidence": 0.0}]))
    page.steps.press("open 0")
    evidence = page.steps._states[0].body.evidence.html
    assert "<h4>Told</h4><ul class=\"reasons counts\">" in evidence
    assert "Changes made" not in evidence
    page.sample.tabs.turn("Profile")
    assert "let through" in page.sample.profile.tables.html
    assert f"first {profile.BEGINNING:,} characters" in page.sample.profile.choices.html


def test_steps_are_named_as_their_papers_name_them_and_told_in_whole_sentences(session):
    page = made(session)
    page.steps.press("steps")
    for name in ("HTML", "FineWeb", "URL list", "C4"):
        assert f"<b>{name}</b>" in page.steps.menu.html
    assert "`" not in page.steps.menu.html
    assert reason_words("more than 100000 words") == "more than 100,000 words"


def test_a_sample_that_cannot_be_gives_its_sentence(session):
    (session.workspace.place("corpora") / "empty.txt").write_text("")
    page = tried(session, CorpusConfig(sources=(Source(path="corpora/empty.txt"),)))
    assert "empty.txt" in page.steps.foot.html
    assert not page.result.visible


def test_an_answer_that_was_overtaken_is_thrown_away(session, texts, monkeypatch):
    page = tried(session, texts)
    before = page.steps.rows[1].head.html
    held = threading.Event()
    found = preview(texts, session.workspace)
    monkeypatch.setattr("engine.corpus.pipeline.preview", lambda *_: held.wait(60) and found)
    session.draft.put(("corpus", "steps", 1, "min_words"), 11)
    page.tick()
    session.draft.put(("corpus", "steps", 1, "min_words"), 12)
    page.tick()
    held.set()
    page.steps.trial.wait()
    page.tick()
    assert page.steps.trial.busy, "the first answer is not for what stands there now"
    assert "stale" in page.steps.rows[1].head.html
    ticked(page, page.steps.trial)
    assert page.steps.rows[1].head.html == before


def test_a_step_that_is_moved_takes_its_settings_and_its_open_form_along(session, texts):
    session.draft.put(("corpus",), texts.dump())
    page = made(session)
    session.draft.put(("corpus", "steps", 1, "min_words"), 33)
    page.steps.press("open 1")
    page.steps.press("move 1 0")
    steps = session.draft.recipe.corpus.steps
    assert [step.kind for step in steps] == ["quality", "clean", "exact_duplicates"]
    assert steps[0].min_words == 33
    body = page.steps._states[0].body
    assert page.steps.rows[0].inside.objects == [body.view]
    assert not page.steps.rows[1].inside.visible
    assert body.form.fields["min_words"].widget.value == "33"
    body.form.fields["min_words"].widget.value_input = "44"
    assert session.draft.recipe.corpus.steps[0].min_words == 44
    page.steps.press("move 2 3")
    assert [step.kind for step in session.draft.recipe.corpus.steps] == ["quality", "clean", "exact_duplicates"]


def test_a_step_that_is_switched_off_keeps_its_settings_and_lets_everything_through(session, texts):
    page = tried(session, texts.replace(steps=[{"kind": "quality", "min_words": 12}, {"kind": "exact_duplicates"}]))
    page.steps.press("switch 0")
    quality = session.draft.recipe.corpus.steps[0]
    assert (quality.enabled, quality.min_words) == (False, 12)
    page.tick()
    ticked(page, page.steps.trial)
    assert "off</span>" in page.steps.rows[0].head.html
    assert "32<span>→</span><b>31</b>" in page.steps.rows[1].head.html
    page.steps.press("switch 0")
    assert session.draft.recipe.corpus.steps[0] == quality.replace(enabled=True)


def test_every_step_can_be_added_opened_and_removed(session):
    page = made(session)
    for kind in STEPS:
        page.steps.press(f"add {kind}")
        own = {each.name for each in settings(STEPS[kind])} - {"enabled"}
        assert page.steps._states[4].body.form.fields.keys() == own
        page.steps.press("remove 4")
    assert [step.kind for step in session.draft.recipe.corpus.steps] == [
        "clean", "passages", "quality", "exact_duplicates"]


def test_a_step_that_lacks_something_says_so_in_its_row(session):
    page = made(session)
    page.steps.press("add word_list")
    assert 'class="wrong"' in page.steps.rows[4].head.html
    assert page.go.disabled
    page.steps.press("add clean")
    assert page.steps._states[5].body.form.fields["mojibake"].widget.value is True  # what is behind it keeps its place
    session.draft.put(("corpus", "steps", 4, "words"), ["badword"])
    assert 'class="wrong"' not in page.steps.rows[4].head.html
    assert not page.go.disabled


def test_a_preset_takes_the_place_of_the_steps_and_can_be_undone(session):
    page = made(session)
    before = session.draft.recipe.corpus.steps
    page.steps.press("presets")
    assert "Near duplicates" in page.steps.menu.html
    page.steps.press("preset web")
    assert session.draft.recipe.corpus.steps == CorpusConfig(steps=PRESETS["web"]).steps
    assert not page.steps.menu.visible
    page.steps.press("undo")
    assert session.draft.recipe.corpus.steps == before
    page.steps.press("preset none")
    assert session.draft.recipe.corpus.steps == ()
    assert "No steps" in page.steps.foot.html


def test_the_curve_of_near_duplicates_follows_the_form(session):
    session.draft.put(("corpus", "steps"), [{"kind": "near_duplicates"}])
    page = made(session)
    page.steps.press("open 0")
    session.draft.put(("corpus", "steps", 0, "similarity"), 0.8)
    curve = page.steps._states[0].body.curve.object.Curve.Called_near_hyphen_minus_duplicate
    chances = dict(zip(curve["similarity"].round(2), curve["chance"], strict=True))
    assert chances[0.6] < 0.05 < 0.95 < chances[0.95]


@pytest.fixture
def dataset(texts, workspace):
    return curate(texts.replace(steps=[*texts.dump()["steps"], {"kind": "near_duplicates", "keep": "first"}]),
                  workspace, "own", silent)


def looked(session, tab):
    """The corpus page with a tab of its newest dataset in sight."""
    page = made(session)
    page.steps.tick = lambda: None
    page.tick()
    ticked(page, page.dataset.looking)
    page.dataset.tabs.turn(tab)
    for part in (page.dataset.ledger.searching, page.dataset.documents.reading):
        part.quiet_seconds = 0
    page.tick()
    return page


def test_a_dataset_gives_its_account_and_its_card_as_text(session, dataset):
    page = looked(session, "Account")
    assert "fewer than 10 words" in page.dataset.account.reasons.html
    assert "own.jsonl" in page.dataset.lost.html
    (dataset / "README.md").write_text(f"---\nx: {EVIL}\n---\n# Card\n\n{EVIL}\n\n![a](http://x/y.png) [b](http://x)")
    page.dataset.looking.again()
    page.tick()
    ticked(page, page.dataset.looking)
    assert "<h1>Card</h1>" in page.dataset.card.html
    assert "&lt;script&gt;" in page.dataset.card.html
    assert not re.search("<(script|img|a) ", page.dataset.card.html)


def test_the_ledger_is_searched_and_a_row_is_pardoned(session, dataset):
    page = looked(session, "Ledger")
    ledger = page.dataset.ledger
    ticked(page, ledger.searching)
    assert "fewer than 10 words" in ledger.list.html
    assert "duplicate" in ledger.list.html
    ledger.text.value_input = "TOO short"
    page.tick()
    ticked(page, ledger.searching)
    assert "<mark>too short</mark>" in ledger.list.html
    assert "duplicate" not in ledger.list.html
    assert "&lt;script&gt;" in ledger.list.html
    assert "<script" not in ledger.list.html
    ledger.list.press("pardon 0")
    assert [rule.dump() for rule in session.draft.recipe.corpus.pardons] == [
        {"step": "quality", "reason": "", "id": "corpora/own/own.jsonl:31", "text": ""}]
    ledger.list.press("pardon 0")
    assert len(session.draft.recipe.corpus.pardons) == 1
    assert "corpora/own/own.jsonl:31" in page.pardons.list.html
    page.pardons.list.press("forget 0")
    assert session.draft.recipe.corpus.pardons == ()


def test_a_pardon_means_its_document_alone_whatever_signs_its_id_has():
    row = {"step": "quality", "id": "a[1]*.txt", "reason": "short"}
    made = rule(row, "pardon")
    assert fnmatchcase("a[1]*.txt", made["id"])
    assert not fnmatchcase("a1x.txt", made["id"])
    assert rule(row, "reason") == {"step": "quality", "reason": "short"}


def test_the_documents_are_paged_searched_and_opened_whole(session, dataset):
    page = looked(session, "Documents")
    documents = page.dataset.documents
    ticked(page, documents.reading)
    assert "1 to 12 of 30" in documents.list.html
    first = documents.list.html
    documents.list.press("later")
    page.tick()
    ticked(page, documents.reading)
    assert "13 to 24 of 30" in documents.list.html
    documents.list.press("earlier")
    page.tick()
    ticked(page, documents.reading)
    assert documents.list.html == first
    documents.list.press("open 4")
    page.tick()
    ticked(page, documents.opening)
    assert prose(30, seed=4) in documents.whole.html
    documents.text.value_input = prose(30, seed=7)[:40].upper()
    page.tick()
    ticked(page, documents.reading)
    assert "jsonl:8" in documents.list.html
    assert "jsonl:7" not in documents.list.html


@pytest.mark.parametrize(("name", "kept"), [("../../evil.txt", "evil.txt"), ("a<b>.txt", "a-b-.txt"),
                                            ("..", "unnamed.txt"), ("C:\\x\\novel.txt", "novel.txt"),
                                            ("é" * 300 + ".txt", "é" * 98 + ".txt")])
def test_a_file_that_is_brought_in_gets_a_safe_name_inside_the_workspace(workspace, name, kept):
    assert workspace.bring_in(name, b"some text") == workspace.place("corpora") / kept
    assert (workspace.place("corpora") / kept).read_bytes() == b"some text"


def test_uploaded_files_take_the_place_of_the_bundled_ones(session):
    page = made(session)
    page.sources.upload.param.update(filename=["a.txt", "../b<.txt"], value=[b"one", b"two"],
                                     mime_type=["text/plain"] * 2)
    assert (session.workspace.place("corpora") / "b-.txt").read_bytes() == b"two"
    assert [source.path for source in session.draft.recipe.corpus.sources] == ["corpora/a.txt", "corpora/b-.txt"]
    assert page.sources.upload.value is None


def test_a_second_file_of_one_name_replaces_nothing(workspace):
    first, same, other = (workspace.bring_in("a.txt", text) for text in (b"one", b"one", b"two"))
    assert first == same != other
    assert (first.read_bytes(), other.read_bytes()) == (b"one", b"two")


def test_a_folder_outside_is_read_only_after_it_was_allowed(session, tmp_path):
    outside = tmp_path / "elsewhere"
    outside.mkdir()
    (outside / "a.txt").write_text("text")
    session.draft.put(("corpus", "sources"), [{"path": str(outside / "*.txt")}])
    page = made(session)
    assert "Allow this folder" in page.sources.found.html
    assert not session.workspace.permits(outside)
    page.sources.press(f"allow {outside}")
    assert "1 file" in page.sources.found.html
    assert "Allow" not in page.sources.found.html


def test_what_is_here_can_be_added_or_used_alone(session, texts):
    page = made(session)
    page.sources.press("add corpora/own")
    assert [s.path for s in session.draft.recipe.corpus.sources] == ["corpora/novels", "corpora/own"]
    page.sources.press("only corpora/own")
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


def test_the_memory_is_the_plan_s(session):
    page = opened(Model, session)
    plan = outline(session.draft.settled, session.workspace)
    assert f"need {plan.memory_bytes / 2**30:.2f} GiB" in page.fit.html
    bars = page.bytes.object.Rectangles.I
    assert bars["x1"].max() == plan.memory_bytes
    found = measured.Measured(0.1, 0.03, 0.001, 0.1, 5.0, 0.7, 20.0, 1e10, 17, "probed")
    measured.keep(session.workspace, session.draft.settled, found, here())
    page.shown()
    assert "needs 0.70 GiB, measured in run probed" in page.fit.html


def test_the_curve_follows_the_schedule(session):
    page = opened(Optim, session)
    session.draft.put(("schedule",), {"kind": "constant", "warmup_steps": 0})
    session.draft.put(("optim", "lr"), 0.25)
    page.tick()
    curve = page.curve.object.Curve.I
    assert {float(v) for v in curve["learning rate"]} == {0.25}
    session.draft.put(("schedule", "warmup_steps"), 900)
    assert "Shorten the warmup" in page.words.html
