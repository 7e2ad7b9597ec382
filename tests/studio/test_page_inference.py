"""Conversations, prompt files and servers on the Test page, without a browser."""

from __future__ import annotations

import html
import json
import re
import shlex
import shutil
import sys
import time
from pathlib import Path

import pytest
from planted import EVIL, opened, plant

from engine import files, inference
from engine.inference.conversation import answer
from engine.inference.generator import Token
from engine.runs import serving
from studio import prompt_set, texts
from studio.pages.inference import COMPLETION, CONVERSATION
from studio.pages.inference import Test as Playground

sys.path.insert(0, str(Path(__file__).parents[1] / "engine"))


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    import toy_bundle
    import toy_chat

    return toy_bundle.bundle(tmp_path_factory.mktemp("plain")), toy_chat.bundle(
        tmp_path_factory.mktemp("chats"), context_length=256)


@pytest.fixture
def page(session, toys):
    for name, toy in zip(("plain", "chats"), toys, strict=True):
        shutil.copytree(toy, session.workspace.place("bundles") / name)
    session.bundle = "chats"
    page = opened(Playground, session)
    page.seed.value, page.length.value = "7", 16
    return page


def waited(page):
    until = time.monotonic() + 120
    while page.busy and time.monotonic() < until:
        page.tick()
        time.sleep(0.02)
    assert not page.busy


def say(page, text):
    page.talk.send(text)
    waited(page)
    return page.talk.sides[0].talk.turns[-1]["content"]


def said(model, *messages, seed=7):
    return "".join(token.text for token in answer(model, messages, seed=seed, max_new_tokens=16))


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


def test_a_conversation_is_what_the_template_makes_of_it_and_nothing_in_it_is_markup(page, toys):
    page.mode.value = CONVERSATION
    assert page.talk.card.visible
    assert not page.prompt.visible
    page.talk.system.value = page.talk.system.value_input = "brief <script>"
    model, system = inference.load(toys[1]), {"role": "system", "content": "brief <script>"}
    begun = time.monotonic()
    page.talk.send("kalo <script>")
    assert time.monotonic() - begun < 0.5, "the page must not wait for the model"
    assert page.talk.entry.loading
    assert page.talk.again.disabled
    waited(page)
    first = said(model, system, user("kalo <script>"))
    assert page.talk.sides[0].talk.turns == [user("kalo <script>"), assistant(first)]
    second = say(page, "mi")
    assert second == said(model, system, user("kalo <script>"), assistant(first), user("mi"))
    shown = page.talk.sides[0].thread.html
    assert "<script" not in shown
    assert shown.count("&lt;script&gt;") == 2
    assert shown.index("turn system") < shown.index("turn user") < shown.index("turn assistant")
    assert not page.talk.entry.loading
    page.talk.coloured.value = True
    assert page.talk.sides[0].thread.html.count("likely") == len(page.first.written), "of the last answer"
    assert "chat chats" in page.words.html
    assert "--system" in page.words.html


def test_the_last_answer_is_given_again_the_last_message_edited_and_all_of_it_cleared(page, toys):
    page.mode.value = CONVERSATION
    model = inference.load(toys[1])
    first = say(page, "kalo")
    page.talk.regenerate()
    waited(page)
    again = page.talk.sides[0].talk.turns[-1]["content"]
    assert again == said(model, user("kalo"), seed=8) != first
    assert "seed 8" in page.talk.sides[0].facts.html
    say(page, "mi")
    page.talk.take_back()
    assert page.talk.entry.value_input == "mi"
    assert page.talk.sides[0].talk.turns == [user("kalo"), assistant(again)]
    page.talk.forget()
    assert page.talk.sides[0].talk.turns == []
    assert page.talk.again.disabled
    assert "Say something" in page.talk.sides[0].thread.html


def test_stop_keeps_the_answer_as_far_as_it_came(page, monkeypatch):
    from engine.inference.generator import Generator

    whole = Generator.tokens

    def slowly(self, *arguments, **named):
        for token in whole(self, *arguments, **named):
            time.sleep(0.05)
            yield token

    monkeypatch.setattr(Generator, "tokens", slowly)
    page.mode.value, page.length.value = CONVERSATION, 64
    page.talk.send("kalo")
    while len(page.first.written) < 3:
        time.sleep(0.01)
    page.tick()
    assert "writing" in page.talk.sides[0].thread.html
    page.talk.entry._handle_msg({"type": "action", "action": "stop"})     # what its button sends
    waited(page)
    assert 3 <= len(page.first.written) < 30
    turns = page.talk.sides[0].talk.turns
    assert turns[-1]["content"] == "".join(token.text for _, token in page.first.written)


def test_two_answer_side_by_side_each_with_its_own_conversation_and_blind(page, session, toys):
    shutil.copytree(toys[1], session.workspace.place("bundles") / "twin")
    run = plant(session.workspace, "trained", steps=1)
    shutil.copytree(toys[1].parent / "checkpoint", run.path / "checkpoints" / "step-000001")
    files.write_json(run.path / "checkpoints" / "step-000001" / "meta.json", {"step": 1})
    page.shown()
    page.mode.value = CONVERSATION
    assert "plain" not in page.other.options, "it cannot answer"
    assert "trained, checkpoint step-000001" in page.other.options
    page.other.value, page.blind.value = "trained, checkpoint step-000001", True
    say(page, "kalo")
    one, two = page.talk.sides
    assert one.talk.turns == two.talk.turns, "a bundle and its checkpoint are the same model"
    titles = one.title.html + two.title.html
    assert "Model A" in titles
    assert "chats" not in titles
    say(page, "mi")
    assert page.reveal.visible
    page._reveal()
    assert "chats" in one.title.html + two.title.html
    assert "trained" in one.title.html + two.title.html
    page.other.value = "nobody"
    say(page, "ru")
    assert not page.talk.two
    assert len(two.talk.turns) == 4


@pytest.mark.parametrize("typed", ["x", "²", "1" * 5000])
def test_a_message_that_is_refused_stays_in_the_field(page, typed):
    entry, seed = page.talk.entry, page.seed

    def enter():        # as a browser does: the field is emptied once it is sent
        entry._handle_msg({"type": "input", "value": entry.value_input})
        entry.value_input = ""

    page.mode.value = CONVERSATION
    entry.value_input = "kalo"
    seed.value = seed.value_input = typed
    for _ in range(2):
        enter()
        assert entry.value_input == "kalo"
    assert seed.error_state
    assert page.talk.sides[0].talk.turns == []
    seed.value = seed.value_input = "7"
    enter()
    assert entry.value_input == ""
    assert not seed.error_state
    entry.value_input = "mi"
    enter()
    assert entry.value_input == "mi", "another answer is being written"
    waited(page)
    assert [turn["content"] for turn in page.talk.sides[0].talk.turns][:1] == ["kalo"]
    entry.value_input = ""
    assert entry.value_input == "", "who empties it himself, has it empty"


@pytest.mark.parametrize("alternatives", [True, False])
def test_the_blank_before_a_word_has_no_colour_that_would_stay_at_the_end_of_a_line(alternatives):
    shown = texts.surprise("", [Token(1, "it", 0.5), Token(2, " was", 0.5), Token(3, " ", 0.5)], alternatives)
    bare = re.sub(r'<span class="pop">.*?</table></span>', "", shown)
    assert re.sub(r"<span[^>]*>", "[", bare).replace("</span>", "]").replace("</div>", "").endswith("[it] [was][ ]")


def names(page):
    return [side.title.html for side in page.talk.sides]


def test_completions_in_between_neither_swap_blind_sides_nor_name_them(page, session, toys, monkeypatch):
    shutil.copytree(toys[1], session.workspace.place("bundles") / "twin")
    monkeypatch.setattr("random.shuffle", list.reverse)     # whoever draws the order anew, swaps
    page.shown()
    page.mode.value, page.other.value, page.blind.value = CONVERSATION, "twin", True
    answering = {}
    for side in page.talk.sides:
        monkeypatch.setattr(side, "begin", lambda source, seed, settings, side=side, begin=side.begin: (
            answering.setdefault(side, []).append(source.label), begin(source, seed, settings)))
    say(page, "kalo")
    for blind in (True, False):
        page.mode.value, page.blind.value = COMPLETION, blind
        assert not page.reveal.visible
        page.begin()
        waited(page)
        assert page.reveal.visible == blind
        page.mode.value, page.blind.value = CONVERSATION, True
        assert page.reveal.visible, "of the conversation"
        say(page, "mi")
    assert [answering[side] for side in page.talk.sides] == [["twin"] * 3, ["chats"] * 3]
    assert "Model A" in names(page)[0]
    page._reveal()
    assert "twin" in names(page)[0]
    assert "chats" in names(page)[1]
    page.bundle.value, page.other.value = "twin", "chats"
    say(page, "ru")
    assert "twin" in names(page)[0]
    assert [answering[side][-1] for side in page.talk.sides] == ["twin", "chats"]


def test_what_was_said_follows_its_model_to_another_side(page, session, toys):
    for name in ("twin", "third"):
        shutil.copytree(toys[1], session.workspace.place("bundles") / name)
    page.shown()
    page.mode.value, page.other.value = CONVERSATION, "twin"
    say(page, "kalo")
    for side, mark in zip(page.talk.sides, ("chats said", "twin said"), strict=True):
        side.talk.turns[-1]["content"] = mark
    page.bundle.value, page.other.value = "third", "chats"
    say(page, "mi")
    assert [side.talk.turns[1]["content"] for side in page.talk.sides] == ["twin said", "chats said"]
    page.bundle.value, page.other.value = "chats", "nobody"
    say(page, "ru")
    assert page.talk.sides[0].talk.turns[1]["content"] == "chats said"
    page.other.value = "twin"
    say(page, "sa")
    assert [len(side.talk.turns) for side in page.talk.sides] == [8, 8], "one that joins late is told what was said"
    assert page.talk.sides[1].talk.turns[1]["content"] == "chats said"


def test_a_model_that_was_exported_again_under_its_name_is_read_anew(page, session, toys):
    def written():
        page.begin()
        waited(page)
        return "".join(token.text for _, token in page.first.written)

    first = written()
    assert first == inference.load(toys[1]).generate("It was", 16, seed=7)
    folder = session.workspace.place("bundles") / "chats"
    shutil.rmtree(folder)
    shutil.copytree(toys[0], folder)
    assert written() == inference.load(toys[0]).generate("It was", 16, seed=7) != first


def test_one_without_a_template_only_continues_and_says_why(page):
    page.mode.value = CONVERSATION
    page.bundle.value = "plain"
    assert page.mode.disabled
    assert page.prompt.visible
    assert not page.talk.card.visible
    assert "plain has no chat template" in page.why.html
    page.bundle.value = "chats"
    assert not page.mode.disabled
    page.mode.value = COMPLETION
    assert page.first.card.visible


def test_a_conversation_that_fills_the_context_says_so_and_can_be_taken_back(page):
    page.mode.value = CONVERSATION
    say(page, "kalo " * 400)
    assert "needs room for an answer" in page.talk.sides[0].thread.html
    page.talk.take_back()
    assert "needs room" not in page.talk.sides[0].thread.html
    assert say(page, "kalo")


def test_a_file_of_prompts_is_written_reported_and_kept(page, session, tmp_path, monkeypatch):
    monkeypatch.setattr(prompt_set, "MOST_PROMPTS", 4)
    given = ["kalo", "kalo " * 400, "mi né", f"lo {EVIL}", "ru", "sa"]
    (session.workspace.place("corpora") / "p.jsonl").write_text(
        "".join(json.dumps({"prompt": text}) + "\n" for text in given))
    page.many.value = True
    assert page.file.visible
    page.file.value = page.file.value_input = "corpora/absent.txt"
    page.begin()
    assert page.file.error_state
    assert "could not be read" in page.file.helper_text
    page.file.value = page.file.value_input = str(tmp_path.parent / "outside.txt")
    page.begin()
    assert "is outside the workspace" in page.file.helper_text
    page.file.value = page.file.value_input = "corpora/p.jsonl"
    page.begin()
    waited(page)
    model = inference.load(session.workspace.place("bundles") / "chats")
    assert [row["text"] for row in page.batch.rows] == [
        "" if n == 1 else model.generate(text, 16, seed=7 + n) for n, text in enumerate(given[:4])]
    told = page.batch.report.html
    assert "needs room for an answer" in told
    assert "The first 4 of 6 prompts are written; 2 were left out" in told
    assert "<script" not in told
    records, shown = page.batch.files
    assert records.parent == session.workspace.path / "reports"
    assert [json.loads(line)["prompt"] for line in records.read_text().splitlines()] == given[:4]
    assert "2 were left out" in shown.read_text()
    assert [str(each.file) for each in page.batch.downloads if each.visible] == [str(records), str(shown)]
    line = shlex.split(html.unescape(re.search(r"studio generate[^<]*", page.words.html)[0]))
    assert line[line.index("--prompts") + 1] == str(session.workspace.place("corpora") / "p.jsonl")


def test_a_model_is_served_found_by_another_browser_and_stopped(page, session):
    page.serving.begin()
    end = time.monotonic() + 90

    def until(words, looking):
        while words not in looking.serving.shown.html:
            assert time.monotonic() < end, looking.serving.shown.html
            time.sleep(0.1)
            looking.tick()

    until("http://127.0.0.1:", page)
    other = opened(Playground, session)
    assert "http://127.0.0.1:" in other.serving.shown.html
    assert "/v1/chat/completions" in other.serving.shown.html
    name = serving.listing(session.workspace)[0].name
    other.serving._press(f"stop {name}")
    assert "stopping" in other.serving.shown.html
    until("ended", page)
    page.serving._press(f"clear {name}")
    assert serving.listing(session.workspace) == []


@pytest.mark.parametrize("typed", ["many", "²", "1" * 5000])
def test_a_port_that_is_no_number_is_refused_in_its_field(page, session, typed):
    port = page.serving.port
    port.value = port.value_input = typed
    page.serving.begin()
    assert port.error_state
    assert "whole number" in port.helper_text
    assert serving.listing(session.workspace) == []
    port.value = port.value_input = "80"
    page.serving.begin()        # a number, that no server here may have
    assert not port.error_state
    assert not port.helper_text
    assert serving.listing(session.workspace) == []
