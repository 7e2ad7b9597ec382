"""Speed: tokens per second of graphs, measured in turns so that a busy moment falls on all of them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from engine.inference.session import Session

ROUNDS = 3


def speeds(sessions: Mapping[str, Session], prompt_tokens: int, new_tokens: int,
           rounds: int = ROUNDS) -> dict[str, dict[str, Any]]:
    """For each session: prefill and decode tokens per second at batch 1, the best of the rounds.

    The best, since what else the machine does can only make a round slower. Sessions take turns.
    """
    ids = np.arange(prompt_tokens, dtype=np.int64)
    best = {name: [float("inf"), float("inf")] for name in sessions}
    for _ in range(rounds):
        for name, session in sessions.items():
            cache = session.cache(prompt_tokens + new_tokens)
            begun = time.perf_counter()
            logits = cache.read(ids % session.vocab_size)
            read = time.perf_counter()
            for _ in range(new_tokens):
                logits = cache.read(np.array([logits.argmax()]))
            taken = (read - begun, time.perf_counter() - read)
            best[name] = [min(pair) for pair in zip(best[name], taken, strict=True)]
    return {name: {"prefill_tokens_per_second": prompt_tokens / prefill, "tokens_per_second": new_tokens / decode}
            for name, (prefill, decode) in best.items()}
