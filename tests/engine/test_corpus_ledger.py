"""The ledger searched, documents pardoned, changes counted by kind, and the card that tells of it all."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from toy_prose import prose

from engine import files
from engine.config import UserError, read
from engine.corpus import CorpusConfig
from engine.corpus.ledger import Ledger, search
from engine.corpus.pipeline import curate, preview
from engine.progress import silent

SHORT = "fewer than 10 words"
TEXTS = {"haiku": "old pond frog leaps in", "note": "Call me back", "a<b>": "<script>x</script> `y`"}


@pytest.fixture
def mine(workspace):
    folder = workspace.place("corpora") / "mine"
    folder.mkdir()
    for number in range(30):
        (folder / f"{number:02d}.txt").write_text(prose(20, seed=number))
    (folder / "wrong.txt").write_text("The cafÃ© was closed. " + prose(20, seed=50))
    for name, text in TEXTS.items():
        (folder / f"{name}.txt").write_text(text)
    (folder / "broken.txt").write_bytes(bytes(range(256)))


def settings(**changes) -> CorpusConfig:
    return read(CorpusConfig, {"sources": [{"path": "corpora/mine"}], **changes})


def made(workspace, **changes) -> tuple:
    folder = curate(settings(**changes), workspace, "mine", silent)
    rows = [row for path in sorted(folder.glob("documents-*.parquet")) for row in pq.read_table(path).to_pylist()]
    return folder, rows, files.read_json(folder / "manifest.json")["summary"]


@pytest.mark.parametrize(("asked", "ids"), [
    ({"step": "quality"}, ["a<b>", "haiku", "note"]),
    ({"reason": "FEWER THAN"}, ["a<b>", "haiku", "note"]),
    ({"text": "pond"}, ["haiku"]),
    ({"text": "note.txt"}, ["note"]),
    ({"text": "café"}, ["wrong"]),
    ({"text": "<script>"}, ["a<b>"]),
    ({"action": "edited"}, ["wrong"]),
    ({"step": "clean", "text": "pond"}, []),
    ({"limit": 2}, ["wrong", "a<b>"]),
    ({"text": "(["}, []),
])
def test_whatever_was_dropped_or_edited_is_found(workspace, mine, asked, ids):
    found = search(made(workspace)[0], **asked)
    assert [row["id"] for row in found] == [f"corpora/mine/{name}.txt" for name in ids]


def test_a_search_in_a_damaged_ledger_says_so(workspace, mine):
    folder = made(workspace)[0]
    (folder / "ledger.parquet").write_bytes(b"PAR1 cut")
    with pytest.raises(UserError, match="is damaged"):
        search(folder)


@pytest.mark.parametrize(("pardon", "kept"), [
    ({"id": "corpora/mine/h*"}, ["haiku"]),
    ({"text": "(?i)CALL|pond"}, ["haiku", "note"]),
    ({"step": "quality", "reason": "fewer than"}, ["a<b>", "haiku", "note"]),
    ({"reason": "fewer than", "text": "frog", "id": "*note*"}, []),
    ({"step": "clean"}, []),
])
def test_a_pardon_keeps_what_a_step_would_drop(workspace, mine, pardon, kept):
    folder, rows, summary = made(workspace, pardons=[pardon])
    assert {row["id"]: row["text"] for row in rows if len(row["text"]) < 100} == {
        f"corpora/mine/{name}.txt": TEXTS[name] for name in kept}
    (quality,) = [step for step in summary["steps"] if step["step"] == "quality"]
    assert (quality["pardoned"], sum(quality["reasons"].values())) == (len(kept), 3 - len(kept))
    told = search(folder, action="pardoned")
    assert [(row["step"], row["reason"], row["before"]) for row in told] == [
        ("quality", SHORT, TEXTS[name]) for name in kept]
    shown = preview(settings(pardons=[pardon]), workspace)
    assert shown["steps"] == summary["steps"]


def test_a_pardoned_document_goes_on_as_it_came(workspace, mine):
    """A step that takes all text out of a document drops it: pardoned, it has its text."""
    (workspace.place("corpora") / "mine" / "nothing.txt").write_text("\u200b\u00ad")
    rows = made(workspace, steps=["clean"], pardons=[{"reason": "nothing left"}])[1]
    assert "\u200b\u00ad" in {row["text"] for row in rows}


@pytest.mark.parametrize(("pardon", "said"), [
    ({}, "would pardon every document"), ({"step": "qualty"}, "'qualty', which is not one of"),
    ({"text": "(("}, "is not a regular expression"),
])
def test_a_pardon_that_makes_no_sense_is_refused(pardon, said):
    with pytest.raises(UserError) as refused:
        settings(pardons=[pardon])
    assert said in refused.value.sentence
    assert refused.value.where.startswith("pardons.0")


def test_changes_are_counted_by_kind():
    before = pa.table({"id": ["a", "b", "c"], "text": pa.array(["x@y.z u@v.w 555", "plain", "z"], pa.large_string()),
                       "source": ["s"] * 3, "group": pa.nulls(3, pa.uint64())})
    text = pa.array(["<e-mail> <e-mail> <phone>", "plain", "z"], pa.large_string())
    kinds = pa.array([["e-mail", "e-mail", "phone"], [], None], pa.list_(pa.string()))
    after = (before.set_column(1, "text", text).append_column("row", pa.array([0, 1, 2]))
             .append_column("reason", pa.nulls(3, pa.large_string())).append_column("kinds", kinds))
    ledger = Ledger(["privacy"], examples=9)
    assert ledger.enter(0, before, after)["text"].to_pylist() == text.to_pylist()
    assert ledger.tallies[0].summary()["kinds"] == {"e-mail": 2, "phone": 1}
    assert [(row["id"], row["reason"]) for row in ledger.rows] == [("a", "e-mail, phone")]


def test_lengths_are_counted_before_and_after(workspace, mine):
    summary = made(workspace, steps=[{"kind": "passages", "characters": 200}, "quality"])[2]
    before, after = summary["lengths_read"], summary["lengths"]
    assert sum(before["counts"]) == summary["steps"][0]["documents_in"]
    assert sum(after["counts"]) == summary["documents"]
    assert before["edges"][-1] > 2 * after["edges"][-1]
    plain = made(workspace, steps=[])[2]
    assert plain["lengths"] == plain["lengths_read"]


def test_the_card_tells_what_the_manifest_holds(workspace, mine):
    folder, _, summary = made(workspace, pardons=[{"text": "pond"}])
    _, front, body = (folder / "README.md").read_text().split("---\n", 2)
    meta = yaml.safe_load(front)
    assert meta["configs"] == [{"config_name": "default", "data_files": "documents-*.parquet"}]
    assert meta["size_categories"] == ["n<1K"]
    assert meta["pretty_name"] == "mine"
    for step in summary["steps"]:
        name = step["step"].replace("_", "\\_")
        assert f"| {name} | {step['documents_in']} | {step['documents_out']} |" in body
    assert "quality dropped: fewer than 10 words (2)" in body
    assert "corpora/mine | 35 |" in body
    settings_told = json.loads(body.split("```json\n")[1].split("```")[0])
    assert settings_told == files.read_json(folder / "manifest.json")["made_from"]["settings"]
    assert not [line for line in body.split("```json")[0].splitlines() if "<script" in line]
    assert "README.md" in files.read_json(folder / "manifest.json")["files"]
