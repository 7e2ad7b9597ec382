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

    Memory is about 150 bytes for each different text, whatever its length. Two texts of the same
    digest are to be expected among 10^19.
    """

    def look(self, batch: pa.Table) -> pa.Table:
        import pyarrow as pa

        return pa.table({"digest": pa.array(list(digests(batch["text"])), pa.binary(16)), "id": batch["id"],
                         "source": batch["source"]})

    def decide(self, looked: Looked) -> Iterator[pa.Table]:
        import numpy as np
        import pyarrow as pa

        seen: dict[bytes, int] = {}
        copies: list[np.ndarray] = []                      # of each table: the first document with the text, or -1
        number = 0
        for table in looked.tables(["digest"]):
            firsts = [seen.setdefault(digest, number + place)
                      for place, digest in enumerate(table["digest"].to_pylist())]
            own = np.arange(number, number + len(table))
            copies.append(np.where(np.array(firsts, np.int64) == own, -1, firsts))
            number += len(table)
        seen.clear()
        wanted = np.unique(np.concatenate(copies)) if copies else np.empty(0, np.int64)
        ids, sources = (values_of(looked, wanted[wanted >= 0], name) for name in ("id", "source"))
        for firsts in copies:
            yield pa.table({
                "reason": pa.array([REASON if first >= 0 else None for first in firsts.tolist()], pa.large_string()),
                "kept": pa.array([ids.get(first) for first in firsts.tolist()], pa.string()),
                "kept_source": pa.array([sources.get(first) for first in firsts.tolist()], pa.string())})


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
