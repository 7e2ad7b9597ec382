"""The documents of a dataset: searched, paged through, opened whole; never all of them in memory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import panel_material_ui as pmui
from panel.viewable import Viewable, Viewer

from studio.background import Latest
from studio.corpus_entries import Sheet, turn
from studio.corpus_ledger import FIELDS_SX
from studio.diff import marked
from studio.layout import stack
from studio.views import Markup, banner, join, number, press, txt

AT_ONCE = 12
SPLITS = {"Both": "", "Training": "train", "Validation": "val"}
LONGEST = 100_000
"""Characters of a document that the browser gets at once."""


class Documents(Viewer):
    """A list with a search, and the document that was opened above it."""

    def __init__(self) -> None:
        super().__init__()
        shared: dict[str, Any] = {"size": "small", "margin": 0, "sizing_mode": "stretch_width"}
        self.text = pmui.TextInput(label="Text holds", **shared)
        self.split = pmui.Select(label="Split", options=SPLITS, value="", **shared)
        self.source = pmui.TextInput(label="Source holds", **shared)
        self.list, self.whole = Sheet(on_press=self._press), Sheet(on_press=self._press, visible=False)
        self.reading, self.opening = Latest(0.3), Latest()
        self.dataset: Path | None = None
        self._starts = [0]                           # of the pages so far; the last one is in sight
        self._next: int | None = None
        self._asked: Any = None
        self._at: int | None = None
        self._from = 0                               # the first character of the opened document that is shown
        self._document: Mapping[str, Any] | None = None
        self._view = stack(pmui.FlexBox(self.text, self.split, self.source, sizing_mode="stretch_width", margin=0,
                                        sx=FIELDS_SX), self.whole, self.list, gap="14px")

    def __panel__(self) -> Viewable:
        return self._view

    def show(self, dataset: Path) -> None:
        """Browse a dataset."""
        self.dataset, self._asked, self._starts = dataset, None, [0]
        self.list.html = txt("")
        self._close()

    def tick(self) -> None:
        """Read when what is asked for changed; show what was read."""
        if (dataset := self.dataset) is None:
            return
        asked = {"text": self.text.value_input or "", "split": self.split.value or "",
                 "source": (self.source.value_input or "").strip()}
        if asked != self._asked:
            self._asked, self._starts = asked, [0]
        start = self._starts[-1]

        def read() -> Any:
            from engine.corpus.browse import browse  # imports pyarrow

            return browse(dataset, start, AT_ONCE, **asked)

        self.reading.ask((dataset, start, asked), read)
        if over := self.reading.answer():
            self._show(*over)
        if (at := self._at) is not None:
            def opened() -> Any:
                from engine.corpus.browse import document

                return document(dataset, at)

            self.opening.ask((dataset, at), opened)
        if (over := self.opening.answer()) and self._at is not None:
            self._show_whole(*over)

    def _press(self, what: str) -> None:
        verb, _, value = what.partition(" ")
        if verb == "open":
            self._at, self._from = int(value), 0
        elif verb == "close":
            self._close()
        elif verb == "part" and self._document is not None:
            self._from = int(value)
            self._show_whole(self._document, "")
        elif verb == "later" and self._next is not None:
            self._starts.append(self._next)
        elif verb == "earlier" and len(self._starts) > 1:
            self._starts.pop()

    def _close(self) -> None:
        self._at, self._document, self.whole.visible = None, None, False
        self.opening.again()

    def _show(self, found: Any, problem: str) -> None:
        if found is None:
            self.list.html = banner("error", problem)
            return
        self._next = found["next"]
        wanted = self._asked["text"]
        rows = join(txt('<button type="button" data-press="open {}"><span class="top"><i class="tag {}">{}</i>'
                        '<code>{}</code><span class="far">{} characters</span></span><p class="prose">{}</p></button>',
                        row["at"], "neutral" if row["split"] == "val" else "kept",
                        "validation" if row["split"] == "val" else "training", row["id"], number(row["characters"]),
                        marked(row["excerpt"], wanted)) for row in found["documents"])
        first = AT_ONCE * (len(self._starts) - 1)
        free = not any(self._asked.values())
        self.list.html = join([
            txt('<div class="rows">{}</div>', rows) if found["documents"] else
            txt('<p class="nothing">No document is like that.</p>'),
            turn(first, len(found["documents"]), self._next is not None, number(found["of"]) if free else "")])

    def _show_whole(self, found: Any, problem: str) -> None:
        self.whole.visible = True
        if found is None:
            self.whole.html = banner("error", problem)
            return
        self._document = found
        text = found["text"]
        part = text[self._from:self._from + LONGEST]
        more: Any = Markup("")
        if len(text) > LONGEST:
            ends = [press("Earlier part", f"part {max(0, self._from - LONGEST)}", "small")] if self._from else []
            ends += [press("Next part", f"part {self._from + LONGEST}", "small")] if (
                self._from + LONGEST < len(text)) else []
            more = txt('<div class="pages">{}<span>characters {} to {} of {}</span></div>', join(ends),
                       number(self._from + 1), number(self._from + len(part)), number(len(text)))
        self.whole.html = txt('<div class="whole"><header><b>Document {}</b><code>{}</code><span class="line">{}, {} '
                              'characters</span>{}</header><p class="prose">{}</p>{}</div>', number(found["at"] + 1),
                              found["id"], found["source"], number(len(text)), press("Close", "close", "small"),
                              marked(part, self._asked["text"] if self._asked else ""), more)
