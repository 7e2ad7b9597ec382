"""Spill: what a curation has done so far, in memory while it is little, in files when it is more.

    stages/MARK/NAME.arrow     one table each: complete or absent; MARK is the fingerprint of all that made it

A table that is there is never made again: a curation that was killed goes on from here, and one whose
settings changed starts where the change is.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from engine import files

IN_MEMORY = 32 << 20
"""Bytes that are held before anything is written: a small corpus is made faster than it is kept."""

KEPT_BYTES = 16 << 30
KEPT_STAGES = 64
"""What is left of earlier curations, for the next one whose settings differ: the stages used last."""

IN_USE_SECONDS = 3600
"""A stage that was used so lately may belong to a curation in another process."""

_LIGHT = pa.ipc.IpcWriteOptions(compression=pa.Codec("zstd", compression_level=1))


class Spill:
    """Tables by mark and name. Without a `folder`, all stay in memory; if it is `shared` with other processes, none."""

    def __init__(self, folder: Path | None = None, *, shared: bool = False) -> None:
        self.folder = folder
        self.used: list[str] = []
        self._room = -1 if shared else IN_MEMORY
        self._held: dict[tuple[str, str], pa.Table] = {}

    def get(self, mark: str, name: str, columns: list[str] | None = None) -> pa.Table | None:
        """The table, or the named columns of it; None if it is not there or damaged."""
        if (held := self._held.get((mark, name))) is not None:
            return held.select(columns) if columns else held
        if self.folder is None or not (path := self._path(mark, name)).exists():
            return None
        self._use(mark)
        try:
            with pa.OSFile(str(path)) as file:
                options = pa.ipc.IpcReadOptions()
                if columns:
                    schema = pa.ipc.open_file(file).schema
                    options.included_fields = [schema.get_field_index(column) for column in columns]
                table = pa.ipc.open_file(file, options=options).read_all()
                return table.select(columns) if columns else table
        except (pa.ArrowException, OSError):
            path.unlink(missing_ok=True)
            return None

    def has(self, mark: str, name: str) -> bool:
        return (mark, name) in self._held or (self.folder is not None and self._path(mark, name).exists())

    def put(self, mark: str, name: str, table: pa.Table) -> None:
        """Keep a table; from a certain size on, on the disk."""
        if self.folder is None:
            self._held[mark, name] = table
            return
        if self._room >= table.nbytes:
            self._room -= table.nbytes
            self._held[mark, name] = table
            return
        self._room = -1
        self._held[mark, name] = table
        for (mark, name), held in self._held.items():
            self._write(mark, name, held)
        self._held.clear()

    def forget(self, mark: str, names: Iterator[str]) -> None:
        """Give up tables that nothing asks for any more."""
        for name in names:
            self._held.pop((mark, name), None)
            if self.folder is not None:
                self._path(mark, name).unlink(missing_ok=True)

    def drop(self, mark: str) -> None:
        """Give up a whole stage, since it is not what its mark says."""
        self._held = {key: table for key, table in self._held.items() if key[0] != mark}
        self.used = [other for other in self.used if other != mark]
        if self.folder is not None:
            shutil.rmtree(self.folder / mark, ignore_errors=True)

    def tidy(self) -> None:
        """Delete the stages that were used longest ago, until few enough and small enough ones are left.

        Of this curation the first stages outlive the last: more can be made from them.
        """
        if self.folder is None or not self.folder.exists():
            return
        now = time.time()
        for order, mark in enumerate(reversed(self.used)):
            os.utime(self.folder / mark, (now, now + order / 1000))
        size = number = 0
        for stage in sorted((p for p in self.folder.iterdir() if p.is_dir()), key=_used, reverse=True):
            size, number = size + sum(p.stat().st_size for p in stage.iterdir()), number + 1
            old = stage.name in self.used or now - _used(stage) > IN_USE_SECONDS
            if (size > KEPT_BYTES or number > KEPT_STAGES) and old:
                shutil.rmtree(stage, ignore_errors=True)

    def _path(self, mark: str, name: str) -> Path:
        assert self.folder is not None
        return self.folder / mark / f"{name}.arrow"

    def _use(self, mark: str) -> None:
        if mark not in self.used:
            self.used.append(mark)
            os.utime(self._path(mark, "").parent)

    def _write(self, mark: str, name: str, table: pa.Table) -> None:
        path = self._path(mark, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._use(mark)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, table.schema, options=_LIGHT) as writer:
            writer.write_table(table)
        files.write(path, sink.getvalue().to_pybytes())


def _used(stage: Path) -> float:
    return stage.stat().st_mtime
