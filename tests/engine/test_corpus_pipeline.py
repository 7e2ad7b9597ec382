"""From sources to a dataset: what is counted, what is held out, what is made again and what is refused."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections import Counter
from itertools import pairwise

import pyarrow.parquet as pq
import pytest
from toy_prose import prose

from engine import files
from engine.config import UserError, read
from engine.corpus import CorpusConfig
from engine.corpus.ledger import look
from engine.corpus.pipeline import curate, preview
from engine.progress import Stopped, silent

HERE = {"sources": [{"path": "corpora/mine"}]}


@pytest.fixture
def mine(workspace):
    """A folder of forty texts: one is short, one stands twice, one has mojibake, one is broken."""
    folder = workspace.place("corpora") / "mine"
    folder.mkdir()
    for number in range(36):
        (folder / f"{number:02d}.txt").write_text(prose(20, seed=number))
    (folder / "again.txt").write_text(prose(20, seed=3))
    (folder / "book.txt").write_text("\n\n".join(prose(4, seed=100 + n) for n in range(30)))
    (folder / "short.txt").write_text("Too short.")
    (folder / "wrong.txt").write_text("The cafÃ© was closed. " + prose(20, seed=50))
    (folder / "broken.txt").write_bytes(bytes(range(256)))
    return folder


def made(workspace, progress=silent, **settings) -> tuple:
    """A dataset: its folder, its documents, and the manifest's summary."""
    folder = curate(read(CorpusConfig, {**HERE, **settings}), workspace, "mine", progress)
    documents = [row for path in sorted(folder.glob("documents-*.parquet")) for row in pq.read_table(path).to_pylist()]
    return folder, documents, files.read_json(folder / "manifest.json")["summary"]


def test_the_ledger_adds_up(workspace, mine):
    folder, documents, summary = made(workspace)
    steps = {step["step"]: step for step in summary["steps"]}
    assert list(steps) == ["clean", "passages", "quality", "exact_duplicates"]
    came, size = 40, sum(len(p.read_text().encode()) for p in mine.iterdir() if p.name != "broken.txt")
    for step in steps.values():
        assert (step["documents_in"], step["bytes_in"]) == (came, size)
        assert step["documents_out"] == came - sum(step["reasons"].values()) + step["added"]
        came, size = step["documents_out"], step["bytes_out"]
    assert (summary["documents"], summary["bytes"]) == (came, size) == (
        len(documents), sum(len(d["text"].encode()) for d in documents))
    assert steps["clean"]["edited"] == 1
    assert steps["clean"]["bytes_in"] - steps["clean"]["bytes_out"] == len("Ã©".encode()) - len("é".encode())
    assert steps["passages"]["added"] == sum(d["source"].endswith("book.txt") for d in documents) - 1 > 1
    assert steps["quality"]["reasons"] == {"fewer than 10 words": 1}
    assert steps["exact_duplicates"]["reasons"] == {"same text as an earlier document": 1}
    assert summary["quarantined"] == 1
    assert sum(summary["lengths"]["counts"]) == len(documents)

    rows = pq.read_table(folder / "ledger.parquet").to_pylist()
    assert Counter((row["step"], row["action"], row["reason"]) for row in rows) == {
        ("clean", "edited", ""): 1, ("quality", "dropped", "fewer than 10 words"): 1,
        ("exact_duplicates", "dropped", "same text as an earlier document"): 1}
    edited, short, again = rows
    assert (edited["id"], edited["before"][:22], edited["after"][:21]) == (
        "corpora/mine/wrong.txt", "The cafÃ© was closed. ", "The café was closed. ")
    assert (short["id"], short["before"], short["after"], short["bytes"]) == (
        "corpora/mine/short.txt", "Too short.", "", 10)
    assert again["id"] == "corpora/mine/again.txt"
    quarantined = [json.loads(line) for line in (folder / "quarantine.jsonl").read_text().splitlines()]
    assert [(q["file"], q["line"]) for q in quarantined] == [("corpora/mine/broken.txt", None)]
    assert "is a binary file" in quarantined[0]["reason"]


def test_the_histogram_counts_the_documents_where_they_are(workspace, mine):
    _, documents, summary = made(workspace, steps=[])
    edges, counts = summary["lengths"]["edges"], summary["lengths"]["counts"]
    assert edges == sorted(set(edges))
    assert counts == [sum(low <= len(d["text"]) < high for d in documents)
                      for low, high in pairwise(edges)]


def test_no_text_stands_on_both_sides(workspace, mine):
    for number in range(200):
        (mine / f"copy{number}.txt").write_text(prose(20, seed=number % 36))
    _, documents, summary = made(workspace, steps=[], validation_fraction=0.3)
    train = {d["text"] for d in documents if d["split"] == "train"}
    held_out = {d["text"] for d in documents if d["split"] == "val"}
    assert not train & held_out
    assert len(documents) == 240
    assert summary["train_documents"] + summary["val_documents"] == 240
    assert summary["val_documents"] == sum(d["split"] == "val" for d in documents)
    assert 0.1 < len(held_out) / len(train | held_out) < 0.5


def test_a_text_stays_on_its_side_when_others_come(workspace, mine):
    before = {d["text"]: d["split"] for d in made(workspace, validation_fraction=0.3)[1]}
    for number in range(30):
        (mine / f"0new{number}.txt").write_text(prose(20, seed=500 + number))
    after = {d["text"]: d["split"] for d in made(workspace, validation_fraction=0.3)[1]}
    assert len(after) == len(before) + 30
    assert all(after[text] == side for text, side in before.items())


@pytest.mark.parametrize("fraction", [0.0001, 0.5])
@pytest.mark.parametrize("number", [2, 3, 5])
def test_both_sides_have_a_document_however_few_there_are(workspace, number, fraction):
    lines = [json.dumps({"text": prose(9, seed=n % number)}) for n in range(2 * number)]    # each text twice
    (workspace.place("corpora") / "few.jsonl").write_text("\n".join(lines))
    _, documents, summary = made(workspace, sources=[{"path": "corpora/few.jsonl"}], steps=[],
                                 validation_fraction=fraction)
    sides = {(d["text"], d["split"]) for d in documents}
    assert len(documents) == 2 * number
    assert len(sides) == number
    assert {side for _, side in sides} == {"train", "val"}
    assert summary["val_documents"] == sum(d["split"] == "val" for d in documents)


def contents(folder) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}


def test_the_same_inputs_give_the_same_bytes(workspace, mine, tmp_path):
    first, *_ = made(workspace)
    marks = contents(first)
    first.rename(tmp_path / "elsewhere")
    second, *_ = made(workspace)
    assert contents(second) == marks


def test_nothing_is_made_again_unless_something_changed(workspace, mine):
    first, *_ = made(workspace)
    stamp = first.stat().st_mtime_ns
    assert made(workspace)[0] == first
    assert first.stat().st_mtime_ns == stamp
    other = {made(workspace, validation_fraction=0.1)[0], made(workspace, steps=["quality", "clean"])[0],
             made(workspace, steps=["clean", {"kind": "passages", "characters": 500}])[0]}
    text = (mine / "00.txt").read_text()
    (mine / "00.txt").write_text(text.replace("e", "o", 1))              # of the same length
    other.add(made(workspace)[0])
    (mine / "00.txt").rename(mine / "0a.txt")
    other.add(made(workspace)[0])
    assert len(other | {first}) == 6
    assert not [p for p in workspace.place("datasets").iterdir() if p.name.startswith(".")]


def test_markup_passes_through_as_text(workspace, mine):
    told = "<script>alert(\"it's & done\")</script> <img src=x onerror=alert(1)> " + prose(12)
    (mine / "markup.txt").write_text(told)
    assert told in {d["text"] for d in made(workspace)[1]}


def test_steps_run_in_the_order_that_was_asked(workspace, mine):
    summary = made(workspace, steps=["exact_duplicates", "quality"])[2]
    assert [(s["step"], s["documents_out"]) for s in summary["steps"]] == [("exact_duplicates", 39), ("quality", 38)]


def test_several_sources_are_read_one_after_the_other(workspace, mine):
    (workspace.place("corpora") / "more.csv").write_text(f"title,body\nOne,{prose(20, 900)}\nTwo,{prose(20, 901)}\n")
    more = {"path": "corpora/more.csv", "template": "{title}\\n\\n{body}"}
    documents = made(workspace, sources=[more, *HERE["sources"]])[1]
    assert [d["id"] for d in documents[:3]] == ["corpora/more.csv:2", "corpora/more.csv:3", "corpora/mine/00.txt"]
    assert documents[0]["text"] == f"One\n\n{prose(20, 900)}"


@pytest.mark.parametrize(("settings", "said", "where"), [
    ({"sources": [{"path": "corpora/mine/broken.txt"}]}, "mine/broken.txt is a binary file, not text", "corpora/"),
    ({"sources": [*HERE["sources"], {"path": "corpora/mine/b*n.txt"}]}, "broken.txt is a binary", "corpora/mine/b*"),
    ({"sources": [{"path": "corpora/mine/0?.txt", "format": "jsonl"}]},
     "Nothing in corpora/mine/0?.txt can be read: corpora/mine/00.txt line 1 is not JSON", "corpora/mine/0?.txt"),
    ({"sources": [{"path": "corpora/mine/00.txt"}], "steps": []}, "Only one document is there", "corpus.sources"),
    ({"sources": [{"path": "corpora/mine/00.txt"}]}, "lower passages.characters", "corpus.sources"),
    ({"steps": ["clean", {"kind": "quality", "min_words": 9999}, "passages"]},
     "No document is left after the steps: quality dropped 40 of 40, most of them for 'fewer than 9999 words' (40).",
     "corpus.steps"),
    ({"sources": [{"path": "corpora/mine/03.txt"}, {"path": "corpora/mine/again.txt"}], "steps": ["exact_duplicates"]},
     "Only one document is left after the steps: exact_duplicates dropped 1 of 2", "corpus.steps"),
    ({"sources": [{"path": "corpora/mine/03.txt"}, {"path": "corpora/mine/again.txt"}], "steps": []},
     "Nothing but copies of one text is there", "corpus.sources"),
])
def test_what_cannot_be_trained_on_is_refused_in_one_sentence(workspace, mine, settings, said, where):
    with pytest.raises(UserError) as refused:
        made(workspace, **settings)
    assert said in refused.value.sentence
    assert refused.value.where.startswith(where)
    assert list(workspace.place("datasets").iterdir()) == []


def test_a_full_disk_is_told_before_the_work(workspace, mine, monkeypatch):
    monkeypatch.setattr(files.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1000})())
    with pytest.raises(UserError, match=r"has 0 MiB free, and about \d+ MiB are needed"):
        made(workspace)
    assert list(workspace.place("datasets").iterdir()) == []


def test_progress_is_told_in_bytes_and_may_stop_the_work(workspace, mine):
    told = []
    made(workspace, lambda done, of, message="": told.append((done, of)))
    size = sum(p.stat().st_size for p in mine.iterdir())
    assert {of for _, of in told} == {size}
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1] == (size, size)
    assert len({done for done, _ in told}) > 20

    def stop(done: int, of: int, message: str = "") -> None:
        if done > size // 2:
            raise Stopped

    for ending in ("", ".gz", ".zst"):                           # a stop passes through every decompressor
        (mine / f"z.txt{ending}").write_bytes(b"")
        with pytest.raises(Stopped):
            made(workspace, stop, validation_fraction=0.2)
    assert len(workspace.listing("datasets")) == 1
    assert len(list(workspace.place("datasets").iterdir())) == 1


def test_a_stop_passes_through_decompression(workspace):
    import gzip

    (workspace.place("corpora") / "a.jsonl.gz").write_bytes(gzip.compress(b'{"no": "text"}\n' * 1000))

    def stop(done: int, of: int, message: str = "") -> None:
        if done:
            raise Stopped

    with pytest.raises(Stopped):
        made(workspace, stop, sources=[{"path": "corpora/a.jsonl.gz"}])


def test_preview_tells_what_curate_would(workspace, mine):
    config = read(CorpusConfig, HERE)
    shown = preview(config, workspace)
    summary = made(workspace)[2]
    assert {key: shown[key] for key in summary} == summary
    assert shown["examples"][0]["text"] == prose(20, seed=0)
    assert {row["step"] for row in shown["ledger"]} == {"clean", "quality", "exact_duplicates"}
    assert shown["quarantine"][0]["file"] == "corpora/mine/broken.txt"
    assert (shown["problem"], shown["files"], shown["sampled"]) == ("", 41, False)


def test_preview_samples_a_large_corpus_and_writes_nothing(workspace):
    corpora = workspace.place("corpora")
    for number in range(3):
        (corpora / f"{number}.jsonl").write_text("".join(f'{{"text": "{prose(9, n)}"}}\n' for n in range(200)))
    (corpora / "large.txt").write_text(prose(100) * 1000)
    before = sorted(workspace.path.rglob("*"))
    shown = preview(read(CorpusConfig, {"sources": [{"path": "corpora"}], "steps": []}), workspace, limit=40)
    assert shown["documents"] == 31                              # ten of each JSONL, and the beginning of the text
    assert shown["sampled"]
    assert shown["bytes"] < 3 << 20
    assert sorted(workspace.path.rglob("*")) == before


def test_preview_holds_something_out_however_little_there_is(workspace):
    (workspace.place("corpora") / "few.jsonl").write_text("".join(f'{{"text": "{prose(9, n)}"}}\n' for n in range(3)))
    for fraction in (0.0001, 0.5):
        settings = {"sources": [{"path": "corpora/few.jsonl"}], "validation_fraction": fraction}
        summary = made(workspace, **settings)[2]
        shown = preview(read(CorpusConfig, settings), workspace)
        assert {key: shown[key] for key in summary} == summary


def test_a_dataset_is_looked_at_as_a_preview_is(workspace, mine):
    folder, documents, summary = made(workspace)
    shown = look(folder, examples=5)
    assert {key: shown[key] for key in summary} == summary
    assert shown["examples"] == documents[:5]
    assert shown["ledger"] == pq.read_table(folder / "ledger.parquet").to_pylist()
    assert [row["file"] for row in shown["quarantine"]] == ["corpora/mine/broken.txt"]
    (folder / "ledger.parquet").write_bytes(b"PAR1 cut")
    with pytest.raises(UserError, match="is damaged"):
        look(folder)


def test_preview_says_when_nothing_would_be_left(workspace, mine):
    shown = preview(read(CorpusConfig, {**HERE, "steps": [{"kind": "quality", "min_words": 9999}]}), workspace)
    assert "No document is left after the steps: quality dropped" in shown["problem"]
    assert shown["documents"] == 0
    assert shown["ledger"][0]["reason"] == "fewer than 9999 words"
    with pytest.raises(UserError, match="is a binary file"):
        preview(read(CorpusConfig, {"sources": [{"path": "corpora/mine/broken.txt"}]}), workspace)


def test_the_bundled_corpus_is_kept_nearly_whole(workspace):
    folder = curate(CorpusConfig(), workspace, "novels", silent)
    summary = files.read_json(folder / "manifest.json")["summary"]
    assert summary["quarantined"] == 0
    assert 4_000_000 < summary["bytes"] < 5_000_000
    assert summary["bytes"] > 0.995 * summary["steps"][0]["bytes_in"]
    assert 0.03 < summary["val_documents"] / summary["documents"] < 0.07


def test_curating_imports_no_torch_and_calls_nobody(workspace, mine):
    code = ("import socket, sys\n"
            "def refuse(*a): raise SystemExit('went to the network')\n"
            "socket.create_connection = socket.getaddrinfo = refuse\n"
            "from engine.workspace import Workspace\nfrom engine.corpus import CorpusConfig\n"
            "from engine.corpus.pipeline import preview\n"
            "preview(CorpusConfig(sources=({'path': 'corpora/mine'},)), Workspace())\n"
            "print([m for m in ('torch', 'lightning') if m in sys.modules])")
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False,
                            cwd=files.__file__.rsplit("/engine/", 1)[0])
    assert (result.stdout.strip(), result.returncode) == ("[]", 0), result.stderr
