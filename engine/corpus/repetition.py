"""Repetition: documents that say the same thing over and over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from engine.config import setting
from engine.corpus import STEPS, Step

if TYPE_CHECKING:
    import pyarrow as pa
    from daft import Expression

    from engine.corpus.ngrams import Runs

def _share(default: float, words: str, *, advanced: bool = False) -> Any:
    return setting(default, f"{words}; 0 turns the rule off", ge=0, le=1, advanced=advanced)


def _frequent(default: float, n: int) -> Any:
    return _share(default, f"Largest share of the characters that the most frequent {n} words in a row take",
                  advanced=True)


def _repeated(default: float, n: int) -> Any:
    return _share(default, f"Largest share of the characters in runs of {n} words that stood before", advanced=True)


@STEPS.add("gopher_repetition")
class GopherRepetition(Step):
    """Rules of Gopher against repetition (Rae et al. 2021, table A1), with its thresholds and a reason for each.

    Of lines, paragraphs and runs of words that come more than once, all but the first are repeated.
    Words are split as by spaCy, which datatrove and so FineWeb count with. Unlike there, words in a row count as
    frequent from twice on, so that a short text need not fear its own words.
    Of a document of more than a million characters, the words of the first million are looked at.
    """

    max_lines: float = _share(0.3, "Largest share of the lines that are repeated")
    max_paragraphs: float = _share(0.3, "Largest share of the paragraphs that are repeated")
    max_line_characters: float = _share(0.2, "Largest share of the characters in repeated lines")
    max_paragraph_characters: float = _share(0.2, "Largest share of the characters in repeated paragraphs")
    max_frequent_2: float = _frequent(0.2, 2)
    max_frequent_3: float = _frequent(0.18, 3)
    max_frequent_4: float = _frequent(0.16, 4)
    min_times: int = setting(2, "How often words in a row come to count as frequent; datatrove takes 1, which drops "
                                "texts of a few words", ge=1, le=100, advanced=True)
    max_repeated_5: float = _repeated(0.15, 5)
    max_repeated_6: float = _repeated(0.14, 6)
    max_repeated_7: float = _repeated(0.13, 7)
    max_repeated_8: float = _repeated(0.12, 8)
    max_repeated_9: float = _repeated(0.11, 9)
    max_repeated_10: float = _repeated(0.1, 10)

    def reasons(self, text: Expression) -> dict[str, Expression]:
        rules = []
        trimmed = text.regexp_replace(r"\A\s+|\s+\z", "")
        for what, ends, most, most_characters in (
            ("paragraphs", r"\n{2,}", self.max_paragraphs, self.max_paragraph_characters),
            ("lines", r"\n+", self.max_lines, self.max_line_characters),
        ):
            parts = trimmed.regexp_split(ends)
            rules += [(most, f"more than {most:.0%} of the {what} are repeated",
                       repeated_parts(parts) > most * parts.length()),
                      (most_characters, f"more than {most_characters:.0%} of the characters are in repeated {what}",
                       repeated_characters(parts) > most_characters * text.length())]
        return {reason: holds for limit, reason, holds in rules if limit}

    def begin(self) -> Callable[[pa.Table], pa.Table]:
        from engine.corpus.columns import judge

        def repetition(batch: pa.Table) -> pa.Table:
            return self._judge_words(judge(batch, self.edited, self.reasons))

        return repetition

    def _judge_words(self, batch: pa.Table) -> pa.Table:
        """The batch with the reasons of the rules on words, where it has none yet."""
        import numpy as np

        from engine.corpus.columns import with_reasons
        from engine.corpus.ngrams import split

        frequent, repeated = dict(self._limits("frequent")), dict(self._limits("repeated"))
        reasons: dict[int, str] = {}
        for first, runs in split(batch):
            suspect = np.zeros(len(runs.lengths), bool)
            for n, limit in frequent.items():
                suspect |= runs.most_frequent(n, self.min_times) > limit * runs.lengths
            if repeated:
                suspect |= runs.repeated(min(repeated)) > min(repeated.values()) * runs.lengths
            for row in np.flatnonzero(suspect).tolist():
                if why := self._why(runs, row):
                    reasons[first + row] = why
        return with_reasons(batch, reasons)

    def _why(self, runs: Runs, text: int) -> str | None:
        """Why one of the texts is dropped, exactly."""
        characters = runs.lengths[text]
        for n, limit in self._limits("frequent"):
            if runs.most_frequent_of(text, n, self.min_times) > limit * characters:
                return f"the most frequent {n} words in a row take more than {limit:.0%} of the characters"
        for n, limit in self._limits("repeated"):
            if runs.repeated_of(text, n) > limit * characters:
                return f"more than {limit:.0%} of the characters are in repeated runs of {n} words"
        return None

    def _limits(self, rule: str) -> Iterator[tuple[int, float]]:
        """The lengths of run that a rule is on for, with its limit."""
        for n in range(2, 11):
            if limit := getattr(self, f"max_{rule}_{n}", 0):
                yield n, limit


def repeated_parts(parts: Expression) -> Expression:
    """How many of a list's parts stood in it before."""
    return parts.length() - parts.list_distinct().length()


def repeated_characters(parts: Expression) -> Expression:
    """The characters of the parts of a list that stood in it before."""
    return parts.list_join("").length() - parts.list_distinct().list_join("").length()
