"""References: texts that a step compares the corpus with, such as evaluation sets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from engine.config import UserError
from engine.corpus import Source
from engine.corpus.readers import Rejected, read
from engine.corpus.sources import File

Inputs = list[tuple[Source, list[File]]]


def texts_of(references: Inputs) -> dict[str, Iterable[str]]:
    """The texts of each reference, by its path."""
    def texts(source: Source, found: list[File]) -> Iterator[str]:
        first = ""
        for document in (document for file in found for document in read(file)):
            if isinstance(document, Rejected):
                first = first or str(document)
            else:
                first = "-"
                yield document.text
        if first != "-":
            raise UserError(f"{first or f'{source.path} holds no text; name another set'}.", where=source.path)

    return {source.path: texts(source, found) for source, found in references}
