"""Search: a finished dataset's ledger, looked through."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from engine import files
from engine.config import UserError

SCANNED = 8192
"""Rows of the ledger that are held at once."""


def look(dataset: Path, examples: int = 20) -> dict[str, Any]:
    """A dataset as `pipeline.preview` shows a sample: its summary, and the first "examples", rows of the "ledger"
    (of each step, action and reason) and of the "quarantine". A UserError if a file is damaged."""
    rows: list[dict[str, Any]] = []
    shown: Counter[tuple[str, str, str]] = Counter()
    summary = files.read_json(dataset / files.MANIFEST)["summary"]
    with readable(dataset):
        with pq.ParquetFile(dataset / "ledger.parquet") as file:
            for batch in file.iter_batches(batch_size=SCANNED):
                kinds = zip(*(batch[name].to_pylist() for name in ("step", "action", "reason")), strict=True)
                for place, kind in enumerate(kinds):
                    shown[kind] += 1
                    if shown[kind] <= examples:
                        rows += batch.slice(place, 1).to_pylist()
        with open(dataset / "quarantine.jsonl", encoding="utf-8") as lines:
            quarantine = [json.loads(line) for line in islice(lines, 5 * examples)]
        with pq.ParquetFile(min(dataset.glob("documents-*.parquet"))) as file:
            first = next(file.iter_batches(batch_size=examples), pa.table({})).to_pylist()
    return {**summary, "ledger": rows, "quarantine": quarantine, "examples": first}


def search(dataset: Path, step: str = "", reason: str = "", text: str = "", limit: int = 100, *, action: str = "",
           cluster: int | None = None, source: str = "", kept_source: str = "",
           skip: int = 0) -> list[dict[str, Any]]:
    """Rows of a dataset's ledger, in its order, at most `limit` after the first `skip`: of this step, action and
    cluster, with `reason` a part of their reason, `text` of their id, source or excerpts, `source` of their source,
    `kept_source` of that of the document that stays in their place. None of the parts minds upper and lower case.

    Raises UserError if the ledger is damaged.
    """
    found: list[dict[str, Any]] = []
    with readable(dataset), pq.ParquetFile(dataset / "ledger.parquet") as file:
        for batch in file.iter_batches(batch_size=SCANNED):
            holds = pa.array([True] * len(batch))
            for column, value in (("step", step), ("action", action), ("cluster", cluster)):
                if value not in ("", None):
                    holds = pc.and_(holds, pc.fill_null(pc.equal(batch[column], value), False))
            for column, part in (("reason", reason), ("source", source), ("kept_source", kept_source)):
                if part and column in batch.schema.names:    # a ledger may be older than the column
                    holds = pc.and_(holds, _within(batch[column], part))
            if text:
                holds = pc.and_(holds, pc.or_(pc.or_(_within(batch["id"], text), _within(batch["source"], text)),
                                              pc.or_(_within(batch["before"], text), _within(batch["after"], text))))
            rows = batch.filter(holds)
            found += rows.slice(skip, limit - len(found)).to_pylist()
            skip = max(0, skip - len(rows))
            if len(found) >= limit:
                break
    return found


def clusters(dataset: Path, limit: int = 100) -> list[dict[str, Any]]:
    """The clusters in a dataset's ledger, the largest first: "step", "cluster", "kept" (the id that stays), "others"
    (how many rows the ledger has of it) and "similarity" (the lowest of them to what stays).

    Raises UserError if the ledger is damaged.
    """
    made: dict[tuple[str, int], dict[str, Any]] = {}
    columns = ["step", "cluster", "kept", "id", "similarity"]
    with readable(dataset), pq.ParquetFile(dataset / "ledger.parquet") as file:
        for batch in file.iter_batches(batch_size=SCANNED, columns=columns):
            for row in batch.filter(pc.is_valid(batch["cluster"])).to_pylist():
                if row["id"] == row["kept"]:
                    continue                          # with keep=all the one that stays has a row too
                named = {name: row[name] for name in ("step", "cluster", "kept")}
                one = made.setdefault((row["step"], row["cluster"]), {**named, "others": 0, "similarity": 1.0})
                one["others"] += 1
                one["similarity"] = min(one["similarity"], row["similarity"] if row["similarity"] is not None else 1.0)
    return sorted(made.values(), key=lambda one: (-one["others"], one["step"], one["cluster"]))[:limit]


def history(dataset: Path, id: str) -> list[dict[str, Any]]:
    """What happened to one document, and to the passages that were cut of it: its rows of the ledger, step by step.

    Raises UserError if the ledger is damaged.
    """
    found: list[dict[str, Any]] = []
    with readable(dataset), pq.ParquetFile(dataset / "ledger.parquet") as file:
        for batch in file.iter_batches(batch_size=SCANNED):
            own = pc.or_(pc.equal(batch["id"], id), pc.starts_with(batch["id"], f"{id}#"))
            found += batch.filter(own).to_pylist()
    return found


def documents(dataset: Path, ids: set[str]) -> dict[str, dict[str, Any]]:
    """The documents of these ids that are in the dataset, such as those that were kept for their clusters."""
    wanted, found = pa.array(sorted(ids), pa.string()), {}
    with readable(dataset):
        for path in sorted(dataset.glob("documents-*.parquet")):
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(batch_size=1024):
                    for row in batch.filter(pc.is_in(batch["id"], wanted)).to_pylist():
                        found[row["id"]] = row
            if len(found) == len(ids):
                break
    return found


def opened(dataset: Path, cluster: int, step: str = "near_duplicates", limit: int = 100) -> dict[str, Any]:
    """A cluster side by side: "kept" (the document, or None if a later step dropped it) and "others", ledger rows."""
    rows = search(dataset, step, limit=limit, cluster=cluster)
    kept = next((row["kept"] for row in rows if row["kept"]), None)
    return {"kept": documents(dataset, {kept}).get(kept) if kept else None,
            "others": [row for row in rows if row["id"] != kept]}


def _within(column: pa.Array, part: str) -> pa.Array:
    return pc.fill_null(pc.match_substring(column, part, ignore_case=True), False)


@contextmanager
def readable(dataset: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UserError(f"{dataset.name} is damaged ({str(error).splitlines()[0]}); delete it and curate the corpus "
                        "again.", where=str(dataset)) from None
