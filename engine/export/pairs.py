"""Pairs: texts two by two, on which the export of a model that scores is proven where a person gave none."""

from __future__ import annotations

import numpy as np

from engine.export.held_out import HeldOut
from engine.inference.pairs import Pairs
from engine.model import ModelConfig

MADE_PAIRS = 16
LONGEST = 256       # tokens of a text
SEED = 7


def made_pairs(config: ModelConfig, held_out: HeldOut | None) -> Pairs:
    """Pairs of held-out texts, or of random tokens, that nobody has judged: an order must only be the same in both."""
    dice = np.random.default_rng(SEED)
    longest = min(config.context_length, LONGEST)
    lengths = dice.integers(max(1, longest // 4), longest + 1, 2 * MADE_PAIRS)
    if held_out is None or len(held_out.rows) < 2:
        texts = [dice.integers(0, config.vocab_size, length) for length in lengths]
        told = "random"
    else:
        rows = held_out.rows[np.arange(2 * min(MADE_PAIRS, len(held_out.rows) // 2))]
        texts = [row[:length] for row, length in zip(rows, lengths, strict=False)]
        told = "held out"
    half = len(texts) // 2
    return Pairs(texts[:half], texts[half:], told)
