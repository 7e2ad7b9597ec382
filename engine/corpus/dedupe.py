"""Dedupe: each text once."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

from engine.corpus import STEPS, Looked, Whole

if TYPE_CHECKING:
    import pyarrow as pa


@STEPS.add("exact_duplicates")
class ExactDuplicates(Whole):
    """Keeps the first of documents with the same text, by 128-bit xxh3 digests of it (Collet 2021).

    Memory is about 100 bytes for each different text, whatever its length. Two texts of the same
    digest are to be expected among 10^19.
    """

    def look(self, batch: pa.Table) -> pa.Table:
        import pyarrow as pa

        return pa.table({"digest": pa.array(list(digests(batch["text"])), pa.binary(16))})

    def decide(self, looked: Looked) -> Iterator[pa.Table]:
        import pyarrow as pa

        seen: set[bytes] = set()
        for table in looked.tables():
            reasons = []
            for digest in table["digest"].to_pylist():
                reasons.append("same text as an earlier document" if digest in seen else None)
                seen.add(digest)
            yield pa.table({"reason": pa.array(reasons, pa.large_string())})


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
