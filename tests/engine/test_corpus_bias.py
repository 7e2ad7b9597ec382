"""What is measured of bias: counts against plain loops, associations by hand, planted imbalance found."""

from __future__ import annotations

import math
import re
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest

from engine.corpus.association import FOLDS, STUDENT, estimate, npmi, share
from engine.corpus.bias import BLOCK, Bias, Counts
from engine.corpus.bias_report import measurement, report
from engine.corpus.terms import terms
from engine.corpus.wordscan import Numbering, scan


def counted(*texts: str, sources: list[str] | None = None, groups: list[int] | None = None) -> Counts:
    """The counts over documents; with `groups`, each in the fold of its number."""
    bias = Bias()
    bias.went(pa.table({"text": pa.array(texts, pa.large_string()), "source": sources or ["a.txt"] * len(texts),
                        "group": pa.array(groups or [None] * len(texts), pa.uint64())}))
    return bias.after


def of(counts: Counts, group: str) -> int:
    return [name for _, name in counts.vocabulary.groups].index(group)


def told(measured: dict, group: str) -> dict:
    return next(found for found in measured["groups"] if found["group"] == group)


# Words ------------------------------------------------------------------------------------------------

TEXTS = ["The cat's hat.", "", "—", "don’t stop“now”", "É ÉTÉ été Straße\u00a0naïve", "a", "b", "x" * 40, "x" * 41,
         "one,two;three\nfour\tfive", "3rd 1815", "«mot»", "日本語 word", "A" * 8 + " " + "a" * 9 + "b", "…end", "tail"]


def test_the_words_are_those_that_a_pattern_finds():
    words = scan(pa.array(TEXTS))
    expected = [re.findall(r"[^\W_]+", text.lower()) for text in TEXTS]
    found = [[words.word(at) for at in range(start, stop)]
             for start, stop in pairwise(words.firsts)]
    assert found == expected


def test_equal_words_have_equal_keys_and_no_others():
    words = scan(pa.chunked_array([["zz", "Zed"], ["zed zz"]]))
    own = [words.word(at) for at in range(len(words))]
    assert {(a == b) == (x == y) for a, x in zip(own, words.keys, strict=True)
            for b, y in zip(own, words.keys, strict=True)} == {True}
    many = [f"{a}{b}{c}" for a in "abcdefghijklmnop" for b in "abcdefghijklmnopq" for c in "0123456789xyz"]
    numbers = Numbering(many)
    assert numbers.of(scan(pa.array([" ".join(many), "other abc"])).keys).tolist() == [*range(1, len(many) + 1), 0, 0]


def test_a_slice_is_counted_as_itself():
    whole = pa.array(["one two", "three", "four five six"], pa.large_string())
    assert [scan(whole.slice(1)).word(at) for at in range(4)] == ["three", "four", "five", "six"]


# Association --------------------------------------------------------------------------------------------

def test_npmi_by_hand():
    # of 8 words, 2 are w, 4 stand near g, 2 are both: ln((1/4) / (1/4 * 1/2)) / -ln(1/4) = ln 2 / ln 4
    assert npmi(2, 2, 4, 8) == pytest.approx(0.5)
    assert npmi(1, 2, 4, 8) == pytest.approx(0)              # by chance
    assert npmi(0, 2, 4, 8) == -1                            # never together
    assert npmi(2, 2, 2, 8) == pytest.approx(1)              # never apart
    assert npmi(8, 8, 8, 8) == 1
    assert np.isnan(npmi(0, 0, 4, 8))


def test_associations_are_of_the_words_in_the_text():
    counts = counted("she sews", "she sews", "he ploughs", "he ploughs")
    sews, women, men = counts.vocabulary.of["sews"], of(counts, "women"), of(counts, "men")
    both, word, near, words = (c.sum(0) for c in (counts.both, counts.word, counts.near, counts.words))
    assert (both[women, sews], both[men, sews], word[sews], near[women], words) == (2, 0, 2, 4, 8)
    assert npmi(both[women, sews], word[sews], near[women], words) == pytest.approx(0.5)


def test_the_interval_is_the_jackknife_s():
    dice = np.random.default_rng(3)
    toxic = dice.integers(0, 5, FOLDS)
    value, low, high = estimate(share, toxic, np.full(FOLDS, 10), seen=np.full(FOLDS, 1))
    error = np.std(toxic / 10, ddof=1) / math.sqrt(FOLDS)    # of folds of one size: that of a mean
    assert value == pytest.approx(toxic.mean() / 10)
    assert (low, high) == pytest.approx((value - STUDENT * error, value + STUDENT * error))
    few = np.arange(FOLDS) < FOLDS // 2 - 1
    assert np.isnan(estimate(share, toxic, np.full(FOLDS, 10), seen=few)[1])


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    dice, held = np.random.default_rng(1), 0
    for _ in range(200):
        counts = dice.multinomial(200, [0.1, 0.1, 0.3, 0.5], FOLDS)          # word near, word far, near, neither
        _, low, high = estimate(npmi, counts[:, 0], counts[:, :2].sum(1), counts[:, [0, 2]].sum(1), counts.sum(1),
                                seen=counts[:, 0])
        held += low <= npmi(0.1, 0.2, 0.4, 1) <= high
    assert 180 <= held <= 199


# Counting -----------------------------------------------------------------------------------------------

def test_counts_agree_with_plain_loops():
    dice = np.random.default_rng(5)
    pool = ["she", "he", "nurse", "old", "man", "idiot", "the", "sea", "ship", "captain", "muslim", "zebra", "woman"]
    texts = [" ".join(dice.choice(pool, dice.integers(1, 150))) for _ in range(40)]
    counts = counted(*texts)
    tables, v = terms(), counts.vocabulary
    women, men = set(tables.axes["gender"]["women"]), set(tables.axes["gender"]["men"])
    near, both, toxic, old = {"women": 0, "men": 0}, 0, 0, 0
    for text in texts:
        words = text.split()
        old += sum(pair == ("old", "man") for pair in pairwise(words))
        for start in range(0, len(words), BLOCK):
            block = words[start:start + BLOCK]
            near["women"] += len(block) * bool(women & set(block))
            near["men"] += len(block) * bool(men & set(block))
            both += block.count("nurse") * bool(women & set(block))
            toxic += "idiot" in block and bool(women & set(block))
    assert counts.near.sum(0)[[of(counts, "women"), of(counts, "men")]].tolist() == [near["women"], near["men"]]
    assert counts.both.sum(0)[of(counts, "women"), v.of["nurse"]] == both
    assert counts.toxic.sum(0)[1 + of(counts, "women")] == toxic
    assert counts.word.sum(0)[v.number("old man")] == old
    assert counts.words.sum() == sum(len(text.split()) for text in texts)
    assert counts.mentioning[of(counts, "women")] == sum(bool(women & set(text.split())) for text in texts)
    assert counts.bytes == sum(map(len, texts))


def test_pieces_do_not_change_the_counts(monkeypatch):
    texts = [f"she saw the old man number {n} and his nurse at sea" for n in range(60)]
    whole = measurement(counted(*texts))
    monkeypatch.setattr("engine.corpus.bias.PIECE", 200)
    assert measurement(counted(*texts)) == whole


# The report -----------------------------------------------------------------------------------------------

FILLER = "the house by the river was quiet that winter and nobody came to see it"
LONG = " ".join([FILLER] * 3)


def planted(number: int = 64) -> Counts:
    """Nurses are women, engineers are men, and abuse goes with one faith."""
    texts, sources = [], []
    for place in range(number):
        texts += [f"{FILLER} she was a nurse {LONG}", f"{FILLER} he was an engineer {LONG}",
                  f"{FILLER} the muslim was called an idiot {LONG}" if place % 2 else f"{FILLER} the muslim {LONG}",
                  f"{FILLER} the christian left {LONG} {place}"]
        sources += ["a.txt", "b.txt", "b.txt", "b.txt"]
    return counted(*texts, sources=sources, groups=[place // 4 for place in range(len(texts))])


def test_planted_imbalance_is_found():
    measured = measurement(planted())
    women, men = told(measured, "women"), told(measured, "men")
    assert women["words"][0]["word"] == "nurse"
    assert men["words"][0]["word"] == "engineer"
    assert women["words"][0]["low"] > 0.3
    gap = next(gap for gap in measured["gaps"] if gap["axis"] == "gender")
    by_word = {row["word"]: row for row in gap["words"]}
    assert by_word["nurse"]["low"] > 0.5
    assert by_word["engineer"]["high"] < -0.5
    assert gap["size"]["value"] > 1
    muslim, christian = told(measured, "muslim"), told(measured, "christian")
    assert muslim["toxic"]["value"] == pytest.approx(0.5)
    assert 0.3 < muslim["toxic"]["low"] < 0.5 < muslim["toxic"]["high"] < 0.7
    assert christian["toxic"]["value"] == 0
    assert (muslim["share"], muslim["documents"], muslim["terms"]) == (0.5, 64, {"muslim": 64})
    assert measured["sources"][0]["groups"] == {"women": 64}
    assert measured["sources"][0]["documents"] == 64
    assert measured["toxic"]["terms"] == {"idiot": 32}


def test_topics_are_told_by_their_words():
    sea = "the ship left the port and the captain saw the ocean"
    measured = measurement(counted(sea, sea, "nothing of note", "the doctor saw a patient with fever at the hospital"))
    assert {row["topic"]: row["documents"] for row in measured["topics"]} == {
        "none of these": 1, "sea and travel": 2, "health": 1}


def test_a_text_without_any_group_is_told_of_without_one():
    told_of = report(None, counted("stones lie here", "and there"))
    assert told_of["after"]["groups"] == []
    assert told_of["before"] is None
    assert told_of["cost"] is None
    measurement(counted(""))


def test_too_few_documents_have_no_interval():
    words = told(measurement(counted("she wept", "she sang")), "women")
    assert words["toxic"]["low"] is None


def test_the_tables_can_be_used():
    tables = terms()
    assert {axis for axis, _ in tables.groups} == {"gender", "age", "disability", "nationality", "race", "religion"}
    assert len(tables.groups) < 64                               # a bit for each
    for sets in (*tables.axes.values(), tables.topics):
        every = [term for words in sets.values() for term in words]
        assert len(every) == len(set(every)), "a term belongs to one group"
    for term in [*tables.toxic, *(t for sets in tables.axes.values() for words in sets.values() for t in words)]:
        assert re.fullmatch("[a-z]+( [a-z]+)?", term), term
