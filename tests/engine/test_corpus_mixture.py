"""Sources mixed by weight and temperature: shares and epochs exact, deterministic, told."""

from __future__ import annotations

import json
from collections import Counter

import pyarrow.parquet as pq
import pytest

from engine import files
from engine.config import read
from engine.corpus import CorpusConfig
from engine.corpus.pipeline import curate, preview
from engine.corpus.shares import copies, epochs
from engine.progress import silent

SIZE = 100


@pytest.fixture
def corpora(workspace):
    """Sources a, b and c of 40, 20 and 10 documents of a hundred bytes."""
    for name, count in (("a", 40), ("b", 20), ("c", 10)):
        (workspace.place("corpora") / f"{name}.jsonl").write_text("".join(
            json.dumps({"text": f"{name}{place:02d} ".ljust(SIZE, "x")}) + "\n" for place in range(count)))


def made(workspace, step, **weights):
    sources = [{"path": f"corpora/{name}.jsonl", "weight": weights.get(name, 1)} for name in "abc"]
    folder = curate(read(CorpusConfig, {"sources": sources, "steps": [step]}), workspace, "mixed", silent)
    rows = [row for path in sorted(folder.glob("documents-*.parquet")) for row in pq.read_table(path).to_pylist()]
    return rows, files.read_json(folder / "manifest.json")["summary"], folder


def by_source(rows) -> dict[str, int]:
    return dict(Counter(row["text"][0] for row in rows))


@pytest.mark.parametrize(("step", "weights", "documents"), [
    ({"kind": "mixture"}, {}, {"a": 23, "b": 23, "c": 23}),                       # 70 documents, a third each
    ({"kind": "mixture"}, {"a": 4, "b": 2}, {"a": 40, "b": 20, "c": 10}),         # as it is
    ({"kind": "mixture"}, {"b": 5}, {"a": 10, "b": 50, "c": 10}),
    ({"kind": "mixture", "megabytes": 0.0035}, {}, {"a": 12, "b": 12, "c": 12}),
    ({"kind": "mixture", "max_epochs": 2}, {"c": 98}, {"a": 25, "b": 25, "c": 20}),    # the others fill its place
    ({"kind": "mixture", "max_epochs": 1, "megabytes": 1}, {}, {"a": 40, "b": 20, "c": 10}),
    ({"kind": "mixture", "by": "temperature", "temperature": 1}, {}, {"a": 40, "b": 20, "c": 10}),
    ({"kind": "mixture", "by": "temperature", "temperature": 2}, {}, {"a": 32, "b": 22, "c": 16}),
    ({"kind": "mixture", "by": "temperature", "temperature": 1000}, {}, {"a": 23, "b": 23, "c": 23}),
])
def test_shares_are_met_to_within_a_document(workspace, corpora, step, weights, documents):
    rows, summary, _ = made(workspace, step, **weights)
    found = by_source(rows)
    assert all(abs(found[name] - count) <= 1 for name, count in documents.items()), found
    told = {row["name"][8]: row for row in summary["shares"][0]["rows"]}
    for name, size in (("a", 40), ("b", 20), ("c", 10)):
        assert told[name]["epochs"] == pytest.approx(found[name] / size, abs=1e-4)
        assert told[name]["bytes_out"] == SIZE * found[name]
        assert told[name]["weight"] == weights.get(name, 1)
    assert sum(row["share_out"] for row in told.values()) == pytest.approx(1, abs=1e-3)


def test_whole_epochs_take_every_document_as_often(workspace, corpora):
    rows, summary, folder = made(workspace, {"kind": "mixture", "megabytes": 0.012}, a=4, b=4, c=4)   # 40 of each
    times = Counter(row["text"] for row in rows)
    assert {name: {count for text, count in times.items() if text[0] == name} for name in "abc"} == {
        "a": {1}, "b": {2}, "c": {4}}
    assert len({row["id"] for row in rows}) == len(rows)
    assert {row["id"] for row in rows if row["text"].startswith("c00")} == {
        "corpora/c.jsonl:1", "corpora/c.jsonl:1~2", "corpora/c.jsonl:1~3", "corpora/c.jsonl:1~4"}
    assert all(len({row["split"] for row in rows if row["text"] == text}) == 1 for text in times)
    assert [row["epochs"] for row in summary["shares"][0]["rows"]] == [1, 2, 4]
    assert summary["steps"][0]["added"] == 50
    assert "| corpora/c.jsonl | 10 | 40 | 1,000 | 4,000 | 14.3% | 33.3% | 4.00 |" in (folder / "README.md").read_text()


def test_what_is_left_out_is_told(workspace, corpora):
    rows, summary, _ = made(workspace, {"kind": "mixture"})
    assert summary["steps"][0]["reasons"] == {"more than its source's share of the mixture": 40 - by_source(rows)["a"]}


def test_another_weight_makes_the_mixture_new_and_reads_nothing_again(workspace, corpora, monkeypatch):
    monkeypatch.setattr("engine.corpus.spill.IN_MEMORY", 0)
    first = made(workspace, {"kind": "mixture"})[2]
    told = []
    sources = [{"path": f"corpora/{name}.jsonl", "weight": 9 if name == "c" else 1} for name in "abc"]
    second = curate(read(CorpusConfig, {"sources": sources, "steps": ["mixture"]}), workspace, "mixed",
                    lambda done, of, message="": told.append(message))
    assert first != second
    assert not any("reading" in message for message in told)


def test_a_preview_tells_the_shares(workspace, corpora):
    summary = made(workspace, {"kind": "mixture"}, b=2)[1]
    sources = [{"path": f"corpora/{name}.jsonl", "weight": 2 if name == "b" else 1} for name in "abc"]
    assert preview(read(CorpusConfig, {"sources": sources, "steps": ["mixture"]}), workspace)["shares"] == (
        summary["shares"])


def test_epochs_fill_the_budget_unless_all_are_full():
    assert epochs([100, 100], [1, 3], 200, 10) == [0.5, 1.5]
    assert epochs([100, 10], [1, 1], 110, 2) == [0.9, 2]
    assert epochs([100, 10], [1, 1], 1e9, 2) == [2, 2]
    assert epochs([100, 0], [1, 1], 100, 2) == [1, 0]


def test_what_is_taken_once_more_is_told_by_the_hash_alone():
    import numpy as np

    kinds, sizes = np.array([0, 0, 0, 0, -1]), np.array([10, 10, 10, 10, 10])
    keys = np.array([4, 1, 3, 2, 0], np.uint64)
    assert copies(kinds, sizes, keys, [0.5]).tolist() == [0, 1, 0, 1, 1]
    assert copies(kinds, sizes, keys, [2.25]).tolist() == [2, 3, 2, 2, 1]
