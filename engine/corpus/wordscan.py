"""Wordscan: the words of many texts as numbers, found in their bytes all at once.

A tenth of the time that column expressions take, since nothing is copied and no word becomes a string. A word is
letters and digits; letters are compared in small form, accented ones beyond Latin-1 as they stand; what general
punctuation (U+2000 to U+206F) stands between ends a word, as an apostrophe does.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

WIDEST = 24
"""Bytes of a word that tell it from others; longer ones are told apart by their length besides."""

_MIX = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F), np.uint64(0x165667B19E3779F9))
_HIGH = np.uint64(32)


_LETTERS = bytes(sign if sign >= 128 else ord(chr(sign).lower()) if chr(sign).isalnum() else 0 for sign in range(256))
"""Each byte as it is compared; 0 where it is no part of a word."""

_KEEP = np.array([(1 << 8 * length) - 1 for length in range(8)] + [2**64 - 1], np.uint64)


@dataclass(frozen=True)
class Words:
    """The words of some texts: N of them, in their order."""

    keys: np.ndarray                             # (N,) uint64, equal for equal words
    starts: np.ndarray                           # (N,) bytes into `letters`
    ends: np.ndarray                             # (N,)
    firsts: np.ndarray                           # (texts + 1,) where each text's words begin in the others
    letters: np.ndarray                          # the bytes as they were compared

    def __len__(self) -> int:
        return len(self.keys)

    def word(self, at: int) -> str:
        return self.letters[self.starts[at]:self.ends[at]].tobytes().decode("utf-8", "replace")


def scan(texts: pa.ChunkedArray | pa.Array) -> Words:
    """The words of texts."""
    whole = texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts
    whole = whole.cast(pa.large_string())
    _, offsets, data = whole.buffers()
    bounds = np.frombuffer(offsets, np.int64)[whole.offset:whole.offset + len(whole) + 1] if len(whole) else np.zeros(
        1, np.int64)
    raw = np.frombuffer(data, np.uint8)[bounds[0]:bounds[-1]] if data is not None else np.empty(0, np.uint8)
    bounds = bounds - bounds[0]
    letters = np.frombuffer(bytearray(raw.tobytes().translate(_LETTERS)) + bytes(WIDEST), np.uint8)
    _beyond_ascii(raw, letters)
    inside = letters[:len(raw)] != 0
    edge = np.empty(len(raw) + 1, bool)
    edge[0], edge[-1] = (inside[0], inside[-1]) if len(raw) else (False, False)
    np.not_equal(inside[1:], inside[:-1], out=edge[1:len(raw)]) if len(raw) else None
    starts, ends = _between(np.flatnonzero(edge), inside, bounds)
    return Words(_keys(letters, starts, ends), starts, ends, np.searchsorted(starts, bounds), letters)


def keys_of(words: Iterable[str]) -> np.ndarray:
    """The keys of single words."""
    found = scan(pa.array(list(words), pa.large_string()))
    assert (np.diff(found.firsts) == 1).all(), "each must be one word"
    return found.keys


def _between(edges: np.ndarray, inside: np.ndarray, bounds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Starts and ends of words; one that runs from a text into the next is two."""
    starts, ends = edges[0::2], edges[1::2]
    inner = bounds[1:-1]
    inner = inner[(inner > 0) & (inner < len(inside))]
    glued = np.unique(inner[inside[inner] & inside[inner - 1]])
    if len(glued):
        place = np.searchsorted(starts, glued)               # ends have it one earlier: the word ends where one begins
        starts, ends = np.insert(starts, place, glued), np.insert(ends, place - 1, glued)
    return starts, ends


def _beyond_ascii(raw: np.ndarray, letters: np.ndarray) -> None:
    """General punctuation and the signs of Latin-1 end a word; its capitals become small."""
    high = np.flatnonzero(raw >= 0xC2)           # the first bytes of characters; UTF-8 is whole, so more follow
    lead, after = raw[high], raw[high + 1]
    signs = high[(lead == 0xE2) & ((after == 0x80) | (after == 0x81))]
    latin = high[(lead == 0xC2) & (after != 0xAA) & (after != 0xB5) & (after != 0xBA)]
    for at in (signs, signs + 1, signs + 2, latin, latin + 1):
        letters[at] = 0
    capital = high[(lead == 0xC3) & (after >= 0x80) & (after <= 0x9E) & (after != 0x97)] + 1
    letters[capital] += 0x20


def _keys(letters: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    eights = np.ndarray((len(letters) - 7,), "<u8", buffer=letters, strides=(1,))    # 8 bytes from each one on
    length = ends - starts
    keys = (eights[starts] & _KEEP[np.minimum(length, 8)]) * _MIX[0]
    for part in (1, 2):
        long = np.flatnonzero(length > 8 * part)
        rest = eights[starts[long] + 8 * part] & _KEEP[np.minimum(length[long] - 8 * part, 8)]
        keys[long] ^= (rest + np.uint64(part)) * _MIX[part]
    wide = np.flatnonzero(length > WIDEST)
    keys[wide] += length[wide].astype(np.uint64)
    keys ^= keys >> _HIGH
    keys *= _MIX[2]
    return keys ^ keys >> _HIGH


class Numbering:
    """Numbers for some words, found again at a few nanoseconds a word; 0 is any other word."""

    def __init__(self, words: list[str]) -> None:
        self.words = ["", *words]
        self.keys = np.append(np.uint64(0), keys_of(words))
        left = np.arange(1, len(self.keys))
        self._tables: list[np.ndarray] = []
        while len(left):
            if len(self._tables) == 4:
                raise AssertionError("two words have one key")
            table = np.zeros(1 << 16, np.int16)
            slots = self._slots(self.keys[left], len(self._tables))
            table[slots[::-1]] = left[::-1]      # of two words in one slot the first stays
            self._tables.append(table)
            left = left[table[slots] != left]

    def __len__(self) -> int:
        return len(self.words)

    @staticmethod
    def _slots(keys: np.ndarray, level: int) -> np.ndarray:
        return (keys >> np.uint64(48 - 16 * level)) & np.uint64(0xFFFF)

    def of(self, keys: np.ndarray) -> np.ndarray:
        """The number of each word."""
        found = self._tables[0][self._slots(keys, 0)] if self._tables else np.zeros(len(keys), np.int16)
        left = np.flatnonzero(self.keys[found] != keys)
        found[left] = 0
        for level, table in enumerate(self._tables[1:], 1):
            guess = table[self._slots(keys[left], level)]
            right = self.keys[guess] == keys[left]
            found[left[right]] = guess[right]
            left = left[~right]
        return found
