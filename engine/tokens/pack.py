"""Pack: which documents share a row, and what each way of packing wastes. Torch-free.

*Concatenate* lays all documents end to end and cuts the rows out of that: no token is padding, and a document is
cut wherever a row happens to end. *Best-fit* (Ding et al. 2024) cuts only documents that are longer than a row, and
puts the pieces, the longest first, each into the row that it fills best: hardly a token is padding, and hardly a
document is cut.

Every row begins with the token before its first one, which is the end of the document before: so a document is
`n` targets with its own end, and its first token is predicted from an end of text.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from engine.tokens.shards import Shards

IGNORED = -100
"""The target of padding, as torch's cross-entropy and transformers have it."""


class Plan(NamedTuple):
    """Pieces of documents, row by row: those of row r are `rows[r]` to `rows[r + 1]`."""

    starts: np.ndarray   # (P,) first token of each piece, in the split
    lengths: np.ndarray  # (P,) at most a row
    rows: np.ndarray     # (R + 1,)


def best_fit(starts: np.ndarray, sequence_length: int) -> Plan:
    """The rows of best-fit-decreasing packing for documents at `starts`, their end last, (N + 1,).

    The same documents give the same rows. Pieces of one length are placed together, so a million documents take
    a second or two.
    """
    lengths = np.diff(starts)
    whole, rest = np.divmod(lengths, sequence_length)
    # Documents longer than a row fill rows of their own, but for what is left of them.
    owner = np.repeat(np.arange(len(lengths)), whole)
    nth = np.arange(len(owner)) - np.repeat(np.cumsum(whole) - whole, whole)
    full = starts[:-1][owner] + nth * sequence_length
    left = np.flatnonzero(rest)
    left = left[np.argsort(-rest[left], kind="stable")]
    row = _place(rest[left], sequence_length)
    order = np.argsort(row, kind="stable")
    counts = np.bincount(row, minlength=0) if len(row) else np.empty(0, np.int64)
    tails = starts[:-1][left] + whole[left] * sequence_length
    return Plan(np.concatenate([full, tails[order]]).astype(np.int64),
                np.concatenate([np.full(len(full), sequence_length), rest[left][order]]).astype(np.int64),
                np.concatenate([np.arange(len(full) + 1), len(full) + np.cumsum(counts)]).astype(np.int64))


def _place(lengths: np.ndarray, size: int) -> np.ndarray:
    """The row of each piece, (P,); `lengths` falls. A piece goes where the least room is left over."""
    row = np.empty(len(lengths), np.int64)
    open_rows: dict[int, list[int]] = {}
    rooms = num_rows = 0  # bit r of `rooms` is set while some row has room for r tokens more
    ends = np.flatnonzero(np.diff(lengths, append=0)) + 1
    place = 0
    for end in ends.tolist():
        length = int(lengths[place])
        while place < end:
            if fits := rooms >> length:
                room = length + (fits & -fits).bit_length() - 1
                number = open_rows[room].pop()
                if not open_rows[room]:
                    rooms ^= 1 << room
            else:
                room, number, num_rows = size, num_rows, num_rows + 1
            taken = min(room // length, end - place)
            row[place:place + taken] = number
            place += taken
            if room := room - taken * length:
                open_rows.setdefault(room, []).append(number)
                rooms |= 1 << room
    return row


class Waste(NamedTuple):
    """What a way of packing costs, as shares from 0 to 1."""

    rows: int
    padding: float  # of the tokens
    cut: float      # of the documents: not all of it stands in one row


def waste(lengths: np.ndarray, sequence_length: int, packing: str) -> Waste:
    """What packing documents of these lengths, their ends included (N,), wastes.

    Where rows are cut from one stream the share of cut documents is the mean over all places at which the
    first row may begin, since each epoch draws another.
    """
    if not len(lengths):
        return Waste(0, 0.0, 0.0)
    if packing == "concatenate":
        return Waste(int(lengths.sum()) // sequence_length, 0.0,
                     float(np.minimum(1.0, (lengths - 1) / sequence_length).mean()))
    rows = len(best_fit(np.concatenate([[0], np.cumsum(lengths)]), sequence_length).rows) - 1
    return Waste(rows, 1 - float(lengths.sum()) / (rows * sequence_length), float((lengths > sequence_length).mean()))


class BestFit:
    """The rows of one split, packed best-fit."""

    def __init__(self, shards: Shards, sequence_length: int) -> None:
        self.shards, self.sequence_length = shards, sequence_length
        self.plan = best_fit(np.asarray(shards.starts), sequence_length)

    def __len__(self) -> int:
        return len(self.plan.rows) - 1

    def row(self, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Inputs, targets and the number of each token's document in its row, (T,) int64 each.

        Padding is ends of text with the target IGNORED and a document number of its own.
        """
        end = self.shards.end_of_text
        inputs, targets = np.full(self.sequence_length, end), np.full(self.sequence_length, IGNORED)
        documents, done = np.zeros(self.sequence_length, np.int64), 0
        for piece in range(self.plan.rows[number], self.plan.rows[number + 1]):
            start, length = int(self.plan.starts[piece]), int(self.plan.lengths[piece])
            text = self.shards.window(max(0, start - 1), length + min(1, start))
            targets[done:done + length] = text[-length:]
            inputs[done:done + length] = np.concatenate([[end], text])[-length - 1:-1]
            documents[done:] += 1
            done += length
        documents[done:] += 1
        return inputs, targets, documents


def documents_of(inputs: np.ndarray, end_of_text: int) -> np.ndarray:
    """The number of each token's document in its row: an end of text begins the next one, of which it is the first
    context, as it is where a model writes without a prompt. Same shape as `inputs`."""
    return (inputs == end_of_text).cumsum(axis=-1)
