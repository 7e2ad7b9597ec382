"""Decode: bytes to text. Compression by the ending, encoding by looking, line by line with its number."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

import pyarrow as pa

from engine.corpus.sources import File, compression_of

SAMPLE = 1 << 20
"""Bytes that are looked at to find out the encoding."""

BLOCK = 1 << 16
"""Bytes that are unpacked at once."""

LONGEST = 16 << 20
"""Characters of the longest line or record that is taken: a hundred times a long novel's chapter."""

BOMB = 250
"""Times its size on the disk that a file may hold: text packs to a tenth, and a bomb to a thousandth and less."""

UNSUSPECTED = 64 << 20
"""Bytes, or characters, that every file may hold."""

TOO_MUCH = f"unpacks to more than {BOMB} times its size, as a bomb does and no text"

BROKEN = (OSError, EOFError, zlib.error, pa.ArrowException, UnicodeError)
"""What damaged or unreadable files raise."""

Moved = Callable[[int], None]


class Unreadable(Exception):
    """A file or a record that cannot be read: why and what to do, and the line (from 1; 0 for the whole file)."""

    def __init__(self, reason: str, line: int = 0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.line = line


class Damaged(OSError):
    """A file that breaks off: so many bytes of its content, unpacked, stand before."""

    def __init__(self, problem: Exception, offset: int) -> None:
        super().__init__(getattr(problem, "strerror", None) or str(problem) or "it is broken")
        self.offset = offset


class _Counted(io.RawIOBase):
    """A file up to the size at which it was found, which tells how many bytes of it were read.

    What is written at its end meanwhile is left for the next time.
    """

    def __init__(self, file: File, moved: Moved) -> None:
        self._file = open(file.path, "rb", buffering=0)  # noqa: SIM115  closed with this
        self._moved, self._size = moved, file.size
        self.count = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(*((offset, whence) if whence != io.SEEK_END else (self._size + offset, io.SEEK_SET)))

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        room = max(0, self._size - self._file.tell())
        count = self._file.readinto(buffer[:room]) or 0
        self.count += count
        self._moved(count)
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


class _UpToDamage(io.RawIOBase):
    """A stream that ends where the one inside breaks, and remembers why: what stands before is not lost."""

    def __init__(self, inner: io.BufferedIOBase) -> None:
        self._inner = inner
        self._passed = 0
        self.problem: Damaged | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        try:
            block = self._inner.read1(min(len(buffer), BLOCK)) if self.problem is None else b""
        except BROKEN as problem:
            self.problem, block = Damaged(problem, self._passed), b""
        buffer[:len(block)] = block
        self._passed += len(block)
        return len(block)

    def close(self) -> None:
        self._inner.close()
        super().close()


class _Unpacked(io.RawIOBase):
    """A decompressed stream that breaks when it holds far more than the bytes that it was made from."""

    def __init__(self, inner: io.BufferedIOBase, packed: _Counted) -> None:
        self._inner, self._packed = inner, packed
        self._count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if self._count > BOMB * self._packed.count + UNSUSPECTED:
            raise OSError(TOO_MUCH)
        block = self._inner.read1(min(len(buffer), BLOCK))   # read would lose what stands right before damage
        buffer[:len(block)] = block
        self._count += len(block)
        return len(block)

    def close(self) -> None:
        self._inner.close()
        super().close()


def open_bytes(file: File, moved: Moved = lambda count: None) -> io.BufferedReader:
    """The file's content, decompressed by its ending. `moved` hears how many bytes were read from the disk."""
    raw = _Counted(file, moved)
    compression = compression_of(file.path)
    if compression == ".gz":
        packed: io.BufferedIOBase = gzip.GzipFile(fileobj=io.BufferedReader(raw, BLOCK))
    elif compression == ".zst":
        source = pa.PythonFile(io.BufferedReader(raw, BLOCK), "r")
        packed = cast(io.BufferedIOBase, pa.CompressedInputStream(source, "zstd"))
    else:
        return io.BufferedReader(raw, SAMPLE)
    return io.BufferedReader(_Unpacked(packed, raw), BLOCK)


@contextmanager
def open_text(file: File, moved: Moved) -> Iterator[io.TextIOWrapper]:
    """The file's content as text. Bytes that are not text in its encoding arrive as marks that `undecoded` finds.

    Damage ends the text early, and is raised when the block has read what stands before it.
    """
    with io.BufferedReader(start := _UpToDamage(open_bytes(file)), SAMPLE) as beginning:
        sample = beginning.read(SAMPLE)
    if not sample:
        raise start.problem or Unreadable("is empty; put text into it or leave it out")
    encoding = detect(sample) if file.source.encoding == "auto" else file.source.encoding
    if codecs.lookup(encoding).name == "utf-8":
        encoding = "utf-8-sig"                              # the same, less a byte order mark
    whole = _UpToDamage(open_bytes(file, moved))
    with io.TextIOWrapper(io.BufferedReader(whole, SAMPLE), encoding, errors=MARK) as stream:
        yield stream
    if whole.problem:
        raise whole.problem


MARK = "corpus.mark"
codecs.register_error(MARK, lambda error: ("\udcff", getattr(error, "end")))  # noqa: B009  typed as any exception


def undecoded(text: str) -> bool:
    """Whether the text holds marks of bytes that could not be decoded, or half a character of UTF-16."""
    if text.isascii():
        return False
    try:
        return not text.encode()
    except UnicodeEncodeError:
        return True


UNDECODED = "has bytes that are not text in the file's encoding; save it as UTF-8, or name the encoding of the source"


def lines(stream: io.TextIOWrapper) -> Iterator[tuple[int, str]]:
    """The lines of a text with their numbers. One that is too long comes cut, one character over `LONGEST`."""
    number = 0
    while line := stream.readline(LONGEST + 1):
        number += 1
        yield number, line
        while len(line) > LONGEST and not line.endswith("\n"):
            line = stream.readline(LONGEST + 1)


BINARY = {b"%PDF-": "a PDF file", b"PK\x03\x04": "a zip file (or a document kept in one)", b"\x1f\x8b": "a gzip file",
          b"\x28\xb5\x2f\xfd": "a zstd file", b"\x89PNG": "a picture", b"\xff\xd8\xff": "a picture",
          b"GIF8": "a picture", b"PAR1": "a Parquet file", b"\x7fELF": "a program", b"BZh": "a bzip2 file",
          b"\xfd7zXZ": "an xz file", b"SQLite format 3": "a database", b"{\\rtf": "an RTF document"}
MARKS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32",
         codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
USUAL = ["cp1252", "cp1250", "cp1251", "koi8_r", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "cp874", "iso8859_2",
         "cp932", "euc_jp", "gb18030", "big5", "cp949"]
CONTROLS = bytes(set(range(32)) - set(b"\t\n\v\f\r\x1b")) + b"\x7f"


def detect(sample: bytes) -> str:
    """The encoding of the text that begins with `sample`; raises Unreadable if it is no text.

    A byte order mark decides, then UTF-8 if the bytes allow it; what is left goes to charset-normalizer,
    with Windows-1252 before its many near equals.
    """
    for mark, encoding in MARKS.items():
        if sample.startswith(mark):
            return encoding
    for magic, what in BINARY.items():
        if sample.startswith(magic):
            raise Unreadable(f"is {what}, not text; convert it to text, or give it the ending of what it is")
    even, odd = sample[::2].count(0), sample[1::2].count(0)
    if max(even, odd) > len(sample) / 5 and min(even, odd) < len(sample) / 50:
        return "utf-16-le" if odd > even else "utf-16-be"
    if len(sample) - len(sample.translate(None, CONTROLS)) > len(sample) / 50:
        raise Unreadable("is a binary file, not text; convert it to text, or leave it out")
    text = codecs.getincrementaldecoder("utf-8")("replace").decode(sample)
    wrong, foreign = text.count("\ufffd"), len(text) - len(text.encode("ascii", "ignore"))
    if wrong * 10 <= foreign - wrong:                       # a few damaged bytes are no reason to misread all of UTF-8
        return "utf-8"
    return _guess(sample)


def _guess(sample: bytes) -> str:
    from charset_normalizer import from_bytes

    first = next((i for i, byte in enumerate(sample) if byte > 127), 0)
    piece = sample[max(0, first - 4096):first + 61440]
    if len(piece) == 65536 or len(sample) == SAMPLE:        # may end within a character
        piece = piece[:max(piece.rfind(b"\n"), piece.rfind(b" "))] or piece
    matches = list(from_bytes(piece, cp_isolation=USUAL))
    if not matches:
        raise Unreadable("is not text in any usual encoding; save it as UTF-8, or name the encoding of the source")
    best = matches[0]
    for match in matches:
        western = "cp1252" in match.could_be_from_charset
        if western and match.chaos <= best.chaos and match.coherence >= best.coherence - 0.05:
            return "cp1252"
    return best.encoding
