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

    characters: int = setting(2000, "Length at which a passage ends; the last one of a document may be half as long "
                                    "again", ge=100, le=10_000_000, unit="characters")

    def begin(self) -> Callable[[pa.Table], pa.Table]:
        import pyarrow as pa
        import pyarrow.compute as pc

        limit = self.characters

        def passages(batch: pa.Table) -> pa.Table:
            batch = batch.append_column("reason", pa.nulls(len(batch), pa.large_string()))
            if not pc.any(pc.greater(pc.utf8_length(batch["text"]), limit * 3 // 2)).as_py():
                return batch
            rows: dict[str, list[object]] = {name: [] for name in batch.column_names}
            for row in batch.to_pylist():
                pieces = list(cut(row["text"], limit))
                for number, piece in enumerate(pieces, 1):
                    row_id = row["id"] if len(pieces) == 1 else f"{row['id']}#{number}"
                    for name, value in {**row, "id": row_id, "text": piece}.items():
                        rows[name].append(value)
            return pa.table(rows, batch.schema)

        return passages


def cut(text: str, limit: int) -> Iterator[str]:
    """The passages of a text, of about `limit` characters, the last of `limit`/2 to `limit`*3/2 if there are several.

    Joined by a blank line, a space or nothing they are the text again.
    """
    if len(text) <= limit * 3 // 2:
        yield text
        return
    held: list[str] = []
    size = 0
    left = len(text)
    for paragraph in re.split(r"\n{2,}", text):
        for piece in _short(paragraph, limit):
            if held and size + len(piece) > limit and left > limit // 2:
                yield "\n\n".join(held)
                held, size = [], 0
            held.append(piece)
            size += len(piece) + 2
            left -= len(piece) + 2
    yield "\n\n".join(held)


def _short(paragraph: str, limit: int) -> Iterator[str]:
    """A paragraph, cut if it alone is longer than a passage."""
    while len(paragraph) > limit:
        ends = list(SENTENCE_END.finditer(paragraph, limit // 2, limit))
        at = ends[-1].end() if ends else max(paragraph.rfind("\n", limit // 2, limit),
                                             paragraph.rfind(" ", limit // 2, limit)) + 1
        at = at or limit
        yield paragraph[:at].rstrip()
        paragraph = paragraph[at:].lstrip()
    yield paragraph


SENTENCE_END = re.compile(r"[.!?…][\"'”’)\]]*\s+|[。！？]")
