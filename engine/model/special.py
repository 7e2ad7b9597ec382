"""Special: which tokens begin, end and pad a text, and how a model writes unless it is told otherwise.

    config.json               bos_token_id, eos_token_id, pad_token_id
    generation_config.json    the same, which count before those of config.json; temperature, top_p and the like

A chat model ends its turns with one token and its texts with another, so that eos_token_id may be a list. What a
checkpoint states is kept as it is; what was trained here has one token for all of it. Torch-free.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from engine import files

IDS = ("bos_token_id", "eos_token_id", "pad_token_id")
ENDS = ("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "<|im_end|>")
"""How tokenizers call the token that ends a text."""

SAMPLING = {"do_sample": True, "temperature": 0.8, "top_k": 0, "top_p": 1.0}
"""How what was trained here writes by default."""

UNSTATED = {"llama": (1, 2), "mistral": (1, 2), "gpt2": (50256, 50256)}
"""What the published classes take bos_token_id and eos_token_id to be where config.json leaves them out."""


class Special(NamedTuple):
    """What the two files state."""

    config: dict[str, Any]          # the three ids of config.json
    generation: dict[str, Any]      # the content of generation_config.json

    @property
    def ends(self) -> list[int]:
        """The ids that end a text or a turn, in their order."""
        return _listed(self._id("eos_token_id"))

    @property
    def begin(self) -> int | None:
        return next(iter(_listed(self._id("bos_token_id"))), None)

    @property
    def pad(self) -> int | None:
        return next(iter(_listed(self._id("pad_token_id"))), None)

    def _id(self, name: str) -> Any:
        found = self.generation.get(name)
        return self.config.get(name) if found is None else found


def own(end: int | None) -> Special:
    """Of a model that was trained here: `end` stands between its texts."""
    return Special({"bos_token_id": end, "eos_token_id": end, "pad_token_id": None},
                   {**dict.fromkeys(IDS, end), **SAMPLING})


def special(tokenizer: Path, vocab_size: int) -> Special:
    """What the checkpoint states that a tokenizer.json is of; of one by itself, `own` with the end that it names.

    Ids that the model has no row for are left out. Raises UserError for damaged files.
    """
    named = end_of(tokenizer)
    end = named[1] if named and _known(named[1], vocab_size) is not None else None
    if not tokenizer.with_name("config.json").exists():
        return own(end)
    values = _read(tokenizer.with_name("config.json"))
    unstated = dict(zip(IDS, UNSTATED.get(str(values.get("model_type")), ()), strict=False))
    config = {name: _known(values.get(name, unstated.get(name)), vocab_size) for name in IDS}
    stated = _read(tokenizer.with_name("generation_config.json"))
    generation = {**stated, **{name: _known(stated[name], vocab_size) for name in IDS if name in stated}}
    if not generation:      # as the published classes do
        generation = {name: number for name, number in config.items() if number is not None}
    if generation.get("temperature") and generation.items() <= own(end).generation.items():
        generation = own(end).generation
    found = Special(config, generation)
    if not found.ends and end is not None:      # a file that states none at all, beside a tokenizer that has one
        return Special({**config, "eos_token_id": end}, {**generation, "eos_token_id": end})
    return found


def end_of(tokenizer: Path) -> tuple[str, int] | None:
    """The token that ends a text, and its id, in a tokenizer.json; None if it names none.

    It is the one that tokenizer_config.json beside it calls so, or else the first of ENDS.
    """
    known = {token["content"]: token["id"] for token in added(tokenizer) if token.get("special")}
    called = text_of(_read(tokenizer.with_name("tokenizer_config.json")).get("eos_token"))
    return next(((name, known[name]) for name in (called, *ENDS) if isinstance(name, str) and name in known), None)


def added(tokenizer: Path) -> list[dict[str, Any]]:
    """The tokens of a tokenizer.json that are never split: content, id, special and more."""
    listed = _read(tokenizer).get("added_tokens")
    return [token for token in (listed if isinstance(listed, list) else []) if isinstance(token, dict)
            and isinstance(token.get("content"), str) and isinstance(token.get("id"), int)]


def text_of(token: Any) -> Any:
    """A special token's text: some tokenizer_config.json have it with how it is matched."""
    return token["content"] if isinstance(token, dict) and isinstance(token.get("content"), str) else token


def _read(path: Path) -> dict[str, Any]:
    values = files.read_json(path) if path.exists() else {}
    return values if isinstance(values, dict) else {}


def _listed(value: Any) -> list[int]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _known(value: Any, vocab_size: int) -> int | list[int] | None:
    """An id, or ids, as far as the model has rows for them."""
    right = [number for number in _listed(value)
             if isinstance(number, int) and not isinstance(number, bool) and 0 <= number < vocab_size]
    return right if isinstance(value, list) and right else next(iter(right), None)
