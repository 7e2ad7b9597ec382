"""MinHash: which of many documents resemble one another, by short signatures alone (Broder 1997).

Two signatures agree in as large a share of their numbers as the two sets of shingles have in common of their
union (Jaccard's similarity). Bands of a few numbers find the pairs (Leskovec et al. 2020, chapter 3); the whole
signatures, of each number its lowest 8 bits (Li and König 2010), say how much they resemble each other.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

CERTAIN = 0.95
"""Probability with which a pair of just the target similarity is to become a candidate."""

CHANCE = 1 / 256
"""Share of numbers that agree in their lowest 8 bits though they are others."""

PAIRS = 1 << 16
"""Pairs whose signatures are compared at once."""


def banding(similarity: float, num_hashes: int) -> tuple[int, int]:
    """Bands and rows of a band: the longest bands that find pairs of the target similarity with CERTAIN-ty."""
    for rows in range(num_hashes, 0, -1):
        bands = num_hashes // rows
        if float(candidate(similarity, bands, rows)) >= CERTAIN:
            return bands, rows
    return num_hashes, 1


def candidate(similarity: np.ndarray | float, bands: int, rows: int) -> np.ndarray:
    """The S-curve: the probability that a pair of this similarity agrees in at least one band."""
    return 1 - (1 - np.asarray(similarity, np.float64) ** rows) ** bands


def found(similarity: np.ndarray | float, target: float, num_hashes: int) -> np.ndarray:
    """The probability that a pair of this similarity is called near-duplicate: it agrees in a band, and in at
    least the target share of all numbers."""
    bands, rows = banding(target, num_hashes)
    share = np.atleast_1d(np.asarray(similarity, np.float64))[:, None]
    agree = _binomial(rows, share)
    no_band = agree.copy()
    no_band[:, rows] = 0                                                  # of these, no band agrees in all its rows
    every, without = np.ones_like(share), np.ones_like(share)
    for _ in range(bands):
        every, without = _sum(every, agree), _sum(without, no_band)
    rest = _binomial(num_hashes - bands * rows, share)
    both = _sum(every - without, rest)
    enough = int(np.ceil(num_hashes * target - 1e-9))
    return np.clip(both[:, enough:].sum(axis=1).reshape(np.shape(similarity)), 0, 1)


def _binomial(number: int, share: np.ndarray) -> np.ndarray:
    """Probabilities of 0 to `number` successes, one row for each share."""
    chances = np.ones_like(share)
    for _ in range(number):
        chances = _sum(chances, np.concatenate([1 - share, share], axis=1))
    return chances


def _sum(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Probabilities of the sum of two independent counts, row by row."""
    both = np.zeros((len(one), one.shape[1] + other.shape[1] - 1))
    for place in range(other.shape[1]):
        both[:, place:place + one.shape[1]] += one * other[:, place:place + 1]
    return both


def band_keys(signatures: np.ndarray, bands: int, rows: int) -> np.ndarray:
    """64 bits for each band of each signature, (N, bands) from (N, num_hashes) uint32; equal if the rows are."""
    keys = np.zeros((len(signatures), bands), np.uint64)
    parts = signatures[:, :bands * rows].reshape(-1, bands, rows).astype(np.uint64)
    for row in range(rows):
        keys = (keys ^ parts[:, :, row]) * np.uint64(0x9E3779B97F4A7C15)
        keys ^= keys >> np.uint64(29)
    return keys


def alike(short: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The estimated similarity of pairs of documents, from the lowest bytes of their signatures, (N, num_hashes)."""
    shares = np.empty(len(left), np.float32)
    for start in range(0, len(left), PAIRS):
        part = slice(start, start + PAIRS)
        shares[part] = (short[left[part]] == short[right[part]]).mean(axis=1)
    return np.maximum((shares - CHANCE) / (1 - CHANCE), 0)


def clusters(num_documents: int, bands: int, keys_of: Callable[[int], np.ndarray], short: np.ndarray,
             similarity: float) -> np.ndarray:
    """For each document the first one of its cluster, itself if it stands alone, (N,).

    `keys_of(band)` gives the keys of all documents. A candidate joins two clusters only if the signatures are
    as similar as asked, since chance candidates would chain unlike documents together.
    """
    first = np.arange(num_documents)
    for band in range(bands):
        left, right = candidates(keys_of(band))
        apart = first[left] != first[right]
        left, right = left[apart], right[apart]
        near = alike(short, left, right) >= similarity
        first = join(first, left[near], right[near])
    return first


def candidates(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of documents with the same key: each with the first one, and each with the one before it."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    same = np.flatnonzero(ordered[1:] == ordered[:-1]) + 1
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    begun = starts[np.searchsorted(starts, same, side="right") - 1]
    beyond = same - 1 > begun                                             # the second's pair is the same both ways
    return (np.concatenate([order[begun], order[same - 1][beyond]]),
            np.concatenate([order[same], order[same][beyond]]))


def join(first: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The clusters after each of these pairs was put into one: connected components, named by their first member."""
    first = first.copy()
    while len(left):
        one, other = first[left], first[right]
        apart = one != other
        left, right, one, other = left[apart], right[apart], one[apart], other[apart]
        np.minimum.at(first, np.maximum(one, other), np.minimum(one, other))
        while not np.array_equal(further := first[first], first):
            first = further
    return first
