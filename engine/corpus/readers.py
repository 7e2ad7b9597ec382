"""Readers: files in, documents out, one after the other, so that memory stays flat.

What cannot be read becomes a Rejected that says where, why and what to do; it never ends the run
and never takes its neighbours along.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from engine.corpus import Source
from engine.corpus.decode import (
    BOMB,
    BROKEN,
    LONGEST,
    TOO_MUCH,
    UNDECODED,
    UNSUSPECTED,
    Moved,
    Unreadable,
    undecoded,
)
from engine.corpus.records import READERS, TOO_LONG, no_column
from engine.corpus.sources import File

LEAST = 16
"""Characters that every record counts for, when a file's records are weighed against its size."""


@dataclass(frozen=True)
class Document:
    """One text, the id that leads back to it ("corpora/mine/chat.jsonl:17"), and the file it came from."""

    id: str
    text: str
    source: str


@dataclass(frozen=True)
class Rejected:
    """One record (or a whole file: line 0) that could not be read, and why.

    `offset` is told of a file that breaks off: the bytes of its content, unpacked, that could be read.
    """

    file: str
    line: int
    reason: str
    offset: int | None = None

    def __post_init__(self) -> None:
        # A name taken from a damaged file may hold what no file and no page can show.
        object.__setattr__(self, "reason", self.reason.encode("utf-8", "replace").decode())

    def __str__(self) -> str:
        place = f" line {self.line}" if self.line else f" after byte {self.offset}" if self.offset else ""
        return f"{self.file}{place} {self.reason}"


def read(file: File, moved: Moved = lambda count: None) -> Iterator[Document | Rejected]:
    """The documents of one file, and what could not be read of it, in the file's order.

    `moved` hears how many bytes were read from the disk; what it raises passes through.
    """
    usable, last, same = False, -1, 0
    room = BOMB * file.size + UNSUSPECTED        # Parquet needs no bytes to say the same a million times
    try:
        for line, record in READERS[file.format](file, moved):
            if room < 0:
                raise OSError(TOO_MUCH)
            room -= LEAST
            same, last = (same + 1 if line == last else 1), line
            try:
                if isinstance(record, Unreadable):
                    raise record
                text = _text(record, file.source)
                if len(text) > LONGEST:
                    raise Unreadable(TOO_LONG)
                if undecoded(text):
                    raise Unreadable(UNDECODED)
                if not text.strip():
                    raise Unreadable("holds no text; fill it or leave it out")
            except Unreadable as problem:
                yield Rejected(file.name, problem.line or line, problem.reason)
                continue
            usable = True
            room -= len(text)
            place = f":{line}" + (f".{same}" if same > 1 else "") if line else ""
            yield Document(file.name + place, text, file.name)
        if last < 0:
            yield Rejected(file.name, 0, "holds no record; fill it or leave it out")
    except Unreadable as problem:
        yield Rejected(file.name, problem.line, problem.reason)
    except BROKEN as problem:
        told = getattr(problem, "strerror", None) or (str(problem) or "it is broken").splitlines()[0].rstrip(".")
        kept = "what stands before was kept; " if usable else ""
        yield Rejected(file.name, 0, f"is damaged or cannot be read ({told}); {kept}replace the file or leave it out",
                       getattr(problem, "offset", None))


def _text(record: Any, source: Source) -> str:
    """The text of one record: of its column, or of several columns by the template."""
    if isinstance(record, str):
        return record
    if not isinstance(record, dict):
        raise Unreadable(f"holds {_kind(record)} where a record with named columns should be; write it as "
                         f'{{"{source.column}": "..."}}')
    if not set(source.columns) <= set(record):
        raise Unreadable(no_column(source, record))
    if source.template:
        # A brace in a value is text: names are replaced in one pass, and nothing is evaluated.
        fill = source.template.replace("\\n", "\n").replace("\\t", "\t")
        parts = re.split(r"(\{\{|\}\}|\{[^{}]+\})", fill)
        values = {f"{{{name}}}": _plain(record[name], name) for name in source.columns}
        text = "".join({"{{": "{", "}}": "}"}.get(part, values.get(part, part)) for part in parts)
        return text if any(value.strip() for value in values.values()) else ""
    value = record[source.column]
    if value is not None and not isinstance(value, str):
        raise Unreadable(f"holds {_kind(value)} in column '{source.column}', not text; name another column")
    return value or ""


def _plain(value: Any, name: str) -> str:
    if isinstance(value, (dict, list)):
        raise Unreadable(f"holds {_kind(value)} in column '{name}', which a template cannot show; name another column")
    return "" if value is None else str(value)


def _kind(value: Any) -> str:
    return {dict: "an object", list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number",
            bytes: "bytes", type(None): "nothing"}.get(type(value), f"a {type(value).__name__}")
