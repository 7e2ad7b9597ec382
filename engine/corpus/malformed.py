"""Malformed: documents that are broken, whatever they say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.config import setting
from engine.corpus import STEPS, Step
from engine.corpus.clean import MISREAD

if TYPE_CHECKING:
    from daft import Expression

GARBAGE = r"[\x{FFFD}\p{Co}\p{Cn}\x00-\x08\x0E-\x1F\x7F-\x84\x86-\x9F]"
"""What a wrong decoding leaves: replacement signs, private and unassigned characters, controls."""

CUT_OFF = (r"(?i)(?:\[(?:…|\.\.\.|truncated|\+?\d+ chars?(?:acters)?)\]"
           r"|\b(?:read|view|show|see) (?:more|full (?:article|story|text))|continue reading|click to expand|\(more\))"
           r"[\s.…»>→]*\z")
"""How a teaser ends, whose text goes on elsewhere."""

ENDED = r"""[\p{Sentence_Terminal}…][\"'”’»)\]*_]*\s*\z"""


@STEPS.add("malformed")
class Malformed(Step):
    """Drops what is broken: wrongly decoded, cut off, or no text at all, each by a rule of its own.

    Shares of odd characters follow ROOTS (Laurençon et al. 2022), runs without a blank C4 (Raffel et al. 2020),
    and the length of lines, which is off here, the filters of code (Chen et al. 2021; Li et al. 2023).
    """

    max_garbage: float = setting(0.001, "Largest share of characters that no decoding should leave, such as \ufffd; "
                                        "0 turns the rule off", ge=0, le=1)
    max_mojibake: float = setting(0.01, "Largest share of characters that begin mojibake such as Ã©, for text that "
                                        "clean could not repair; 0 turns the rule off", ge=0, le=1)
    max_symbols: float = setting(0.25, "Largest share of characters, blanks left out, that are neither letters nor "
                                       "digits; 0 turns the rule off", ge=0, le=1)
    max_run: int = setting(1000, "Longest run of ASCII characters without a blank, such as base64; 0 turns the rule "
                                 "off", ge=0, le=10_000, unit="characters")
    cut_off: bool = setting(True, "Drop texts that end in a mark of being cut off, such as [...] or Read more")
    unfinished: bool = setting(False, "Drop texts that do not end with the end of a sentence; not after passages, "
                                      "which may end with a word", advanced=True)
    max_line: int = setting(0, "Longest line; 0 turns the rule off, code filters take 1000", ge=0,
                            unit="characters", advanced=True)
    max_mean_line: int = setting(0, "Longest mean length of the lines; 0 turns the rule off, code filters take 100",
                                 ge=0, unit="characters", advanced=True)

    def reasons(self, text: Expression) -> dict[str, Expression]:
        from engine.corpus.columns import each

        length = text.length()
        lines = text.regexp_split("\n")
        symbols = text.regexp_count(r"[^\p{L}\p{M}\p{N}\p{Cf}\s]")
        rules = {
            f"garbage of decoding in more than {self.max_garbage:.1%} of the characters":
                (self.max_garbage, text.regexp_count(GARBAGE) > self.max_garbage * length),
            f"mojibake in more than {self.max_mojibake:.1%} of the characters":
                (self.max_mojibake, text.regexp_count(MISREAD) > self.max_mojibake * length),
            f"more than {self.max_symbols:.0%} of the characters are symbols":
                (self.max_symbols, symbols > self.max_symbols * (length - text.regexp_count(r"[ \n\t]"))),
            f"more than {self.max_run} characters without a blank":
                (self.max_run, text.regexp(f"[!-~]{{{self.max_run + 1}}}")),
            "ends with a mark of being cut off": (self.cut_off, text.regexp(CUT_OFF)),
            "does not end with a sentence": (self.unfinished, ~text.regexp(ENDED)),
            f"a line of more than {self.max_line} characters":
                (self.max_line, lines.list_map(each().length()).list_max() > self.max_line),
            f"lines of more than {self.max_mean_line} characters on average":
                (self.max_mean_line, length + 1 > (self.max_mean_line + 1) * lines.length()),
        }
        return {reason: holds for reason, (on, holds) in rules.items() if on}
