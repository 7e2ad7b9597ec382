"""What a published model writes is the same after it came in and went out: ids, ends, defaults, greedy text."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest
import toy_published
import toy_tokens
import transformers
from toy_published import FORMS, MESSAGES, NEW, PROMPT

from engine import files, inference, runs
from engine.config import UserError
from engine.evaluate import EvaluateConfig
from engine.evaluate.report import evaluate
from engine.inference.asked import reading
from engine.runs import checkpoint
from engine.runs.imported import recipe_for
from engine.runs.worker import Worker
from engine.tokens import tokenizer as tokenizers
from engine.workspace import Workspace

NAMES = ("bos_token", "eos_token", "pad_token")
IDS = ("bos_token_id", "eos_token_id", "pad_token_id")


class Three(NamedTuple):
    """The published folder, the checkpoint that was brought in, and the bundle that was made of it."""

    published: Path
    taken: Path
    bundle: Path
    turn: int       # the token that its answers end with


@pytest.fixture(scope="module", params=FORMS)
def three(request, tmp_path_factory) -> Three:
    folder = toy_published.published(tmp_path_factory.mktemp("published") / "tiny", request.param)
    workspace = Workspace(tmp_path_factory.mktemp("workspace"), allow=[folder])
    run = runs.create(recipe_for(str(folder), "").override("jobs=[import, export]"), workspace)
    Worker(run).work()
    assert run.status().state == "finished", run.status().error
    return Three(folder, checkpoint.best(run), run.artefact("bundle"), FORMS[request.param]().turn)


def written(folder, messages=None) -> tuple[list[int], list[int]]:
    """The ids of the prompt, and those that transformers' generate adds with the folder's own defaults, greedily."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    given = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True, return_tensors="pt") \
        if messages else tokenizer(PROMPT, return_tensors="pt")
    ids = given["input_ids"]
    out = model.generate(ids, attention_mask=given["attention_mask"], max_new_tokens=NEW, do_sample=False)
    return ids[0].tolist(), out[0, ids.shape[1]:].tolist()


def test_transformers_writes_the_same_from_all_three(three):
    wanted = written(three.published)
    assert wanted[1][-1] == three.turn, "the toy ends as its maker meant"
    assert len(wanted[1]) < NEW
    assert written(three.taken) == wanted
    assert written(three.bundle) == wanted


def test_we_write_what_transformers_does(three):
    prompt, wanted = written(three.published)
    model = inference.load(three.bundle)
    assert model.encode(PROMPT).tolist() == prompt
    tokens = list(model.tokens(PROMPT, NEW, temperature=0))
    assert [token.id for token in tokens] == wanted
    assert tokens[-1].finish == "stop"
    text = model.generate(PROMPT, NEW, temperature=0)
    assert model.batch([PROMPT, "ru", PROMPT], NEW, temperature=0)[::2] == [text, text]
    assert text == transformers.AutoTokenizer.from_pretrained(three.published).decode(wanted, skip_special_tokens=True)


def test_a_chat_begins_once_and_is_answered_as_there(three):
    tokenizer = transformers.AutoTokenizer.from_pretrained(three.published)
    model = inference.load(three.bundle)
    if not tokenizer.chat_template:
        with pytest.raises(UserError, match="no chat template"):
            model.chat(MESSAGES)
        return
    prompt, wanted = written(three.published, MESSAGES)
    assert written(three.bundle, MESSAGES) == (prompt, wanted)
    asked = reading(json.dumps({"messages": MESSAGES}).encode(), model, chat=True).prompts[0]
    assert model.encode(asked).tolist() == prompt
    assert [token.id for token in model.tokens(asked, NEW, temperature=0)] == wanted


def test_ids_that_are_given_are_taken_as_they_are(three):
    prompt, _ = written(three.published)
    model = inference.load(three.bundle)
    asked = reading(json.dumps({"prompt": prompt}).encode(), model, chat=False)
    assert model.encode(asked.prompts[0]).tolist() == prompt


def test_the_files_say_what_their_maker_said(three):
    folder, taken, bundle, _ = three
    theirs = files.read_json(folder / "config.json")
    stated = folder / "generation_config.json"
    generation = files.read_json(stated) if stated.exists() else {
        name: theirs[name] for name in IDS if theirs.get(name) is not None}
    for each in (taken, bundle):
        assert {name: files.read_json(each / "config.json").get(name) for name in IDS} == {
            name: theirs.get(name) for name in IDS}
        if stated.exists() or each == bundle:
            assert files.read_json(each / "generation_config.json") == generation
    ends = generation["eos_token_id"]
    genai = files.read_json(bundle / "genai_config.json")
    assert genai["model"]["eos_token_id"] == (ends if isinstance(ends, list) else [ends])
    assert genai["model"]["bos_token_id"] == generation["bos_token_id"]
    told = {name: genai["search"].get(name) for name in ("temperature", "top_p", "repetition_penalty")}
    assert told == {"temperature": generation.get("temperature", 1.0), "top_p": generation.get("top_p", 1.0),
                    "repetition_penalty": generation.get("repetition_penalty")}
    begins = transformers.AutoTokenizer.from_pretrained(folder)("a")["input_ids"][0] == generation["bos_token_id"]
    words = files.read_json(bundle / "tokenizer_config.json")
    assert words.get("add_bos_token", False) == begins, "transformers.js goes by it"
    before, after = (transformers.AutoTokenizer.from_pretrained(each) for each in (folder, bundle))
    assert [getattr(after, name) for name in NAMES] == [getattr(before, name) for name in NAMES]
    assert after.chat_template == before.chat_template


def test_samples_of_an_evaluation_begin_and_end_as_there(tmp_path):
    folder = toy_published.published(tmp_path / "tiny", "llama-3")
    workspace = Workspace(tmp_path / "workspace")
    shutil.copy(folder / "tokenizer.json", workspace.place("corpora") / "tokenizer.json")
    tokens = toy_tokens.tokens(workspace, tokenizer="corpora/tokenizer.json")
    report = evaluate(folder, tokens, EvaluateConfig(prompts=(PROMPT,), sample_tokens=NEW, temperature=0.0))
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    assert report["samples"][0]["text"] == tokenizer.decode(written(folder)[1], skip_special_tokens=True)


def test_what_is_trained_here_on_a_published_tokenizer_puts_nothing_before_texts(tmp_path):
    folder = toy_published.published(tmp_path / "tiny", "llama-3")
    workspace = Workspace(tmp_path / "workspace")
    shutil.copy(folder / "tokenizer.json", workspace.place("corpora") / "tokenizer.json")
    cut = tokenizers.load(toy_tokens.tokens(workspace, tokenizer="corpora/tokenizer.json") / "tokenizer.json")
    assert cut.encode(PROMPT).ids == cut.encode(PROMPT, add_special_tokens=False).ids
