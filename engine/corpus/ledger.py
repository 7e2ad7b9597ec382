"""Ledger: what each step took in and let out, and every document that it dropped or edited.

    ledger.parquet     one row for each document dropped or edited by a step: where it differs, before and after
    quarantine.jsonl   one line for each record that could not be read: file, line, reason
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from engine import files
from engine.config import UserError
from engine.corpus.readers import Rejected

EXCERPT = 240
"""Characters of a text that the ledger shows."""

ROWS = pa.schema([("id", pa.string()), ("source", pa.string()), ("step", pa.string()), ("action", pa.string()),
                  ("reason", pa.string()), ("before", pa.string()), ("after", pa.string()), ("bytes", pa.int64())])


@dataclass
class Tally:
    """The arithmetic of one step: documents_in - dropped + added = documents_out."""

    step: str
    documents_in: int = 0
    documents_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    edited: int = 0
    added: int = 0                               # by cutting: a document in three pieces adds two
    reasons: Counter[str] = field(default_factory=Counter)

    @property
    def dropped(self) -> int:
        return sum(self.reasons.values())

    def summary(self) -> dict[str, Any]:
        return {"step": self.step, "documents_in": self.documents_in, "documents_out": self.documents_out,
                "bytes_in": self.bytes_in, "bytes_out": self.bytes_out, "edited": self.edited, "added": self.added,
                "reasons": dict(sorted(self.reasons.items(), key=lambda pair: (-pair[1], pair[0])))}


class Ledger:
    """Keeps account of one pass over the corpus; into `folder`, or the first `examples` rows of each kind in memory."""

    def __init__(self, steps: list[str], folder: Path | None = None, examples: int = 0) -> None:
        self.tallies = [Tally(step) for step in steps]
        self.quarantined = 0
        self.rows: list[dict[str, Any]] = []
        self.quarantine: list[dict[str, Any]] = []
        self._examples = examples
        self._shown: Counter[tuple[int, str]] = Counter()
        self._table = pq.ParquetWriter(folder / "ledger.parquet", ROWS, compression="zstd") if folder else None
        self._file: IO[str] | None = (folder / "quarantine.jsonl").open("w", encoding="utf-8") if folder else None

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        for sink in (self._table, self._file):
            if sink:
                sink.close()

    def reject(self, rejected: Rejected) -> None:
        """Enter a record that could not be read."""
        self.quarantined += 1
        row = {"file": rejected.file, "line": rejected.line or None, "reason": rejected.reason}
        if self._file:
            self._file.write(json.dumps(row, ensure_ascii=False) + "\n")
        elif len(self.quarantine) < self._examples:
            self.quarantine.append(row)

    def enter(self, step: int, before: pa.Table, after: pa.Table) -> pa.Table:
        """Enter what a step made of a batch, and return the documents that go on.

        `before` has the columns id, text, source and row; `after` has these and `reason`, as in `Step.begin`.
        """
        tally = self.tallies[step]
        kept = pc.is_null(after["reason"])
        on, gone = after.filter(kept), after.filter(pc.invert(kept))
        pieces = pc.value_counts(after["row"].combine_chunks())
        whole = pieces.field("values").filter(pc.equal(pieces.field("counts"), 1))
        same_row = on.filter(pc.is_in(on["row"], whole)) if len(whole) < len(on) else on
        original = before.take(same_row["row"])
        changed = pc.not_equal(same_row["text"], original["text"])
        tally.documents_in += len(before)
        tally.documents_out += len(on)
        tally.bytes_in += num_bytes(before["text"])
        tally.bytes_out += num_bytes(on["text"])
        tally.added += len(after) - len(before)
        tally.edited += pc.sum(changed).as_py() or 0
        for count in pc.value_counts(gone["reason"]).to_pylist():
            tally.reasons[count["values"]] += count["counts"]
        if len(gone):
            self._write(step, "dropped", before.take(gone["row"]), None, gone["reason"].to_pylist())
        if pc.any(changed).as_py():
            self._write(step, "edited", original.filter(changed), same_row.filter(changed)["text"])
        return on.select(["id", "text", "source"])

    def _write(self, step: int, action: str, before: pa.Table, after: pa.ChunkedArray | None,
               reasons: list[str] | None = None) -> None:
        rows = []
        names = zip(before["id"].to_pylist(), before["source"].to_pylist(),
                    pc.binary_length(before["text"]).to_pylist(), strict=True)
        for at, (id_, source, size) in enumerate(names):
            reason = reasons[at] if reasons else ""
            if not self._table:
                self._shown[step, reason] += 1
                if self._shown[step, reason] > self._examples:
                    continue
            text = before["text"][at].as_py()
            old, new = (excerpts(text, after[at].as_py()) if after is not None else (text[:EXCERPT], ""))
            rows.append({"id": id_, "source": source, "step": self.tallies[step].step, "action": action,
                         "reason": reason, "before": old, "after": new, "bytes": size})
        if self._table:
            self._table.write_table(pa.Table.from_pylist(rows, ROWS))
        else:
            self.rows += rows

    @property
    def worst(self) -> Tally | None:
        """The step that dropped most, if any dropped something."""
        worst = max(self.tallies, key=lambda tally: tally.dropped, default=None)
        return worst if worst and worst.dropped else None


def num_bytes(texts: pa.ChunkedArray) -> int:
    """The UTF-8 bytes of a column of texts."""
    return pc.sum(pc.binary_length(texts)).as_py() or 0


def excerpts(before: str, after: str) -> tuple[str, str]:
    """Both texts around the first place where they differ."""
    same, beyond = 0, min(len(before), len(after)) + 1
    while beyond - same > 1:                     # by halving: slices compare much faster than a loop over characters
        middle = (same + beyond) // 2
        same, beyond = (middle, beyond) if before[:middle] == after[:middle] else (same, middle)
    start = max(0, same - EXCERPT // 4)
    return before[start:start + EXCERPT], after[start:start + EXCERPT]


def look(dataset: Path, examples: int = 20) -> dict[str, Any]:
    """A dataset as `pipeline.preview` shows a sample: its summary, and the first "examples", rows of the "ledger"
    (of each step and reason) and of the "quarantine". A UserError if a file is damaged."""
    rows: list[dict[str, Any]] = []
    shown: Counter[tuple[str, str]] = Counter()
    summary = files.read_json(dataset / files.MANIFEST)["summary"]
    try:
        with pq.ParquetFile(dataset / "ledger.parquet") as file:
            for batch in file.iter_batches(batch_size=4096):
                for place, kind in enumerate(zip(batch["step"].to_pylist(), batch["reason"].to_pylist(), strict=True)):
                    shown[kind] += 1
                    if shown[kind] <= examples:
                        rows += batch.slice(place, 1).to_pylist()
        with open(dataset / "quarantine.jsonl", encoding="utf-8") as lines:
            quarantine = [json.loads(line) for line in islice(lines, 5 * examples)]
        with pq.ParquetFile(min(dataset.glob("documents-*.parquet"))) as file:
            documents = next(file.iter_batches(batch_size=examples), pa.table({})).to_pylist()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UserError(f"{dataset.name} is damaged ({str(error).splitlines()[0]}); delete it and curate the corpus "
                        "again.", where=str(dataset)) from None
    return {**summary, "ledger": rows, "quarantine": quarantine, "examples": documents}
