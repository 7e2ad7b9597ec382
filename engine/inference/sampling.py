"""Sampling: one token out of the logits."""

from __future__ import annotations

import math

import numpy as np


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities (V,), float64, so that they add up to one over any vocabulary."""
    shares = np.exp(logits.astype(np.float64) - logits.max())
    return shares / shares.sum()


def probability(logits: np.ndarray, token: int) -> float:
    """The share that `softmax` gives one token, without the others' shares: a vocabulary is long."""
    shifted = logits - logits.max()
    chosen = float(shifted[token])
    return math.exp(chosen) / float(np.exp(shifted, out=shifted).sum(dtype=np.float64))


def cut(logits: np.ndarray, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0) -> np.ndarray:
    """The probabilities (V,) to draw from: 0 for what top-k (Fan et al. 2018) and top-p leave out.

    Logits are divided by `temperature`; the `top_k` likeliest stay (0: all); of these the fewest that
    hold `top_p` of the probability, at least one (Holtzman et al. 2020).
    """
    scores = logits / np.float32(temperature)
    if 0 < top_k < len(scores):
        # Of several at the threshold the first ones stay, so that never more than k do.
        stays = np.argsort(-scores, kind="stable")[:top_k]
        kept = np.full_like(scores, -np.inf)
        kept[stays] = scores[stays]
        scores = kept
    shares = softmax(scores)
    if top_p < 1:
        order = np.argsort(-shares, kind="stable")
        ordered = shares[order]
        before = np.cumsum(ordered) - ordered
        shares[order[1:][before[1:] >= top_p]] = 0
        shares /= shares.sum()
    return shares


def draw(shares: np.ndarray, dice: np.random.Generator) -> int:
    """An index drawn with the probabilities `shares` (V,)."""
    ends = np.cumsum(shares)
    found = int(np.searchsorted(ends, dice.random() * ends[-1], side="right"))
    return min(found, int(np.flatnonzero(shares)[-1]))  # rounding must not reach past the last one possible
