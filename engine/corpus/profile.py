"""Profile: what a corpus is like, as histograms, taken of what was read and of what was kept.

Documents and bytes are counted by source, all of them. Signals, the figures that the quality rules judge by, are
taken of a sample: at most `LOOKED_AT` documents of each shard, evenly from all over it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.corpus.filter import UNSPACED, WORD

if TYPE_CHECKING:
    from daft import Expression

LOOKED_AT = 256
BEGINNING = 20_000
"""Characters of a document that signals are taken of."""

_SHARE = np.linspace(0, 1, 26)


@dataclass(frozen=True)
class Signal:
    """One figure of a document, in words, with the edges of its histogram; what lies beyond counts to the last bin."""

    words: str
    edges: np.ndarray
    logarithmic: bool = False


SIGNALS: dict[str, Signal] = {
    "words": Signal("words", np.unique(np.round(np.geomspace(1, 20_000, 33)).astype(np.int64)), logarithmic=True),
    "word_length": Signal("letters a word, on average", np.linspace(0, 20, 41)),
    "alphabetic": Signal("share of the words with a letter in them", _SHARE),
    "symbols": Signal("share of the characters that are neither letters, digits nor blanks", _SHARE),
    "digits": Signal("share of the characters that are digits", _SHARE),
    "capitals": Signal("share of the letters that are capitals", _SHARE),
    "punctuated_lines": Signal("share of the lines that end with punctuation", _SHARE),
    "short_lines": Signal("share of the lines with at most 30 characters", _SHARE),
    "repeated_lines": Signal("share of the lines that stood before", _SHARE),
}


def measures(text: Expression) -> dict[str, Expression]:
    """The signals of each text, as Daft expressions; nothing divided by nothing is not a number."""
    words = text.regexp_count(WORD)
    blanks = text.regexp_count(r"\s")
    letters = text.regexp_count(r"\p{L}")
    lines = text.regexp_count(r"(?m)^.*\S.*$")
    parts = text.regexp_replace(r"\A\s+|\s+\z", "").regexp_split(r"\n+")
    return {
        "words": words / 1,
        "word_length": (text.length() - blanks) / words,
        "alphabetic": text.regexp_count(rf"[{UNSPACED}]|\p{{L}}[^\s{UNSPACED}]*") / words,
        "symbols": text.regexp_count(r"[^\p{L}\p{M}\p{N}\s]") / (text.length() - blanks),
        "digits": text.regexp_count(r"\p{Nd}") / (text.length() - blanks),
        "capitals": text.regexp_count(r"\p{Lu}") / letters,
        "punctuated_lines": text.regexp_count(r"(?m)[.!?…。！？][^\w\n]*$") / lines,
        "short_lines": text.regexp_count(r"(?m)^[^\S\n]*\S.{0,29}$") / lines,
        "repeated_lines": (parts.length() - parts.list_distinct().length()) / parts.length(),
    }


class Profile:
    """Counts documents as they come, shard by shard; `source_of` gives a file's source."""

    def __init__(self, source_of: Mapping[str, str]) -> None:
        self._source_of = source_of
        self.documents = Counter[str]()
        self.bytes = Counter[str]()
        self.looked_at = 0
        self.counts = {name: np.zeros(len(signal.edges) - 1, np.int64) for name, signal in SIGNALS.items()}

    def add(self, documents: pa.Table) -> None:
        """Count a shard's documents (text, source)."""
        sizes = pa.table({"source": documents["source"], "bytes": pc.binary_length(documents["text"])})
        for row in sizes.group_by("source").aggregate([("bytes", "sum"), ("bytes", "count")]).to_pylist():
            source = self._source_of.get(row["source"], row["source"])
            self.documents[source] += row["bytes_count"]
            self.bytes[source] += row["bytes_sum"] or 0
        number = len(documents)
        chosen = np.unique(np.linspace(0, number - 1, min(number, LOOKED_AT)).astype(np.int64)) if number else []
        if not len(chosen):
            return
        from engine.corpus.columns import column, compute

        self.looked_at += len(chosen)
        made = compute(documents.select(["text"]).take(chosen), measures(column("text").left(BEGINNING)))
        for name, signal in SIGNALS.items():
            values = made[name].to_numpy().astype(np.float64)
            values = np.clip(values[np.isfinite(values)], signal.edges[0], signal.edges[-1])
            self.counts[name] += np.histogram(values, signal.edges)[0]


def compared(before: Profile, after: Profile) -> dict[str, Any]:
    """Both profiles side by side, as a dataset's manifest tells them.

    "sources": [{source, documents_in, documents_out, bytes_in, bytes_out}], in the order of the settings.
    "signals": [{name, words, logarithmic, edges, before, after}]: `before[i]` of the documents looked at lie from
    `edges[i]` to below `edges[i + 1]`; "looked_at": {before, after} is how many were, so shares can be drawn.
    """
    sources = [{"source": source, "documents_in": before.documents[source], "documents_out": after.documents[source],
                "bytes_in": before.bytes[source], "bytes_out": after.bytes[source]} for source in before.documents]
    signals = [{"name": name, "words": signal.words, "logarithmic": signal.logarithmic,
                "edges": [round(float(edge), 4) for edge in signal.edges], "before": before.counts[name].tolist(),
                "after": after.counts[name].tolist()} for name, signal in SIGNALS.items()]
    return {"sources": sources, "signals": signals,
            "looked_at": {"before": before.looked_at, "after": after.looked_at}}
