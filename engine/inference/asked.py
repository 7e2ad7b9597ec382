"""Asked: what a request in OpenAI's words means here, and the answer in the same words."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from engine.config import UserError
from engine.inference.generator import Generator, Rendered, Token

MOST_TEXTS = 16                 # prompts times `n` of one request
DEFAULT_TOKENS = 16             # of a completion that states none, as there
UNKNOWN = {"presence_penalty": 0, "frequency_penalty": 0, "logit_bias": None, "best_of": 1, "suffix": None,
           "tools": None, "functions": None, "echo": False}
"""What is asked for there and not done here, with the values that ask for nothing."""


@dataclass(frozen=True)
class Asked:
    """One request, checked."""

    prompts: tuple[str, ...]
    settings: dict[str, Any]    # of Generator.tokens
    chat: bool
    repeats: int                # texts for each prompt
    stream: bool
    tell_usage: bool
    logprobs: int               # alternatives that are told at each token; -1: nothing is
    prompt_tokens: int
    model: str = ""             # the name that was asked for; empty for whichever is served

    def texts(self) -> Iterator[tuple[str, Asked]]:
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
    prompts = (model.chat(_list(given, "messages")),) if chat else _prompts(given, model)
    repeats, stream = _number(given, "n", 1, int), given.get("stream") is True
    if not 1 <= repeats * len(prompts) <= MOST_TEXTS:
        raise UserError(f"{repeats * len(prompts)} texts are asked for; it must be from 1 to {MOST_TEXTS}.", where="n")
    counts = [len(model.encode(prompt)) for prompt in prompts]
    room = model.context_length - max(counts)
    length = "max_tokens" if given.get("max_completion_tokens") is None else "max_completion_tokens"
    most = _number(given, length, room if chat else DEFAULT_TOKENS, int)
    if most < 1:
        raise UserError(f"{length} is {most}; it must be at least 1.", where=length)
    stop = given.get("stop") or []
    stop = [stop] if isinstance(stop, str) else stop
    if not isinstance(stop, list) or len(stop) > 16 or not all(isinstance(s, str) for s in stop):
        raise UserError("stop must be a text or at most 16 texts.", where="stop")
    shown = _logprobs(given, chat)
    seed = given.get("seed")
    if seed is not None and (not isinstance(seed, int) or isinstance(seed, bool)):
        raise UserError("seed must be a whole number.", where="seed")
    settings = {"max_new_tokens": most, "temperature": _number(given, "temperature", 1.0),
                "top_p": _number(given, "top_p", 1.0), "top_k": _number(given, "top_k", 0, int),
                "seed": None if seed is None else abs(seed), "stop": stop, "alternatives": max(0, shown)}
    options = given.get("stream_options")
    tell = stream and isinstance(options, dict) and options.get("include_usage") is True
    return Asked(tuple(prompts), settings, chat, repeats, stream, tell, shown, sum(counts) * repeats, name)


def _prompts(given: dict[str, Any], model: Generator) -> tuple[str, ...]:
    prompt = given.get("prompt", "")
    many = prompt if isinstance(prompt, list) else [prompt]
    if many and many is prompt and all(isinstance(item, int) and not isinstance(item, bool) for item in many):
        if not all(0 <= item < model.vocab_size for item in many):
            raise UserError(f"prompt holds a token that is none of the model's {model.vocab_size}.", where="prompt")
        return (Rendered(model.tokenizer.decode(many, skip_special_tokens=False)),)
    if not many or not all(isinstance(item, str) for item in many):
        raise UserError("prompt must be a text, several texts or token ids.", where="prompt")
    return tuple(many)


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
    return value


def _logprobs(given: dict[str, Any], chat: bool) -> int:
    if chat:
        return _number(given, "top_logprobs", 0, int) if given.get("logprobs") is True else -1
    return _number(given, "logprobs", -1, int)


# The answer -------------------------------------------------------------------------------------------


def choice(asked: Asked, number: int, prompt: str, tokens: Sequence[Token]) -> dict[str, Any]:
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
    return {"tokens": [token.text for token in tokens], "text_offset": starts,
            "token_logprobs": [_log(token.probability) for token in tokens],
            "top_logprobs": [_named(token) for token in tokens]}


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
