"""Asked: what a request in OpenAI's words means here, and the answer in the same words."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from engine.config import UserError
from engine.inference.generator import Generator, Prompt, Token

MOST_TEXTS = 128                # prompts times `n` of one request
MOST_REPEATS = 16
MOST_ALTERNATIVES = 100
MOST_NUMBER = 10**12
DEFAULT_TOKENS = 16             # of a completion that states none, as there
UNKNOWN = {"presence_penalty": 0, "frequency_penalty": 0, "logit_bias": None, "best_of": 1, "suffix": "",
           "tools": None, "functions": None, "response_format": {"type": "text"}}
"""What is asked for there and not done here, with the values that ask for nothing."""


@dataclass(frozen=True)
class Asked:
    """One request, checked."""

    prompts: tuple[Prompt, ...]
    settings: dict[str, Any]    # of Generator.tokens
    chat: bool
    repeats: int                # texts for each prompt
    stream: bool
    tell_usage: bool
    logprobs: int               # alternatives that are told at each token; -1: nothing is
    prompt_tokens: int
    model: str = ""             # the name that was asked for; empty for whichever is served

    def texts(self) -> Iterator[tuple[Prompt, Asked]]:
        """Each text to write: its prompt, and the request with a seed of its own."""
        for prompt in self.prompts:
            for number in range(self.repeats):
                seed = self.settings["seed"]
                own = None if seed is None else seed + number
                yield prompt, replace(self, settings={**self.settings, "seed": own})

    def usage(self, written: int) -> dict[str, int]:
        return {"prompt_tokens": self.prompt_tokens, "completion_tokens": written,
                "total_tokens": self.prompt_tokens + written}


def reading(body: bytes, model: Generator, chat: bool) -> Asked:
    """The request in a body. Raises UserError that names the field for what is wrong or not done here."""
    try:
        given = json.loads(body)
    except (ValueError, RecursionError):
        raise UserError("the request is no JSON.") from None
    if not isinstance(given, dict):
        raise UserError("the request must be a JSON object.")
    name = given.get("model") or ""
    if not isinstance(name, str):
        raise UserError("model must be a name; see /v1/models.", where="model")
    for field, nothing in UNKNOWN.items():
        if given.get(field, nothing) not in (nothing, None, [], {}):
            raise UserError(f"{field} is not done here; leave it out.", where=field)
    if (echo := given.get("echo") is True) and chat:
        raise UserError("echo is not done for chats; leave it out, or ask for a completion.", where="echo")
    prompts: tuple[Prompt, ...] = (model.chat(_list(given, "messages")),) if chat else _prompts(given, model)
    repeats, stream = _number(given, "n", 1, int), given.get("stream") is True
    if not (1 <= repeats <= MOST_REPEATS and repeats * len(prompts) <= MOST_TEXTS):
        raise UserError(f"{repeats:.6g} texts for each of {len(prompts)} prompts are asked for; it must be from 1 to "
                        f"{MOST_REPEATS}, and at most {MOST_TEXTS} together.", where="n")
    counts = [len(model.encode(prompt, room=0)) for prompt in prompts]
    room = model.context_length - max(counts)
    length = "max_tokens" if given.get("max_completion_tokens") is None else "max_completion_tokens"
    most = _number(given, length, room if chat else DEFAULT_TOKENS, int)
    least = 0 if echo else 1
    model.encode(prompts[counts.index(max(counts))], room=0 if echo and most == 0 else 1)
    if most < least:
        raise UserError(f"{length} is {most}; it must be at least {least}.", where=length)
    stop = given.get("stop") or []
    stop = [stop] if isinstance(stop, str) else stop
    if not isinstance(stop, list) or len(stop) > 16 or not all(isinstance(s, str) for s in stop):
        raise UserError("stop must be a text or at most 16 texts.", where="stop")
    shown = _logprobs(given, chat)
    if shown > MOST_ALTERNATIVES:
        raise UserError(f"logprobs can tell at most {MOST_ALTERNATIVES} alternatives at each token; ask for fewer.",
                        where="top_logprobs" if chat else "logprobs")
    seed = given.get("seed")
    if seed is not None and (not isinstance(seed, int) or isinstance(seed, bool)):
        raise UserError("seed must be a whole number.", where="seed")
    settings = {"max_new_tokens": most, "temperature": _number(given, "temperature", 1.0),
                "top_p": _number(given, "top_p", 1.0), "top_k": _number(given, "top_k", 0, int),
                "seed": None if seed is None else abs(seed), "stop": stop, "alternatives": max(0, shown),
                "echo": echo, "ends": model.turn_ends if chat else ()}
    options = given.get("stream_options")
    tell = stream and isinstance(options, dict) and options.get("include_usage") is True
    return Asked(tuple(prompts), settings, chat, repeats, stream, tell, shown, sum(counts) * repeats, name)


def _prompts(given: dict[str, Any], model: Generator) -> tuple[Prompt, ...]:
    prompt = given.get("prompt", "")
    many = prompt if isinstance(prompt, list) and not _are_ids(prompt) else [prompt]
    if not many or not all(isinstance(item, str) or _are_ids(item) for item in many):
        raise UserError("prompt must be a text, several texts, token ids or several lists of token ids.",
                        where="prompt")
    return tuple(item if isinstance(item, str) else tuple(item) for item in many)


def _are_ids(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(item) is int for item in value)


def _list(given: dict[str, Any], name: str) -> list[Any]:
    found = given.get(name)
    if not isinstance(found, list):
        raise UserError(f"{name} must be a list.", where=name)
    return found


def _number(given: dict[str, Any], name: str, otherwise: Any, kind: type = float) -> Any:
    value = given.get(name)
    if value is None:
        return otherwise
    if isinstance(value, bool) or not isinstance(value, int if kind is int else (int, float)):
        raise UserError(f"{name} must be a {'whole ' if kind is int else ''}number.", where=name)
    if abs(value) > MOST_NUMBER:
        raise UserError(f"{name} is too large; it must be a number up to {MOST_NUMBER:g}.", where=name)
    return value


def _logprobs(given: dict[str, Any], chat: bool) -> int:
    if chat:
        return _number(given, "top_logprobs", 0, int) if given.get("logprobs") is True else -1
    return _number(given, "logprobs", -1, int)


# The answer -------------------------------------------------------------------------------------------


def choice(asked: Asked, number: int, tokens: Sequence[Token]) -> dict[str, Any]:
    """One text, whole."""
    text = "".join(token.text for token in tokens)
    said = {"message": {"role": "assistant", "content": text}} if asked.chat else {"text": text}
    return {"index": number, **said, "finish_reason": tokens[-1].finish, "logprobs": _told(asked, tokens)}


def delta(asked: Asked, number: int, token: Token) -> dict[str, Any]:
    """One token of a text that streams."""
    said = {"delta": {"content": token.text}} if asked.chat else {"text": token.text}
    return {"index": number, **said, "finish_reason": token.finish or None, "logprobs": _told(asked, [token])}


def _told(asked: Asked, tokens: Sequence[Token]) -> dict[str, Any] | None:
    if asked.logprobs < 0:
        return None
    if asked.chat:
        return {"content": [{**_entry(token.text, token.probability), "top_logprobs": [
            _entry(text, share) for _, text, share in token.alternatives]} for token in tokens]}
    starts, place = [], 0
    for token in tokens:
        starts.append(place)
        place += len(token.text)
    # Nothing stands before the first token of a prompt, so nothing says how likely it is.
    return {"tokens": [token.text for token in tokens], "text_offset": starts,
            "token_logprobs": [None if math.isnan(token.probability) else _log(token.probability) for token in tokens],
            "top_logprobs": [None if math.isnan(token.probability) else _named(token) for token in tokens]}


def _named(token: Token) -> dict[str, float]:
    """Alternatives by their text; parts of characters look alike, so the others of a text have their id with it."""
    found: dict[str, float] = {}
    for number, text, share in token.alternatives:
        found[text if text not in found else f"{text}#{number}"] = _log(share)
    return found


def _entry(text: str, share: float) -> dict[str, Any]:
    return {"token": text, "logprob": _log(share), "bytes": list(text.encode())}


def _log(share: float) -> float:
    return math.log(max(share, 1e-300))
