"""Entries: rows of a ledger, of a sample or of a dataset: what was done to a document, why, and the change itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from glob import escape as literally
from typing import Any

from engine.workspace import ASSETS
from studio.diff import diff, marked
from studio.layout import stack
from studio.texts import STYLE, Text, reason_words, step_name
from studio.theme import STYLESHEET
from studio.views import Markup, join, press, txt

CORPUS_STYLE = (ASSETS / "theme" / "corpus.css").read_text(encoding="utf-8")
STYLES = [STYLESHEET, STYLE, CORPUS_STYLE]

EXCERPT = 240
"""Characters of a text that the ledger keeps (`engine.corpus.ledger`, which needs pyarrow)."""

Row = Mapping[str, Any]


class Sheet(Text):
    """A fragment of the data bench."""

    def __init__(self, *html: Markup, **params: Any) -> None:
        super().__init__(*html, **{"stylesheets": STYLES, **params})


def entry(row: Row, place: int, wanted: str = "", *, named: bool = True, pressed: bool = True) -> Markup:
    """One row. Its buttons press "pardon PLACE", "reason PLACE" and "cluster PLACE", `place` its own in a list."""
    acts = []
    if pressed and row["action"] == "dropped":
        acts = [press("Pardon", f"pardon {place}"), press("All with this reason", f"reason {place}", "quiet")]
    if pressed and named and row.get("cluster") is not None:
        acts.insert(0, press("Open cluster", f"cluster {place}", "quiet"))
    near = ""
    if row.get("kept") not in (None, row["id"]) and row.get("similarity") is not None:
        near = txt("<span>{:.0f} % like <code>{}</code></span>", 100 * row["similarity"], row["kept"])
    text = diff(row["before"], row["after"], cut=EXCERPT) if row["action"] in ("edited", "added") else (
        txt('<p class="prose">{}{}</p>', marked(row["before"], wanted),
            txt('<span class="beyond"> …</span>') if len(row["before"]) >= EXCERPT else ""))
    step = txt("<b>{}</b>", step_name(row["step"])) if named else ""
    return txt('<article class="excerpt entry"><header><i class="tag {}">{}</i>{}<span>{}</span><code>{}</code>{}'
               '<span class="act">{}</span></header>{}</article>',
               row["action"] if row["action"] in ("dropped", "edited") else "kept", row["action"], step,
               reason_words(row["reason"] or ""), marked(row["id"], wanted), near, join(acts), text)


def entries(rows: Sequence[Row], first: int = 0, wanted: str = "", **how: bool) -> Markup:
    """Rows one below the other, `first` being the place of the first of them in the list that they come from."""
    return txt('<div class="excerpts">{}</div>', join(
        entry(row, first + place, wanted, **how) for place, row in enumerate(rows)))


def rule(row: Row, verb: str) -> dict[str, str]:
    """The pardon that a row's button asks for: of its document alone ("pardon"), or of all with its "reason"."""
    return {"step": row["step"], **({"id": literally(row["id"])} if verb == "pardon" else {"reason": row["reason"]})}


def turn(first: int, shown: int, more: bool, of: str = "") -> Markup:
    """Which rows of a list are in sight, and the buttons that turn its pages: "earlier" and "later"."""
    if not shown and not first:
        return Markup("")
    buttons = join(txt('<button type="button" class="press" data-press="{}" {}>{}</button>', verb,
                       Markup("") if on else Markup("disabled"), word)
                   for verb, on, word in (("earlier", first > 0, "Earlier"), ("later", more, "Later")))
    return txt('<div class="pages">{}<span>{:,} to {:,}{}</span></div>', buttons, first + 1, first + shown,
               f" of {of}" if of else "")


def framed(*views: Any, gap: str = "12px") -> Any:
    """The inside of a tab."""
    return stack(*views, gap=gap)
