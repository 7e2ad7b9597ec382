"""Near duplicates: which are found, how sure that is, and what becomes of them."""

from __future__ import annotations

import json
import random

import numpy as np
import pyarrow.parquet as pq
import pytest
from toy_passes import judged, verdicts
from toy_prose import WORDS

from engine import files
from engine.config import read
from engine.corpus import CorpusConfig, intake, passes, spill
from engine.corpus.ledger import opened, search
from engine.corpus.minhash import alike, banding, candidate, candidates, clusters, found, join
from engine.corpus.near import REASON
from engine.corpus.pipeline import curate
from engine.progress import silent

VOCABULARY = [a + b for a in WORDS.split() for b in ("", *"aeiou")]


def text(seed: int, length: int = 300) -> list[str]:
    return random.Random(seed).choices(VOCABULARY, k=length)


def changed(words: list[str], share: float, seed: int) -> list[str]:
    """The words with this share of them replaced by others."""
    dice = random.Random(seed)
    places = set(dice.sample(range(len(words)), round(share * len(words))))
    return [f"new{dice.randrange(10**6)}" if place in places else word for place, word in enumerate(words)]


def jaccard(one: list[str], other: list[str], n: int = 5) -> float:
    left, right = ({tuple(words[k:k + n]) for k in range(len(words) - n + 1)} for words in (one, other))
    return len(left & right) / len(left | right)


@pytest.mark.parametrize(("share", "at_least"), [(0.01, 0.99), (0.02, 0.99), (0.05, 0.5), (0.3, 0.0)])
def test_planted_near_duplicates_are_found(share, at_least):
    originals = [text(seed) for seed in range(150)]
    copies = [changed(words, share, seed) for seed, words in enumerate(originals)]
    before, after = verdicts({"kind": "near_duplicates", "keep": "first"}, [" ".join(words) for words in originals],
                             [" ".join(words) for words in copies])
    assert before == [None] * 150
    caught = sum(reason == REASON for reason in after) / 150
    similar = [jaccard(*pair) for pair in zip(originals, copies, strict=True)]
    expected = float(np.mean(found(np.array(similar), 0.6, 112)))
    assert caught >= at_least
    assert caught == pytest.approx(expected, abs=0.12), "the curve that is shown is not what happens"


def test_the_curve_is_what_chance_gives():
    dice = np.random.default_rng(1)
    for target, num_hashes in ((0.6, 112), (0.8, 64)):
        bands, rows = banding(target, num_hashes)
        assert bands * rows <= num_hashes
        for similarity in (target - 0.2, target, target + 0.1):
            same = dice.random((20_000, num_hashes)) < similarity
            in_band = same[:, :bands * rows].reshape(-1, bands, rows).all(axis=2).any(axis=1)
            assert candidate(similarity, bands, rows) == pytest.approx(in_band.mean(), abs=0.015)
            both = in_band & (same.sum(axis=1) >= np.ceil(num_hashes * target - 1e-9))
            assert found(similarity, target, num_hashes) == pytest.approx(both.mean(), abs=0.015)
    curve = found(np.linspace(0, 1, 21), 0.6, 112)
    assert (np.diff(curve) >= -1e-12).all()
    assert curve[0] < 1e-9
    assert curve[-1] == pytest.approx(1)
    assert banding(1.0, 112) == (1, 112)


def test_case_signs_and_blanks_make_no_difference():
    words = text(1)
    loud = "  " + ", ".join(words).upper() + "!\n\n"
    assert verdicts("near_duplicates", [" ".join(words)], [loud]) == [[REASON], [None]]      # the longer one stays
    assert verdicts("near_duplicates", ["a b", "A, b.", "* * *", "* * *", "!!!", "?", "c d"]) == [
        [REASON, None, None, REASON, None, None, None]]
    again = "これは日本語のテキストです。文字コードを検出します。"
    (told,) = verdicts("near_duplicates", [again, again + "!", "まったく別の文章がここにあります。"])
    assert told == [REASON, None, None]


def test_one_of_a_cluster_stays_and_the_others_name_it():
    words = text(7)
    texts = [" ".join(changed(words, 0.01, seed)[:300 - 2 * abs(seed - 2)]) for seed in range(5)]
    for keep, stays in (("longest", 2), ("first", 0)):
        made = judged({"kind": "near_duplicates", "keep": keep}, texts[:2], ["on its own " * 30], texts[2:])
        rows = [row for batch in made for row in batch]
        (alone,) = [row for row in rows if row["text"].startswith("on its")]
        assert (alone["reason"], alone["cluster"], alone["group"]) == (None, None, None)
        rows.remove(alone)
        name = rows[stays]["id"]
        assert [row["reason"] for row in rows] == [None if row["id"] == name else REASON for row in rows]
        assert {row["kept"] for row in rows if row["reason"]} == {name}
        assert {row["cluster"] for row in rows if row["reason"]} == {0}
        assert all(0.6 <= row["similarity"] <= 1 for row in rows if row["reason"])
        assert len({row["group"] for row in rows}) == 1
    rows = judged({"kind": "near_duplicates", "keep": "all"}, texts)[0]
    assert [row["reason"] for row in rows] == [None] * 5
    assert {(row["cluster"], row["kept"]) for row in rows} == {(0, "0")}
    assert len({row["group"] for row in rows} - {None}) == 1


def test_unlike_documents_are_not_chained_together():
    """Chance candidates (equal in one band) join nothing unless the whole signatures agree."""
    dice = np.random.default_rng(0)
    short = dice.integers(0, 256, (300, 112), np.uint8)
    keys = dice.integers(0, 40, (300, 28)).astype(np.uint64)           # every band brings hundreds of candidates
    assert (clusters(300, 28, lambda band: keys[:, band], short, 0.6) == np.arange(300)).all()
    short[200] = short[3]
    keys[200, 5] = keys[3, 5] = 10**9
    assert np.flatnonzero(clusters(300, 28, lambda band: keys[:, band], short, 0.6) != np.arange(300)).tolist() == [200]
    assert alike(short, np.array([3, 3]), np.array([200, 4])).tolist() == pytest.approx([1, 0], abs=0.05)


def test_clusters_are_connected_components():
    dice = np.random.default_rng(3)
    left, right = dice.integers(0, 1000, (2, 700))
    first = join(join(np.arange(1000), left[:300], right[:300]), left[300:], right[300:])
    named = list(range(1000))                                           # the slow and plain way
    for one, other in zip(left.tolist(), right.tolist(), strict=True):
        low, high = sorted((named[one], named[other]))
        named = [low if name == high else name for name in named]
    assert first.tolist() == named
    keys = np.array([5, 9, 5, 7, 5, 9], np.uint64)
    pairs = set(zip(*(side.tolist() for side in candidates(keys)), strict=True))
    assert pairs == {(0, 2), (0, 4), (2, 4), (1, 5)}


@pytest.fixture
def copies(workspace, monkeypatch):
    """Sixty texts and three edited copies of each, in a thousand lines' distance, over several shards."""
    monkeypatch.setattr(spill, "IN_MEMORY", 0)
    monkeypatch.setattr(intake, "SHARD", 100_000)
    monkeypatch.setattr(passes, "BATCH", 30_000)
    lines = [json.dumps({"text": " ".join(changed(text(seed), 0.02, 100 * seed + copy) if copy else text(seed))})
             for copy in range(4) for seed in range(60)]
    (workspace.place("corpora") / "copies.jsonl").write_text("\n".join(lines))


def dataset(workspace, keep: str) -> tuple:
    config = read(CorpusConfig, {"sources": [{"path": "corpora/copies.jsonl"}], "validation_fraction": 0.3,
                                 "steps": ["clean", {"kind": "near_duplicates", "keep": keep}, "quality"]})
    folder = curate(config, workspace, "copies", silent)
    rows = [row for path in sorted(folder.glob("documents-*.parquet")) for row in pq.read_table(path).to_pylist()]
    return folder, rows, files.read_json(folder / "manifest.json")["summary"]


def test_a_cluster_can_be_opened(workspace, copies):
    folder, rows, summary = dataset(workspace, "first")
    assert [row["id"].rpartition(":")[2] for row in rows] == [str(n) for n in range(1, 61)]
    assert summary["steps"][1]["reasons"] == {REASON: 180}
    dropped = search(folder, step="near_duplicates", limit=1000)
    assert len(dropped) == 180
    shown = opened(folder, cluster=dropped[7]["cluster"])
    assert shown["kept"]["id"] == dropped[7]["kept"]
    assert len(shown["others"]) == 3
    assert {row["before"].split()[0] for row in shown["others"]} >= {shown["kept"]["text"].split()[0]}


def test_a_cluster_is_on_one_side_of_the_split(workspace, copies):
    folder, rows, summary = dataset(workspace, "all")
    assert len(rows) == 240
    assert summary["steps"][1]["tagged"] == 240
    sides: dict[str, set[str]] = {}
    for row in rows:
        sides.setdefault(str((int(row["id"].rpartition(":")[2]) - 1) % 60), set()).add(row["split"])
    assert all(len(found) == 1 for found in sides.values())
    assert 20 < summary["val_documents"] < 140
    assert len(search(folder, action="tagged", limit=1000)) == 240
    alone = {row["text"]: row["split"] for row in dataset(workspace, "first")[1]}
    assert all(row["split"] == alone[row["text"]] for row in rows if row["text"] in alone)
