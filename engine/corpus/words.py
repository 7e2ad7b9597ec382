"""Words: texts without case and punctuation, and runs of their words as numbers that can be compared."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from daft import Expression
from daft.functions import regexp_extract_all

from engine.corpus.columns import column, compute
from engine.corpus.dedupe import digests
from engine.corpus.filter import UNSPACED

_MIX = np.uint64(0x9E3779B97F4A7C15)


def plain(text: Expression) -> Expression:
    """The words of a text in lower case with one blank between them; scripts without blanks get one at each sign."""
    return (text.lower().regexp_replace(f"([{UNSPACED}])", " $1 ")
            .regexp_replace(r"[^\p{L}\p{N}\p{M}]+", " ").regexp_replace(r"^ | $", ""))


def words(batch: pa.Table) -> pa.ListArray:
    """The plain words of each text."""
    return pc.split_pattern(compute(batch, {"plain": plain(column("text"))})["plain"].combine_chunks(), " ")


def spans(texts: list[str]) -> list[list[tuple[int, int]]]:
    """Where the words of each text stand in it: the same words that `words` finds."""
    table = pa.table({"text": pa.array(texts, pa.large_string())})
    pattern = rf"[{UNSPACED}]|[\p{{L}}\p{{N}}\p{{M}}--[{UNSPACED}]]+"
    found = compute(table, {"words": regexp_extract_all(column("text"), pattern)})["words"].to_pylist()
    places = []
    for text, own in zip(texts, found, strict=True):
        end, here = 0, []
        for word in own:
            start = text.index(word, end)
            end = start + len(word)
            here.append((start, end))
        places.append(here)
    return places


def runs(found: pa.ListArray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """64 bits for each run of `n` words, and the row that it stands in; equal for equal runs, in any text."""
    flat = pc.list_flatten(found)
    coded = pc.dictionary_encode(flat)
    of_words = digests(pa.chunked_array([coded.dictionary]))
    codes = np.frombuffer(b"".join(digest[:8] for digest in of_words), np.uint64)
    numbers = codes[coded.indices.to_numpy()] if len(flat) else np.empty(0, np.uint64)
    rows = np.repeat(np.arange(len(found)), pc.list_value_length(found).to_numpy())
    count = max(0, len(numbers) - n + 1)
    hashes = np.zeros(count, np.uint64)
    for place in range(n):
        hashes = hashes * _MIX + numbers[place:place + count]
        hashes ^= hashes >> np.uint64(31)
    whole = rows[:count] == rows[n - 1:n - 1 + count]
    return hashes[whole], rows[:count][whole]
