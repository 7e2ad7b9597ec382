"""Bias: how often demographic terms occur, with which words, and in what company; of a whole corpus, before and after.

One pass over the text, in numbers (`wordscan`), with memory that does not grow: what is kept are counts. A document is
looked at in blocks of 32 words; a word is near a group if its block mentions it. Of each group are told the documents
and mentions, the words and sets of words that it goes with (`association`), and the share of its blocks that hold a
word of abuse; of the corpus, how its text is shared out among sources and topics.
"""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from engine.config import UserError
from engine.corpus.association import FOLDS
from engine.corpus.dedupe import digests
from engine.corpus.terms import Terms, terms
from engine.corpus.wordscan import Numbering, Words, scan

BLOCK = 32
"""Words of a block."""

STRETCH = 128
"""Blocks of a long document that are taken as a document of its own for the intervals: 4,096 words."""

FREQUENT = 3072
"""Words besides those of the tables that are looked at: the most frequent ones of the first documents."""

LOOKED_AT = 1 << 20
"""Characters, evenly from the first documents, that tell which words are frequent."""

PIECE = 8 << 20
"""Bytes that are counted at once."""

FEWEST_TOPIC_WORDS = 3
MOST_SOURCES = 200


class Vocabulary:
    """The words that are looked at, what each stands for, and the two-word terms."""

    def __init__(self, tables: Terms, first: Words) -> None:
        self.tables = tables
        self.groups = tables.groups
        named = [*(term for sets in tables.axes.values() for words in sets.values() for term in words),
                 *(term for words in tables.attributes.values() for term in words),
                 *(term for words in tables.topics.values() for term in words), *tables.toxic]
        single = dict.fromkeys(word for term in named for word in term.split())
        _, places, counts = np.unique(first.keys, return_index=True, return_counts=True)
        order = np.argsort(-counts, kind="stable")[:FREQUENT]
        frequent = dict.fromkeys(first.word(place) for place in places[order].tolist())
        self.numbers = Numbering(list({**single, **{word: None for word in frequent if word.isalnum()}}))
        self.of = {word: number for number, word in enumerate(self.numbers.words)}
        phrases = sorted({term for term in named if " " in term}, key=self._code)
        self.phrases = phrases
        self.codes = np.array([self._code(phrase) for phrase in phrases], np.int64)
        self.begins = np.zeros(len(self.numbers), bool)
        self.begins[[self.of[phrase.split()[0]] for phrase in phrases]] = True
        size = len(self.numbers) + len(phrases)              # phrases are numbered after the words
        self.group = np.zeros(size, np.uint64)               # a bit for each group
        self.toxic = np.zeros(size, np.float32)
        self.topic = np.zeros(size, np.int8)                 # 0, or 1 + the topic
        for bit, (axis, group) in enumerate(self.groups):
            self.group[self._all(tables.axes[axis][group])] |= np.uint64(1 << bit)
        for term, weight in tables.toxic.items():
            self.toxic[self.number(term)] = weight
        for place, words in enumerate(tables.topics.values()):
            self.topic[self._all(words)] = 1 + place

    def __len__(self) -> int:
        return len(self.group)

    def words_of(self, axis: str) -> list[int]:
        """The numbers of the words that an axis' terms are made of."""
        return sorted({self.of[word] for words in self.tables.axes[axis].values() for term in words
                       for word in term.split()})

    def number(self, term: str) -> int:
        return len(self.numbers) + self.phrases.index(term) if " " in term else self.of[term]

    def _all(self, found: tuple[str, ...]) -> list[int]:
        return [self.number(term) for term in found]

    def _code(self, phrase: str) -> int:
        one, two = phrase.split()
        return self.of[one] * len(self.numbers) + self.of[two]

    def phrases_in(self, words: Words, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where a two-word term begins, and its number."""
        at = np.flatnonzero(self.begins[ids[:-1]])
        at = at[words.starts[at + 1] - words.ends[at] == 1]
        codes = ids[at].astype(np.int64) * len(self.numbers) + ids[at + 1]
        place = np.minimum(np.searchsorted(self.codes, codes), len(self.codes) - 1)
        found = self.codes[place] == codes if len(self.codes) else np.zeros(len(at), bool)
        return at[found], len(self.numbers) + place[found]


@cache
def plain_vocabulary() -> Vocabulary:
    """The words of the bundled tables alone."""
    return Vocabulary(terms(), scan(pa.array([], pa.large_string())))


class Counts:
    """What was counted, by fold: words, words near groups, blocks; and documents, by source and topic."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        words, groups, topics = len(vocabulary), len(vocabulary.groups), len(vocabulary.tables.topics)
        self.vocabulary = vocabulary
        self.documents = self.bytes = self.toxic_documents = 0
        self.words = np.zeros(FOLDS, np.int64)
        self.word = np.zeros((FOLDS, words), np.int64)
        self.near = np.zeros((FOLDS, groups), np.int64)          # words in blocks that mention the group
        self.both = np.zeros((FOLDS, groups, words), np.int64)
        self.blocks = np.zeros((FOLDS, 1 + groups), np.int64)    # all, and those that mention each group
        self.toxic = np.zeros((FOLDS, 1 + groups), np.int64)     # and of these, those with a word of abuse
        self.mentioning = np.zeros(groups, np.int64)             # documents
        self.topics = np.zeros((1 + topics, 2 + groups), np.int64)    # documents, bytes, documents with each group
        self.sources: dict[str, np.ndarray] = {}

    def add(self, documents: pa.Table) -> None:
        """Count documents (text, source, and perhaps group)."""
        sizes = pc.binary_length(documents["text"]).to_numpy()
        ends = np.cumsum(sizes) // PIECE
        starts = [0, *(np.flatnonzero(np.diff(ends)) + 1).tolist(), len(documents)]
        for start, stop in pairwise(starts):
            if stop > start:
                self._add(documents.slice(start, stop - start), sizes[start:stop])

    def _add(self, documents: pa.Table, sizes: np.ndarray) -> None:
        words, v = scan(documents["text"]), self.vocabulary
        ids = v.numbers.of(words.keys)
        at, phrase = v.phrases_in(words, ids) if len(ids) else (np.empty(0, int), np.empty(0, int))
        lengths = np.diff(words.firsts)
        blocks = Blocks(lengths, _seeds(documents))
        groups, toxic = v.group[ids], v.toxic[ids]
        np.bitwise_or.at(groups, at, v.group[phrase])
        np.add.at(toxic, at, v.toxic[phrase])
        groups_of_block = _reduced(np.bitwise_or, groups, blocks.starts)
        toxic_block = _reduced(np.maximum, toxic, blocks.starts) > 0
        block, group = np.nonzero(_bits(groups_of_block, len(v.groups)))
        size, fold = np.diff(np.append(blocks.starts, len(ids))), blocks.folds

        self.words += np.bincount(fold, size, FOLDS).astype(np.int64)
        self.near += _table(fold[block], group, self.near.shape, size[block])
        self.blocks[:, 0] += np.bincount(fold, minlength=FOLDS)
        self.toxic[:, 0] += np.bincount(fold, toxic_block, FOLDS).astype(np.int64)
        self.blocks[:, 1:] += _table(fold[block], group, self.near.shape)
        self.toxic[:, 1:] += _table(fold[block], group, self.near.shape, toxic_block[block])
        by_word = np.repeat(fold, size)
        self._count(self.word, by_word, ids)
        self._count(self.word, by_word[at], phrase)
        near = _ranges(blocks.starts[block], size[block])
        row = np.repeat(fold[block] * len(v.groups) + group, size[block])
        both = self.both.reshape(-1, len(v))
        self._count(both, row, ids[near])
        self._documents(documents, sizes, words, ids, groups, toxic, lengths)

    @staticmethod
    def _count(into: np.ndarray, row: np.ndarray, column: np.ndarray) -> None:
        flat = into.reshape(-1)
        flat += np.bincount(row * into.shape[1] + column, minlength=flat.size)

    def _documents(self, documents: pa.Table, sizes: np.ndarray, words: Words, ids: np.ndarray, groups: np.ndarray,
                   toxic: np.ndarray, lengths: np.ndarray) -> None:
        full = lengths > 0
        own, score = np.zeros(len(documents), np.uint64), np.zeros(len(documents))
        own[full] = _reduced(np.bitwise_or, groups, words.firsts[:-1][full])
        score[full] = _reduced(np.add, toxic, words.firsts[:-1][full])
        bits = _bits(own, len(self.vocabulary.groups))
        told = np.column_stack([np.ones(len(documents), np.int64), sizes, bits])
        self.documents += len(documents)
        self.bytes += int(sizes.sum())
        self.toxic_documents += int((100 * score > lengths).sum())
        self.mentioning += bits.sum(0)
        np.add.at(self.topics, self._topic(words, ids, len(documents)), told)
        coded = pc.dictionary_encode(documents["source"]).combine_chunks()
        parts = np.zeros((len(coded.dictionary), told.shape[1]), np.int64)
        np.add.at(parts, coded.indices.to_numpy(), told)
        for name, part in zip(coded.dictionary.to_pylist(), parts, strict=True):
            known = name in self.sources or len(self.sources) < MOST_SOURCES
            own = name if known else "others"
            self.sources[own] = self.sources.get(own, 0) + part

    def _topic(self, words: Words, ids: np.ndarray, documents: int) -> np.ndarray:
        """Of each document, 1 + the topic that most of its topic words are of; 0 if they are few."""
        topic = self.vocabulary.topic[ids]
        at = np.flatnonzero(topic)
        row = np.searchsorted(words.firsts, at, side="right") - 1
        size = len(self.topics)
        counts = np.bincount(row * size + topic[at], minlength=documents * size).reshape(documents, size)
        return np.where(counts.max(1, initial=0) >= FEWEST_TOPIC_WORDS, counts.argmax(1), 0)


class Blocks:
    """Where blocks begin among the words of some documents, and the fold of each."""

    def __init__(self, lengths: np.ndarray, seeds: np.ndarray) -> None:
        number = -(-lengths // BLOCK)
        document = np.repeat(np.arange(len(lengths)), number)
        place = np.arange(number.sum()) - np.repeat(np.cumsum(number) - number, number)
        self.starts = (np.cumsum(lengths) - lengths)[document] + place * BLOCK
        self.folds = (seeds[document] + place // STRETCH) % FOLDS


def _seeds(documents: pa.Table) -> np.ndarray:
    """A number for each document by its text, or by its group: what belongs together falls into one fold."""
    own = [int.from_bytes(digest[:8], "big") for digest in digests(documents["text"])]
    groups = documents["group"].to_pylist() if "group" in documents.column_names else [None] * len(own)
    return np.array([(value if group is None else group) % FOLDS
                     for value, group in zip(own, groups, strict=True)], np.int64)


def _bits(sets: np.ndarray, number: int) -> np.ndarray:
    """(sets, groups): 1 where the group is in the set."""
    return ((sets[:, None] >> np.arange(number, dtype=np.uint64)) & np.uint64(1)).astype(np.int64)


def _reduced(by: np.ufunc, values: np.ndarray, starts: np.ndarray) -> np.ndarray:
    return by.reduceat(values, starts) if len(starts) else values[:0]


def _table(row: np.ndarray, column: np.ndarray, shape: tuple[int, ...], weights: np.ndarray | None = None
           ) -> np.ndarray:
    rows, columns = shape
    return np.bincount(row * columns + column, weights, rows * columns).astype(np.int64).reshape(shape)


def _ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """starts[0], starts[0] + 1, ... for each of the ranges."""
    shift = np.repeat(starts - (np.cumsum(lengths) - lengths), lengths)
    return shift + np.arange(len(shift))


class Bias:
    """Two measurements of one corpus with the same words: as it came, and as it was written."""

    def __init__(self) -> None:
        self.before: Counts | None = None
        self.after: Counts | None = None
        self._vocabulary: Vocabulary | None = None

    def came(self, documents: pa.Table) -> None:
        self.before = self._add(self.before, documents)

    def went(self, documents: pa.Table) -> None:
        self.after = self._add(self.after, documents)

    def _add(self, counts: Counts | None, documents: pa.Table) -> Counts:
        if self._vocabulary is None:
            self._vocabulary = Vocabulary(terms(), scan(_beginnings(documents)))
        counts = counts or Counts(self._vocabulary)
        counts.add(documents)
        return counts


def _beginnings(documents: pa.Table) -> pa.ChunkedArray:
    """Beginnings of documents from all over, of LOOKED_AT characters together."""
    step = -(-len(documents) // 512)
    texts = documents["text"].take(pa.array(range(0, len(documents), step), pa.int64()))
    return pc.utf8_slice_codeunits(texts, 0, LOOKED_AT // max(1, len(texts)))


def measure(dataset: Path) -> Counts:
    """The documents of a dataset, counted. Raises UserError if they cannot be read."""
    bias = Bias()
    try:
        for path in sorted(dataset.glob("documents-*.parquet")):
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(4096, columns=["text", "source", "group"]):
                    bias.went(pa.Table.from_batches([batch]))
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{dataset.name} is damaged ({str(error).splitlines()[0]}); delete it and curate the corpus "
                        "again.", where=str(dataset)) from None
    if bias.after is None:
        raise UserError(f"{dataset} holds no documents; name the folder of a dataset.", where=str(dataset))
    return bias.after
