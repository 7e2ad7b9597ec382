"""Markup: the text of pages that were saved as HTML."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from engine.config import UserError, setting
from engine.corpus import STEPS, Step

if TYPE_CHECKING:
    import pyarrow as pa
    from daft import Expression

PAGE = r"(?i)<(?:!doctype\s+html|html|head|body)(?:\s[^>]*)?>"
CLOSED = r"(?i)</(?:p|div|span|a|ul|ol|li|table|tr|td|th|h[1-6]|b|i|em|strong|article|section|script|style)\s*>"
ENOUGH = 3
"""Closing tags from which on a text without a page's frame is HTML: prose and code may hold one or two."""


@STEPS.add("html")
class Html(Step):
    """Turns HTML into its text, of the main content alone (resiliparse; Bevendorff et al. 2018).

    Navigation, headers, footers, scripts and advertisements are left out. Documents that do not look like
    HTML stay as they are: those with neither a doctype, html, head or body nor three closing tags.
    """

    main_content: bool = setting(True, "Leave out what stands around the main content, such as menus and footers")
    thorough: bool = setting(False, "Find the main content with trafilatura (Barbaresi 2021), which must be installed: "
                                    "better on articles, and some 30 times slower", advanced=True)

    def begin(self) -> Callable[[pa.Table], pa.Table]:
        import pyarrow as pa

        from engine.corpus.columns import column, edit_where, judge

        text_of = self._extractor()
        looks_like_html = column("text").regexp(PAGE) | (column("text").regexp_count(CLOSED) >= ENOUGH)

        def texts_of(rows: pa.Table) -> pa.Array:
            return pa.array([text_of(row) for row in rows["text"].to_pylist()], pa.large_string())

        return lambda batch: judge(edit_where(batch, looks_like_html, texts_of), self.edited, self.reasons)

    def reasons(self, text: Expression) -> dict[str, Expression]:
        return {"no text in the HTML": ~text.regexp(r"\S")}

    def _extractor(self) -> Callable[[str], str]:
        """The function that gives the text of one page; empty if it holds none or cannot be read."""
        from resiliparse.extract.html2text import extract_plain_text
        from resiliparse.parse.html import HTMLParserException

        def plain(html: str) -> str:
            try:
                text = extract_plain_text(html, main_content=True, alt_texts=False) if self.main_content else ""
                return (text or extract_plain_text(html, alt_texts=False)).strip()
            except (HTMLParserException, ValueError):
                return ""

        if not self.thorough:
            return plain
        try:
            from trafilatura import extract
        except ImportError:
            raise UserError("The step html asks for trafilatura, which is not installed; install it with pip install "
                            "trafilatura, or turn thorough off.", where="corpus.steps") from None
        return lambda html: (extract(html, include_comments=not self.main_content) or plain(html)).strip()
