"""Rebalance: documents resampled, so that groups of people are written of as much."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Literal

from engine.config import setting
from engine.corpus import STEPS, Looked, Whole

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

Axis = Literal["gender", "age", "disability", "nationality", "race", "religion"]


@STEPS.add("rebalance")
class Rebalance(Whole):
    """Repeats and leaves out documents by the group that they speak of most, of one axis of demographic terms.

    Equal: the groups' documents come to equally many bytes. Independent: each group's share is the same in every
    file, by the weights of Kamiran and Calders 2012 (Data preprocessing techniques for classification without
    discrimination, section 5.3), P(group) P(file) / P(group, file). Documents that name no group, or two as often,
    are left as they are. The amount of text stays about the same, less where `max_epochs` stops a small group.
    """

    mitigates: ClassVar[bool] = True
    axis: Axis = setting("gender", "Which groups are balanced")
    target: Literal["equal", "independent"] = setting(
        "equal", "equal: each group as much text; independent: each group's share the same in every file")
    max_epochs: float = setting(4.0, "Most often that a document is in the dataset", ge=1, le=100, unit="epochs")

    def look(self, batch: pa.Table) -> pa.Table:
        import pyarrow.compute as pc

        from engine.corpus.shares import notes

        coded = pc.dictionary_encode(batch["source"]).combine_chunks()
        return notes(batch, leaning(batch, self.axis)).append_column("source", coded)

    def decide(self, looked: Looked) -> Iterator[pa.Table]:
        import numpy as np

        from engine.corpus.shares import copies, epochs, gathered, table, verdicts
        from engine.corpus.terms import terms

        groups = list(terms().axes[self.axis])
        leans, sizes, keys = gathered(looked)
        taken = np.ones(len(leans), np.int32)
        some = leans >= 0
        amounts = np.bincount(leans[some], sizes[some], len(groups))
        if self.target == "equal":
            times = epochs(amounts.tolist(), [1.0] * len(groups), float(amounts.sum()), self.max_epochs)
            taken = copies(leans, sizes, keys, times)
        elif some.any():
            files: dict[str, int] = {}
            file = np.concatenate([np.array([files.setdefault(name, len(files)) for name in part["source"].to_pylist()],
                                            np.int64) for part in looked.tables(["source"])])
            kinds = np.where(some, leans * len(files) + file, -1)
            both = np.bincount(kinds[some], sizes[some], len(groups) * len(files)).reshape(len(groups), -1)
            fair = np.outer(both.sum(1), both.sum(0)) / both.sum()
            with np.errstate(divide="ignore", invalid="ignore"):
                times = np.minimum(np.where(both > 0, fair / both, 0), self.max_epochs)
            taken = copies(kinds, sizes, keys, times.reshape(-1).tolist())
        told = table("group", groups, leans, sizes, taken)
        yield from verdicts(looked, taken, f"more than the balance of {self.axis} has room for", told)

    def judge(self, batch: pa.Table, verdict: pa.Table) -> pa.Table:
        from engine.corpus.shares import repeated

        return repeated(batch, verdict)


def leaning(batch: pa.Table, axis: str) -> np.ndarray:
    """Of each document, the group of the axis that it names most; -1 for none, or for several alike."""
    import numpy as np

    from engine.corpus.bias import plain_vocabulary
    from engine.corpus.wordscan import scan

    v, words = plain_vocabulary(), scan(batch["text"])
    ids = v.numbers.of(words.keys)
    at, phrase = v.phrases_in(words, ids) if len(ids) else (np.empty(0, int), np.empty(0, int))
    row = np.repeat(np.arange(len(batch)), np.diff(words.firsts))
    counts = []
    for place, (its, _) in enumerate(v.groups):
        if its == axis:
            member = (v.group & np.uint64(1 << place)) > 0
            counts.append(np.bincount(row, member[ids], len(batch)) + np.bincount(row[at], member[phrase], len(batch)))
    table = np.stack(counts)
    most = table.max(0)
    alone = (table == most).sum(0) == 1
    return np.where(alone & (most > 0), table.argmax(0), -1).astype(np.int32)
