"""Counterfactual: what is said of men said of women, and the other way round."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, Literal

from engine.config import setting
from engine.corpus import STEPS, Step

if TYPE_CHECKING:
    import pyarrow as pa


@STEPS.add("counterfactual")
class Counterfactual(Step):
    """Counterfactual augmentation: beside a document, the same one with women and men swapped (Lu et al. 2018).

    Both sides stay, so what goes with women goes with men as often. Pronouns, titles, words and first names are
    swapped, with grammar (`swap`; names as in Hall Maudslay et al. 2019). Substitute swaps half of the documents
    instead of adding to them, at no cost in text (ibid.). Document and counterfactual fall on one side of the split.
    English only. Put it after the steps that look for duplicates, which would take the two for copies.
    """

    mitigates: ClassVar[bool] = True
    how: Literal["add", "substitute"] = setting(
        "add", "add a swapped document beside each one that speaks of women or men, or substitute half of them")
    names: bool = setting(True, "Swap first names too")
    share: float = setting(1.0, "Share of documents that this is done to, chosen by a hash of their text", gt=0, le=1)

    def begin(self) -> Callable[[pa.Table], pa.Table]:
        import pyarrow as pa

        from engine.corpus.dedupe import digests
        from engine.corpus.swap import Swap

        swap, add = Swap(self.names), self.how == "add"
        fields = {"row": pa.int64(), "id": pa.string(), "text": pa.large_string(), "kinds": pa.list_(pa.string()),
                "added": pa.bool_(), "group": pa.uint64()}
        below = int(self.share * 2**32 * (1 if add else 0.5))

        def counterfactual(batch: pa.Table) -> pa.Table:
            made: list[tuple[int, str, str, list[str], bool, int | None]] = []
            rows = zip(batch["id"].to_pylist(), batch["text"].to_pylist(), digests(batch["text"]), strict=True)
            for row, (name, text, digest) in enumerate(rows):
                # Other bits than those by which the split is made: else what is swapped would all be on one side.
                chosen = int.from_bytes(digest[8:12], "big") < below
                other, kinds = swap(text) if chosen else ("", [])
                group = int.from_bytes(digest[:8], "big") if kinds and add else None
                if add or not kinds:
                    made.append((row, name, text, [], False, group))
                if kinds:
                    made.append((row, f"{name}~swapped" if add else name, other, kinds, add, group))
            columns = list(zip(*made, strict=True)) or [()] * len(fields)
            out = pa.table({field: pa.array(column, kind) for (field, kind), column in
                            zip(fields.items(), columns, strict=True)})
            return (out.append_column("source", batch["source"].take(out["row"]))
                    .append_column("reason", pa.nulls(len(out), pa.large_string())))

        return counterfactual
