"""Prompts: a set of them, from a file or one a line, written by one model; a row of the report for each."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from engine import files
from engine.config import UserError

if TYPE_CHECKING:
    from engine.inference.generator import Generator

MOST_BYTES = 64 << 20
Row = dict[str, Any]


class Prompt(NamedTuple):
    """One prompt, or why its line holds none."""

    text: str
    problem: str = ""


def lines(text: str) -> list[Prompt]:
    """One prompt a line; empty lines are none."""
    return [_whole(line, f"line {number}") for number, line in enumerate(text.splitlines(), 1) if line.strip()]


def read(path: Path) -> list[Prompt]:
    """The prompts of a file: the lines of a .txt, or of a .jsonl a string or a record with `prompt` on each line.

    A line that holds no prompt is told in its place, and the others are read. Raises UserError for a file that cannot
    be read or holds nothing.
    """
    if path.suffix.lower() not in (".txt", ".jsonl"):
        raise UserError(f"{path} is neither a .txt nor a .jsonl file; give one prompt a line.", where="prompts")
    try:
        files.require_size(path, MOST_BYTES)
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} could not be read ({getattr(error, 'strerror', None) or error}); prompts must be a "
                        "text file in UTF-8.", where="prompts") from None
    found = lines(text) if path.suffix.lower() == ".txt" else [
        _record(line, f"line {number}") for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not found:
        raise UserError(f"{path} holds no prompt; write one a line.", where="prompts")
    return found


def _record(line: str, where: str) -> Prompt:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return Prompt(line[:200], f"{where} is no JSON; mend or remove it.")
    text = record.get("prompt") if isinstance(record, dict) else record
    if not isinstance(text, str):
        return Prompt(line[:200], f"{where} has no prompt that is a text; mend or remove it.")
    return _whole(text, where)


def _whole(text: str, where: str) -> Prompt:
    """The prompt, unless it holds half a character (a lone surrogate), which no file can keep."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return Prompt(text[:200].encode(errors="replace").decode(), f"{where} holds half a character; mend or remove "
                                                                    "it.")
    return Prompt(text)


def write(model: Generator, prompts: Sequence[Prompt], seed: int, halted: Callable[[], bool] = lambda: False,
          **settings: Any) -> Iterator[Row]:
    """A row for each prompt, as it is done: see `_row`; prompt number n has the seed `seed` + n.

    Prompts are written in batches where that gives the text that each alone would give (`batch.groups`). One that the
    model refuses, or cannot finish, has its sentence as `error`, and the others go on. `halted` is looked at between
    tokens; what is unfinished then is told as far as it came. Raises UserError for settings out of range. `settings`:
    max_new_tokens, temperature, top_k, top_p, stop.
    """
    from engine.inference import batch

    model.check(**{name: value for name, value in settings.items() if name != "stop"})
    stop = settings.get("stop", ())
    asked = {"max_new_tokens": 128, "temperature": 0.8, "top_k": 0, "top_p": 1.0, **settings,
             "stop": [stop] if isinstance(stop, str) else list(stop)}
    places, ids = list[int](), list[np.ndarray]()
    for number, prompt in enumerate(prompts):
        problem = prompt.problem
        if not problem:
            try:
                ids.append(model.encode(prompt.text))
                places.append(number)
            except UserError as error:
                problem = error.sentence
        if problem:
            yield _row(number, prompt.text, seed + number, [], 0.0, problem)
    for group in batch.groups(model, ids, asked["max_new_tokens"]):
        begun = time.perf_counter()
        made: list[list[Any]] = [[] for _ in group]
        problem = ""
        try:
            for row, token in _tokens(model, prompts, group, places, ids, seed, asked):
                made[row].append(token)
                if halted():
                    break
        except UserError as error:
            problem = error.sentence
        seconds = (time.perf_counter() - begun) / len(group)
        for each, tokens in zip(group, made, strict=True):
            number = places[each]
            if problem and not (tokens and tokens[-1].finish):
                yield _row(number, prompts[number].text, seed + number, [], 0.0, problem)
            else:
                yield _row(number, prompts[number].text, seed + number, tokens, seconds)
        if halted():
            return


def _tokens(model: Generator, prompts: Sequence[Prompt], group: Sequence[int], places: Sequence[int],
            ids: Sequence[np.ndarray], seed: int, asked: Mapping[str, Any]) -> Iterator[tuple[int, Any]]:
    from engine.inference import batch

    if len(group) == 1:     # whose cache is not made anew at every step
        number = places[group[0]]
        return ((0, token) for token in model.tokens(prompts[number].text, seed=seed + number, **asked))
    found = batch.write(model, [ids[each] for each in group], [seed + places[each] for each in group], **asked)
    return ((token.row, token) for token in found)


def _row(number: int, prompt: str, seed: int, tokens: Sequence[Any], seconds: float, error: str = "") -> Row:
    """`surprise`: mean nats of the tokens that were taken; `repeated`: share of tokens that stood there before;
    `seconds`: this prompt's share of its batch's time."""
    taken = [token.id for token in tokens]
    surprises = [-math.log(max(1e-9, token.probability)) for token in tokens]
    return {"number": number, "prompt": prompt, "text": "".join(token.text for token in tokens),
            "tokens": len(tokens), "surprise": sum(surprises) / max(1, len(tokens)),
            "repeated": 1 - len(set(taken)) / max(1, len(taken)), "seconds": seconds, "seed": seed,
            "finish": tokens[-1].finish if tokens else "", "error": error}
