"""Browse: a finished dataset's documents, a page at a time; never more than a batch of them in memory."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from engine.config import UserError
from engine.corpus.search import readable

BATCH = 256
"""Documents that are read at once."""

EXCERPT = 320
"""Characters of a document that a page shows."""


def browse(dataset: Path, start: int = 0, limit: int = 20, *, text: str = "", split: str = "",
           source: str = "") -> dict[str, Any]:
    """A page of a dataset's documents, from its `start`-th on: those that hold `text`, of this split, with `source`
    a part of their source; neither minds upper and lower case.

    Returns "documents" ("at", its place in the dataset; id, source, split, "characters" and "excerpt": its beginning,
    or what stands around the text), "next" (where the next page starts, None after the last) and "of" (documents in
    the dataset). Raises UserError if the dataset is damaged.
    """
    found: list[dict[str, Any]] = []
    upcoming: int | None = None
    with readable(dataset):
        for at, batch in _batches(dataset, start):
            holds = pa.array([True] * len(batch))
            if split:
                holds = pc.and_(holds, pc.equal(batch["split"], split))
            for column, part in (("source", source), ("text", text)):
                if part:
                    holds = pc.and_(holds, pc.match_substring(batch[column], part, ignore_case=True))
            places = pc.indices_nonzero(pc.fill_null(holds, False)).to_pylist()
            for place in places[:limit + 1 - len(found)]:
                if len(found) == limit:
                    upcoming = at + place
                    break
                whole = batch["text"][place].as_py()
                named = {name: batch[name][place].as_py() for name in ("id", "source", "split")}
                found.append({"at": at + place, **named, "characters": len(whole), "excerpt": excerpt(whole, text)})
            if upcoming is not None:
                break
        return {"documents": found, "next": upcoming, "of": sum(pq.read_metadata(p).num_rows for p in _files(dataset))}


def document(dataset: Path, at: int) -> dict[str, Any]:
    """The whole document at a place in the dataset. Raises UserError if it has none there, or is damaged."""
    with readable(dataset):
        for _, batch in _batches(dataset, at):
            return {"at": at, **batch.slice(0, 1).to_pylist()[0]}
    raise UserError(f"{dataset.name} has no document {at + 1}; choose one of its list.", where=str(dataset))


def excerpt(text: str, wanted: str = "") -> str:
    """The beginning of a text, or what stands around the first place where `wanted` does, … where it is cut."""
    found = re.search(re.escape(wanted), text, re.IGNORECASE) if wanted else None
    begin = max(0, found.start() - EXCERPT // 3) if found else 0
    end = begin + EXCERPT
    return ("… " if begin else "") + text[begin:end] + (" …" if end < len(text) else "")


def _batches(dataset: Path, start: int) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Batches of documents from the `start`-th on, each with the place of its first. Row groups before are not read."""
    first = 0
    for path in _files(dataset):
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                rows = file.metadata.row_group(group).num_rows
                if first + rows > start:
                    at = first
                    for batch in file.iter_batches(batch_size=BATCH, row_groups=[group]):
                        skipped = max(0, start - at)
                        if skipped < len(batch):
                            yield at + skipped, batch.slice(skipped)
                        at += len(batch)
                first += rows


def _files(dataset: Path) -> list[Path]:
    return sorted(dataset.glob("documents-*.parquet"))
