"""Dedupe: each text once."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

from engine.corpus import STEPS, Looked, Whole

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

REASON = "same text as an earlier document"


@STEPS.add("exact_duplicates")
class ExactDuplicates(Whole):
    """Keeps the first of documents with the same text, by 128-bit xxh3 digests of it (Collet 2021).

    Memory is about 60 bytes for each text, whatever its length. Two texts of the same
    digest are to be expected among 10^19.
    """

    def look(self, batch: pa.Table) -> pa.Table:
        import pyarrow as pa

        return pa.table({"digest": pa.array(list(digests(batch["text"])), pa.binary(16)), "id": batch["id"],
                         "source": batch["source"]})

    def decide(self, looked: Looked) -> Iterator[pa.Table]:
        import numpy as np
        import pyarrow as pa

        halves = [np.frombuffer(b"".join(table["digest"].to_pylist()), "<u8").reshape(-1, 2)
                  for table in looked.tables(["digest"])]
        if not halves:
            return
        sizes = [len(table) for table in halves]
        first = _firsts(np.concatenate(halves))
        del halves
        own = np.arange(len(first))
        copies = np.split(np.where(first == own, -1, first), np.cumsum(sizes)[:-1])  # -1: no copy of an earlier one
        wanted = np.unique(first[first != own])
        ids, sources = (values_of(looked, wanted, name) for name in ("id", "source"))
        for firsts in copies:
            yield pa.table({
                "reason": pa.array([REASON if first >= 0 else None for first in firsts.tolist()], pa.large_string()),
                "kept": pa.array([ids.get(first) for first in firsts.tolist()], pa.string()),
                "kept_source": pa.array([sources.get(first) for first in firsts.tolist()], pa.string())})


def _firsts(digests: np.ndarray) -> np.ndarray:
    """For each digest, given as two halves, the place of the first that is equal. Sorted, not hashed: it needs less."""
    import numpy as np

    order = np.lexsort((digests[:, 1], digests[:, 0]))           # stable: of equal ones the first comes first
    ordered = digests[order]
    begins = np.append(True, (ordered[1:] != ordered[:-1]).any(axis=1))[:len(order)]
    first = np.empty(len(order), np.int64)
    first[order] = order[begins][np.cumsum(begins) - 1]
    return first


def values_of(looked: Looked, wanted: np.ndarray, name: str) -> dict[int, str]:
    """One noted column of these documents, given by their places in the corpus in order."""
    import numpy as np

    values: dict[int, str] = {}
    begin = 0
    for table in looked.tables([name]):
        inside = wanted[slice(*np.searchsorted(wanted, [begin, begin + len(table)]))]
        values.update(zip(inside.tolist(), table[name].take(inside - begin).to_pylist(), strict=True))
        begin += len(table)
    return values


def digests(texts: pa.ChunkedArray) -> Iterator[bytes]:
    """The 128-bit xxh3 digest of each text's UTF-8 bytes, read where Arrow keeps them: no text is copied."""
    import numpy as np
    from xxhash import xxh3_128_digest

    for chunk in texts.chunks:
        _, offsets, data = chunk.buffers()
        width = np.int64 if str(chunk.type).startswith("large") else np.int32
        ends = np.frombuffer(offsets, width)[chunk.offset:chunk.offset + len(chunk) + 1].tolist() if len(chunk) else []
        view = memoryview(data) if data is not None else memoryview(b"")
        for start, end in pairwise(ends):
            yield xxh3_128_digest(view[start:end])
