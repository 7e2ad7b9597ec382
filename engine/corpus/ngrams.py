"""Runs of words that come again within a text, sought in all texts of a batch at once.

Counting runs of words text by text in Python reaches about 1 MB a second. Here words and runs are
64-bit hashes in numpy, sorted once for each length of run. The figures for all texts are bounds; what they
suspect is counted text by text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from engine.corpus.columns import column, compute, edit_where
from engine.corpus.filter import SIGN, UNSPACED

LONGEST = 1_000_000
"""Characters of a document whose words are looked at."""

PIECE = 1 << 19
"""Bytes of text whose words are counted at once, a document more or less: they fit the processor's cache."""

APART = f"[{UNSPACED}]|{SIGN}"
"""What is a word by itself and no ASCII sign: letters of scripts that set no blanks between words, and signs."""

RARE_BLANKS = r"[\x{85}\p{Z}&&[^ ]]"

SEEN, UPPER, LOWER, DIGIT, EDGE, OPENS, STOPS, CLOSES, JOINS, LINKS, COUNTS, QUOTE, DOT, DASH = (
    1 << bit for bit in range(14))
_IS = np.zeros(256, np.int16)
for _kind, _bytes in (
        (SEEN, {*range(256)} - {*range(9, 14), *range(28, 33)}),    # no blank, as for `str.split`
        (UPPER, range(65, 91)), (LOWER, [*range(97, 123), *range(128, 256)]), (DIGIT, range(48, 58)),
        (EDGE, b",:;!?()[]{}<>_#*&'\"`"),                          # stands apart at either end of what blanks part
        (OPENS, b"%=+$"), (CLOSES, b"%+$"),                         # at the beginning; behind a digit at the end
        (STOPS, b"%-+"),                                            # a full stop behind it, as behind EDGE, ends
        (JOINS, b",~"), (LINKS, b":<>=/-"), (COUNTS, b"+-*^"),      # stand apart within: see `_words`
        (QUOTE, b"'\""), (DOT, b"."), (DASH, b"-")):
    _IS[list(_bytes)] |= _kind
"""What each byte of a text is; letters that are not ASCII count as small ones."""

ABBREVIATIONS = b"Mr Mrs Ms Dr St Jr Mt vs Inc Ltd Co Corp Prof Gen Rev Gov Sen Rep".split()

BASE, SPREAD = np.uint64(0x5851F42D4C957F2D), np.uint64(0x9E3779B97F4A7C15)


def split(batch: pa.Table) -> Iterator[tuple[int, Runs]]:
    """The words of the documents, piece by piece, with the row at which each piece begins."""
    odd = column("text").regexp(f"{APART}|{RARE_BLANKS}") | (column("text").length() > LONGEST)
    text = edit_where(batch, odd, _blanks_between_words)["text"].combine_chunks()
    ends = np.cumsum(pc.binary_length(text).to_numpy())
    cuts = np.unique(np.searchsorted(ends, np.arange(0, ends[-1] if len(ends) else 0, PIECE)))
    for first, last in pairwise([*cuts.tolist(), len(text)]):
        yield first, Runs(text.slice(first, last - first))


def with_counts(batch: pa.Table, names: Sequence[str]) -> pa.Table:
    """The batch with these of `Runs.counts` as columns."""
    counted = [runs.counts() for _, runs in split(batch)]
    for name in names:
        found = [part[name] for part in counted]
        batch = batch.append_column(name, [np.concatenate(found) if found else np.zeros(0, np.int64)])
    return batch


def _blanks_between_words(rows: pa.Table) -> pa.ChunkedArray:
    """The texts with blanks around what is a word by itself, and not longer than they are looked at."""
    text = column("text").left(LONGEST).regexp_replace(r"(\pL)’(\pL)", "$1'$2")
    text = text.regexp_replace(f"({APART})", " $1 ").regexp_replace(RARE_BLANKS, " ")
    return compute(rows, {"text": text})["text"]


class Runs:
    """The words of many texts. Results have one figure for each text, in characters.

    Words are those of spaCy's English rules (Honnibal et al. 2020), but for the most of its exceptions: of what
    stands between two blanks, signs at either end are words by themselves, a run of full stops is one; within,
    signs part words only between certain letters or digits, so that foo(bar) is cut before its last sign alone.
    Memory is about 60 bytes for each byte of the texts.
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

    def counts(self) -> dict[str, NDArray[np.int64]]:
        """Of each text: its words, those that are more than signs (solid) and their letters, those with a letter."""
        letter, digit = (np.append(0, np.cumsum(_IS[self._letters] & kind > 0)) for kind in (UPPER | LOWER, DIGIT))
        alphabetic = letter[self._ends] > letter[self._starts]
        solid = alphabetic | (digit[self._ends] > digit[self._starts])
        every = np.ones(len(self._text), np.int64)
        weights = {"words": every, "solid": solid, "letters": np.diff(self._before) * solid, "alphabetic": alphabetic}
        return {name: np.bincount(self._text, of_word, len(self.lengths)).astype(np.int64)
                for name, of_word in weights.items()}

    def most_frequent(self, n: int, least: int = 2) -> NDArray[np.int64]:
        """The most characters that any run of `n` words takes that comes at least `least` times."""
        hashes, places = self._sorted(n)
        first = np.flatnonzero(np.append(True, hashes[1:] != hashes[:-1])[:len(hashes)])
        times = np.diff(np.append(first, len(hashes)))
        at, times = places[first[times >= least]], times[times >= least]
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

    def most_frequent_of(self, text: int, n: int, least: int) -> int:
        """The characters of one text's most frequent run of `n` words, the first of several, if it comes at least
        `least` times: at most `most_frequent`."""
        first, hashes = self._of(text, n)
        if not len(hashes):
            return 0
        _, begins, times = np.unique(hashes, return_index=True, return_counts=True)
        most = times.max()
        at = first + begins[times == most].min()
        return int(most * (self._before[at + n] - self._before[at] + n - 1)) if most >= least else 0

    def repeated_of(self, text: int, n: int) -> int:
        """The letters of one text's runs of `n` words that stood before, none counted twice: at most `repeated`."""
        first, hashes = self._of(text, n)
        seen: set[int] = set()
        taken = at = 0
        runs = hashes.tolist()
        while at < len(runs):
            if runs[at] in seen:
                taken += int(self._before[first + at + n] - self._before[first + at])
                at += n
            else:
                seen.add(runs[at])
                at += 1
        return taken

    def _of(self, text: int, n: int) -> tuple[int, NDArray[np.uint64]]:
        """The first word of a text, and the hashes of its runs of `n` words in their order."""
        first, last = np.searchsorted(self._text, [text, text + 1]).tolist()
        num = max(0, last - first - n + 1)
        runs = np.zeros(num, np.uint64)
        for offset in range(n):
            runs = runs * SPREAD + self._hashes[first + offset:first + offset + num]
        return first, runs

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
    here = np.append(_IS[letters], np.int16(0))             # one blank beyond the end
    seen = here > 0
    first = seen.copy()                                     # of what stands between two blanks
    first[1:] &= ~seen[:-1]
    first[bounds] = seen[bounds]
    last = np.append(seen[:-1] & (first | ~seen)[1:], False)
    before, after = np.roll(here, 1), np.roll(here, -1)
    before[first] = after[last] = 0                         # what joins two texts joins no word
    dot, run = here & DOT > 0, here & DOT & (before | after) > 0

    place = np.arange(len(here), dtype=np.int32)
    opens = (here & EDGE > 0) | run | (here & OPENS > 0) & ~((here & COUNTS > 0) & (after & DIGIT > 0))
    begun = np.maximum.accumulate(np.where(first, place, 0))
    opens &= np.maximum.accumulate(np.where(opens, -1, place)) < begun
    closes = (here & EDGE > 0) | run | (here & CLOSES > 0) & (before & DIGIT > 0)
    earlier = np.roll(before, 1)
    initial = (before & LOWER > 0) & ((earlier == 0) | (earlier & DOT > 0))          # as in e.g. and 10 p.m.
    closes |= dot & ((before & (EDGE | LOWER | DIGIT | STOPS) > 0) | (before & earlier & UPPER > 0)) & ~initial
    _abbreviations(letters, first, closes)
    ended = _from_behind(np.where(last, place, len(here)))
    closes &= _from_behind(np.where(closes, len(here), place)) > ended

    letter = UPPER | LOWER
    within = (here & JOINS > 0) & (before & letter > 0) & (after & letter > 0)
    within |= (here & LINKS > 0) & (before & (letter | DIGIT) > 0) & (after & letter > 0)
    within |= (here & COUNTS > 0) & (before & DIGIT > 0) & (after & DIGIT > 0)
    within |= dot & (before & (LOWER | QUOTE) > 0) & (after & (UPPER | QUOTE) > 0)
    at = np.flatnonzero(letters == ord(":"))
    at = at[(letters[np.minimum(at + 1, len(letters) - 1)] == ord("/")) & (after[at + 1] & LINKS > 0)]
    within[:-1] &= ~np.isin(begun[:-1], begun[at])          # an address with :// is one word
    hyphen = (here & after & DASH > 0) & (before & letter > 0) & (np.roll(after, -1) & letter > 0)
    second = np.roll(hyphen, 1)                             # of two between letters, which are one word
    alone = opens | closes | within | run | hyphen | second

    starts = first | alone
    starts[1:] |= alone[:-1]
    starts[1:] &= ~(run[1:] & run[:-1] | second[1:])
    starts |= first
    _contractions(letters, starts, ~seen | first | closes)
    starts &= seen
    return np.flatnonzero(starts), np.flatnonzero(seen[:-1] & (starts | ~seen)[1:]) + 1


def _from_behind(places: NDArray[np.int32]) -> NDArray[np.int32]:
    """The least of the places from each on."""
    return np.minimum.accumulate(places[::-1])[::-1]


def _abbreviations(letters: NDArray[np.uint8], first: NDArray[np.bool_], closes: NDArray[np.bool_]) -> None:
    """Keep the full stop of Mr. and the like with its word."""
    at = np.flatnonzero((letters == ord(".")) & closes[:-1])
    for word in ABBREVIATIONS:
        here = at[at >= len(word)]
        alike = first[here - len(word)]
        for place, letter in enumerate(word):
            alike = alike & (letters[here - len(word) + place] == letter)
        closes[here[alike]] = False


def _contractions(letters: NDArray[np.uint8], starts: NDArray[np.bool_], over: NDArray[np.bool_]) -> None:
    """Part it's, don't, we'll, we're, we've and I'm; `over` is where what stands between two blanks has ended."""
    at = np.flatnonzero(letters == ord("'"))
    letters, over = np.append(letters, np.zeros(3, np.uint8)) | 32, np.append(over, np.ones(3, bool))
    at = at[(at > 0) & ~starts[at] & ~over[at + 1]]
    one, two = letters[at + 1], letters[at + 2]
    short, long = over[at + 2], ~over[at + 2] & over[at + 3]
    starts[at[short & ((one == ord("s")) | (one == ord("m")))]] = True
    pairs = (np.frombuffer(pair, np.uint8) for pair in (b"ll", b"re", b"ve"))
    starts[at[long & np.logical_or.reduce([(one == a) & (two == b) for a, b in pairs])]] = True
    starts[at[short & (one == ord("t")) & (letters[at - 1] == ord("n"))] - 1] = True


def _hashes(letters: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Of each word a polynomial in its bytes, all from one sum over the letters (Karp and Rabin 1987)."""
    powers = np.cumprod(np.full(len(letters) + 1, BASE))
    sums = np.append(np.uint64(0), np.cumsum((letters.astype(np.uint64) + np.uint64(1)) * powers[:-1]))
    found = (sums[ends] - sums[starts]) * powers[len(letters) - starts]
    return (found ^ found >> np.uint64(32)) * SPREAD
