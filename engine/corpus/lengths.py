"""Lengths: how long texts are, counted in bins that grow with the length."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

FINEST, MOST_BINS = 16, 40                       # bins for each doubling of the length; bins shown


class Lengths:
    """A histogram of the characters of documents."""

    def __init__(self) -> None:
        self._counts = np.zeros(64 * FINEST, np.int64)

    def add(self, texts: pa.ChunkedArray) -> None:
        lengths = np.maximum(pc.utf8_length(texts).to_numpy(), 1)
        bins = np.floor(np.log2(lengths) * FINEST).astype(np.int64)
        self._counts += np.bincount(bins, minlength=len(self._counts))

    def histogram(self) -> dict[str, list[int]]:
        """`counts[i]` documents have from `edges[i]` to below `edges[i + 1]` characters."""
        filled = np.flatnonzero(self._counts)
        if not len(filled):
            return {"edges": [], "counts": []}
        first, last = int(filled[0]), int(filled[-1]) + 1
        width = -(-(last - first) // MOST_BINS)
        starts = np.arange(first, last, width)
        counts = np.add.reduceat(self._counts[first:last], starts - first)
        edges = np.ceil(2.0 ** (np.append(starts, starts[-1] + width) / FINEST)).astype(np.int64)
        own = np.append(np.diff(edges) > 0, True)           # short lengths have more bins than whole numbers
        return {"edges": edges[own].tolist(), "counts": counts[own[:-1]].tolist()}


def num_bytes(texts: pa.ChunkedArray) -> int:
    """The UTF-8 bytes of a column of texts."""
    return pc.sum(pc.binary_length(texts)).as_py() or 0
