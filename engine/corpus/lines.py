"""Lines: boilerplate that stands in many documents, such as menus, footers and licences."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

from engine.config import setting
from engine.corpus import STEPS, Looked, Whole

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

AT_ONCE = 8 << 20
"""Different lines whose counts are added up at once: about 0.2 GB."""


@STEPS.add("repeated_lines")
class RepeatedLines(Whole):
    """Takes lines out that stand in many documents, as for Llama 3 (Grattafiori et al. 2024) and CCNet (Wenzek 2020).

    Lines are compared by 64-bit hashes, blanks around them aside; a line counts once for each document.
    Llama 3 removes what stands more than 6 times in 30 million documents. Memory does not grow with
    the corpus: hashes lie beside the text and are counted a part of their range at a time. A document
    in which nothing is left is dropped.
    """

    max_documents: int = setting(6, "Most documents in which a line may stand", ge=1, unit="documents")
    min_characters: int = setting(10, "Shortest line that is looked at; a dialogue repeats shorter ones",
                                  ge=1, unit="characters")

    def look(self, batch: pa.Table) -> pa.Table:
        import numpy as np
        import pyarrow as pa

        hashes, rows, _ = _lines(batch, self.min_characters)
        once = np.unique(np.stack([hashes, rows.astype(np.uint64)]), axis=1)[0] if len(hashes) else hashes
        values, counts = np.unique(once, return_counts=True)
        return pa.table({"line": pa.array(values, pa.uint64()), "documents": pa.array(counts, pa.uint32())})

    def decide(self, looked: Looked) -> Iterator[pa.Table]:
        import numpy as np
        import pyarrow as pa

        sizes = [len(table) for table in looked.tables(["documents"])]
        parts = max(1, -(-sum(sizes) // AT_ONCE))
        ends = [int(part * 2**64 / parts) for part in range(parts + 1)]
        often = np.concatenate([_frequent(looked, start, end - 1, self.max_documents)
                                for start, end in pairwise(ends)])
        for table in looked.tables(["line"]):
            yield pa.table({"line": pa.array(np.intersect1d(table["line"].to_numpy(), often), pa.uint64())})

    def judge(self, batch: pa.Table, verdict: pa.Table) -> pa.Table:
        import re

        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        from engine.corpus.columns import with_text

        reasons = pa.nulls(len(batch), pa.large_string())
        if not len(verdict):
            return batch.append_column("reason", reasons)
        hashes, rows, places = _lines(batch, self.min_characters)
        gone = np.isin(hashes, verdict["line"].to_numpy())
        out: dict[int, set[int]] = {}
        for row, place in zip(rows[gone].tolist(), places[gone].tolist(), strict=True):
            out.setdefault(row, set()).add(place)
        texts: list[str | None] = [None] * len(batch)
        why: list[str | None] = [None] * len(batch)
        for row, taken in out.items():
            lines = batch["text"][row].as_py().split("\n")
            left = "\n".join(line for place, line in enumerate(lines) if place not in taken)
            texts[row] = re.sub(r"\n{3,}", "\n\n", left).strip("\n")
            why[row] = None if left.strip() else "nothing but repeated lines"
        edited = pc.coalesce(pa.array(texts, batch["text"].type), batch["text"])
        return with_text(batch, edited).append_column("reason", pa.array(why, pa.large_string()))


def _lines(batch: pa.Table, shortest: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each line that is long enough: its hash, its document's place in the batch, its place in the document."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    from engine.corpus.dedupe import digests

    split = pc.split_pattern(batch["text"].combine_chunks(), "\n")
    flat = pc.utf8_trim_whitespace(pc.list_flatten(split))
    numbers = pc.list_value_length(split).to_numpy()
    rows = np.repeat(np.arange(len(batch)), numbers)
    places = np.arange(len(flat)) - np.repeat(np.cumsum(numbers) - numbers, numbers)
    long = pc.greater_equal(pc.utf8_length(flat), shortest)
    chosen = pa.chunked_array([flat.filter(long)])
    hashes = np.frombuffer(b"".join(digest[:8] for digest in digests(chosen)), np.uint64)
    keep = long.to_numpy(zero_copy_only=False)
    return hashes, rows[keep], places[keep]


def _frequent(looked: Looked, start: int, last: int, most: int) -> np.ndarray:
    """The lines with hashes from `start` to `last` that stand in more than `most` documents, sorted."""
    import numpy as np

    lines, counts = [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
    for table in looked.tables():
        inside = (table["line"].to_numpy() >= np.uint64(start)) & (table["line"].to_numpy() <= np.uint64(last))
        lines.append(table["line"].to_numpy()[inside])
        counts.append(table["documents"].to_numpy()[inside].astype(np.int64))
    values, place = np.unique(np.concatenate(lines), return_inverse=True)
    return values[np.bincount(place, np.concatenate(counts), minlength=len(values)) > most]
