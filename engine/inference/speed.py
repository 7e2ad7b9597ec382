"""Speed: how fast graphs read and write, measured in turns so that a busy moment falls on all of them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from engine.inference.session import Session

ROUNDS = 3


class Turn(NamedTuple):
    """One prompt that was read and one text that was written, greedily."""

    first: float            # seconds from the prompt to the first new token
    rest: float             # seconds for the tokens after it
    tokens: list[int]


def turn(session: Session, prompt_tokens: int, new_tokens: int) -> Turn:
    """Read the tokens 0, 1, 2 … and write `new_tokens`, at batch 1; what the tokens are makes no difference here."""
    begun = time.perf_counter()
    cache = session.cache(prompt_tokens + new_tokens - 1)      # the last token is written and not read
    tokens = [int(cache.read(np.arange(prompt_tokens) % session.vocab_size).argmax())]
    first = time.perf_counter()
    while len(tokens) < new_tokens:
        tokens.append(int(cache.read(np.array(tokens[-1:])).argmax()))
    return Turn(first - begun, time.perf_counter() - first, tokens)


def best(turns: Iterable[Turn], prompt_tokens: int, new_tokens: int) -> dict[str, float]:
    """Tokens per second of prefill and decode, and seconds to the first token: the best of the turns.

    The best, since what else the machine does can only make a turn slower.
    """
    turns = list(turns)
    first, rest = min(t.first for t in turns), min(t.rest for t in turns)
    return {"prefill_tokens_per_second": prompt_tokens / first, "tokens_per_second": (new_tokens - 1) / rest,
            "first_token_seconds": first}


def speeds(sessions: Mapping[str, Session], prompt_tokens: int, new_tokens: int,
           rounds: int = ROUNDS) -> dict[str, dict[str, Any]]:
    """`best` of each session, the sessions taking turns. `new_tokens` is at least 2."""
    turns: dict[str, list[Turn]] = {name: [] for name in sessions}
    for _ in range(rounds):
        for name, session in sessions.items():
            turns[name].append(turn(session, prompt_tokens, new_tokens))
    return {name: best(made, prompt_tokens, new_tokens) for name, made in turns.items()}
