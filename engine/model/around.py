"""Around: what a tokenizer puts before a text and after it, so that every client does the same.

tokenizer.json says it as a post-processor. tokenizer_config.json may say it as add_bos_token and add_eos_token, which
transformers lets count before the post-processor, which transformers.js asks for before it puts in a beginning, and
which all others leave unread. Torch-free.
"""

from __future__ import annotations

from typing import Any

WORDS = ("add_bos_token", "add_eos_token")


def agreed(tokenizer: dict[str, Any], settings: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The content of tokenizer.json and of tokenizer_config.json, changed where one does not say what the other does.

    `settings` has bos_token and eos_token as texts.
    """
    begin, end = (settings.get(name) for name in ("bos_token", "eos_token"))
    found = _around(tokenizer.get("post_processor"))
    if any(name in settings for name in WORDS):
        ids = _ids(tokenizer)
        wanted = tuple([token] if settings.get(word) and token in ids else []
                       for word, token in zip(WORDS, (begin, end), strict=True))
        return (tokenizer if wanted == found else {**tokenizer, "post_processor": _template(*wanted, ids)}), settings
    if found in (([begin], []), ([begin], [end])):
        return tokenizer, {**settings, "add_bos_token": True, **({"add_eos_token": True} if found[1] else {})}
    return tokenizer, settings


def _around(post: Any) -> tuple[list[str], list[str]]:
    """The special tokens before and after a text."""
    parts = post.get("processors") or [post] if isinstance(post, dict) else []
    for part in parts:
        if isinstance(part, dict) and part.get("type") == "TemplateProcessing":
            places = [piece.get("SpecialToken", {}).get("id") for piece in part.get("single") or []]
            at = places.index(None) if None in places else len(places)
            return places[:at], places[at + 1:]
    return [], []


def _template(before: list[str], after: list[str], ids: dict[str, int]) -> dict[str, Any]:
    """A post-processor, as the library `tokenizers` writes it."""
    def row(kind: int, text: str) -> list[dict[str, Any]]:
        return [*({"SpecialToken": {"id": token, "type_id": kind}} for token in before),
                {"Sequence": {"id": text, "type_id": kind}},
                *({"SpecialToken": {"id": token, "type_id": kind}} for token in after)]

    return {"type": "TemplateProcessing", "single": row(0, "A"), "pair": [*row(0, "A"), *row(1, "B")],
            "special_tokens": {token: {"id": token, "ids": [ids[token]], "tokens": [token]}
                               for token in [*before, *after]}}


def _ids(tokenizer: dict[str, Any]) -> dict[str, int]:
    vocabulary = tokenizer.get("model", {}).get("vocab")
    added = {token.get("content"): token.get("id") for token in tokenizer.get("added_tokens") or []}
    return {**(vocabulary if isinstance(vocabulary, dict) else {}), **added}
