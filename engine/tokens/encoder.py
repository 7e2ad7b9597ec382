"""Encoder: the ids that `tokenizers` would give, several times as fast where that is certain.

tiktoken merges whatever pair makes a known token, the lowest rank first; `tokenizers` merges the pairs that it
was told of, in their order. The two agree on every text if each token, encoded alone, comes out as itself:
a pair can stand side by side only where both its ends were left alone by all earlier merges, so what lies
between them was merged as it would have been alone. `_ranks` checks that of every token, with `tokenizers`
as the judge. What is then left to differ is how a text is cut into words: only patterns known to both are
taken, and the first texts are encoded both ways.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from tokenizers import Tokenizer, models

from engine.tokens.tokenizer import end_of_text

GPT2 = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""What ByteLevel cuts by when it is given no pattern (Radford et al. 2019)."""

_TAIL = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_HEAD = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
PATTERNS = {GPT2, r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
            _HEAD + "{1,3}" + _TAIL,  # Llama 3 (Dubey et al. 2024), GPT-4
            _HEAD + _TAIL}            # Qwen 2 to 3 (Yang et al. 2024)
"""Patterns on which both regular expression engines agree for every code point."""

LETTERS = {letter: byte for byte, letter in enumerate(
    [chr(256 + n) for n in range(33)] + [chr(n) for n in range(33, 127)] + [chr(256 + n) for n in range(33, 67)]
    + [chr(n) for n in range(161, 173)] + [chr(323)] + [chr(n) for n in range(174, 256)])}
"""The letter with which a byte-level vocabulary writes each byte, and the byte (Radford et al. 2019)."""

SAMPLE = 1 << 17  # characters that are encoded both ways before the fast way is trusted
THREADS = 4


class Encoder:
    """Texts to ids with one tokenizer, which must not be changed while it is in use.

    `fast` says whether tiktoken does the work; it turns False for good if it ever differs on the sample.
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
        if len(texts) > 1:
            with ThreadPoolExecutor(THREADS) as pool:
                found = list(pool.map(lambda text: None if self.end in text else quick(text), texts))
        else:
            found = [None if self.end in text else quick(text) for text in texts]
        left = [place for place, ids in enumerate(found) if ids is None]
        for place, ids in zip(left, self._slowly([texts[place] for place in left]), strict=True):
            found[place] = ids
        return found

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
    """tiktoken on a tokenizer's own merges."""

    def __init__(self, ranks: dict[bytes, int], ids: np.ndarray, pattern: str, added: dict[str, int],
                 composed: bool) -> None:
        import tiktoken

        self.ids, self.added, self.composed = ids, added, composed
        self.tiktoken = tiktoken.Encoding("own", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
        # Where one literal begins another, the longer one counts, as in `tokenizers`.
        longest_first = sorted(added, key=len, reverse=True)
        self.literals = re.compile("|".join(map(re.escape, longest_first))) if added else None

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> _Quick | None:
        """None for any tokenizer of which it is not certain that the ids would be the same."""
        settings = json.loads(tokenizer.to_str())
        pattern, normalizer = _pattern(settings["pre_tokenizer"]), settings["normalizer"]
        added = settings["added_tokens"]
        plain = not any(token["lstrip"] or token["rstrip"] or token["single_word"] for token in added)
        if pattern is None or not plain or len({token["normalized"] for token in added}) > 1:
            return None
        if normalizer is not None and normalizer != {"type": "NFC"}:
            return None
        found = _ranks(settings["model"], {token["content"] for token in added})
        if found is None:
            return None
        return cls(*found, pattern, {token["content"]: token["id"] for token in added}, normalizer is not None)

    def __call__(self, text: str) -> np.ndarray | None:
        """The ids, (n,) uint32; None where `tokenizers` should be asked."""
        if self.composed and not unicodedata.is_normalized("NFC", text):
            return None
        try:
            text.encode()
            return self._split(text) if self.literals and self.literals.search(text) else self._plain(text)
        except UnicodeEncodeError:  # half a surrogate pair, of which tiktoken would make something else
            return None
        except BaseException as error:  # a run of a million blanks is more than its regular expressions can take
            if isinstance(error, (KeyboardInterrupt, SystemExit)):
                raise
            return None

    def _plain(self, text: str) -> np.ndarray:
        # encode_to_numpy looks for special tokens too, and takes twice as long.
        return self.ids[np.array(self.tiktoken.encode_ordinary(text), np.int64)]

    def _split(self, text: str) -> np.ndarray:
        """Each literal of an added token is that token; what lies between is text of its own."""
        assert self.literals is not None
        parts, done = [], 0
        for hit in self.literals.finditer(text):
            parts += [self._plain(text[done:hit.start()]), np.array([self.added[hit.group()]], np.uint32)]
            done = hit.end()
        return np.concatenate([*parts, self._plain(text[done:])])


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


def _ranks(model: dict[str, Any], added: set[str]) -> tuple[dict[bytes, int], np.ndarray] | None:
    """The bytes of each token by its place in the order of merges, and the id at each place; None if not certain."""
    odd = ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback")
    if model.get("type") != "BPE" or any(model.get(name) for name in odd):
        return None
    vocab: dict[str, int] = model["vocab"]
    merges = [tuple(merge.split(" ") if isinstance(merge, str) else merge) for merge in model["merges"]]
    places = {letter: byte for letter, byte in LETTERS.items() if letter in vocab}
    last = ""
    for left, right in merges:
        made = left + right
        if made not in vocab or left not in places or right not in places or (made in places and made != last):
            return None  # parts come before the whole, and the ways to make one token stand together
        if made not in places:
            places[made] = len(places)
        last = made
    if len(places) != len(LETTERS) + len({left + right for left, right in merges}) \
            or set(vocab) - set(places) - added or (model.get("ignore_merges") and set(vocab) - set(places)):
        return None
    judge = models.BPE(vocab=vocab, merges=merges)
    for token in list(places)[len(LETTERS):]:
        if [part.id for part in judge.tokenize(token)] != [vocab[token]]:
            return None
    ranks = {bytes(LETTERS[letter] for letter in token): place for token, place in places.items()}
    return ranks, np.array([vocab[token] for token in places], np.uint32)
