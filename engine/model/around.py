"""Around: what a tokenizer puts before a text and after it, said alike in both of its files. Torch-free.

tokenizer.json says it as a post-processor, and transformers goes by that. tokenizer_config.json may say it as
add_bos_token and add_eos_token: older versions of transformers went by those, and transformers.js puts in a beginning
only if they ask for it.
"""

from __future__ import annotations

from typing import Any

WORDS = {"add_bos_token": "bos_token", "add_eos_token": "eos_token"}


def agreed(tokenizer: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """The content of tokenizer_config.json, saying of the beginning and the end what tokenizer.json does.

    `settings` has bos_token and eos_token as texts.
    """
    does = {word: settings.get(name) in side and bool(side)
            for (word, name), side in zip(WORDS.items(), _around(tokenizer.get("post_processor")), strict=True)}
    return {**settings, **{word: done for word, done in does.items() if done or word in settings}}


def _around(post: Any) -> tuple[list[Any], list[Any]]:
    """The special tokens before and after a text."""
    parts = post.get("processors") or [post] if isinstance(post, dict) else []
    for part in parts if isinstance(parts, list) else []:
        if isinstance(part, dict) and part.get("type") == "TemplateProcessing":
            single = part.get("single") if isinstance(part.get("single"), list) else []
            places = [piece["SpecialToken"].get("id") if isinstance(piece, dict) and
                      isinstance(piece.get("SpecialToken"), dict) else None for piece in single]
            at = places.index(None) if None in places else len(places)
            return places[:at], places[at + 1:]
    return [], []
