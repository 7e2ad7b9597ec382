"""Association: how much more often words stand near a group than chance would have it, and how sure that is.

Normalised pointwise mutual information (Bouma 2009): with p(w) the share of words that are w, p(g) the share
of words that stand in a block mentioning the group g, and p(w, g) the share of both,

    npmi = ln(p(w, g) / (p(w) p(g))) / -ln p(w, g)

1: never apart, 0: as often as by chance, -1: never together. The difference between two groups of an axis is the
association gap of Aka et al. 2021 (Measuring Model Biases in the Absence of Ground Truth).

Intervals are 95 % ones of the delete-a-group jackknife (Quenouille 1956; Kott 2001) over documents, long ones in
stretches: words of one document resemble each other, so intervals that take words for independent would be too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

FOLDS = 16
"""Groups of documents, of which each is left out once."""

STUDENT = 2.1314
"""The 97.5 % point of Student's distribution with FOLDS - 1 degrees of freedom."""


def npmi(both: np.ndarray, word: np.ndarray, group: np.ndarray, words: np.ndarray) -> np.ndarray:
    """From counts that broadcast together; nan where word or group never occurs, -1 where they never meet."""
    both, word, group, words = (np.asarray(count, float) for count in (both, word, group, words))
    with np.errstate(divide="ignore", invalid="ignore"):
        share = both / words
        value = np.log(share * words * words / (word * group)) / -np.log(share)
    value = np.where((both == 0) & (word > 0) & (group > 0), -1.0, value)
    value = np.where((both == words) & (both > 0), 1.0, value)
    return np.clip(value, -1, 1)


def estimate(of: Callable[..., np.ndarray], *counts: np.ndarray, seen: np.ndarray
             ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`of` the counts over all folds, and the ends of its interval; counts have the folds as their first axis, and `of`
    lets any first axes be.

    The ends are nan where in fewer than half the folds something was `seen`: so few documents tell nothing of others.
    """
    value = np.asarray(of(*(count.sum(0) for count in counts)), float)
    without = of(*(count.sum(0) - count for count in counts))
    spread = without - without.mean(0)
    error = STUDENT * np.sqrt((FOLDS - 1) / FOLDS * (spread**2).sum(0))
    error = np.where((seen > 0).sum(0) >= FOLDS // 2, error, np.nan)
    return value, value - error, value + error


def share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part/whole; nan where there is nothing."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(part, float) / whole


def told(value: float, low: float, high: float, limits: tuple[float, float]) -> dict[str, Any]:
    """A figure with its interval as JSON has it: no more digits than anyone reads, None for what is not known."""
    def plain(number: float) -> float | None:
        return round(min(max(float(number), limits[0]), limits[1]), 4) if math.isfinite(number) else None

    return {"value": plain(value), "low": plain(low), "high": plain(high)}
