"""Web: rules made for pages of the web, which say little good of books or code."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from engine.config import setting
from engine.corpus import STEPS, Step
from engine.corpus.repetition import repeated_characters

if TYPE_CHECKING:
    import pyarrow as pa
    from daft import Expression

QUOTES = "\"'”’»"
SENTENCE_END = rf"(?m)[.!?…][{QUOTES})\]]*(?:\s|$)|[^\s.!?…][{QUOTES}]$|[。！？]"
POLICIES = "terms of use|privacy policy|cookie policy|uses cookies|use of cookies|use cookies"


@STEPS.add("c4")
class C4(Step):
    """Rules of C4 (Raffel et al. 2020, section 2.2): lines that are no sentences are taken out, then pages are judged.

    The thresholds are those that made C4; its paper was first printed with 5 sentences and 3 words. Blank
    lines between lines that stay are kept. A text that is broken into short lines loses most of them, so
    this is for pages whose paragraphs are one line each.
    """

    terminal_punctuation: bool = setting(True, "Take out lines that do not end in . ! ? or a quote, or end in ...")
    min_line_words: int = setting(5, "Fewest words of a line, else it is taken out; 0 turns the rule off", ge=0,
                                  le=1000, unit="words")
    javascript: bool = setting(True, "Take out lines that hold the word javascript")
    policies: bool = setting(True, "Take out lines about cookies, privacy policy and terms of use")
    citations: bool = setting(True, "Take out marks such as [3], [edit] and [citation needed]")
    lorem_ipsum: bool = setting(True, "Drop pages that hold lorem ipsum")
    curly_brackets: bool = setting(True, "Drop pages that hold a curly bracket, since most are code")
    min_sentences: int = setting(3, "Fewest sentences of what is left of a page; 0 turns the rule off", ge=0,
                                 unit="sentences")

    def edited(self, text: Expression) -> Expression:
        if self.citations:
            text = text.regexp_replace(r"\[\d*\]|\[edit\]|\[citation needed\]", "")
        few = self.min_line_words
        rules = {rf"[^\n]*(?:[^\s.!?{QUOTES}]|\.\.\.)": self.terminal_punctuation,
                 rf"[^\S\n]*(?:\S+[^\S\n]+){{0,{few - 2}}}\S+": few > 1,
                 r"[^\n]*(?i:javascript)[^\n]*": self.javascript,
                 rf"[^\n]*(?i:{POLICIES})[^\n]*": self.policies}
        for line in [rule for rule, on in rules.items() if on]:
            text = text.regexp_replace(rf"(?m)^{line}[^\S\n]*(?:\n|\z)", "")
        return text.regexp_replace(r"\n{3,}", "\n\n").regexp_replace(r"\A\s+|\s+\z", "")

    def reasons(self, text: Expression) -> dict[str, Expression]:
        rules = {"no line is left": (True, ~text.regexp(r"\S")),
                 "holds lorem ipsum": (self.lorem_ipsum, text.regexp("(?i)lorem ipsum")),
                 "holds a curly bracket": (self.curly_brackets, text.contains("{")),
                 f"fewer than {self.min_sentences} sentences":
                     (self.min_sentences, text.regexp_count(SENTENCE_END) < self.min_sentences)}
        return {reason: holds for reason, (on, holds) in rules.items() if on}


@STEPS.add("fineweb")
class FineWeb(Step):
    """Rules that FineWeb adds to those of Gopher and C4 (Penedo et al. 2024, section 3.6): pages that are lists.

    The thresholds are the paper's, except for the last rule, which only the code that made FineWeb has; that
    code also drops from 1 % of characters in repeated lines on. A quote after a full stop ends a line well.
    """

    min_punctuated_lines: float = setting(0.12, "Smallest share of lines that end with punctuation; 0 turns the rule "
                                                "off", ge=0, le=1)
    max_short_lines: float = setting(0.67, "Largest share of short lines; 0 turns the rule off", ge=0, le=1)
    short_line: int = setting(30, "Longest line that is short", ge=1, unit="characters", advanced=True)
    max_line_characters: float = setting(0.1, "Largest share of the characters in repeated lines; 0 turns the rule "
                                              "off", ge=0, le=1)
    max_lines_a_word: float = setting(0.3, "Most line ends for each word, signs counting as words; 0 turns the rule "
                                           "off", ge=0, le=1, advanced=True)

    def begin(self) -> Callable[[pa.Table], pa.Table]:
        from engine.corpus.columns import judge
        from engine.corpus.ngrams import with_counts

        return lambda batch: judge(with_counts(batch, ["words"] if self.max_lines_a_word else []), self.edited,
                                   self.reasons).select([*batch.column_names, "reason"])

    def reasons(self, text: Expression) -> dict[str, Expression]:
        from engine.corpus.columns import column

        lines = text.regexp_count(r"(?m)^.*\S.*$")
        punctuated = text.regexp_count(rf"(?m)\p{{Sentence_Terminal}}[{QUOTES})\]]*[^\S\n]*$")
        short = text.regexp_count(rf"(?m)^.{{1,{self.short_line}}}$") - text.regexp_count(
            rf"(?m)^[^\S\n]{{1,{self.short_line}}}$")
        ends = text.regexp_count("\n")
        rules = {
            f"fewer than {self.min_punctuated_lines:.0%} of the lines end with punctuation":
                (self.min_punctuated_lines, punctuated < self.min_punctuated_lines * lines),
            f"more than {self.max_short_lines:.0%} of the lines have at most {self.short_line} characters":
                (self.max_short_lines, short > self.max_short_lines * lines),
            f"more than {self.max_line_characters:.0%} of the characters are in repeated lines":
                (self.max_line_characters, repeated_characters(text.regexp_split(r"\n(?:[^\S\n]*\n)*"))
                 > self.max_line_characters * (text.length() - ends)),
            f"more than {self.max_lines_a_word:g} line ends a word":
                (self.max_lines_a_word, ends > self.max_lines_a_word * column("words")),
        }
        return {reason: holds for reason, (limit, holds) in rules.items() if limit}
