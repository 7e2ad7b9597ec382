"""The ledger's account of a corpus: by source, by language, by what texts are like, in tokens, document by document."""

from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest
from toy_prose import prose

from engine import files
from engine.config import read
from engine.corpus import CorpusConfig
from engine.corpus.ledger import history, in_tokens, look, search
from engine.corpus.pipeline import curate, preview
from engine.progress import silent

GERMAN = "Der Zug fuhr langsam durch das Tal, und die Kinder winkten den Leuten am Ufer zu. " * 4


@pytest.fixture
def two(workspace):
    """Two sources: "old" has ten texts and one German one; "new" repeats four of them, two a little changed."""
    for name in ("old", "new"):
        (workspace.place("corpora") / name).mkdir()
    old, new = (workspace.place("corpora") / name for name in ("old", "new"))
    for number in range(10):
        (old / f"{number}.txt").write_text(prose(12, seed=number))
    (old / "german.txt").write_text(GERMAN)
    for number in (1, 2):
        (new / f"{number}.txt").write_text(prose(12, seed=number))
    for number in (3, 4):
        (new / f"{number}.txt").write_text(prose(12, seed=number) + " And then a few more words followed.")
    (new / "own.jsonl").write_text("\n".join(json.dumps({"text": prose(9, 50 + n)}) for n in range(5)))
    return workspace


def config(*steps, sources=("old", "new")) -> CorpusConfig:
    return read(CorpusConfig, {"sources": [{"path": f"corpora/{name}"} for name in sources], "steps": list(steps)})


def test_a_copy_says_which_source_it_lost_against(two):
    folder = curate(config("exact_duplicates", "near_duplicates"), two, "both", silent)
    exact, near = files.read_json(folder / "manifest.json")["summary"]["steps"]
    assert exact["lost"] == [{"source": "corpora/new", "to": "corpora/old", "documents": 2}]
    assert near["lost"] == [{"source": "corpora/old", "to": "corpora/new", "documents": 2}]   # the longest stays
    rows = search(folder, "exact_duplicates", source="corpora/new", kept_source="corpora/old")
    assert [(row["id"], row["kept"], row["kept_source"]) for row in rows] == [
        (f"corpora/new/{n}.txt", f"corpora/old/{n}.txt", f"corpora/old/{n}.txt") for n in (1, 2)]
    assert [row["kept"] for row in search(folder, "near_duplicates", action="dropped")] == [
        "corpora/new/3.txt", "corpora/new/4.txt"]
    assert search(folder, kept_source="elsewhere") == []


def test_sources_are_counted_before_and_after(two):
    shown = preview(config("clean", {"kind": "language"}, "exact_duplicates"), two)
    steps = shown["steps"]
    assert [(row["source"], row["documents_in"], row["documents_out"]) for row in shown["sources"]] == [
        ("corpora/old", 11, 10), ("corpora/new", 9, 7)]
    assert sum(row["bytes_in"] for row in shown["sources"]) == steps[0]["bytes_in"]
    assert sum(row["bytes_out"] for row in shown["sources"]) == shown["bytes"]
    untouched = preview(config(), two)["sources"]
    assert [(row["documents_in"], row["documents_out"]) for row in untouched] == [(11, 11), (9, 9)]


def test_languages_are_counted_where_the_step_ran_and_nowhere_else(two):
    clean, language = preview(config("clean", {"kind": "language", "min_confidence": 0}), two)["steps"]
    assert clean["languages"] == {}
    assert language["languages"]["de"] == {"documents_in": 1, "documents_out": 0,
                                           "bytes_in": len(GERMAN.strip()), "bytes_out": 0}
    assert sum(row["documents_in"] for row in language["languages"].values()) == 20
    assert sum(row["documents_out"] for row in language["languages"].values()) == language["documents_out"]
    assert sum(row["bytes_in"] for row in language["languages"].values()) == language["bytes_in"]


def test_signals_are_where_the_texts_are(two):
    (two.place("corpora") / "odd").mkdir()
    (two.place("corpora") / "odd" / "a.txt").write_text("1234567 1234567 AAAAAAA\n" * 10)
    (two.place("corpora") / "odd" / "b.txt").write_text("Three words here.")
    (two.place("corpora") / "odd" / "c.txt").write_text("!!! ??? ...")
    shown = preview(config({"kind": "quality", "min_words": 0, "min_word_length": 0, "max_symbols": 1},
                           sources=["odd"]), two)
    assert shown["looked_at"] == {"before": 3, "after": 1}

    def bins(name: str, side: str = "before") -> list[float]:
        signal = next(s for s in shown["signals"] if s["name"] == name)
        assert len(signal["edges"]) == len(signal[side]) + 1
        return [edge for edge, count in zip(signal["edges"], signal[side], strict=False) for _ in range(count)]

    assert bins("words") == [3, 3, 30]
    assert bins("words", "after") == [3]
    assert bins("word_length") == [3, 5, 7]
    assert bins("digits") == pytest.approx([0, 0, 0.64])          # 14 of 21, in bins of 0.04
    assert bins("capitals") == pytest.approx([0.04, 0.96])        # the third has no letters
    assert bins("repeated_lines") == pytest.approx([0, 0, 0.88])
    assert bins("punctuated_lines") == pytest.approx([0, 0.96, 0.96])
    assert bins("symbols")[-1] == pytest.approx(0.96)


def test_tokens_are_estimated_until_they_are_measured(two):
    shown = preview(config("clean", "exact_duplicates"), two)
    assert shown["tokens"] == {"bytes_per_token": 4, "estimated": True}
    for row in [*shown["steps"], *shown["sources"]]:
        assert (row["tokens_in"], row["tokens_out"]) == (round(row["bytes_in"] / 4), round(row["bytes_out"] / 4))
    measured = in_tokens(shown, 3.2, estimated=False)
    assert measured["tokens"]["estimated"] is False
    assert measured["steps"][1]["tokens_out"] == round(shown["steps"][1]["bytes_out"] / 3.2)


def test_every_document_that_was_changed_can_be_followed_by_its_id(two):
    text = "\n\n".join([prose(12, 77), "Too short.", prose(12, 77)]).replace("house", "house  ")
    (two.place("corpora") / "old" / "book.txt").write_text(text)
    folder = curate(config("clean", {"kind": "passages", "characters": 200}, {"kind": "quality", "min_words": 20},
                           "exact_duplicates"), two, "both", silent)
    rows = history(folder, "corpora/old/book.txt")
    assert [row["step"] for row in rows] == sorted((row["step"] for row in rows),
                                                   key=["clean", "quality", "exact_duplicates"].index)
    assert rows[0]["action"] == "edited"
    assert "house  " in rows[0]["before"]
    assert "house  " not in rows[0]["after"]
    pieces = {row["id"] for row in rows[1:]}
    assert pieces
    assert all(piece.startswith("corpora/old/book.txt#") for piece in pieces)
    kept = {row["id"] for path in folder.glob("documents-*") for row in pq.read_table(path).to_pylist()}
    assert not {row["id"] for row in rows if row["action"] == "dropped"} & kept
    assert history(folder, "corpora/old/boo") == []
    assert look(folder)["sources"][0]["source"] == "corpora/old"
