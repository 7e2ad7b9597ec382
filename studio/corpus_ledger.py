"""The ledger of a dataset, looked through: by step, by what was done, by reason, by text; and pardoned from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import panel_material_ui as pmui
from panel.viewable import Viewable, Viewer

from studio.background import Latest
from studio.corpus_entries import Row, Sheet, entries, turn
from studio.labels import label
from studio.layout import stack
from studio.views import banner, txt

AT_ONCE = 10
ACTIONS = {"Everything": "", "Dropped": "dropped", "Edited": "edited", "Added": "added", "Pardoned": "pardoned",
           "Tagged": "tagged"}
FIELDS_SX = {"display": "grid", "gridTemplateColumns": "repeat(auto-fit, minmax(150px, 1fr))", "gap": "12px",
             "& > *": {"width": "100%", "minWidth": 0}}


class LedgerSearch(Viewer):
    """`on_pardon(row, verb)` and `on_cluster(row)` hear of a row's buttons."""

    def __init__(self, on_pardon: Callable[[Row, str], None], on_cluster: Callable[[Row], None]) -> None:
        super().__init__()
        self._on_pardon, self._on_cluster = on_pardon, on_cluster
        shared: dict[str, Any] = {"size": "small", "margin": 0, "sizing_mode": "stretch_width"}
        self.step = pmui.Select(label="Step", options={"Every step": ""}, value="", **shared)
        self.action = pmui.Select(label="What was done", options=ACTIONS, value="", **shared)
        self.reason = pmui.TextInput(label="Reason holds", **shared)
        self.text = pmui.TextInput(label="Text, id or source holds", **shared)
        self.list = Sheet(on_press=self._press)
        self.searching = Latest(0.3)
        self.dataset: Path | None = None
        self.first = 0
        self._rows: list[Row] = []
        self._asked: Any = None
        self._view = stack(pmui.FlexBox(self.step, self.action, self.reason, self.text, sizing_mode="stretch_width",
                                        margin=0, sx=FIELDS_SX), self.list, gap="14px")

    def __panel__(self) -> Viewable:
        return self._view

    def show(self, dataset: Path, summary: Mapping[str, Any]) -> None:
        """Look through the ledger of a dataset."""
        self.dataset, self.first, self._asked = dataset, 0, None
        names = dict.fromkeys(step["step"] for step in summary["steps"])
        self.step.param.update(options={"Every step": "", **{label(name): name for name in names}}, value="")
        self.list.html = txt("")

    def tick(self) -> None:
        """Search when what is asked for changed; show what was found."""
        if self.dataset is None:
            return
        asked = {"step": self.step.value or "", "action": self.action.value or "",
                 "reason": (self.reason.value_input or "").strip(), "text": (self.text.value_input or "").strip()}
        if asked != self._asked:
            self._asked, self.first = asked, 0
        dataset, first = self.dataset, self.first

        def work() -> Any:
            from engine.corpus.search import search  # imports pyarrow

            return search(dataset, limit=AT_ONCE + 1, skip=first, **asked)

        self.searching.ask((dataset, first, asked), work)
        if over := self.searching.answer():
            self._show(*over)

    def _show(self, found: list[Row] | None, problem: str) -> None:
        if found is None:
            self.list.html = banner("error", problem)
            return
        self._rows = found[:AT_ONCE]
        if not self._rows:
            anything = any(self._asked.values())
            self.list.html = txt('<p class="nothing">{}</p>', "No row of the ledger is like that." if anything else
                                 "The ledger is empty: no document was dropped or edited.")
            return
        shown = [{**row, "place": None} for row in self._rows]
        self.list.html = txt('<div class="stack">{}{}</div>', entries(shown, 0, self._asked["text"]),
                             turn(self.first, len(shown), len(found) > AT_ONCE))

    def _press(self, what: str) -> None:
        verb, _, place = what.partition(" ")
        if verb in ("pardon", "reason"):
            self._on_pardon(self._rows[int(place)], verb)
        elif verb == "cluster":
            self._on_cluster(self._rows[int(place)])
        else:
            self.first = max(0, self.first + (AT_ONCE if verb == "later" else -AT_ONCE))
