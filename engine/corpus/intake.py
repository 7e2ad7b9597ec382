"""Intake: the documents as they were read, in shards of about 32 MB, the unit of all further work.

A shard notes how far the reading had come, so that one that was broken off goes on from there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import islice

import pyarrow as pa

from engine.config import UserError
from engine.corpus import Source
from engine.corpus.readers import Document, Rejected
from engine.corpus.sources import File
from engine.corpus.spill import Spill

SHARD = 32 << 20
"""Characters of a shard; between 25 and 64 MB, as data shards are."""

SHARD_DOCUMENTS = 1 << 17
PIECE = 4 << 20
"""Characters that are held as Python strings, which take up to four bytes for one."""

DOCUMENTS = pa.schema([("id", pa.string()), ("text", pa.large_string()), ("source", pa.string()),
                       ("group", pa.uint64())])
"""What goes from step to step; `group` is null but for documents that must be on one side of the split."""

REJECTED = pa.schema([("file", pa.string()), ("line", pa.int64()), ("reason", pa.string()),
                      ("offset", pa.int64())])
Read = Callable[[File], Iterator[Document | Rejected]]


@dataclass(frozen=True)
class Place:
    """How far the reading had come: finished files, items of the next one, and whether its source held text."""

    file: int = 0
    items: int = 0
    usable: bool = False
    first: str = ""                              # what was said of the first record of the source that is unreadable


class Intake:
    """The documents of the sources; read once, then found in `spill` under `mark`."""

    def __init__(self, inputs: list[tuple[Source, list[File]]], read: Read, spill: Spill, mark: str) -> None:
        self._inputs, self._read, self._spill, self._mark = inputs, read, spill, mark
        self.num_shards = 0                      # unknown until all were read
        self.sources: dict[str, Source] = {}     # of each file, by its name; of several the first
        for source, found in inputs:
            for file in found:
                self.sources.setdefault(file.name, source)

    def shards(self) -> Iterator[tuple[int, pa.Table]]:
        """Number and documents of each shard, in the order of the sources.

        Raises UserError when a source holds no text at all.
        """
        number, place = 0, Place()
        while (shard := self._spill.get(self._mark, f"{number:05d}")) is not None:
            place = Place(**json.loads(shard.schema.metadata[b"place"]))
            yield number, shard
            number += 1
        end = self._spill.get(self._mark, "end")
        if end is not None and end["shards"][0].as_py() == number:
            self.num_shards = number
            return
        for documents, rejected, come in self._shards(place):
            shard = documents.replace_schema_metadata({"place": json.dumps(asdict(come))})
            self._spill.put(self._mark, f"rejected-{number:05d}", pa.Table.from_pylist(
                [asdict(found) for found in rejected], REJECTED))
            self._spill.put(self._mark, f"{number:05d}", shard)   # after what was rejected: it is the mark of both
            yield number, shard
            number += 1
        self._spill.put(self._mark, "end", pa.table({"shards": [number]}))
        self.num_shards = number

    def rejected(self) -> Iterator[Rejected]:
        """What could not be read, once all shards were."""
        number = 0
        while (table := self._spill.get(self._mark, f"rejected-{number:05d}")) is not None:
            yield from (Rejected(**row) for row in table.to_pylist())
            number += 1

    def _shards(self, place: Place) -> Iterator[tuple[pa.Table, list[Rejected], Place]]:
        held, rejected = _Held(), list[Rejected]()
        files = [(source, file, found) for source, found in self._inputs for file in found]
        for number in range(place.file, len(files)):
            source, file, found = files[number]
            place = replace(place, file=number)
            for item in islice(self._read(file), place.items, None):
                place = replace(place, items=place.items + 1)
                if isinstance(item, Rejected):
                    rejected.append(item)
                    place = replace(place, first=place.first or str(item))
                else:
                    held.add(item)
                    place = replace(place, usable=True)
                if held.characters >= SHARD or held.documents + len(rejected) >= SHARD_DOCUMENTS:
                    yield held.table(), rejected, place
                    held, rejected = _Held(), []
            place = replace(place, file=number + 1, items=0)
            if file is found[-1]:
                if not place.usable:
                    why = place.first or f"{source.path} holds no text; put some into it or leave it out"
                    if len(found) > 1:
                        why = f"Nothing in {source.path} can be read: {why}"
                    raise UserError(f"{why}.", where=source.path)
                place = replace(place, usable=False, first="")
        if held.documents or rejected:
            yield held.table(), rejected, place


class _Held:
    """Documents on their way into a shard."""

    def __init__(self) -> None:
        self.characters = self.documents = 0
        self._tables: list[pa.Table] = [DOCUMENTS.empty_table()]
        self._loose: list[Document] = []
        self._size = 0

    def add(self, document: Document) -> None:
        self._loose.append(document)
        self.documents += 1
        self.characters += len(document.text)
        self._size += len(document.text)
        if self._size >= PIECE:
            self._pack()

    def _pack(self) -> None:
        names, texts = [d.id for d in self._loose], [d.text for d in self._loose]
        sources, groups = [d.source for d in self._loose], pa.nulls(len(self._loose), pa.uint64())
        self._tables.append(pa.table([names, texts, sources, groups], schema=DOCUMENTS))
        self._loose, self._size = [], 0

    def table(self) -> pa.Table:
        self._pack()
        return pa.concat_tables(self._tables).combine_chunks()
