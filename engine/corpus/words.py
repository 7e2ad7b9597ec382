"""Words: texts without case and punctuation, and runs of their words as numbers that can be compared."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from daft import Expression
from xxhash import xxh3_64_intdigest

from engine.corpus.columns import column, compute
from engine.corpus.filter import UNSPACED

_MIX = np.uint64(0x9E3779B97F4A7C15)


def plain(text: Expression) -> Expression:
    """The words of a text in lower case with one blank between them; scripts without blanks get one at each sign."""
    return (text.lower().regexp_replace(f"([{UNSPACED}])", " $1 ")
            .regexp_replace(r"[^\p{L}\p{N}\p{M}]+", " ").regexp_replace(r"^ | $", ""))


def words(batch: pa.Table) -> pa.ListArray:
    """The plain words of each text."""
    return pc.split_pattern(compute(batch, {"plain": plain(column("text"))})["plain"].combine_chunks(), " ")


def runs(found: pa.ListArray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """64 bits for each run of `n` words, and the row that it stands in; equal for equal runs, in any text."""
    flat = pc.list_flatten(found)
    coded = pc.dictionary_encode(flat)
    digests = np.array([xxh3_64_intdigest(word) for word in coded.dictionary.to_pylist()], np.uint64)
    numbers = digests[coded.indices.to_numpy()] if len(flat) else np.empty(0, np.uint64)
    rows = np.repeat(np.arange(len(found)), pc.list_value_length(found).to_numpy())
    count = max(0, len(numbers) - n + 1)
    hashes = np.zeros(count, np.uint64)
    for place in range(n):
        hashes = hashes * _MIX + numbers[place:place + count]
        hashes ^= hashes >> np.uint64(31)
    whole = rows[:count] == rows[n - 1:n - 1 + count]
    return hashes[whole], rows[:count][whole]
