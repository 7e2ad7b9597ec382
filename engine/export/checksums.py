"""Checksums of a bundle's files, made and brought to the disk while others are still being written."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from engine import files

THREADS = 2     # one waits for the disk while the other counts; neither holds up Python


class Checksums:
    """`begin` with a file as soon as it is whole; `of` waits for what was begun and does the rest."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._pool = folder, ThreadPoolExecutor(THREADS)
        self._begun: dict[str, Future[str]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._pool.shutdown(cancel_futures=True)

    def begin(self, name: str) -> None:
        self._begun[name] = self._pool.submit(self._settle, self.folder / name)

    def of(self, names: Iterable[str]) -> dict[str, str]:
        """The fingerprints of files of the folder by their names."""
        for name in (names := list(names)):
            if name not in self._begun:
                self.begin(name)
        return {name: self._begun[name].result() for name in names}

    @staticmethod
    def _settle(path: Path) -> str:
        mark = files.fingerprint_file(path)
        files.sync(path)
        return mark
