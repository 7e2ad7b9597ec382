"""A set of prompts: read from files, written in batches that change no text, and reported."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace

import numpy as np
import pytest
import toy_bundle

from engine.config import UserError
from engine.export import PRECISIONS, ExportConfig
from engine.export.bundle import export
from engine.inference import batch, load, prompt_report, prompts
from engine.inference.prompts import Prompt

SHORT = ["kalo", "mi né", "sané kalo mi", "zu", "ßa ßa ßa lo", "ru mi kalo sa té vö"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("prompts")
    config = ExportConfig(precisions=(PRECISIONS["int8_dynamic"](max_loss=9, max_divergence=9, min_agreement=0.0),))
    out, verdict = export(toy_bundle.checkpoint(made / "checkpoint"), config, made / "toy")
    assert verdict["passed"]
    return out


@pytest.fixture(scope="module")
def model(folder):
    return load(folder)


def by_number(rows):
    return sorted(rows, key=lambda row: row["number"])


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_each_text_is_the_one_its_prompt_alone_gives_though_they_are_batched(model, temperature, monkeypatch):
    sizes, real = [], batch.write
    monkeypatch.setattr(batch, "write", lambda model, rows, *rest, **named: (
        sizes.append(len(rows)), real(model, rows, *rest, **named))[1])
    given = [Prompt(text) for text in SHORT]
    rows = by_number(prompts.write(model, given, 11, max_new_tokens=24, temperature=temperature, stop=["kal"]))
    assert max(sizes) > 1, "nothing was batched"
    for number, (text, row) in enumerate(zip(SHORT, rows, strict=True)):
        alone = list(model.tokens(text, 24, temperature, seed=11 + number, stop=["kal"]))
        assert row["text"] == "".join(token.text for token in alone)
        assert (row["finish"], row["tokens"]) == (alone[-1].finish, len(alone))
        assert row["surprise"] == pytest.approx(-np.mean([np.log(token.probability) for token in alone]), abs=1e-4)
        assert (row["prompt"], row["seed"], row["error"]) == (text, 11 + number, "")


def test_a_prompt_near_the_end_of_the_context_takes_no_room_from_its_neighbours(model):
    long = "kalo mi " * 18
    free = model.context_length - len(model.encode(long))
    assert 4 < free < 60
    rows = by_number(prompts.write(model, [Prompt("kalo"), Prompt(long), Prompt("mi")], 3, max_new_tokens=60,
                                   temperature=0.0))
    assert [row["text"] for row in rows] == [model.generate(text, 60, 0.0) for text in ("kalo", long, "mi")]
    assert rows[1]["tokens"] <= free < rows[0]["tokens"]


def test_a_graph_whose_rows_depend_on_their_neighbours_writes_them_one_by_one(folder):
    model = load(folder, precision="int8_dynamic")
    rows = [model.encode(text) for text in SHORT]
    assert [len(group) for group in batch.groups(model, rows, 8)] == [1] * len(rows)
    written = by_number(prompts.write(model, [Prompt(text) for text in SHORT], 5, max_new_tokens=16))
    assert [row["text"] for row in written] == [model.generate(text, 16, seed=5 + n) for n, text in enumerate(SHORT)]


def test_batches_are_as_large_as_the_memory_has_room_for(model, monkeypatch):
    rows = [model.encode("kalo")] * 8
    assert [len(group) for group in batch.groups(model, rows, 20)] == [8]
    cache = model._session.cache(len(rows[0]) + 20)
    one = sum(value.numpy().nbytes for value in cache._buffers.values())    # keys and values of one row
    for room, sizes in ((0, [1] * 8), (3 * one, [3, 3, 2]), (8 * one, [8])):
        monkeypatch.setattr(batch.psutil, "virtual_memory", lambda room=room: SimpleNamespace(available=4 * room))
        assert [len(group) for group in batch.groups(model, rows, 20)] == sizes


def test_a_prompt_that_is_refused_is_a_row_and_the_others_are_written(model):
    given = [Prompt("kalo"), Prompt("kalo mi " * 200), Prompt("{", "line 3 is no JSON; mend or remove it."),
             Prompt("mi")]
    rows = by_number(prompts.write(model, given, 1, max_new_tokens=6))
    assert [bool(row["error"]) for row in rows] == [False, True, True, False]
    assert "needs room for an answer" in rows[1]["error"]
    assert rows[3]["text"] == model.generate("mi", 6, seed=4)
    with pytest.raises(UserError, match="top_p is 2"):
        next(prompts.write(model, given, 1, top_p=2))


def test_what_fails_while_it_is_written_is_told_in_its_rows_and_the_others_go_on(model, monkeypatch):
    def fails(*_, **__):
        raise UserError("this machine has no room for them.")

    alone, together = Prompt("kalo mi " * 18), [Prompt("kalo"), Prompt("mi")]
    for part, failed in ((batch, [0, 1]), (model, [2])):    # the batch of the short ones, then the long one's own
        with monkeypatch.context() as broken:
            broken.setattr(part, "write" if part is batch else "tokens", fails)
            rows = by_number(prompts.write(model, [*together, alone], 3, max_new_tokens=60, temperature=0.0))
        assert [row["number"] for row in rows if row["error"] == "this machine has no room for them."] == failed
        assert all(row["text"] for row in rows if row["number"] not in failed)


def test_a_halt_keeps_what_was_written(model):
    rows = list(prompts.write(model, [Prompt(text) for text in SHORT], 1, lambda: True, max_new_tokens=40))
    assert 0 < len(rows) <= len(SHORT)
    assert sum(row["tokens"] for row in rows) == 1
    assert all(row["finish"] == "" for row in rows)


def test_prompts_are_read_from_lines_and_records_and_a_bad_line_is_named(tmp_path):
    (tmp_path / "a.txt").write_text("\ufeffIt was\n\n  she \n", encoding="utf-8")
    assert [prompt.text for prompt in prompts.read(tmp_path / "a.txt")] == ["It was", "  she "]
    (tmp_path / "a.jsonl").write_text('{"prompt": "one\\ntwo"}\n"three"\n\n{"text": 1}\n{\n')
    found = prompts.read(tmp_path / "a.jsonl")
    assert [prompt.text for prompt in found[:2]] == ["one\ntwo", "three"]
    assert [prompt.problem for prompt in found] == [
        "", "", "line 4 has no prompt that is a text; mend or remove it.", "line 5 is no JSON; mend or remove it."]
    for name, content, sentence in (("b.csv", b"x", "neither a .txt nor a .jsonl"), ("b.txt", b"\n \n", "no prompt"),
                                    ("c.txt", b"\xff\xfe\x00", "UTF-8")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=sentence):
            prompts.read(tmp_path / name)
    with pytest.raises(UserError, match="could not be read"):
        prompts.read(tmp_path / "absent.txt")
    os.mkfifo(tmp_path / "pipe.txt")        # nobody writes into it, and reading it would wait for ever
    with pytest.raises(UserError, match="it is no file"):
        prompts.read(tmp_path / "pipe.txt")


def test_half_a_character_costs_its_own_row_and_not_the_report(model, tmp_path):
    (tmp_path / "a.jsonl").write_text('"kalo"\n{"prompt": "mi \\ud800"}\n')
    rows = list(prompts.write(model, prompts.read(tmp_path / "a.jsonl"), 2, max_new_tokens=6))
    prompt_report.save(tmp_path / "r.jsonl", rows, "toy", {})
    whole, half = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    assert (whole["text"], whole["error"]) == (model.generate("kalo", 6, seed=2), "")
    assert (half["prompt"], half["error"]) == ("mi ?", "line 2 holds half a character; mend or remove it.")


def test_the_report_is_for_programs_and_for_people(model, tmp_path):
    evil = "kalo ``` | <script>"
    rows = list(prompts.write(model, [Prompt("kalo mi"), Prompt(evil), Prompt("mi " * 300)], 2, max_new_tokens=6))
    prompt_report.save(tmp_path / "r.jsonl", rows, "toy", {})
    records = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    assert [record["prompt"] for record in records] == ["kalo mi", evil, "mi " * 300]
    assert records == by_number(rows)
    prompt_report.save(tmp_path / "r.md", rows, "toy <b>", {"temperature": 0.8}, "Some were left out.")
    told = (tmp_path / "r.md").read_text()
    assert "# Prompts written by toy &lt;b>" in told
    assert "| temperature | 0.8 |" in told
    assert "| could not be written | 1 |" in told
    assert "**Not written:** the prompt has" in told
    assert f"````text\n{evil}\n````" in told
    assert "Some were left out." in told
    sums = prompt_report.figures(rows)
    assert (sums["prompts"], sums["failed"], sums["tokens"]) == (3, 1, sum(row["tokens"] for row in rows))
    for name, sentence in (("r.txt", r"must end in \.jsonl"), ("absent/r.md", "is no folder")):
        with pytest.raises(UserError, match=sentence):
            prompt_report.save(tmp_path / name, rows, "toy", {})
