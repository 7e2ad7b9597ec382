"""Defaults: where a model begins, where it ends, and how it weighs repetition, as its bundle states it.

What generation_config.json states counts before what config.json does, as with the published classes. Temperature,
top-k and top-p are the caller's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from engine import files
from engine.inference.bundle import beside

FILE = "generation_config.json"
MOST_PENALTY = 1e6


class Defaults(NamedTuple):
    begin: int | None               # the token that begins a text, if one does
    ends: frozenset[int]            # the tokens that end a text or a turn
    repetition_penalty: float       # 1 is none


def defaults(bundle: Path, config: Mapping[str, Any]) -> Defaults:
    """What a bundle's generation_config.json and its config.json, given as `config`, state; nothing where they don't.

    Raises UserError for a damaged file.
    """
    path = beside(bundle, FILE)
    values = files.read_json(path) if path is not None else {}
    stated = {**config, **{name: value for name, value in values.items() if value is not None}} \
        if isinstance(values, dict) else config
    penalty = stated.get("repetition_penalty")
    if not isinstance(penalty, int | float) or isinstance(penalty, bool) or not 0 < penalty < MOST_PENALTY:
        penalty = 1
    begin = next(iter(_ids(stated.get("bos_token_id"))), None)
    return Defaults(begin, frozenset(_ids(stated.get("eos_token_id"))), float(penalty))


def _ids(value: Any) -> list[int]:
    return [number for number in (value if isinstance(value, list) else [value])
            if isinstance(number, int) and not isinstance(number, bool)]


def weigh(logits: np.ndarray, written: Sequence[int], penalty: float) -> np.ndarray:
    """Logits (V,) with those of tokens that were read or written already made smaller (Keskar et al. 2019)."""
    if penalty == 1:
        return logits
    made, places = logits.copy(), np.unique(np.asarray(written, np.int64))
    made[places] = np.where(made[places] < 0, made[places] * np.float32(penalty), made[places] / np.float32(penalty))
    return made
