"""Columns of a long history: the same numbers as the rows, kept, and never those of another history."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from engine import files, runs
from engine.recipe import Recipe
from engine.runs import columns


@pytest.fixture
def run(workspace, monkeypatch):
    monkeypatch.setattr(columns, "WORTH_BYTES", 1000)
    run = runs.create(Recipe().override("name=long"), workspace)
    run.append("metrics", *made(1, 60))
    return run


def made(first, last):
    rows = []
    for step in range(first, last + 1):
        facts = {"step": step, "time": step / 3, "tokens": 7 * step}
        # A whole number among fractions, a value that is no number, and a metric that is there now and then.
        rows.append({**facts, "train/loss": 5 if step % 9 == 0 else 5 - step / 100,
                     "train/grad_norm": math.nan if step == 30 else 0.5,
                     **({"train/skipped": 1} if step == 40 else {})})
        if step % 10 == 0:
            rows.append({**facts, "val/loss": 4 - step / 100, "note": "words"})
    return rows


def series(found):
    """{metric: (steps, values)} of rows in columns."""
    kept: dict[str, tuple[list, list]] = {}
    for rows in found:
        for name, values in rows.values.items():
            steps, all_values = kept.setdefault(name, ([], []))
            steps += rows.where[0].tolist()
            all_values += values.tolist()
    return kept


def of_rows(run):
    kept: dict[str, tuple[list, list]] = {}
    for row in run.rows("metrics")[0]:
        for name, value in row.items():
            if "/" in name:
                steps, values = kept.setdefault(name, ([], []))
                steps.append(row["step"])
                values.append(value)
    return kept


def same(run, found):
    mine, theirs = series(found), of_rows(run)
    assert mine.keys() == theirs.keys()
    for name, (steps, values) in theirs.items():
        assert mine[name][0] == steps
        np.testing.assert_array_equal(mine[name][1], values)


def test_columns_hold_what_the_rows_say(run):
    found, cursor = columns.history(run)
    same(run, found)
    assert cursor == run.rows("metrics")[1]
    again, cursor = columns.history(run)
    same(run, again)
    assert isinstance(again[0].where.base, np.memmap), "read from what was kept"
    run.append("metrics", *made(61, 65))
    more, cursor = columns.history(run)
    same(run, more)
    assert cursor == run.rows("metrics")[1]


def test_a_line_that_a_kill_cut_costs_no_other_line(run):
    with open(run.path / "metrics.jsonl", "a") as file:
        file.write('{"step": 61, "tra\n[1]\n{"step": 62, "train/loss": 1.0}\n{"step": 63, "train/lo')
    found, _ = columns.history(run)
    assert series(found)["train/loss"][0][-2:] == [60, 62]
    assert series(found)["val/loss"] == of_rows_without_lists(run)["val/loss"]
    with open(run.path / "metrics.jsonl", "a") as file:
        file.write('ss": 2.0}\n')
    assert series(columns.history(run)[0])["train/loss"][0][-1] == 63


def of_rows_without_lists(run):
    return {"val/loss": ([row["step"] for row in run.rows("metrics")[0] if isinstance(row, dict) and "val/loss" in row],
                         [row["val/loss"] for row in run.rows("metrics")[0]
                          if isinstance(row, dict) and "val/loss" in row])}


def test_another_history_is_never_taken_for_the_one_that_was_kept(run):
    columns.history(run)
    path = run.path / "metrics.jsonl"
    files.write(path, "".join(json.dumps(row) + "\n" for row in made(1, 20)))  # as a resume does
    same(run, columns.history(run)[0])
    with open(path, "r+b") as file:  # the same file, other rows, and longer than before
        file.write("".join(json.dumps(row) + "\n" for row in made(101, 190)).encode())
    same(run, columns.history(run)[0])


@pytest.mark.parametrize("damage", [b"", b"\0" * 40, b"\xff" * 4000])
def test_a_damaged_file_is_as_good_as_none(run, damage):
    columns.history(run)
    (run.path / columns.CACHE).write_bytes(damage)
    same(run, columns.history(run)[0])


def test_a_short_or_missing_history_keeps_nothing(workspace):
    run = runs.create(Recipe().override("name=short"), workspace)
    assert columns.history(run) == ([], (0, 0))
    run.append("metrics", *made(1, 5))
    same(run, columns.history(run)[0])
    assert not (run.path / columns.CACHE).exists()
