"""Splits: training and validation by a hash of the content, and the Parquet files that hold them.

A text falls on the side that its digest says, wherever and however often it stands, so that no
document held out was also trained on. Documents of a group, such as near duplicates of one another,
fall where the group's digest says.
"""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from engine.corpus.dedupe import digests
from engine.corpus.lengths import Lengths, num_bytes

FILE_BYTES = 64 << 20
"""Text in one Parquet file."""

SCHEMA = pa.schema([("id", pa.string()), ("text", pa.string()), ("source", pa.string()), ("split", pa.string()),
                    ("group", pa.uint64())])


class Split:
    """Counts documents on either side of a threshold: validation is what hashes at or below it."""

    def __init__(self, fraction: float) -> None:
        self.threshold = int(fraction * 2**64)
        self.documents = self.validation = self.bytes = self.validation_bytes = 0
        self.lowest, self.highest = 2**64, -1
        self.lengths = Lengths()

    def add(self, documents: pa.Table) -> list[str]:
        """Count the documents, and say of each whether it is "train" or "val": by its group if it has one."""
        texts = documents["text"]
        hashes = [int.from_bytes(digest[:8], "big") if group is None else group
                  for digest, group in zip(digests(texts), documents["group"].to_pylist(), strict=True)]
        self.lowest, self.highest = min([self.lowest, *hashes]), max([self.highest, *hashes])
        self.documents += len(hashes)
        self.bytes += num_bytes(texts)
        sides = [self._side(value) for value in hashes]
        self.validation += sides.count("val")
        held_out = pa.array([side == "val" for side in sides], pa.bool_())
        self.validation_bytes += num_bytes(texts.filter(held_out))
        self.lengths.add(texts)
        return sides

    def _side(self, value: int) -> str:
        return "val" if value <= self.threshold else "train"

    @property
    def different(self) -> int:
        """0, 1, or 2 for more: how many different texts there are."""
        return min(self.documents, 1 + (self.lowest < self.highest))

    def fits(self) -> bool:
        """Whether both sides have a document; if not, the threshold is moved so that they would."""
        old = self.threshold
        self.threshold = min(max(old, self.lowest), self.highest - 1)
        return self.threshold == old

    def again(self) -> Split:
        """An empty count with this one's threshold."""
        fresh = Split(0.5)
        fresh.threshold = self.threshold
        return fresh


class Dataset:
    """Writes the documents of a dataset into files of about 64 MB of text."""

    def __init__(self, folder: Path, fraction: float) -> None:
        self.folder = folder
        self.split = Split(fraction)
        self._writer: pq.ParquetWriter | None = None
        self._number = 0

    def __enter__(self) -> Dataset:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    @property
    def documents(self) -> int:
        return self.split.documents

    def write(self, batch: pa.Table) -> None:
        """Add documents (id, text, source, group)."""
        if self._writer is None:
            path = self.folder / f"documents-{self._number:05d}.parquet"
            self._writer, self._room = pq.ParquetWriter(path, SCHEMA, compression="zstd"), FILE_BYTES
            self._number += 1
        sides = self.split.add(batch)
        table = batch.append_column("split", pa.array(sides, pa.string()))
        self._writer.write_table(table.select(SCHEMA.names).cast(SCHEMA))
        self._room -= num_bytes(batch["text"])
        if self._room <= 0:
            self._close()

    def finish(self) -> None:
        """Give each side a document, if chance gave one none: it happens to small corpora only."""
        self._close()
        if self.split.fits():
            return
        self.split = self.split.again()
        for path in sorted(self.folder.glob("documents-*.parquet")):
            beside = path.with_suffix(".again")
            with pq.ParquetFile(path) as old, pq.ParquetWriter(beside, SCHEMA, compression="zstd") as new:
                for batch in old.iter_batches(1024):
                    table = pa.Table.from_batches([batch])
                    sides = self.split.add(table)
                    new.write_table(table.set_column(3, "split", pa.array(sides, pa.string())))
            os.replace(beside, path)

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
