"""Bias report: what was counted, as plain JSON; `bias.json` beside a dataset.

    {"version", "method", "steps", "before_is", "before", "after", "cost"}

`before` and `after` are measurements (`measurement`), `before` None if nothing was to be compared; `before_is` says
which documents it is of. `cost` tells what lies between them in documents, bytes and words, and by mitigating step.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from engine import files
from engine.corpus.association import estimate, npmi, share, told
from engine.corpus.bias import BLOCK, FREQUENT, STRETCH, Counts, Vocabulary, measure
from engine.corpus.terms import pairs

VERSION = 1
FILE = "bias.json"

FEWEST = 10
"""Occurrences near a group from which on a word is told of; and in the corpus, for a gap."""

COMMON = 0.005
"""Share of all words from which on a word (the, of, was) says nothing of a group."""

ABUSE = "words of abuse"
MOST_WORDS = 12
MOST_TERMS = 8

METHOD = {
    "block_words": BLOCK, "stretch_words": BLOCK * STRETCH, "frequent_words": FREQUENT, "fewest": FEWEST,
    "association": "npmi (Bouma 2009) of a word and the blocks that mention a group",
    "intervals": "95 %, delete-a-group jackknife over documents, long ones in stretches (Quenouille 1956; Kott 2001)",
    "tables": "assets/bias",
}


def report(before: Counts | None, after: Counts, before_is: str = "", steps: Iterable[Mapping[str, Any]] = ()
           ) -> dict[str, Any]:
    """The report; `steps` are the ledger's tallies of the steps that mitigate."""
    own = ("step", "documents_in", "documents_out", "bytes_in", "bytes_out")
    cost = {name: [int(getattr(before, name)), int(getattr(after, name))] for name in ("documents", "bytes")
            } if before else None
    if cost and before:
        cost["words"] = [int(before.words.sum()), int(after.words.sum())]
    mitigated = [{name: step[name] for name in own} for step in steps]
    return {"version": VERSION, "method": METHOD, "steps": mitigated, "before_is": before_is if before else "",
            "before": measurement(before) if before else None, "after": measurement(after), "cost": cost}


def of_dataset(dataset: Path) -> dict[str, Any]:
    """The report that was made with a dataset; if none was, the dataset is measured now (and nothing written)."""
    made = dataset / FILE
    return files.read_json(made) if made.exists() else report(None, measure(dataset))


def measurement(counts: Counts) -> dict[str, Any]:
    """One measurement.

        documents, bytes, words, blocks
        groups      [{"axis", "group", "documents", "mentions", "share" (of the axis' mentions), "terms" {word: count},
                      "toxic" (share of its blocks with a word of abuse), "sets" {set: npmi}, "words" [npmi, the
                      surest first]}]
        gaps        of axes with two groups, npmi of the first minus that of the second: [{"axis", "groups",
                      "sets" {set: gap}, "words" [gap], "size" (mean of |gap| over the words of all sets, "of" words)}]
        toxic       {"documents" (with more than one word of abuse in a hundred), "blocks": share, "terms"}
        sources     [{"source", "documents", "bytes", "share", "groups" {group: documents}}]; topics likewise

    A figure with an interval is {"value", "low", "high"}, with "count" or "word" where it is of words.
    """
    v = counts.vocabulary
    words = counts.word.sum(0)
    members = _members(v)
    inside = np.flatnonzero(members.any(1))
    of_sets = estimate(npmi, counts.both[:, :, inside] @ members[inside],
                       (counts.word[:, inside] @ members[inside])[:, None, :], counts.near[:, :, None],
                       counts.words[:, None, None], seen=counts.near[:, :, None])
    toxic = estimate(share, counts.toxic, counts.blocks, seen=counts.toxic)
    sets = [*v.tables.attributes, ABUSE]
    groups = []
    mentions = _mentions(v, words)
    for place, (axis, group) in enumerate(v.groups):
        if not counts.mentioning[place]:
            continue
        terms = {term: int(words[v.number(term)]) for term in v.tables.axes[axis][group]}
        most = sorted((term for term in terms if terms[term]), key=lambda term: (-terms[term], term))[:MOST_TERMS]
        whole = sum(mentions[other] for other, (its, _) in enumerate(v.groups) if its == axis)
        groups.append({
            "axis": axis, "group": group, "documents": int(counts.mentioning[place]), "mentions": mentions[place],
            "share": round(mentions[place] / whole, 4) if whole else 0.0, "terms": {term: terms[term] for term in most},
            "toxic": told(*(end[1 + place] for end in toxic), (0, 1)),
            "sets": {name: told(*(end[place, at] for end in of_sets), (-1, 1)) for at, name in enumerate(sets)},
            "words": _strongest(counts, place, axis)})
    return {"documents": counts.documents, "bytes": counts.bytes, "words": int(counts.words.sum()),
            "blocks": int(counts.blocks[:, 0].sum()), "groups": groups, "gaps": list(_gaps(counts, members)),
            "toxic": {"documents": counts.toxic_documents, "blocks": told(*(end[0] for end in toxic), (0, 1)),
                      "terms": _most({term: int(words[v.number(term)]) for term in v.tables.toxic})},
            "sources": _balance(v, sorted(counts.sources.items()), counts.bytes, "source"),
            "topics": _balance(v, zip(["none of these", *v.tables.topics], counts.topics, strict=True), counts.bytes,
                               "topic")}


def _members(v: Vocabulary) -> np.ndarray:
    """(words, sets): which words are in which set; the last one is of words of abuse."""
    members = np.zeros((len(v), len(v.tables.attributes) + 1))      # of floats, which multiply ten times as fast
    for place, words in enumerate(v.tables.attributes.values()):
        members[[v.number(word) for word in words], place] = 1
    members[:, -1] = v.toxic > 0
    return members


def _mentions(v: Vocabulary, words: np.ndarray) -> list[int]:
    return [int(words[(v.group & np.uint64(1 << place)) > 0].sum()) for place in range(len(v.groups))]


def _strongest(counts: Counts, place: int, axis: str) -> list[dict[str, Any]]:
    """The words that surely go most with a group: by the lower end of the interval; words of its axis and first
    names are left out."""
    v = counts.vocabulary
    near, words = counts.both[:, place].sum(0), counts.word.sum(0)
    fit = (near >= FEWEST) & (words < COMMON * counts.words.sum())
    names = [v.of[name.lower()] for name in pairs()[1] if name.lower() in v.of]
    fit[[0, *range(len(v.numbers), len(v)), *v.words_of(axis), *names]] = False      # 0: words that are not looked at
    at = np.flatnonzero(fit)
    if not len(at):
        return []
    value, low, high = estimate(npmi, counts.both[:, place, at], counts.word[:, at], counts.near[:, place, None],
                                counts.words[:, None], seen=counts.near[:, place, None])
    return [{"word": v.numbers.words[at[row]], "count": int(near[at[row]]),
             **told(value[row], low[row], high[row], (-1, 1))}
            for row in np.argsort(-low, kind="stable")[:MOST_WORDS].tolist() if low[row] > 0]


def _gaps(counts: Counts, members: np.ndarray) -> Iterable[dict[str, Any]]:
    v = counts.vocabulary
    inside = np.flatnonzero(members.any(1))
    for axis, named in v.tables.axes.items():
        pair = [place for place, (its, _) in enumerate(v.groups) if its == axis]
        if len(pair) != 2 or not counts.mentioning[pair].all():
            continue
        fit = (members[:, :-1].sum(1) > 0) & (counts.word.sum(0) >= FEWEST)
        fit[v.words_of(axis)] = False
        tracked = np.flatnonzero(fit)
        if not len(tracked):
            continue
        sets = [*v.tables.attributes, ABUSE]
        both, near, all_words = counts.both[:, pair], counts.near[:, pair, None], counts.words[:, None, None]
        seen = counts.near[:, pair].min(1, keepdims=True)
        at_sets = estimate(_gap, both[:, :, inside] @ members[inside],
                           (counts.word[:, inside] @ members[inside])[:, None, :], near, all_words, seen=seen)
        of_words = both[:, :, tracked], counts.word[:, None, tracked], near, all_words
        at_words = estimate(_gap, *of_words, seen=seen)
        size = estimate(lambda *sums: np.abs(_gap(*sums)).mean(-1), *of_words, seen=seen[:, 0])
        order = np.argsort(-np.abs(at_words[0]), kind="stable")[:2 * MOST_WORDS]
        yield {"axis": axis, "groups": list(named),
               "sets": {name: told(*(end[place] for end in at_sets), (-2, 2)) for place, name in enumerate(sets)},
               "words": [{"word": v.numbers.words[tracked[at]], "count": int(counts.word[:, tracked[at]].sum()),
                          **told(*(end[at] for end in at_words), (-2, 2))} for at in order.tolist()],
               "size": {**told(*(float(end) for end in size), (0, 2)), "of": len(tracked)}}


def _gap(both: np.ndarray, word: np.ndarray, near: np.ndarray, words: np.ndarray) -> np.ndarray:
    """The difference of two groups; a word that never stands near one of them counts as it does once."""
    value = npmi(np.maximum(both, 1), word, near, words)     # (..., two groups, words)
    return value[..., 0, :] - value[..., 1, :]


def _balance(v: Vocabulary, rows: Iterable[tuple[str, np.ndarray]], whole: int, of: str) -> list[dict[str, Any]]:
    return [{of: name, "documents": int(row[0]), "bytes": int(row[1]), "share": round(int(row[1]) / max(1, whole), 4),
             "groups": {group: int(count) for (_, group), count in zip(v.groups, row[2:], strict=True) if count}}
            for name, row in rows if row[0]]


def _most(counts: dict[str, int]) -> dict[str, int]:
    return dict(sorted(((term, count) for term, count in counts.items() if count),
                       key=lambda pair: (-pair[1], pair[0]))[:2 * MOST_TERMS])
