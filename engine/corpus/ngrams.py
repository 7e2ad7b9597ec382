"""Runs of words that come again within a text, sought in all texts of a batch at once.

Counting runs of words text by text in Python reaches about 1 MB a second. Here words and runs are
64-bit hashes in numpy, sorted once for each length of run; two runs that differ look the same once
in 10^12 times, so the figures are bounds: what they suspect is to be counted exactly.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

BLANK, LETTER, SIGN, RUNNING = range(4)
_CLASS = np.full(256, LETTER, np.uint8)
_CLASS[[*range(33, 48), *range(58, 65), *range(91, 95), 96, *range(123, 127)]] = SIGN
_CLASS[[*range(9, 14), *range(28, 33)]] = BLANK
_CLASS[list(b"-.")] = RUNNING
_JOINS = np.isin(np.arange(256), list(b".,'@"))
"""What the bytes of a text are: blanks as for `str.split`, letters and digits, signs, those that come in runs, and
those that between two letters or digits are one too."""

BASE, SPREAD = np.uint64(0x5851F42D4C957F2D), np.uint64(0x9E3779B97F4A7C15)


class Runs:
    """The words of many texts. Results have one figure for each text, in characters.

    A word is a run of letters, digits and what is not ASCII, with single signs within such as that of 3.14; any
    other sign; or a run of full stops or hyphens. Memory is about 40 bytes for each byte of the texts.
    """

    def __init__(self, texts: pa.LargeStringArray) -> None:
        _, offsets, data = texts.buffers()
        bounds = np.frombuffer(offsets, np.int64)[texts.offset:texts.offset + len(texts) + 1]
        letters = np.frombuffer(data, np.uint8, bounds[-1] - bounds[0], bounds[0]) if data else np.zeros(0, np.uint8)
        bounds = bounds - bounds[0]
        starts, ends = _words(letters, bounds)
        characters = np.append(0, np.cumsum((letters & 0xC0) != 0x80))              # before each byte
        self.lengths = np.diff(characters[bounds])
        self._text = np.searchsorted(bounds, starts, "right") - 1                   # in which each word stands
        self._before = np.append(0, np.cumsum(characters[ends] - characters[starts]))   # letters before each word
        self._hashes = _hashes(letters, starts, ends)
        self._letters, self._starts, self._ends = letters, starts, ends

    def words(self, text: int) -> list[str]:
        """The words of one of the texts."""
        first, last = np.searchsorted(self._text, [text, text + 1]).tolist()
        return [bytes(self._letters[start:end]).decode("utf-8", "replace")
                for start, end in zip(self._starts[first:last], self._ends[first:last], strict=True)]

    def most_frequent(self, n: int) -> NDArray[np.int64]:
        """The most characters that any run of `n` words takes that comes at least twice."""
        hashes, places = self._sorted(n)
        first = np.flatnonzero(np.append(True, hashes[1:] != hashes[:-1])[:len(hashes)])
        times = np.diff(np.append(first, len(hashes)))
        at, times = places[first[times > 1]], times[times > 1]
        taken = np.zeros(len(self.lengths), np.int64)
        np.maximum.at(taken, self._text[at], times * (self._before[at + n] - self._before[at] + n - 1))
        return taken

    def repeated(self, n: int) -> NDArray[np.int64]:
        """The letters of the words that stand in a run of `n` words that stood before."""
        hashes, places = self._sorted(n)
        again = places[1:][hashes[1:] == hashes[:-1]]
        edges = np.zeros(len(self._text) + 1, np.int64)
        np.add.at(edges, again, 1)
        np.add.at(edges, again + n, -1)
        inside = np.cumsum(edges)[:-1] > 0
        return np.bincount(self._text, np.diff(self._before) * inside, len(self.lengths)).astype(np.int64)

    def _sorted(self, n: int) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """The hashes of all runs of `n` words within one text in order, and the words at which they begin."""
        num = max(0, len(self._hashes) - n + 1)
        run = self._text[:num].astype(np.uint64) * BASE
        for offset in range(n):
            run = run * SPREAD + self._hashes[offset:offset + num]
        run ^= run >> np.uint64(29)
        run *= BASE
        bits = np.uint64(num.bit_length())                  # hash above, place below: one sort orders both
        keys = run >> bits << bits | np.arange(num, dtype=np.uint64)
        keys = keys[self._text[:num] == self._text[n - 1:n - 1 + num]]
        keys.sort()
        return keys >> bits, (keys & ((np.uint64(1) << bits) - np.uint64(1))).astype(np.int64)


def _words(letters: NDArray[np.uint8], bounds: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where words start and end, in bytes; none goes from one text into the next."""
    kinds = _CLASS[letters]
    joins = np.zeros(len(letters) + 1, bool)
    joins[1:-2] = _JOINS[letters[1:-1]] & (kinds[:-2] == LETTER) & (kinds[2:] == LETTER)
    joins[bounds] = joins[bounds[1:] - 1] = False           # what joins two texts joins no word
    kinds[joins[:-1]] = LETTER
    ends_before = np.ones(len(letters) + 1, bool)           # whether a word cannot go on across a place
    ends_before[1:-1] = (kinds[1:] != kinds[:-1]) | (kinds[1:] == SIGN)
    ends_before[1:-1] |= (kinds[1:] == RUNNING) & (letters[1:] != letters[:-1])
    ends_before[bounds] = True
    inside = kinds != BLANK
    return np.flatnonzero(ends_before[:-1] & inside), np.flatnonzero(ends_before[1:] & inside) + 1


def _hashes(letters: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Of each word a polynomial in its bytes, all from one sum over the letters (Karp and Rabin 1987)."""
    powers = np.cumprod(np.full(len(letters) + 1, BASE))
    sums = np.append(np.uint64(0), np.cumsum((letters.astype(np.uint64) + np.uint64(1)) * powers[:-1]))
    found = (sums[ends] - sums[starts]) * powers[len(letters) - starts]
    return (found ^ found >> np.uint64(32)) * SPREAD


def most_frequent(words: Sequence[str], n: int) -> int:
    """The characters of the most frequent run of `n` words, if it comes twice: at most `Runs.most_frequent`."""
    (run, times), = Counter(" ".join(words[at:at + n]) for at in range(len(words) - n + 1)).most_common(1) or [("", 0)]
    return times * len(run) if times > 1 else 0


def repeated(words: Sequence[str], n: int) -> int:
    """The letters of the runs of `n` words that stood before, none counted twice: at most `Runs.repeated`."""
    seen: set[tuple[str, ...]] = set()
    taken = at = 0
    while at <= len(words) - n:
        run = tuple(words[at:at + n])
        if run in seen:
            taken += sum(map(len, run))
            at += n
        else:
            seen.add(run)
            at += 1
    return taken
