"""Passages: long documents cut where a reader would pause."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from engine.config import setting
from engine.corpus import STEPS, Step

if TYPE_CHECKING:
    import pyarrow as pa


@STEPS.add("passages")
class Passages(Step):
    """Cuts long documents into passages at paragraphs, else at sentences, else at words.

    A book is one document and would fall whole into training or validation, be kept whole or
    dropped whole; its passages are judged and held out one by one, as in C4 and The Pile's books
    (Raffel et al. 2020; Gao et al. 2021). The passages of `book.txt` are `book.txt#1`, `book.txt#2`, ...
    """

    characters: int = setting(2000, "Length of a passage; it may be from half as long to half as long "
                                    "again, to end with a paragraph", ge=100, le=10_000_000, unit="characters")

    def begin(self) -> Callable[[pa.Table], pa.Table]:
        import pyarrow as pa
        import pyarrow.compute as pc

        limit = self.characters

        def passages(batch: pa.Table) -> pa.Table:
            batch = batch.append_column("reason", pa.nulls(len(batch), pa.large_string()))
            long = pc.greater(pc.utf8_length(batch["text"]), limit * 3 // 2)
            rows: dict[str, list[object]] = {name: [] for name in batch.column_names}
            for row in batch.filter(long).to_pylist():
                for number, piece in enumerate(cut(row["text"], limit), 1):
                    for name, value in {**row, "id": f"{row['id']}#{number}", "text": piece}.items():
                        rows[name].append(value)
            together = pa.concat_tables([batch.filter(pc.invert(long)), pa.table(rows, batch.schema)])
            return together.take(pc.sort_indices(together["row"]))  # a stable sort: pieces stay in order

        return passages


def cut(text: str, limit: int) -> Iterator[str]:
    """The passages of a text: one if it has at most `limit`*3/2 characters, else each of `limit`/2 to `limit`*3/2.

    Nothing but the blanks between them is lost.
    """
    if len(text) <= limit * 3 // 2:
        yield text
        return
    held: list[str] = []
    size = 0
    left = len(text)
    for paragraph in re.split(r"\n{2,}", text):
        for piece in _short(paragraph, limit):
            if size + len(piece) > limit and size >= limit // 2 and left > limit // 2:
                yield "\n\n".join(held)
                held, size = [], 0
            held.append(piece)
            size += len(piece) + 2
            left -= len(piece) + 2
    yield "\n\n".join(held)


def _short(paragraph: str, limit: int) -> Iterator[str]:
    """A paragraph, cut if it alone is longer than a passage."""
    start = 0
    while len(paragraph) - start > limit:
        middle, end = start + limit // 2, start + limit
        sentences = [found.end() for found in SENTENCE_END.finditer(paragraph, middle, end)]
        blank = max(paragraph.rfind("\n", middle, end), paragraph.rfind(" ", middle, end)) + 1
        at = sentences[-1] if sentences else blank or end
        yield paragraph[start:at].strip(" \n")
        start = at
    yield paragraph[start:].strip(" \n") if start else paragraph


SENTENCE_END = re.compile(r"[.!?…][\"'”’)\]]*\s+|[。！？]")
