"""A peer's verdicts: datatrove's filters and MinHash on the same pages, kept in a file by benchmarks/verdicts.py."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from toy_pages import CASES, NOVELS, pages
from toy_passes import judged as deduped
from toy_steps import judged

PEER = json.loads((Path(__file__).parent / "peer_verdicts.json").read_text())
SAME = {"gopher_repetition": {"min_times": 1},
        "quality": {"signs": True, "min_lines": 1, "min_words": 50, "max_words": 100_000},
        "c4": {"min_line_words": 3, "min_sentences": 5}, "fineweb": {"max_line_characters": 0.01}}
"""The settings with which each filter states the same rules as datatrove's defaults."""

REASONS = {
    "dup_line_frac": "of the lines are repeated", "dup_para_frac": "of the paragraphs are repeated",
    "dup_line_char_frac": "characters are in repeated lines",
    "dup_para_char_frac": "characters are in repeated paragraphs", "top_2_gram": "most frequent 2 words",
    "top_3_gram": "most frequent 3 words", "duplicated_5_n_grams": "repeated runs of 5 words",
    "gopher_short_doc": "fewer than", "gopher_below_avg_threshold": "words shorter", "lorem_ipsum": "lorem ipsum",
    "gopher_above_avg_threshold": "words longer", "gopher_too_many_hashes": "hash signs",
    "gopher_too_many_ellipsis": "ellipses", "gopher_below_alpha_threshold": "letters in fewer",
    "curly_bracket": "curly bracket", "too_few_sentences": "sentences", "line_punct_ratio": "end with punctuation",
    "short_line_ratio": "of the lines have at most", "char_dup_ratio": "repeated lines",
    "list_ratio": "line ends a word",
}
"""What stands in our reason where datatrove gives one."""


@pytest.fixture(scope="module")
def texts():
    made = pages(PEER["pages"])
    assert hashlib.sha256("\0".join([*made, *pieces()]).encode()).hexdigest() == PEER["sha256"], \
        "the pages are others than those that datatrove judged: run benchmarks/verdicts.py"
    return made


def pieces() -> list[str]:
    novel = sorted(NOVELS.glob("*.txt"))[0].read_text(encoding="utf-8")[10_000:]
    return [novel[start:start + 400] for group in PEER["windows"] for start in group]


@pytest.mark.parametrize("kind", SAME)
def test_filters_decide_as_datatrove_does(kind, texts):
    theirs = PEER["verdicts"][kind]
    ours = judged({"kind": kind, **SAME[kind]}, *texts)["reason"].to_pylist()
    assert 0.2 < sum(map(bool, theirs)) / len(theirs) < 0.8
    apart = [(a, b, text[:60]) for a, b, text in zip(ours, theirs, texts, strict=True) if (a is None) == bool(b)]
    assert len(apart) <= 0.01 * len(texts), apart


@pytest.mark.parametrize("place", range(len(CASES)))
def test_datatroves_own_cases(place):
    kind, _, settings, text = CASES[place]
    (reason,) = judged({"kind": kind, **SAME[kind], **settings}, text)["reason"].to_pylist()
    verdict = PEER["cases"][place]
    assert (reason is None) == (not verdict), (reason, verdict)
    assert not verdict or REASONS[verdict] in reason


def test_near_duplicates_are_clustered_as_by_datatrove():
    (rows,) = deduped({"kind": "near_duplicates", "keep": "all"}, pieces())
    assert [row["cluster"] for row in rows] == PEER["clusters"]
