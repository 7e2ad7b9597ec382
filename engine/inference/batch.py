"""Batch: several prompts written at once, padded on the left; the weights are read once for all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import psutil

from engine.inference.defaults import weigh
from engine.inference.sampling import cut, draw, probability
from engine.inference.text import Writing

if TYPE_CHECKING:
    from engine.inference.generator import Generator

MOST_ROWS = 16
MOST_READ = 8192            # tokens of a batch's prompts, which are read in one go
INEXACT = ("int8_dynamic",)
"""Graphs that scale the activations of a whole batch as one, so that a row's logits depend on its neighbours."""


class Written(NamedTuple):
    """One token of one of the prompts."""

    row: int
    id: int
    text: str
    probability: float      # that the model gave it, before temperature and cuts
    finish: str             # of the last one: "stop" or "length"


def write(model: Generator, rows: Sequence[np.ndarray], seeds: Sequence[int | None], max_new_tokens: int,
          temperature: float, top_k: int, top_p: float, stop: Sequence[str]) -> Iterator[Written]:
    """The tokens that follow rows of token ids (T,), all rows a step further at a time; each row has its own dice.

    A row may end before the others. All end when the context of the longest is full.
    """
    longest = max(map(len, rows))
    most = min(max_new_tokens, model.context_length - longest)
    ids, mask = np.zeros((len(rows), longest), np.int64), np.zeros((len(rows), longest), np.int64)
    for number, row in enumerate(rows):
        ids[number, longest - len(row):], mask[number, longest - len(row):] = row, 1
    dice = [np.random.default_rng(seed) for seed in seeds]
    writing = [Writing(model.tokenizer, row.tolist(), stop) for row in rows]
    over = [False] * len(rows)
    logits, past = model.step(ids, mask)
    known = [row.tolist() for row in rows]
    for count in range(1, most + 1):
        weighed = [weigh(row, known[n], model.repetition_penalty) for n, row in enumerate(logits)]
        taken = np.array([draw(cut(row, temperature, top_k, top_p), dice[n]) if temperature else int(row.argmax())
                          for n, row in enumerate(weighed)])
        for number, token in enumerate(taken.tolist()):
            known[number].append(token)
            if over[number]:
                continue
            ended = token in model.ends
            text = "" if ended else writing[number].add(token)
            finish = "stop" if ended or writing[number].stopped else "length" if count == most else ""
            if finish:
                over[number], text = True, text + writing[number].end()
                # What was held back may hold the stop string.
                finish = "stop" if writing[number].stopped else finish
            yield Written(number, token, text, probability(logits[number], token), finish)
        if all(over):
            return
        mask = np.concatenate([mask, np.ones((len(rows), 1), np.int64)], axis=1)
        logits, past = model.step(taken[:, None], mask, past)


def groups(model: Generator, rows: Sequence[np.ndarray], max_new_tokens: int) -> list[list[int]]:
    """Places of `rows` that may be written together so that each text is what its row alone would give.

    Rows of like length go together. Where the longest of a batch leaves less room in the context than a shorter one
    has for itself, and in graphs of the kinds `INEXACT`, a row goes alone. A batch's keys and values, which stand there
    twice while a step makes the new ones, take no more than half of the memory that is free.
    """
    room = psutil.virtual_memory().available / 2
    order = sorted(range(len(rows)), key=lambda place: len(rows[place]))
    found: list[list[int]] = []
    for place in order:
        last, length = found[-1] if found else [], len(rows[place])
        fits = bool(last) and len(last) < MOST_ROWS and model.precision not in INEXACT
        fits = fits and (len(last) + 1) * length <= MOST_READ
        kept = min(length + max_new_tokens, model.context_length)
        fits = fits and 2 * (len(last) + 1) * kept * model.token_bytes <= room
        if fits and (length == len(rows[last[0]]) or length + max_new_tokens <= model.context_length):
            last.append(place)
        else:
            found.append([place])
    return found
