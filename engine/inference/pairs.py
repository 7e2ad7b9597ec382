"""Pairs: two texts of which a reward model should prefer one, in a file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from engine.config import UserError
from engine.inference.scorer import Reader, TooLong

MOST_PAIRS = 512


class Pairs(NamedTuple):
    """Texts as token ids, two by two."""

    chosen: list[np.ndarray]        # each (T,) int64
    rejected: list[np.ndarray]
    text: str                       # "given", "held out" or "random": where they come from
    left_out: int = 0               # of the given ones, longer than the context

    @property
    def texts(self) -> list[np.ndarray]:
        """All chosen ones, then all rejected ones."""
        return [*self.chosen, *self.rejected]


def read_pairs(path: Path, reader: Reader) -> Pairs:
    """The first pairs of a JSONL file of `chosen` and `rejected`, and a `prompt` before both if there is one.

    Each is a text, or a list of messages ({"role", "content"}), as in TRL's preference records. Raises UserError
    that names the line.
    """
    chosen, rejected, left_out = list[np.ndarray](), list[np.ndarray](), 0
    try:
        with open(path, encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if len(chosen) == MOST_PAIRS or not line.strip():
                    continue
                texts = _record(line, f"{path} line {number}")
                if found := _read(texts, reader, f"{path} line {number}"):
                    chosen.append(found[0])
                    rejected.append(found[1])
                else:
                    left_out += 1
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} could not be read ({error}); pairs must be a JSONL file.",
                        where="pairs") from None
    if not chosen:
        raise UserError(f"{path} holds no pair that fits into the model's context of {reader.context_length} tokens; "
                        "give others.", where="pairs")
    return Pairs(chosen, rejected, "given", left_out)


def _record(line: str, where: str) -> tuple[Any, Any]:
    """The two whole texts of a record."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        raise UserError(f"{where} is no JSON; mend or remove it.", where="pairs") from None
    record = record if isinstance(record, dict) else {}
    prompt = record.get("prompt")
    made = []
    for name in ("chosen", "rejected"):
        text = record.get(name)
        before = type(text)() if prompt is None else prompt
        if not isinstance(text, str | list) or type(before) is not type(text):
            raise UserError(f"{where} has no {name} that is a text or a list of messages, like its prompt; mend or "
                            "remove it.", where="pairs")
        made.append(before + text)
    return made[0], made[1]


def _read(texts: Sequence[Any], reader: Reader, where: str) -> list[np.ndarray]:
    """The token ids of both; nothing if one is longer than the context."""
    made = []
    for text in texts:
        try:
            made.append(reader.ids(text))
        except TooLong:
            return []
        except UserError as error:
            raise UserError(f"{where}: {error.sentence}", where="pairs") from None
    return made
