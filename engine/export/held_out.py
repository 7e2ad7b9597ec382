"""Held out: the text on which a proof is made and a cost is measured, of the run's own validation split."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from engine import files
from engine.model import ModelConfig
from engine.tokens.shards import Shards

LONGEST = 1024      # of a long context; attention in PyTorch takes the square of it


class HeldOut(NamedTuple):
    """Rows of text that the model was not trained on."""

    rows: np.ndarray        # (R, T) int64, each from the token that ends a text into the beginning of the next
    num_bytes: float        # that the targets, all tokens but the first of each row, stand for


def held_out(tokens: Path | None, config: ModelConfig, most_tokens: int) -> HeldOut | None:
    """Rows of at most `most_tokens` tokens in all, if the validation text is still there and of this vocabulary.

    A row begins where a document does, as texts do that a user writes: windows cut anywhere would
    measure how well the model guesses what was cut off. Rows don't overlap.
    """
    if tokens is None or not (tokens / files.MANIFEST).exists():
        return None
    shards = Shards(tokens, "val")
    length = min(config.context_length, LONGEST, shards.num_tokens, most_tokens)
    if shards.vocab_size > config.vocab_size or length < 2:
        return None
    starts = [int(start) for start in shards.starts[:-1] if start + length - 1 <= shards.num_tokens]
    wanted = max(1, most_tokens // length)
    apart: list[int] = []
    for start in starts:
        if not apart or start >= apart[-1] + length - 1:
            apart.append(start)
    chosen = np.unique(np.linspace(0, len(apart) - 1, min(wanted, len(apart))).round().astype(int))
    texts = shards.windows(np.array(apart)[chosen], length - 1)
    rows = np.column_stack([np.full(len(texts), shards.end_of_text, np.int64), texts])
    return HeldOut(rows, shards.count_bytes(texts))
