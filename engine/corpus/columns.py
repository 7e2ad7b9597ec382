"""Column expressions: running them is the one thing that this project asks of Daft.

Daft is at 0.x, so what is peculiar to it stands here: no telemetry, no progress bar of its own,
rows in their order, pieces small enough for the processor's cache.
"""

from __future__ import annotations

import os
from collections.abc import Callable

os.environ.setdefault("DO_NOT_TRACK", "1")  # read when daft is imported
os.environ.setdefault("DAFT_PROGRESS_BAR", "0")
os.environ["DAFT_RUNNER"] = "native"  # within a Ray worker it takes Ray's, which gives rows back in another order

import daft
import pyarrow as pa
import pyarrow.compute as pc
from daft import Expression
from daft.functions import when

if "jemalloc" in pa.supported_memory_backends():
    pa.set_memory_pool(pa.jemalloc_memory_pool())  # shards of 32 MB come and go: 470 MB where mimalloc holds 620

MORSEL = 512
"""Rows that Daft works on at once: with documents of 4 kB three times as fast as its default of 131,072."""


def compute(batch: pa.Table, columns: dict[str, Expression]) -> pa.Table:
    """The named expressions over the columns of `batch`, row by row in its order."""
    with daft.execution_config_ctx(default_morsel_size=MORSEL):
        frame = daft.from_arrow(batch).select(*(column.alias(name) for name, column in columns.items()))
        return frame.to_arrow()


def judge(batch: pa.Table, edited: Callable[[Expression], Expression],
          reasons: Callable[[Expression], dict[str, Expression]]) -> pa.Table:
    """A step of column expressions on one batch: its documents with edited text, and `reason`.

    The reasons look at the edited text.
    """
    text = daft.col("text")
    if (changed := edited(text)) is not text:
        batch = with_text(batch, compute(batch, {"text": changed})["text"])
    why: Expression = daft.lit(None).cast(daft.DataType.string())
    for reason, holds in reversed(reasons(text).items()):
        why = when(holds, daft.lit(reason)).otherwise(why)
    return batch.append_column("reason", compute(batch, {"reason": why})["reason"])


def column(name: str) -> Expression:
    """The column of that name, as an expression."""
    return daft.col(name)


def each() -> Expression:
    """The item in hand, in what `list_map` does to each item of a list."""
    return daft.element()


def with_text(batch: pa.Table, text: pa.Array | pa.ChunkedArray) -> pa.Table:
    """The batch with another text in each row."""
    return batch.set_column(batch.schema.get_field_index("text"), "text", text)


def edit_where(batch: pa.Table, chosen: Expression, edit: Callable[[pa.Table], pa.Array | pa.ChunkedArray]) -> pa.Table:
    """The batch with other texts in the rows for which `chosen` holds: slow work is done on the rows that need it."""
    mask = compute(batch, {"chosen": chosen})["chosen"].combine_chunks()
    if not pc.any(mask).as_py():
        return batch
    text = batch["text"].combine_chunks()
    changed = edit(batch.filter(mask)).cast(text.type)
    changed = changed.combine_chunks() if isinstance(changed, pa.ChunkedArray) else changed
    return with_text(batch, pc.replace_with_mask(text, mask, changed))


def with_reasons(batch: pa.Table, reasons: dict[int, str]) -> pa.Table:
    """A judged batch with reasons for more of its rows; one that has a reason keeps it."""
    if not reasons:
        return batch
    why = [old or reasons.get(row) for row, old in enumerate(batch["reason"].to_pylist())]
    return batch.set_column(batch.schema.get_field_index("reason"), "reason", pa.array(why, pa.large_string()))
