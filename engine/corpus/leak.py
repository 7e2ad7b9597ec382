"""Leak: how much of the held-out text stands word for word in the training text.

Runs of 64 bytes, about 12 words, are compared by 64-bit hashes. Of a large corpus only runs whose hash ends in
zeros are looked at: the same ones on both sides, since the hash says which.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from engine.corpus.lengths import num_bytes

RUN = 64
"""Bytes that must be the same; a power of two, since runs are hashed by doubling."""

SHARE = 0.5
"""Share of a held-out document's runs in the training text from which on it counts as leaked."""

MOST = 1 << 22
"""Runs of held-out text that are looked at: 32 MB of hashes."""

PIECE = 4 << 20
"""Bytes that are hashed at once."""

CACHED = 1 << 15
"""Bytes whose hashes, eight times as large, stay in the processor's cache."""

_MIX = 0x9E3779B97F4A7C15


Tables = Callable[[], Iterable[pa.Table]]


def leak(tables: Tables, val_bytes: int) -> dict[str, Any]:
    """What documents (text, split) on both sides of the split have in common; `tables` is called twice.

    "runs" of held-out text were looked at, "shared" of them stand in training documents, and of "documents"
    held-out documents at least the share "share" of the runs looked at does; "bytes" is the length of a run.
    """
    zeros = max(4, int(np.ceil(np.log2(max(1, val_bytes) / MOST))))
    parts = list(_runs(tables, "val", zeros))
    starts = np.cumsum([0, *(int(rows.max(initial=-1)) + 1 for _, rows in parts)])
    runs = np.concatenate([np.empty(0, np.uint64), *(part for part, _ in parts)])
    rows = np.concatenate([np.empty(0, np.int64),
                           *(own + start for (_, own), start in zip(parts, starts, strict=False))])
    known, place = np.unique(runs, return_inverse=True)
    trained = np.zeros(len(known), bool)
    if len(known):
        for there, _ in _runs(tables, "train", zeros):
            at = np.minimum(np.searchsorted(known, there), len(known) - 1)
            trained[at[known[at] == there]] = True
    shared = trained[place]
    every = np.bincount(rows, minlength=int(starts[-1]))
    of_these = np.bincount(rows, shared, minlength=int(starts[-1]))
    return {"documents": int(((every > 0) & (of_these >= SHARE * every)).sum()), "share": SHARE, "runs": len(runs),
            "shared": int(shared.sum()), "bytes": RUN}


def stored(dataset: Path) -> Iterator[pa.Table]:
    """The documents of a dataset."""
    for path in sorted(dataset.glob("documents-*.parquet")):
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(1024, columns=["text", "split"]):
                yield pa.Table.from_batches([batch])


def between(trained: Path, held_out: Path) -> dict[str, Any]:
    """What the training text of one dataset has in common with the held-out text of another."""
    size = sum(num_bytes(table["text"]) for table in _of_split(held_out, "val"))
    return leak(lambda: chain(_of_split(trained, "train"), _of_split(held_out, "val")), size)


def _of_split(dataset: Path, side: str) -> Iterator[pa.Table]:
    for table in stored(dataset):
        yield table.filter(pc.equal(table["split"], side))


def _runs(tables: Tables, side: str, zeros: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Hashes of the runs looked at, piece by piece, and the documents of the piece that they stand in."""
    held: list[pa.Array] = []
    size = 0
    for table in tables():
        texts = table.filter(pc.equal(table["split"], side))["text"].cast(pa.large_string()).combine_chunks()
        held.append(texts)
        size += pc.sum(pc.binary_length(texts)).as_py() or 0
        if size >= PIECE:
            yield hashes(pa.concat_arrays(held), zeros)
            held, size = [], 0
    if size:
        yield hashes(pa.concat_arrays(held), zeros)


def hashes(texts: pa.LargeStringArray, zeros: int) -> tuple[np.ndarray, np.ndarray]:
    """The hashes of all runs within a text that end in so many zero bits, and the place of the text."""
    _, offsets, data = texts.buffers()
    ends = np.frombuffer(offsets, np.int64)[texts.offset:texts.offset + len(texts) + 1]
    values = np.frombuffer(data, np.uint8)[ends[0]:ends[-1]] if data else np.empty(0, np.uint8)
    found, places = [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
    for start in range(0, max(0, len(values) - RUN + 1), CACHED):
        runs = _rolled(values[start:start + CACHED + RUN - 1])
        at = np.flatnonzero(runs & np.uint64((1 << zeros) - 1) == 0)
        found.append(runs[at])
        places.append(at + start)
    at = np.concatenate(places)
    rows = np.searchsorted(ends - ends[0], at, side="right") - 1
    inside = at + RUN <= (ends - ends[0])[rows + 1]
    return np.concatenate(found)[inside], rows[inside]


def _rolled(values: np.ndarray) -> np.ndarray:
    """A hash of the RUN bytes from each byte on, made by doubling: those of 1, 2, 4, ... bytes."""
    runs, length, factor = values.astype(np.uint64), 1, _MIX
    while length < RUN:
        longer = runs[:-length] * np.uint64(factor)
        longer += runs[length:]
        runs, length, factor = longer, 2 * length, factor * factor % 2**64
    return runs ^ runs >> np.uint64(32)
