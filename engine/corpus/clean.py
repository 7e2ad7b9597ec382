"""Clean: the same text, written properly."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from engine.config import setting
from engine.corpus import STEPS, Step

if TYPE_CHECKING:
    import pyarrow as pa
    from daft import Expression

# UTF-8 that was read as Windows-1252 or Latin-1 shows a lead byte as a letter, then the continuation bytes as signs.
_AFTER = "[\\x{80}-\\x{BF}€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ]"
MISREAD = f"[Â-ß]{_AFTER}|[à-ï]{_AFTER}{{2}}|[ð-ô]{_AFTER}{{3}}"
MOJIBAKE = rf"{MISREAD}|Ã |[\x{{80}}-\x{{9F}}]"
"""What only a text with mojibake holds (and few without it): the gate before the slow repair."""

COMPOSED = (r"\x00-\x{2FF}\x{400}-\x{482}\x{48A}-\x{52F}\x{2002}-\x{2027}\x{202A}-\x{205F}\x{3001}-\x{3029}"
            r"\x{3041}-\x{3096}\x{309B}-\x{30FF}\x{4E00}-\x{9FFF}\x{AC00}-\x{D7A3}")
"""Characters that NFC leaves alone among one another: Latin, Cyrillic, punctuation, kana, Han, Hangul."""

LINE_ENDS = r"\r\n?|[\v\f\x{85}\x{2028}]"
CONTROLS = r"[\x00-\x08\x0E-\x1F\x7F-\x84\x86-\x9F\x{AD}\x{200B}\x{2060}\x{FEFF}\x{FFFE}\x{FFFF}]"
SPACES = r"[\x{A0}\x{1680}\x{2000}-\x{200A}\x{202F}\x{205F}\x{3000}]"


@STEPS.add("clean")
class Clean(Step):
    """Repairs mojibake (ftfy; Speer 2019), composes Unicode (UAX 15), takes control characters out and tidies blanks.

    Nothing that a reader can see is changed besides: quotes stay curled, markup stays markup, and
    the indentation of lines stays.
    """

    mojibake: bool = setting(True, "Repair text that was decoded wrongly, such as cafÃ© for café")
    unicode: Literal["NFC", "NFKC", "none"] = setting(
        "NFC", "How characters are composed; NFKC also replaces look-alikes such as ﬁ by fi", advanced=True)
    whitespace: bool = setting(
        True, "Make every blank a space, and take out doubled spaces, blanks at line ends and more than one blank line")

    def edited(self, text: Expression) -> Expression:
        text = text.regexp_replace(LINE_ENDS, "\n").regexp_replace("\u2029", "\n\n").regexp_replace(CONTROLS, "")
        if self.whitespace:
            text = text.regexp_replace(SPACES, " ").regexp_replace(r"[ \t]+\n", "\n")
            text = text.regexp_replace(r"(\S)[ \t]{2,}", "$1 ")         # within a line: not its indentation
            text = text.regexp_replace(r"\n{3,}", "\n\n").regexp_replace(r"\A\n+|\s+\z", "")
        return text

    def reasons(self, text: Expression) -> dict[str, Expression]:
        return {"nothing left": ~text.regexp(r"\S")}

    def begin(self) -> Callable[[pa.Table], pa.Table]:
        from engine.corpus.columns import judge

        form = self.unicode
        loose = rf"[^{COMPOSED}]" if form == "NFC" else r"[^\x00-\x7F]"

        def clean(batch: pa.Table) -> pa.Table:
            if self.mojibake:
                batch = _with(batch, MOJIBAKE, repair)
            if form != "none":                   # in Python: pyarrow's NFC gives NFD (25.0), Daft's normalize is no NFC
                batch = _with(batch, loose, lambda text: unicodedata.normalize(form, text))
            return judge(batch, self.edited, self.reasons)

        return clean


def repair(text: str) -> str:
    """The text with its mojibake undone, line by line, and nothing else changed."""
    import ftfy

    config = ftfy.TextFixerConfig(uncurl_quotes=False)
    return "\n".join(line if line.isascii() else ftfy.fix_encoding(line, config) for line in text.split("\n"))


def _with(batch: pa.Table, pattern: str, change: Callable[[str], str]) -> pa.Table:
    """The batch with `change` made to the texts that the pattern occurs in."""
    import pyarrow as pa

    from engine.corpus.columns import column, edit_where

    return edit_where(batch, column("text").regexp(pattern),
                      lambda rows: pa.array([change(text) for text in rows["text"].to_pylist()], pa.large_string()))
