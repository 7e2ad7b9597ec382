"""Contents: what the sources held when they were read, as fingerprints; a file that changes meanwhile is noticed.

A file counts up to the size at which it was found, so one that is written on at its end, such as a log, is the
same as before. One that changed otherwise would give a dataset that no fingerprint tells truly of.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from xxhash import xxh3_128

from engine.corpus import Source
from engine.corpus.sources import File
from engine.progress import Progress

BLOCK = 8 << 20


class Changed(Exception):
    """A file is no longer what it was when its source was looked at."""

    def __init__(self, file: File) -> None:
        super().__init__(file.name)
        self.file = file


class Contents:
    """Fingerprints of the files that were looked at. `total` bytes are told to `progress`, and none of them done."""

    def __init__(self, total: int, progress: Progress) -> None:
        self._total, self._progress = total, progress
        self._digests: dict[Path, bytes] = {}

    def of(self, source: Source, found: list[File]) -> dict[str, Any]:
        """What a source holds: its path, how many files and bytes, and a fingerprint of their names and contents."""
        digest = xxh3_128()
        for file in found:
            self._progress(0, self._total, f"looking at {file.name}")
            digest.update(f"{file.name}\0{file.size}\0".encode())
            own = xxh3_128()
            for block in self._blocks(file):
                digest.update(block)
                own.update(block)
            self._digests[file.path] = own.digest()
        return {"path": source.path, "files": len(found), "bytes": sum(file.size for file in found),
                "contents": digest.hexdigest()}

    def hold(self, file: File) -> None:
        """Raises Changed unless the file still is what it was, or has only grown."""
        try:
            now = file.path.stat()
        except OSError:
            raise Changed(file) from None
        if (now.st_size, now.st_mtime_ns) == (file.size, file.modified):
            return
        own = xxh3_128()
        for block in self._blocks(file):
            own.update(block)
        if own.digest() != self._digests[file.path]:
            raise Changed(file)

    def _blocks(self, file: File) -> Iterator[bytes]:
        """The bytes of a file up to the size at which it was found; an error's number if it cannot be read."""
        left = file.size
        try:
            with open(file.path, "rb") as handle:
                while block := handle.read(min(left, BLOCK)):
                    left -= len(block)
                    yield block
                    if left // BLOCK % 16 == 0:
                        self._progress(0, self._total, f"looking at {file.name}")
        except OSError as error:                 # the reader will say so, and go on with the others
            yield str(error.errno).encode()
