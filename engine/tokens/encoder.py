"""Encoder: the ids that `tokenizers` would give, tens of times as fast where that is certain.

gigatoken reads a tokenizer.json of its own accord. That it gives the same ids was tried on every code point between
others, on noise, and on 210 MB of text; it is asked only for what was tried: byte-level BPE that cuts by one of
`PATTERNS`. Besides, the first texts are encoded both ways.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from tokenizers import Tokenizer, normalizers

from engine.tokens.tokenizer import end_of_text

GPT2 = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""What ByteLevel cuts by when it is given no pattern (Radford et al. 2019)."""

_TAIL = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_HEAD = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
PATTERNS = {GPT2, r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
            _HEAD + "{1,3}" + _TAIL,  # Llama 3 (Dubey et al. 2024), GPT-4
            _HEAD + _TAIL}            # Qwen 2 to 3 (Yang et al. 2024)
"""Patterns on which both agree for every code point."""

SAMPLE = 1 << 17  # characters that are encoded both ways before the fast way is trusted


class Encoder:
    """Texts to ids with one tokenizer, which must not be changed while it is in use.

    `fast` says whether gigatoken does the work; it turns False for good if it ever differs on the sample.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer, self.end = tokenizer, str(tokenizer.id_to_token(end_of_text(tokenizer)))
        self._sampled = 0
        self._quick = _Quick.of(tokenizer)

    @property
    def fast(self) -> bool:
        return self._quick is not None

    def __call__(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The ids of each text, (n,) uint32, nothing added around them.

        Special tokens that stand in a text are found, but the end of a text is not for a text to say:
        one that spells it is read with all of them as plain characters.
        """
        if self._quick is None:
            return self._slowly(texts)
        count = 0
        while self._sampled < SAMPLE and count < len(texts):
            self._sampled += len(texts[count]) + 1
            count += 1
        checked = self._slowly(texts[:count])
        if any(not np.array_equal(one, other)
               for one, other in zip(checked, self._quickly(self._quick, texts[:count]), strict=True)):
            self._quick = None
            return self._slowly(texts)
        return checked + self._quickly(self._quick, texts[count:])

    def _quickly(self, quick: _Quick, texts: Sequence[str]) -> list[np.ndarray]:
        able = [self.end not in text and quick.able(text) for text in texts]
        found = quick([text for text, fit in zip(texts, able, strict=True) if fit])
        left = [text for text, fit in zip(texts, able, strict=True) if not fit]
        ways = {True: iter(found), False: iter(self._slowly(left) if left else ())}
        return [next(ways[fit]) for fit in able]

    def _slowly(self, texts: Sequence[str]) -> list[np.ndarray]:
        encodings = self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        spelling = [i for i, text in enumerate(texts) if self.end in text]
        if spelling:
            self.tokenizer.encode_special_tokens = True
            try:
                for i in spelling:
                    encodings[i] = self.tokenizer.encode(texts[i], add_special_tokens=False)
            finally:
                self.tokenizer.encode_special_tokens = False
        return [np.array(encoding.ids, np.uint32) for encoding in encodings]


class _Quick:
    """gigatoken with a tokenizer's own vocabulary and merges."""

    def __init__(self, settings: dict[str, Any]) -> None:
        from gigatoken import Tokenizer as Gigatoken

        # It composes characters by another version of Unicode: `able` leaves what is to be composed to the library.
        self.composes = settings["normalizer"] and normalizers.NFC()
        self.gigatoken = Gigatoken.from_json(json.dumps({**settings, "normalizer": None}))

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> _Quick | None:
        """None for any tokenizer of which it is not certain that the ids would be the same."""
        settings = json.loads(tokenizer.to_str())
        added, model = settings["added_tokens"], settings["model"]
        plain = not any(token["lstrip"] or token["rstrip"] or token["single_word"] for token in added)
        odd = ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback")
        if model.get("type") != "BPE" or any(model.get(name) for name in odd) or not plain \
                or len({token["normalized"] for token in added}) > 1 or _pattern(settings["pre_tokenizer"]) is None \
                or settings["normalizer"] not in (None, {"type": "NFC"}):
            return None
        try:
            return cls(settings)
        except Exception:  # whatever it does not know
            return None

    def able(self, text: str) -> bool:
        """Whether the ids of this text are sure to be the same."""
        if text.isascii():
            return True
        try:
            text.encode()
        except UnicodeEncodeError:  # half a surrogate pair, which `tokenizers` refuses in words of its own
            return False
        return not self.composes or self.composes.normalize_str(text) == text

    def __call__(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The ids of each text, (n,) uint32."""
        import awkward

        if not texts:
            return []
        rows = self.gigatoken.encode_batch(texts)
        flat, counts = awkward.to_numpy(awkward.flatten(rows)), awkward.to_numpy(awkward.num(rows))
        return np.split(flat.astype(np.uint32, copy=False), np.cumsum(counts)[:-1])


def _pattern(pre: dict[str, Any] | None) -> str | None:
    """The pattern by which a byte-level pre-tokenizer cuts, if both engines are known to agree on it."""
    steps = pre["pretokenizers"] if pre and pre["type"] == "Sequence" else [pre or {"type": ""}]
    *splits, last = steps
    if last["type"] != "ByteLevel" or last.get("add_prefix_space", True):
        return None
    if not splits:
        return GPT2 if last.get("use_regex", True) else None
    if len(splits) > 1 or splits[0]["type"] != "Split" or last.get("use_regex", True):
        return None
    split = splits[0]
    pattern = split["pattern"].get("Regex")
    return pattern if pattern in PATTERNS and split["behavior"] == "Isolated" and not split["invert"] else None
