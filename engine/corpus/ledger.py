"""Ledger: what each step took in and let out, and every document that it dropped or edited.

    ledger.parquet     one row for each document that a step dropped, edited, pardoned or put into a cluster:
                       where it differs, before and after
    quarantine.jsonl   one line for each record that could not be read: file, line, reason, and the
                       offset at which a file breaks off: how many bytes of its content, unpacked, were read
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from engine.corpus.intake import DOCUMENTS
from engine.corpus.lengths import Lengths, num_bytes
from engine.corpus.profile import Profile
from engine.corpus.readers import Rejected
from engine.corpus.search import history, look, opened, search

__all__ = ["Ledger", "Tally", "excerpts", "history", "in_tokens", "look", "opened", "search"]

EXCERPT = 240
"""Characters of a text that the ledger shows."""

ROWS = pa.schema([("id", pa.string()), ("source", pa.string()), ("step", pa.string()), ("action", pa.string()),
                  ("reason", pa.string()), ("before", pa.string()), ("after", pa.string()), ("bytes", pa.int64()),
                  ("cluster", pa.int64()), ("kept", pa.string()), ("kept_source", pa.string()),
                  ("similarity", pa.float32())])
"""`action` is dropped, edited, pardoned (kept by a rule, with the step's reason), tagged (in a cluster, and kept) or
added (made by a step from the document of that id).
Of a duplicate, `kept` and `kept_source` are the id and the source of the document that stays in its place."""

ABOUT = ("cluster", "kept", "kept_source", "similarity")

BYTES_PER_TOKEN = 4.0
"""What tokens are estimated by: English at a vocabulary of some 30,000; at 4,000 it is 3.5, in other scripts less."""


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
    pardoned: int = 0
    tagged: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)    # single changes by what they are, if the step tells
    lost: Counter[tuple[str, str]] = field(default_factory=Counter)    # copies: their source, and whose text stayed
    languages: dict[str, Counter[str]] = field(default_factory=dict)   # if the step tells: documents_in and so on

    @property
    def dropped(self) -> int:
        return sum(self.reasons.values())

    def summary(self) -> dict[str, Any]:
        return {"step": self.step, "documents_in": self.documents_in, "documents_out": self.documents_out,
                "bytes_in": self.bytes_in, "bytes_out": self.bytes_out, "edited": self.edited, "added": self.added,
                "pardoned": self.pardoned, "tagged": self.tagged, "reasons": _most_first(self.reasons),
                "kinds": _most_first(self.kinds),
                "lost": [{"source": source, "to": to, "documents": count}
                         for (source, to), count in sorted(self.lost.items(), key=lambda pair: (-pair[1], pair[0]))],
                "languages": {code: dict(counts) for code, counts in sorted(
                    self.languages.items(), key=lambda pair: (-pair[1]["documents_in"], pair[0]))}}


def _most_first(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))


class Ledger:
    """Keeps account of one pass over the corpus; into `folder`, or the first `examples` rows of each kind in memory."""

    def __init__(self, steps: list[str], folder: Path | None = None, examples: int = 0,
                 source_of: Mapping[str, str] | None = None) -> None:
        self.source_of = source_of or {}
        self.before, self.after = Profile(self.source_of), Profile(self.source_of)
        self.tallies = [Tally(step) for step in steps]
        self.quarantined = 0
        self.read = Lengths()
        self.rows: list[dict[str, Any]] = []
        self.quarantine: list[dict[str, Any]] = []
        self._examples = examples
        self._shown: Counter[tuple[int, str, str]] = Counter()
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
        row = {"file": rejected.file, "line": rejected.line or None, "offset": rejected.offset,
               "reason": rejected.reason}
        if self._file:
            self._file.write(json.dumps(row, ensure_ascii=False) + "\n")
        elif len(self.quarantine) < self._examples:
            self.quarantine.append(row)

    def enter(self, step: int, before: pa.Table, after: pa.Table) -> pa.Table:
        """Enter what a step made of a batch, and return the documents that go on.

        `before` has the columns id, text and source; `after` has these, row and `reason`, as in `Step.begin`.
        """
        tally = self.tallies[step]
        kept = pc.is_null(after["reason"])
        on = after if pc.all(kept).as_py() else after.filter(kept)
        gone = after.filter(pc.invert(kept))
        pieces = pc.value_counts(after["row"].combine_chunks())
        whole = pieces.field("values").filter(pc.equal(pieces.field("counts"), 1))
        same_row = on.filter(pc.is_in(on["row"], whole)) if len(whole) < len(on) else on
        original = before if same_row["row"].equals(_counted(len(before))) else before.take(same_row["row"])
        changed = pc.not_equal(same_row["text"], original["text"])
        if step == 0:
            self.read.add(before["text"])
            self.before.add(before)
        tally.documents_in += len(before)
        tally.documents_out += len(on)
        tally.bytes_in += num_bytes(before["text"])
        tally.bytes_out += num_bytes(on["text"])
        tally.added += len(after) - len(before)
        tally.edited += pc.sum(changed).as_py() or 0
        for count in pc.value_counts(gone["reason"]).to_pylist():
            tally.reasons[count["values"]] += count["counts"]
        dropped = before.take(gone["row"])
        if "kept_source" in gone.column_names:
            for source, to in zip(dropped["source"].to_pylist(), gone["kept_source"].to_pylist(), strict=True):
                if to is not None:
                    tally.lost[self.source_of.get(source, source), self.source_of.get(to, to)] += 1
        if "language" in after.column_names:
            _count_languages(tally, before, after, kept)
        self._write(step, "dropped", dropped, None, gone["reason"].to_pylist(), gone)
        edited = same_row.filter(changed)
        self._write(step, "edited", original.filter(changed), edited["text"], self._kinds(tally, on, edited), edited)
        if "pardoned" in after.column_names:
            spared = on.filter(pc.is_valid(on["pardoned"]))
            tally.pardoned += len(spared)
            self._write(step, "pardoned", before.take(spared["row"]), None, spared["pardoned"].to_pylist(), spared)
        if "added" in after.column_names:
            fresh = on.filter(pc.fill_null(on["added"], False))
            self._write(step, "added", before.take(fresh["row"]), fresh["text"],
                        [_each_once(kinds) for kinds in fresh["kinds"].to_pylist()], fresh)
        if "cluster" in after.column_names:
            tagged = on.filter(pc.is_valid(on["cluster"]))
            tally.tagged += len(tagged)
            self._write(step, "tagged", before.take(tagged["row"]), None, [""] * len(tagged), tagged)
        return on.select(DOCUMENTS.names)

    @staticmethod
    def _kinds(tally: Tally, on: pa.Table, edited: pa.Table) -> list[str]:
        """Why the edited documents were edited, if the step tells: the kinds of its changes, each named once."""
        if "kinds" not in on.column_names:
            return [""] * len(edited)
        for count in pc.value_counts(pc.list_flatten(on["kinds"])).to_pylist():
            tally.kinds[count["values"]] += count["counts"]
        return [_each_once(kinds) for kinds in edited["kinds"].to_pylist()]

    def _write(self, step: int, action: str, before: pa.Table, after: pa.ChunkedArray | None, reasons: list[str],
               judged: pa.Table) -> None:
        if not len(before):
            return
        rows = []
        about = {name: judged[name].to_pylist() if name in judged.column_names else [None] * len(judged)
                 for name in ABOUT}
        names = zip(before["id"].to_pylist(), before["source"].to_pylist(), reasons,
                    pc.binary_length(before["text"]).to_pylist(), strict=True)
        for at, (id_, source, reason, size) in enumerate(names):
            if not self._table:
                self._shown[step, action, reason] += 1
                if self._shown[step, action, reason] > self._examples:
                    continue
            text = before["text"][at].as_py()
            old, new = (excerpts(text, after[at].as_py()) if after is not None else (text[:EXCERPT], ""))
            rows.append({"id": id_, "source": source, "step": self.tallies[step].step, "place": step, "action": action,
                         "reason": reason, "before": old, "after": new, "bytes": size,
                         **{name: about[name][at] for name in ABOUT}})
        if self._table:
            self._table.write_table(pa.Table.from_pylist(rows, ROWS))
        else:
            self.rows += rows

    @property
    def worst(self) -> Tally | None:
        """The step that dropped most, if any dropped something."""
        worst = max(self.tallies, key=lambda tally: tally.dropped, default=None)
        return worst if worst and worst.dropped else None


def _each_once(kinds: list[str] | None) -> str:
    return ", ".join(dict.fromkeys(kinds or ()))


def _count_languages(tally: Tally, before: pa.Table, after: pa.Table, kept: pa.ChunkedArray) -> None:
    """Documents and bytes by language, as they came to a step that tells it, and of those that go on."""
    sizes = pc.binary_length(before["text"]).take(after["row"])
    table = pa.table({"language": after["language"], "kept": kept, "bytes": sizes})
    for row in table.group_by(["language", "kept"]).aggregate([("bytes", "sum"), ("bytes", "count")]).to_pylist():
        counts = tally.languages.setdefault(row["language"] or "unknown", Counter(
            documents_in=0, documents_out=0, bytes_in=0, bytes_out=0))
        for side in ("in", "out") if row["kept"] else ("in",):
            counts[f"documents_{side}"] += row["bytes_count"]
            counts[f"bytes_{side}"] += row["bytes_sum"]


def in_tokens(summary: Mapping[str, Any], bytes_per_token: float = BYTES_PER_TOKEN, *,
              estimated: bool = True) -> dict[str, Any]:
    """A summary with tokens_in and tokens_out beside every bytes_in and bytes_out, at so many bytes a token.

    "tokens" says by what: {bytes_per_token, estimated}. With a tokenizer at hand, call it again with the
    `bytes_per_token` that its folder's manifest measured, and `estimated` False.
    """
    def told(row: Mapping[str, Any]) -> dict[str, Any]:
        return {**row, **{f"tokens_{side}": round(row[f"bytes_{side}"] / bytes_per_token) for side in ("in", "out")}}

    return {**summary, "steps": [told(step) for step in summary["steps"]],
            "sources": [told(source) for source in summary.get("sources", ())],
            "tokens": {"bytes_per_token": bytes_per_token, "estimated": estimated}}


def _counted(number: int) -> pa.ChunkedArray:
    """0, 1, 2, ...: the rows of a batch of which each came back once."""
    return pa.chunked_array([pa.array(range(number), pa.int64())])


def excerpts(before: str, after: str) -> tuple[str, str]:
    """Both texts around the first place where they differ."""
    same, beyond = 0, min(len(before), len(after)) + 1
    while beyond - same > 1:                     # by halving: slices compare much faster than a loop over characters
        middle = (same + beyond) // 2
        same, beyond = (middle, beyond) if before[:middle] == after[:middle] else (same, middle)
    start = max(0, same - EXCERPT // 4)
    return before[start:start + EXCERPT], after[start:start + EXCERPT]
