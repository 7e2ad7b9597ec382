"""A step over the whole corpus, tried on batches of a few texts."""

from __future__ import annotations

import pyarrow as pa

from engine.config import read
from engine.corpus import Step


class Noted:
    """Notes that are held in a list."""

    def __init__(self, tables: list[pa.Table]) -> None:
        self._tables = tables

    def tables(self, columns: list[str] | None = None):
        return iter([table.select(columns) if columns else table for table in self._tables])


def batch_of(texts: list[str], first: int = 0) -> pa.Table:
    """The texts as a step gets them; a slice, as a part of something larger is."""
    ids = [str(first + place) for place in range(-1, len(texts))]
    whole = pa.table({"id": ids, "text": pa.array(["x", *texts], pa.large_string()), "source": ["a.txt"] * len(ids),
                      "row": pa.array(range(-1, len(texts)), pa.int64())})
    return whole.slice(1)


def judged(step: str | dict, *batches: list[str]) -> list[list[dict]]:
    """Each batch as a step that sees them all gives it back."""
    chosen = read(Step, step)
    tables = [batch_of(texts, sum(map(len, batches[:place]))) for place, texts in enumerate(batches)]
    decided = list(chosen.decide(Noted([chosen.look(table) for table in tables])))
    return [chosen.judge(table, verdict).to_pylist() for table, verdict in zip(tables, decided, strict=True)]


def verdicts(step: str | dict, *batches: list[str]) -> list[list[str | None]]:
    """Why each document of each batch is dropped."""
    return [[row["reason"] for row in rows] for rows in judged(step, *batches)]
