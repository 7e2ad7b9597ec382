"""Decontaminate: what evaluation sets hold must not be trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Literal

from engine.config import UserError, setting
from engine.corpus import STEPS, Source, Step

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

AROUND = 200
"""Characters that are cut away before and behind an overlap, and the shortest piece left (Brown et al. 2020)."""

TEXTS = 4096
"""Texts of an evaluation set that are split into words at once."""


@STEPS.add("decontaminate")
class Decontaminate(Step):
    """Takes out what overlaps with evaluation sets: runs of 13 words in common, as for GPT-3 (Brown et al. 2020).

    Words are compared without case and punctuation. Items of a set that are shorter than such a run
    cannot be found; a set that has no longer ones is refused. Memory is 16 bytes for each different run.
    """

    sets: tuple[Source, ...] = setting((), "Evaluation sets: files, folders or globs, of any format that a source has")
    ngram: int = setting(13, "Words that must follow one another in both", ge=3, le=100, unit="words")
    action: Literal["drop", "cut"] = setting(
        "drop", "Drop the document, or cut the overlap out of it with 200 characters on either side")

    def references(self) -> tuple[Source, ...]:
        return self.sets

    def begin_with(self, references: Mapping[str, Iterable[str]]) -> Callable[[pa.Table], pa.Table]:
        import numpy as np
        import pyarrow as pa

        from engine.corpus.words import runs, words

        names = list(references)
        known = [_runs_of(name, references[name], self.ngram) for name in names]
        together = np.concatenate([np.empty(0, np.uint64), *known])
        order = np.argsort(together, kind="stable")        # of a run in several sets, the first set is named
        hashes = together[order]
        set_of = np.repeat(np.arange(len(names)), [len(part) for part in known])[order]

        def decontaminate(batch: pa.Table) -> pa.Table:
            reasons: list[str | None] = [None] * len(batch)
            if not len(hashes):
                return batch.append_column("reason", pa.array(reasons, pa.large_string()))
            found, rows = runs(words(batch), self.ngram)
            at = np.minimum(np.searchsorted(hashes, found), len(hashes) - 1)
            hit = hashes[at] == found
            for row, name in zip(rows[hit][::-1].tolist(), set_of[at[hit]][::-1].tolist(), strict=True):
                reasons[row] = f"{self.ngram} words in a row of {names[name]}"
            judged = batch.append_column("reason", pa.array(reasons, pa.large_string()))
            return judged if self.action == "drop" else _cut(judged, hashes, self.ngram)

        return decontaminate


def _runs_of(name: str, texts: Iterable[str], n: int) -> np.ndarray:
    """The different runs of `n` words of an evaluation set."""
    import numpy as np
    import pyarrow as pa

    from engine.corpus.words import runs, words

    held: list[str] = []
    parts: list[np.ndarray] = []

    def take() -> None:
        table = pa.table({"text": pa.array(held, pa.large_string())})
        parts.append(np.unique(runs(words(table), n)[0]))
        held.clear()

    for text in texts:
        held.append(text)
        if len(held) == TEXTS:
            take()
    if held:
        take()
    found = np.unique(np.concatenate([np.empty(0, np.uint64), *parts]))
    if not len(found):
        raise UserError(f"{name} has no text of {n} words or more, so nothing can overlap with it; lower "
                        "decontaminate.ngram, or leave the set out.", where=name)
    return found


def _cut(judged: pa.Table, hashes: np.ndarray, n: int) -> pa.Table:
    """The dropped documents as the pieces that are left around the overlaps; dropped still if none is."""
    import pyarrow as pa
    import pyarrow.compute as pc

    rows: dict[str, list[object]] = {name: [] for name in judged.column_names}
    dropped = judged.filter(pc.is_valid(judged["reason"])).to_pylist()
    for row, cuts in zip(dropped, overlaps([row["text"] for row in dropped], hashes, n), strict=True):
        left = pieces(row["text"], cuts) if cuts else []
        made = [{**row, "reason": None, "text": text, "id": f"{row['id']}#{number}" if len(left) > 1 else row["id"]}
                for number, text in enumerate(left, 1)] or [row]
        for one in made:
            for name, value in one.items():
                rows[name].append(value)
    together = pa.concat_tables([judged.filter(pc.is_null(judged["reason"])), pa.table(rows, judged.schema)])
    return together.take(pc.sort_indices(together["row"]))


def overlaps(texts: list[str], hashes: np.ndarray, n: int) -> list[list[tuple[int, int]]]:
    """Where each text overlaps: first character of a run of `n` words that is among `hashes`, and end of its last."""
    import numpy as np
    import pyarrow as pa

    from engine.corpus.words import runs, spans

    found = []
    for text, places in zip(texts, spans(texts), strict=True):
        own = pa.array([[text[start:end].lower() for start, end in places]], pa.large_list(pa.large_string()))
        at = np.flatnonzero(np.isin(runs(own, n)[0], hashes)).tolist()
        found.append([(places[first][0], places[first + n - 1][1]) for first in at])
    return found


def pieces(text: str, cuts: list[tuple[int, int]]) -> list[str]:
    """What is left of a text around its overlaps, where it is long enough to be a document."""
    left, start = [], 0
    for first, last in [*cuts, (len(text) + AROUND, 0)]:
        if first - AROUND - start >= AROUND:
            left.append(text[start:first - AROUND].strip())
        start = max(start, last + AROUND)
    return left
