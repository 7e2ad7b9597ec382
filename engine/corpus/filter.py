"""Filter: documents that are no prose worth learning from."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from engine.config import setting
from engine.corpus import STEPS, Step

if TYPE_CHECKING:
    import pyarrow as pa
    from daft import Expression

UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
WORD = rf"[{UNSPACED}]|[^\s{UNSPACED}]+"
"""A word: what stands between blanks, or one letter of a script that sets none between words."""

SIGN = r"[\p{P}\p{S}&&[^\x00-\x7F]]"
"""A sign that is not ASCII."""


@STEPS.add("quality")
class Quality(Step):
    """Rules of Gopher (Rae et al. 2021, appendix A.1.1), with its thresholds; each rule has its own reason.

    Four differences keep good text that is no web page: documents may be shorter than Gopher's 50
    words and longer than its 100,000; its rule that English stop words appear is left out, since it
    drops every other language; scripts without blanks are counted by letters and have no word length;
    and shares of lines are looked at from four lines on, since a page of a novel may have two.
    """

    min_words: int = setting(10, "Fewest words of a document; Gopher asks for 50", ge=0, unit="words")
    max_words: int = setting(0, "Most words of a document; 0 for no limit, Gopher takes 100,000", ge=0, unit="words")
    min_word_length: float = setting(3, "Shortest mean length of a word", ge=0, unit="characters", advanced=True)
    max_word_length: float = setting(10, "Longest mean length of a word", gt=0, unit="characters", advanced=True)
    max_symbols: float = setting(0.1, "Most hash signs, and most ellipses, for each word", ge=0, le=1, advanced=True)
    max_bullet_lines: float = setting(0.9, "Largest share of lines that begin with a bullet", ge=0, le=1, advanced=True)
    max_ellipsis_lines: float = setting(0.3, "Largest share of lines that end with an ellipsis", ge=0, le=1,
                                        advanced=True)
    min_alphabetic: float = setting(0.8, "Smallest share of words with a letter in them", ge=0, le=1, advanced=True)
    min_lines: int = setting(4, "Fewest lines of a document whose shares of lines are looked at", ge=1, unit="lines",
                             advanced=True)
    signs: bool = setting(False, "Count signs as words and blank lines as lines, as datatrove does, which made "
                                 "FineWeb: a text with much punctuation then has too few words with letters",
                          advanced=True)

    def reasons(self, text: Expression) -> dict[str, Expression]:
        words = text.regexp_count(WORD)
        return self._reasons(text, words, words, text.length() - text.regexp_count(r"[ \n\t]"),
                             text.regexp_count(rf"[{UNSPACED}]|\p{{L}}[^\s{UNSPACED}]*"))

    def begin(self) -> Callable[[pa.Table], pa.Table]:
        if not self.signs:
            return super().begin()
        from engine.corpus.columns import column, judge
        from engine.corpus.ngrams import with_counts

        counts = ("words", "solid", "letters", "alphabetic")

        def quality(batch: pa.Table) -> pa.Table:
            return judge(with_counts(batch, counts), self.edited, reasons).select([*batch.column_names, "reason"])

        def reasons(text: Expression) -> dict[str, Expression]:
            foreign = text.regexp_count(SIGN) - text.regexp_count(r"\pL’\pL")      # to `counts` they are letters
            words, *others = map(column, counts)
            return self._reasons(text, words, *(count - foreign for count in others))

        return quality

    def _reasons(self, text: Expression, words: Expression, solid: Expression, letters: Expression,
                 alphabetic: Expression) -> dict[str, Expression]:
        """By the number of words, of those that are no signs, of the letters of these, and of words with a letter."""
        lines = text.regexp_count("\n") + 1 if self.signs else text.regexp_count(r"(?m)^.*\S.*$")
        many = lines >= self.min_lines
        spaced = text.regexp_count(f"[{UNSPACED}]") * 2 < words
        length = letters / solid
        reasons = {
            f"fewer than {self.min_words} words": solid < self.min_words,
            f"more than {self.max_words} words": solid > self.max_words,
            f"words shorter than {self.min_word_length:g} letters on average": spaced & (length < self.min_word_length),
            f"words longer than {self.max_word_length:g} letters on average": spaced & (length > self.max_word_length),
            f"more than {self.max_symbols:g} hash signs a word": text.regexp_count("#") / words > self.max_symbols,
            f"more than {self.max_symbols:g} ellipses a word":
                text.regexp_count(r"\.\.\.|…") / words > self.max_symbols,
            f"bullets before more than {self.max_bullet_lines:.0%} of the lines":
                many & (text.regexp_count(r"(?m)^[ \t]*[•‣▪●○*\-–][ \t]") / lines > self.max_bullet_lines),
            f"ellipses after more than {self.max_ellipsis_lines:.0%} of the lines":
                many & (text.regexp_count(r"(?m)(\.\.\.|…)[ \t]*$") / lines > self.max_ellipsis_lines),
            f"letters in fewer than {self.min_alphabetic:.0%} of the words":
                alphabetic / words < self.min_alphabetic,
        }
        if not self.max_words:
            del reasons[f"more than {self.max_words} words"]
        return reasons
