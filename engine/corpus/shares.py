"""Shares: documents repeated or left out, so that each kind of them makes up a given share of the text.

How often the text of a kind is in the dataset is its number of epochs. Every document of a kind is there as often as
the whole part of it says, and some of them once more, until the rest is filled: those that come first by a hash of
their text. So nothing depends on chance, and shares are met to within half a document.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from engine.corpus import Looked

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa


def epochs(sizes: Sequence[float], weights: Sequence[float], budget: float, most: float) -> list[float]:
    """How often each kind of text is taken, so that shares of `budget` go by `weights` and none is taken oftener
    than `most`; what these leave is shared out among the others, as by UniMax (Chung et al. 2023)."""
    found = [0.0] * len(sizes)
    left = [at for at, size in enumerate(sizes) if size]
    while left:
        whole = sum(weights[at] for at in left)
        wanted = {at: budget * weights[at] / whole / sizes[at] for at in left}
        full = [at for at in left if wanted[at] > most]
        for at in full or left:
            found[at] = min(wanted[at], most)
            budget -= found[at] * sizes[at]
        left = [at for at in left if at in wanted and at not in full] if full else []
    return found


def copies(kinds: np.ndarray, sizes: np.ndarray, keys: np.ndarray, times: Sequence[float]) -> np.ndarray:
    """How often each document is taken; those of kind -1 once."""
    import numpy as np

    taken = np.ones(len(kinds), np.int32)
    for kind, often in enumerate(times):
        own = np.flatnonzero(kinds == kind)
        own = own[np.argsort(keys[own], kind="stable")]
        whole = int(often)
        taken[own] = whole
        filled = np.cumsum(sizes[own])
        goal = (often - whole) * (filled[-1] if len(filled) else 0)
        taken[own[(filled - sizes[own] / 2) < goal - 1e-9]] += 1
    return taken


def notes(batch: pa.Table, kinds: np.ndarray) -> pa.Table:
    """What a step that gives shares notes of a batch: the kind of each document, its bytes, and its hash."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    from engine.corpus.dedupe import digests

    keys = np.frombuffer(b"".join(digest[:8] for digest in digests(batch["text"])), ">u8").astype(np.uint64)
    return pa.table({"kind": pa.array(kinds, pa.int32()), "key": pa.array(keys),
                     "size": pc.binary_length(batch["text"]).cast(pa.int64())})


def gathered(looked: Looked) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Kind, bytes and hash of every document."""
    import numpy as np

    tables = list(looked.tables(["kind", "size", "key"]))
    none = [np.empty(0, np.int64)]
    kinds, sizes, keys = (np.concatenate([*(table[name].to_numpy() for table in tables), *none[:not tables]])
                          for name in ("kind", "size", "key"))
    return kinds, sizes, keys


def verdicts(looked: Looked, taken: np.ndarray, left_out: str, told: dict[str, Any]) -> Iterator[pa.Table]:
    """The verdict on each batch; the first one also carries what is told of the shares."""
    import pyarrow as pa

    begin = 0
    for table in looked.tables(["size"]):
        own = taken[begin:begin + len(table)]
        verdict = pa.table({"copy": pa.array(own, pa.int32()), "reason": pa.array(
            [None if count else left_out for count in own.tolist()], pa.large_string())})
        yield verdict if begin else verdict.replace_schema_metadata({"shares": json.dumps(told)})
        begin += len(table)


def repeated(batch: pa.Table, verdict: pa.Table) -> pa.Table:
    """The batch with its documents as often as the verdict says: those that are left out with their reason, and the
    copies of others as `name~2`, `name~3`."""
    import numpy as np
    import pyarrow as pa

    often = np.maximum(verdict["copy"].to_numpy(), 1)
    rows = np.repeat(np.arange(len(batch)), often)
    number = np.arange(len(rows)) - np.repeat(np.cumsum(often) - often, often) + 1
    out = batch.take(pa.array(rows))
    ids = [name if place == 1 else f"{name}~{place}" for name, place in
           zip(out["id"].to_pylist(), number.tolist(), strict=True)]
    out = out.set_column(out.schema.get_field_index("id"), "id", pa.array(ids, pa.string()))
    return (out.append_column("reason", verdict["reason"].take(pa.array(rows)))
            .append_column("copy", pa.array(number.astype(np.int32))))


def table(of: str, names: Sequence[str], kinds: np.ndarray, sizes: np.ndarray, taken: np.ndarray,
          weights: Sequence[float] | None = None) -> dict[str, Any]:
    """What is told: for each kind its documents, bytes and share as they came and as they go on, and its epochs."""
    import numpy as np

    came = np.bincount(kinds + 1, sizes, len(names) + 1)
    went = np.bincount(kinds + 1, sizes * taken, len(names) + 1)
    rows = []
    for at, name in enumerate(["", *names]):
        if not came[at]:
            continue
        own = kinds == at - 1
        rows.append({"name": name or "neither", "documents_in": int(own.sum()), "documents_out": int(taken[own].sum()),
                     "bytes_in": int(came[at]), "bytes_out": int(went[at]),
                     "share_in": round(float(came[at] / came.sum()), 4),
                     "share_out": round(float(went[at] / max(1, went.sum())), 4),
                     "epochs": round(float(went[at] / came[at]), 4),
                     **({"weight": weights[at - 1]} if weights is not None and at else {})})
    return {"of": of, "rows": rows}
