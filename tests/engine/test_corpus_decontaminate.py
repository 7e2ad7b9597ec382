"""Evaluation sets: what overlaps with them is dropped or cut out, and the reason names the set."""

from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest
from toy_prose import prose

from engine import files
from engine.config import UserError, read
from engine.corpus import CorpusConfig
from engine.corpus.ledger import search
from engine.corpus.pipeline import curate, preview
from engine.corpus.words import spans
from engine.progress import silent

QUESTION = ("When the ferryman had counted nineteen copper coins, which of his three daughters walked home "
            "along the frozen canal?")


@pytest.fixture
def sets(workspace):
    corpora = workspace.place("corpora")
    (corpora / "quiz.jsonl").write_text("\n".join(json.dumps({"question": q}) for q in [
        QUESTION, "Too short?", prose(30, seed=900)]))
    (corpora / "exam.csv").write_text(f'question,answer\n"{prose(3, seed=901)}",yes\n')
    folder = corpora / "mine"
    folder.mkdir()
    for number in range(30):
        (folder / f"{number:02d}.txt").write_text(prose(40, seed=number))
    told = QUESTION.upper().replace(",", " --").replace(" ", "\n", 3)
    (folder / "told.txt").write_text(f"{prose(40, 50)} {told} {prose(40, 51)}")
    (folder / "only.txt").write_text(f"It was asked: {QUESTION}")
    (folder / "exam.txt").write_text(prose(10, 60) + " " + prose(3, seed=901))


def config(**settings) -> CorpusConfig:
    named = [{"path": "corpora/quiz.jsonl", "column": "question"},
             {"path": "corpora/exam.csv", "template": "{question} {answer}"}]
    step = {"kind": "decontaminate", "sets": named, **settings}
    return read(CorpusConfig, {"sources": [{"path": "corpora/mine"}], "steps": ["clean", step]})


def made(workspace, **settings) -> tuple:
    folder = curate(config(**settings), workspace, "mine", silent)
    rows = [row for path in sorted(folder.glob("documents-*.parquet")) for row in pq.read_table(path).to_pylist()]
    return folder, rows, files.read_json(folder / "manifest.json")["summary"]


def test_overlaps_are_dropped_and_the_reason_names_the_set(workspace, sets):
    folder, rows, summary = made(workspace)
    assert len(rows) == 30
    assert summary["steps"][1]["reasons"] == {"13 words in a row of corpora/quiz.jsonl": 2,
                                              "13 words in a row of corpora/exam.csv": 1}
    assert [row["id"] for row in search(folder, reason="exam")] == ["corpora/mine/exam.txt"]
    assert preview(config(), workspace)["steps"] == summary["steps"]


def test_overlaps_are_cut_out_with_what_stands_around(workspace, sets):
    rows = {row["id"].removeprefix("corpora/mine/"): row["text"] for row in made(workspace, action="cut")[1]}
    assert "only.txt" not in rows                                       # nothing is left of it
    assert rows["told.txt#1"] == prose(40, 50)[:-199].strip()
    assert rows["told.txt#2"] == prose(40, 51)[198:].strip()
    assert rows["exam.txt"] == prose(10, 60)[:-199].strip()
    assert rows["00.txt"] == prose(40, 0)
    assert not [text for text in rows.values() if "ferryman" in text.lower()]


def test_longer_runs_are_needed_if_longer_ones_are_asked(workspace, sets):
    assert len(made(workspace, ngram=25)[1]) == 32                      # the exam's text is longer than that
    assert len(made(workspace, ngram=3)[1]) < 30


def test_another_set_makes_another_dataset(workspace, sets):
    first = made(workspace)[0]
    assert made(workspace)[0] == first
    quiz = workspace.place("corpora") / "quiz.jsonl"
    quiz.write_text(quiz.read_text().replace("nineteen", "eighteen").replace("frozen", "silent"))
    second, rows, _ = made(workspace)
    assert second != first
    assert len(rows) == 30 + 2


@pytest.mark.parametrize(("sets_", "said"), [
    ([{"path": "corpora/none.jsonl"}], "There is no file or folder corpora/none.jsonl"),
    ([{"path": "corpora/quiz.jsonl"}], "has no column 'text'"),
    ([{"path": "corpora/short.txt"}], "corpora/short.txt has no text of 13 words or more"),
])
def test_a_set_that_cannot_be_used_is_refused(workspace, sets, sets_, said):
    (workspace.place("corpora") / "short.txt").write_text("only four words here")
    with pytest.raises(UserError) as refused:
        made(workspace, sets=sets_)
    assert said in refused.value.sentence


def test_words_are_found_where_they_stand():
    text = "“Don’t—go”, said İdil; 日本語 2nd e\u0301t ΣΑΣ"
    (places,) = spans([text])
    assert [text[start:end] for start, end in places] == [
        "Don", "t", "go", "said", "İdil", "日", "本", "語", "2nd", "e\u0301t", "ΣΑΣ"]
