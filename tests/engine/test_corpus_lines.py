"""Boilerplate: lines that many documents share are taken out, and nothing else."""

from __future__ import annotations

import pytest
from toy_passes import judged
from toy_prose import prose

from engine.corpus import lines

FOOT = "All rights reserved. Contact | Imprint"


def step(**settings) -> dict:
    return {"kind": "repeated_lines", "max_documents": 3, **settings}


def page(seed: int, *around: str) -> str:
    return "\n".join([around[0], prose(2, seed), "", prose(2, seed + 1000), *around[1:]])


def test_lines_of_many_documents_are_taken_out_across_batches():
    batches = [[page(10 * batch + n, "Home  ", "", f"  {FOOT}", "") for n in range(2)] for batch in range(3)]
    for number, rows in enumerate(judged(step(min_characters=4), *batches)):
        for place, row in enumerate(rows):
            seed = 10 * number + place
            assert row["text"] == f"{prose(2, seed)}\n\n{prose(2, seed + 1000)}"
            assert row["reason"] is None


def test_a_line_counts_once_for_each_document():
    texts = ["\n".join([FOOT] * 9 + [prose(1, n)]) for n in range(3)]
    assert [row["text"] for row in judged(step(), texts)[0]] == texts
    (rows,) = judged(step(), [*texts, FOOT])
    assert [row["text"] for row in rows[:3]] == [prose(1, n) for n in range(3)]
    assert [row["reason"] for row in rows] == [None] * 3 + ["nothing but repeated lines"]


def test_short_lines_and_untouched_documents_stay_as_they_are():
    texts = [f"“Yes.”\n\n\n\n{prose(1, n)}\n" for n in range(9)]
    assert [row["text"] for row in judged(step(), texts)[0]] == texts
    assert judged(step(), texts)[0][0]["reason"] is None


@pytest.mark.parametrize("at_once", [1, 7, 10**6])
def test_counting_in_parts_gives_the_same(monkeypatch, at_once):
    monkeypatch.setattr(lines, "AT_ONCE", at_once)
    batches = [[page(20 * batch + n, "Log in or register", f"line {n % 4} of a menu", FOOT) for n in range(8)]
               for batch in range(3)]
    rows = [row for batch in judged(step(), *batches) for row in batch]
    assert not [row for row in rows if "menu" in row["text"] or FOOT in row["text"] or "Log in" in row["text"]]
    assert [row["text"].split("\n")[0] for row in rows] == [prose(2, 20 * b + n) for b in range(3) for n in range(8)]
