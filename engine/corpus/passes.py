"""Passes: the steps over the shards, one shard and one step at a time, nothing done twice.

Of what a step made of a shard, only what it changed is kept: which rows came back, why they were dropped,
and the text where it is another. Text is kept once, as it was read, however many steps there are.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine import files
from engine.corpus import CorpusConfig, Source, Whole
from engine.corpus.intake import DOCUMENTS, Intake
from engine.corpus.pardons import Pardons
from engine.corpus.spill import Spill

if TYPE_CHECKING:
    from engine.corpus.crew import Crew

BATCH = 8 << 20
"""Bytes of text that a step gets at once."""

Account = Callable[[int, pa.Table, pa.Table], pa.Table]
References = Mapping[str, Iterable[str]]


class Passes:
    """The steps of a configuration over the documents of an intake.

    `told(number, shard, of)` hears of each finished shard of a pass; `of` is 0 while nobody knows how many there are.

    `mark` is the fingerprint of the intake, `read_by` of what each step compares with. A step's own mark is made
    of these, its settings and all that comes before it: a change makes new what follows it, and nothing else.
    """

    def __init__(self, config: CorpusConfig, intake: Intake, spill: Spill, mark: str,
                 references: Callable[[int], References], read_by: list[Any],
                 told: Callable[[int, int, int], None] = lambda number, shard, of: None,
                 crew: Crew | None = None) -> None:
        self.steps, self.intake, self.spill = config.steps, intake, spill
        self._read_mark, self._crew = mark, crew
        self.marks: list[str] = []
        self._pardons = [Pardons(config.pardons, step.kind) for step in self.steps]
        for step, pardons, others in zip(self.steps, self._pardons, read_by, strict=True):
            weights = [[[source.path, source.weight] for source in config.sources]] if getattr(
                step, "sees_sources", False) else []
            mark = files.fingerprint(mark, step.dump(), pardons.settings, others, *weights)
            self.marks.append(mark)
        self._references, self._told = references, told
        self._judges: dict[int, Callable[[pa.Table], pa.Table]] = {}

    @property
    def num_passes(self) -> int:
        """How often all shards are gone through."""
        return 1 + sum(isinstance(step, Whole) for step in self.steps)

    def settle(self) -> None:
        """Let the steps that see the whole corpus look at it and decide, one after the other."""
        for place, step in enumerate(self.steps):
            if isinstance(step, Whole):
                self._settle(place, step)

    def shares(self) -> list[dict[str, Any]]:
        """What the steps that give shares decided (`shares.Shares`), each with its step's name."""
        found = []
        for mark, step in zip(self.marks, self.steps, strict=True):
            first = self.spill.get(mark, _verdict(0)) if isinstance(step, Whole) else None
            if first is not None and (words := (first.schema.metadata or {}).get(b"shares")):
                found.append({"step": step.kind, **json.loads(words)})
        return found

    def _settle(self, place: int, step: Whole) -> None:
        mark = self.marks[place]
        if self.spill.has(mark, "decided"):
            return
        numbers = []
        for number, shard, left in self._shards(place, look=True):
            if left is None or (left and not self.spill.has(mark, _looked(number))):
                left = self.part(place, number, shard, look=True)
            numbers += [number] if left else []
            self._told(self._finished(place), number + 1, self.intake.num_shards)
        looked = Notes(self.spill, mark, numbers, self.intake.sources)
        for number, verdict in zip(numbers, step.decide(looked), strict=True):
            if not self.spill.has(mark, _verdict(number)):
                self.spill.put(mark, _verdict(number), verdict)
        self.spill.put(mark, "decided", pa.table({"shard": pa.array(numbers, pa.int64())}))
        self.spill.forget(mark, map(_looked, numbers))

    def documents(self, num_steps: int, account: Account | None = None) -> Iterator[tuple[int, pa.Table]]:
        """Number and documents of each shard after the first so many steps, if any are left.

        `account` gets step, documents before and documents after as in `Step.begin`, and gives what goes on.
        """
        for number, shard, _ in self._shards(num_steps):
            shard = self._shard(number) if shard is None else shard
            for place in range(num_steps if len(shard) else 0):
                after = self._after(place, number, shard)
                shard = account(place, shard, after) if account else going_on(after)
                if not len(shard):
                    break
            if len(shard):
                yield number, shard
            self._told(self._finished(num_steps), number + 1, self.intake.num_shards)

    def part(self, num_steps: int, number: int, shard: pa.Table | None = None, *, look: bool = False) -> int:
        """Put one shard through the first steps, and let the next one `look` at it; how many documents are left."""
        shard = self._shard(number) if shard is None else shard
        for place in range(num_steps if len(shard) else 0):
            shard = going_on(self._after(place, number, shard))
            if not len(shard):
                break
        if look and len(shard) and not self.spill.has(self.marks[num_steps], _looked(number)):
            step = self.steps[num_steps]
            assert isinstance(step, Whole)
            self.spill.put(self.marks[num_steps], _looked(number), _by_batch(step.look, _rows(shard)))
        return len(shard)

    def _shards(self, num_steps: int, *, look: bool = False) -> Iterator[tuple[int, pa.Table | None, int | None]]:
        """Number and documents of each shard as it was read, and how many are left after the steps if that is known.

        A crew does the steps ahead, and what it did is found in the stages: then the documents are not read here.
        """
        if (crew := self._crew) is None or not (num_steps or look):
            for number, shard in self.intake.shards():
                yield number, shard, None
            return
        begun: deque[tuple[int, Any]] = deque()
        for number, _ in self.intake.shards():
            begun.append((number, crew.begin(num_steps, number, look)))
            while len(begun) > crew.ahead:
                number, work = begun.popleft()
                yield number, None, crew.end(work)
        for number, work in begun:
            yield number, None, crew.end(work)

    def _shard(self, number: int) -> pa.Table:
        shard = self.spill.get(self._read_mark, f"{number:05d}")
        assert shard is not None
        return shard

    def _finished(self, num_steps: int) -> int:
        """Passes that are over when these steps are being done."""
        return sum(isinstance(step, Whole) for step in self.steps[:num_steps])

    def _after(self, place: int, number: int, shard: pa.Table) -> pa.Table:
        """What a step made of a shard: found, or made and kept."""
        mark, name = self.marks[place], f"{number:05d}"
        if (changes := self.spill.get(mark, name)) is None:
            step, rows = self.steps[place], _rows(shard)
            if isinstance(step, Whole):
                verdict = self.spill.get(mark, _verdict(number))
                after = step.judge(rows, verdict)
            else:
                if place not in self._judges:
                    self._judges[place] = step.begin_with(self._references(place))
                after = _by_batch(self._judges[place], rows)
            changes = encode(shard, self._pardons[place].grant(shard, after))
            self.spill.put(mark, name, changes)
        return decode(shard, changes)


class Notes:
    """What a step noted of every shard, read again as often as it is asked for."""

    def __init__(self, spill: Spill, mark: str, numbers: list[int], sources: Mapping[str, Source]) -> None:
        self._spill, self._mark, self._numbers, self.sources = spill, mark, numbers, sources

    def tables(self, columns: list[str] | None = None) -> Iterator[pa.Table]:
        for number in self._numbers:
            table = self._spill.get(self._mark, _looked(number), columns)
            assert table is not None
            yield table


def going_on(after: pa.Table) -> pa.Table:
    """The documents that no reason drops."""
    on = after.select([*DOCUMENTS.names, "reason"])
    return (on.filter(pc.is_null(on["reason"])) if on["reason"].null_count < len(on) else on).select(DOCUMENTS.names)


def encode(before: pa.Table, after: pa.Table) -> pa.Table:
    """What a step changed: row and reason of each document that came back, its id and text where they are others."""
    rows = after["row"].to_numpy()
    pieces = np.bincount(rows, minlength=1)[rows] > 1    # a book is not to be compared with each of its passages
    pieces &= "copy" not in after.column_names
    original = _originals(before, rows, pieces)
    columns = {"row": pa.array(rows, pa.int32())}
    for name in ("id", "text"):
        kind = DOCUMENTS.field(name).type
        now = after[name].cast(kind)
        same = pc.fill_null(pc.equal(now, original[name]), False)
        same = pc.or_(same, pc.is_valid(after["reason"])) if name == "text" else same
        # not if_else: it keeps the bytes of texts that it makes null (pyarrow 25)
        columns[name] = now.take(pa.array(np.arange(len(now)), mask=same.to_numpy()))
    rest = {name: after[name] for name in after.column_names if name not in ("id", "text", "source", "row")}
    return pa.table({**columns, **rest}).combine_chunks()


def decode(before: pa.Table, changes: pa.Table) -> pa.Table:
    """The documents as the step gave them back; `encode` undone, but that one that is dropped has no text."""
    rows = changes["row"].to_numpy()
    now = _originals(before, rows, pc.or_(pc.is_valid(changes["text"]), pc.is_valid(changes["reason"])).to_numpy())
    named = before.select(["id", "source", "group"]).take(changes["row"])
    columns = {"id": pc.coalesce(changes["id"], named["id"]), "source": named["source"], "group": named["group"],
               "text": now["text"] if changes["text"].null_count == len(changes) else
               pc.coalesce(changes["text"], now["text"]), "row": changes["row"].cast(pa.int64())}
    if "group" in changes.column_names:
        columns["group"] = pc.coalesce(named["group"], changes["group"])    # what was put together stays together
    return pa.table({**columns, **{name: changes[name] for name in changes.column_names if name not in columns}})


def _originals(before: pa.Table, rows: np.ndarray, without: np.ndarray) -> pa.Table:
    """Id and text of these rows; null for those `without`."""
    there = before.select(["id", "text"])
    if len(rows) == len(before) and not without.any() and (rows == np.arange(len(rows))).all():
        return there
    return there.take(pa.array(rows, mask=without))


def _rows(shard: pa.Table) -> pa.Table:
    """What a step gets to see of a shard."""
    return shard.select(["id", "text", "source"]).append_column("row", pa.array(np.arange(len(shard))))


def _by_batch(judge: Callable[[pa.Table], pa.Table], rows: pa.Table) -> pa.Table:
    """Judge a shard in batches, whose rows count from 0."""
    ends = np.cumsum(pc.binary_length(rows["text"]).to_numpy()) // BATCH
    starts = [0, *(np.flatnonzero(np.diff(ends)) + 1).tolist(), len(rows)]
    made = []
    for start, stop in pairwise(starts):
        after = judge(_rows(rows.slice(start, stop - start)))
        if start and "row" in after.column_names:
            place = after.schema.get_field_index("row")
            after = after.set_column(place, "row", pc.add(after["row"], start))
        made.append(after)
    return pa.concat_tables(made, promote_options="permissive")


def _looked(number: int) -> str:
    return f"looked-{number:05d}"


def _verdict(number: int) -> str:
    return f"verdict-{number:05d}"
