"""Records: the formats. Each reads one file and yields the records in it, with their lines."""

from __future__ import annotations

import csv
import json
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO, cast

import pyarrow as pa
import pyarrow.parquet as pq

from engine.corpus import Source
from engine.corpus.decode import BROKEN, LONGEST, UNDECODED, Moved, Unreadable, lines, open_bytes, open_text, undecoded
from engine.corpus.sources import File, compression_of
from engine.table import Table

PIECE = 4 << 20
"""Characters after which a long text file is cut, at a blank line if there is one: a document fits into memory."""

ROWS = 256
"""Rows of a Parquet file that are held at once, or fewer where they are long."""

HELD = 32 << 20
"""Bytes of a Parquet file's rows that are held at once, more or less."""

RECORD_LINES = 1 << 17
"""Lines of one record of a CSV file: a quote that never closes must not take the whole file into memory."""

PATIENCE = 4 * LONGEST
"""Characters of a JSON file that may be read in vain, looking for a record after broken ones."""

TOO_LONG = f"is longer than {LONGEST >> 20} million characters; cut it into several records"

Found = Iterator[tuple[int, Any]]
"""Line (0 for a whole file) and record: text, a dict by column, or an Unreadable in place of one."""

READERS: Table[Callable[[File, Moved], Found]] = Table("reader")


def no_column(source: Source, there: Iterable[str]) -> str:
    """The sentence for a record or a file that lacks a column that its text is made of."""
    names = list(there)
    missing = next(name for name in source.columns if name not in names)
    listed = ", ".join(name[:40] for name in names[:20]) + (", ..." if len(names) > 20 else "")
    return f"has no column '{missing}'; there is {listed or 'none'}: name one of these as the source's column"


@READERS.add("text")
def _read_text(file: File, moved: Moved) -> Found:
    with open_text(file, moved) as stream:
        text, line, whole = stream.read(PIECE), 1, True
        while text:
            more = stream.read(PIECE) if len(text) >= PIECE else ""
            cut = _cut(text) if more else len(text)
            piece, text = text[:cut], text[cut:] + more
            whole = whole and not text
            next_line = line + piece.count("\n")
            if undecoded(piece):
                split = piece.split("\n")
                for number, part in enumerate(split):
                    if undecoded(part):
                        yield line + number, Unreadable(UNDECODED)
                piece = "\n".join(part for part in split if not undecoded(part))
            yield 0 if whole else line, piece.rstrip("\n")   # the end of the last line is no text
            line = next_line


def _cut(text: str) -> int:
    """Where to end a piece: after its last blank line, line or word, whichever there is."""
    return next((at + len(sign) for sign in ("\n\n", "\n", " ") if (at := text.rfind(sign)) > 0), len(text))


@READERS.add("markdown")
def _read_markdown(file: File, moved: Moved) -> Found:
    """As text, less the settings that some tools keep between two lines of --- at the top."""
    for line, record in _read_text(file, moved):
        if line <= 1 and isinstance(record, str):
            record = re.sub(r"\A---\n.*?\n---\n", "", record, count=1, flags=re.DOTALL)
        yield line, record


@READERS.add("jsonl")
def _read_jsonl(file: File, moved: Moved) -> Found:
    with open_text(file, moved) as stream:
        for number, line in lines(stream):
            if not line.strip():
                continue
            yield number, _json(line)


def _json(line: str) -> Any:
    if len(line) > LONGEST:
        return Unreadable(TOO_LONG)
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        what = error.msg.removesuffix(" at")
        return Unreadable(f"is not JSON ({what} at column {error.colno}); mend the line or delete it")
    except ValueError as error:                  # a whole number of thousands of digits
        return Unreadable(f"is not JSON ({error}); mend the line or delete it")
    except RecursionError:
        return Unreadable("is nested too deeply to be a record; delete the line")


@READERS.add("json")
def _read_json(file: File, moved: Moved) -> Found:
    """A list of records, one record, records one after the other, or an object whose one list holds them.

    After a broken record the next one is looked for where a line begins with a brace.
    """
    decoder, line, ended, broken, wasted = json.JSONDecoder(), 1, False, False, 0
    with open_text(file, moved) as stream:
        text = stream.read(PIECE)
        at, counted = _skip(r"\s*\[?", text, 0), 0
        while True:
            at = _skip(r"[\s,\]]*", text, at)
            if broken and not text.startswith("{", at):
                at = _next_line(text, at)
            line, counted = line + text.count("\n", counted, at), at
            problem: Exception | None = None
            record: Any = None
            try:
                record, end = decoder.raw_decode(text, at)
            except (ValueError, RecursionError) as error:
                problem, end = error, len(text)
            if end == len(text) and not ended and end - at <= LONGEST:  # a record may go on in what comes next
                more = stream.read(max(PIECE, end - at))
                text, at, counted, ended = text[at:] + more, 0, 0, not more
            elif at == len(text):
                return
            elif problem:
                if not broken:
                    yield line, _broken(problem, text, at, line)
                place = getattr(problem, "pos", end)
                wasted += place - at + place // 64           # an error counts the lines before it
                if wasted > PATIENCE:
                    yield line, Unreadable("is in a part of which too much is not JSON; mend it: what follows in this "
                                           "file was not read")
                    return
                broken, at = True, at + 1
            else:
                for inner in _records(record, file.source):
                    if not broken or (isinstance(inner, dict) and set(file.source.columns) <= set(inner)):
                        yield line, inner
                at = end


def _skip(what: str, text: str, at: int) -> int:
    found = re.compile(what).match(text, at)
    return found.end() if found else at


def _next_line(text: str, at: int) -> int:
    """Where the next line begins with a brace; else the last line end if only blanks follow it, or the end."""
    if found := re.compile(r"\n[ \t\r]*(?=\{)").search(text, at):
        return found.end()
    last = text.rfind("\n", at)
    return last if last >= 0 and not text[last:last + LONGEST].strip() else len(text)


def _broken(problem: Exception, text: str, start: int, line: int) -> Unreadable:
    place = getattr(problem, "pos", start)
    why = getattr(problem, "msg", "it is nested too deeply")
    column = place - text.rfind("\n", 0, place)
    return Unreadable(f"is not JSON ({why} at column {column}); mend it; reading "
                      "went on at the next line that begins with a brace",
                      line + text.count("\n", start, place))


def _records(value: Any, source: Source) -> list[Any]:
    lists = [inner for inner in value.values() if isinstance(inner, list)] if isinstance(value, dict) else []
    nested = len(lists) == 1 and not set(source.columns) & set(value) and all(isinstance(r, dict) for r in lists[0])
    return lists[0] if nested else [value]


@READERS.add("csv")
def _read_csv(file: File, moved: Moved) -> Found:
    """Separated by whichever of comma, tab, semicolon and bar the first line has most of; the first line names."""
    csv.field_size_limit(LONGEST)
    with open_text(file, moved) as stream:
        feed = _Feed(lines(stream))
        rows = csv.reader(feed, delimiter=feed.delimiter(), strict=True)
        header: list[str] = []
        while True:
            feed.taken.clear()
            try:
                row = next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                yield feed.taken[0][0], Unreadable(f"is not CSV ({error}); mend its quotes or delete the line")
                feed.waiting.extend(reversed(feed.taken[1:]))
                continue
            line = feed.taken[0][0]
            if any(len(text) > LONGEST for _, text in feed.taken):
                yield line, Unreadable(TOO_LONG)
            elif not header:
                header = row
                if row and not set(file.source.columns) <= set(row):
                    raise Unreadable(no_column(file.source, row), line)
            elif row and len(row) != len(header):
                yield line, Unreadable(f"has {len(row)} columns where the first line names {len(header)}; "
                                       "mend the line or delete it")
            elif row:
                yield line, dict(zip(header, row, strict=True))


class _Feed:
    """Lines for the CSV parser, which can be given again: a quote that never closes must not swallow the rest."""

    def __init__(self, source: Iterator[tuple[int, str]]) -> None:
        self._source = source
        self.taken: list[tuple[int, str]] = []              # of the row in hand
        self.waiting: list[tuple[int, str]] = []            # to be given again, the next one last

    def __iter__(self) -> _Feed:
        return self

    def __next__(self) -> str:
        if len(self.taken) >= RECORD_LINES:
            raise csv.Error(f"a record of more than {RECORD_LINES} lines")
        self.taken.append(self.waiting.pop() if self.waiting else next(self._source))
        return self.taken[-1][1]

    def delimiter(self) -> str:
        first = next(self._source, (1, ""))
        self.waiting.append(first)
        return max(",\t;|", key=first[1].count)


@READERS.add("parquet")
def _read_parquet(file: File, moved: Moved) -> Found:
    with _seekable(file, moved) as handle, pq.ParquetFile(handle) as table:
        there = table.schema_arrow.names
        wanted = [name for name in file.source.columns if name in there]
        if len(wanted) < len(file.source.columns):
            raise Unreadable(no_column(file.source, there))
        row = 0
        for group in range(table.num_row_groups):
            about = table.metadata.row_group(group)
            size, read = about.num_rows, 0
            most = max(1, min(ROWS, HELD * size // max(1, about.total_byte_size)))
            try:
                for batch in table.iter_batches(most, [group], wanted):
                    columns = {name: batch.column(batch.schema.get_all_field_indices(name)[0]) for name in wanted}
                    for at in range(len(batch)):
                        read += 1
                        yield row + read, _row(columns, at)
            except BROKEN as error:
                yield row + read + 1, Unreadable(f"is in a group of {size} rows of which some are damaged "
                                                 f"({str(error).splitlines()[0]}); replace the file to have them all")
            row += size


def _row(columns: dict[str, pa.Array], at: int) -> Any:
    try:
        return {name: column[at].as_py() for name, column in columns.items()}
    except (ValueError, OverflowError) as error:
        return Unreadable(f"cannot be shown as text ({error}); mend the row or delete it")


def _seekable(file: File, moved: Moved) -> BinaryIO:
    """The content as a file in which one can go back: a compressed one is unpacked beside."""
    stream = open_bytes(file, moved)
    if not compression_of(file.path):
        return stream
    unpacked = cast(BinaryIO, tempfile.TemporaryFile())  # noqa: SIM115  the caller closes it
    with stream:
        while block := stream.read(PIECE):
            unpacked.write(block)
    unpacked.seek(0)
    return unpacked
