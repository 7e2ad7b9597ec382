"""Account: what the steps did to a corpus, as figures and as texts; of a dataset, or of a trial on a sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import panel_material_ui as pmui
import param
from panel.viewable import Viewable, Viewer

from studio import figures, texts
from studio.layout import pair, picture, stack
from studio.texts import Text, step_name
from studio.views import join, number, press, tiles, txt

ALL = "all"


class Account(Viewer):
    """The ledger, seen. `show` puts another one in its place."""

    visible = param.Boolean(True, doc="Whether there is something to see")

    def __init__(self, **params: Any) -> None:
        super().__init__(**params)
        self.facts, self.reasons, self.lost, self.kept = Text(), Text(), Text(), Text()
        self.filter, self.changed = Text(on_press=self._choose), Text()
        self.documents, self.bytes, self.lengths = picture(), picture(), picture(height=240)
        self.rows: Sequence[Mapping[str, Any]] = ()
        self.chosen = ALL
        self.tabs = pmui.Tabs(
            ("Steps", stack(pair(stack(Text(txt("<h4>Documents</h4>")), self.documents, gap="2px"),
                                 stack(Text(txt("<h4>Bytes</h4>")), self.bytes, gap="2px")), self.reasons, gap="12px")),
            ("Dropped and edited", stack(self.filter, self.changed, gap="12px")),
            ("Kept", self.kept), ("Lengths", self.lengths), ("Not read", self.lost),
            sizing_mode="stretch_width", margin=0, dynamic=True, sx={"& .MuiTabs-root": {"marginBottom": "14px"}})
        self._view = stack(self.facts, self.tabs, gap="14px", visible=self.param.visible)

    def __panel__(self) -> Viewable:
        return self._view

    def show(self, summary: Mapping[str, Any]) -> None:
        """Of `corpus.pipeline.preview`, or of `corpus.ledger.look` at a dataset."""
        steps = summary["steps"]
        read = steps[0]["documents_in"] if steps else summary["documents"]
        self.facts.html = tiles([
            ("Documents read", number(read)), ("kept", number(summary["documents"])),
            ("Text kept", figures.byte_size(summary["bytes"])),
            ("Training", number(summary["train_documents"])), ("Validation", number(summary["val_documents"])),
            ("Not readable", number(summary["quarantined"]))])
        self.documents.object = figures.waterfall(steps) if steps else None
        self.bytes.object = figures.waterfall(steps, "bytes") if steps else None
        self.reasons.html = texts.all_reasons(steps)
        lengths = summary["lengths"]
        self.lengths.object = figures.histogram(lengths["edges"], lengths["counts"])
        self.lost.html = texts.quarantine(summary["quarantine"], summary["quarantined"])
        self.kept.html = texts.documents(summary["examples"])
        self.rows = summary["ledger"]
        self._choose(ALL)

    def _choose(self, kind: str) -> None:
        """Look at the rows of one step alone."""
        self.chosen = kind
        kinds = list(dict.fromkeys((row["step"], row["action"]) for row in self.rows))
        self.filter.html = txt('<div class="choices">{}</div>', join(
            press(words, value, "chosen" if value == kind else "plain") for value, words in
            [(ALL, "All"), *((f"{step} {action}", f"{step_name(step)}: {action}") for step, action in kinds)]
        )) if len(kinds) > 1 else txt("")
        self.changed.html = texts.ledger([row for row in self.rows if kind in (ALL, f"{row['step']} {row['action']}")])
