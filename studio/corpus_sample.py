"""The sample after the steps: what is kept, what became of the rest, and what could not be read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import panel_material_ui as pmui
from panel.viewable import Viewable, Viewer

from studio import texts
from studio.account import Account
from studio.corpus_entries import Sheet
from studio.views import txt

TABS_SX = {"& .MuiTabs-root": {"marginBottom": "16px", "minHeight": 40}, "& .MuiTab-root": {"minHeight": 40}}


def tabs(*named: tuple[str, Any]) -> pmui.Tabs:
    """Views one at a time; those out of sight are not drawn."""
    return pmui.Tabs(*named, sizing_mode="stretch_width", margin=0, dynamic=True, sx=TABS_SX)


class Sample(Viewer):
    """What came out of the last trial."""

    def __init__(self) -> None:
        super().__init__()
        self.kept, self.lost, self.account = Sheet(), Sheet(), Account()
        self._view = tabs(("Kept", self.kept), ("Figures", self.account), ("Not read", self.lost))
        self._view.param.watch(lambda *_: self._draw(), "active")
        self._found: Mapping[str, Any] | None = None
        self._drawn: Mapping[str, Any] | None = None

    def __panel__(self) -> Viewable:
        return self._view

    def show(self, found: Mapping[str, Any]) -> None:
        """The result of `corpus.pipeline.preview`."""
        self._found = found
        self.kept.html = texts.documents(found["examples"], most=6) if found["examples"] else txt(
            '<p class="nothing">No document is left.</p>')
        self.lost.html = texts.quarantine(found["quarantine"], found["quarantined"])
        self._draw()

    def _draw(self) -> None:
        """Draw the figures only where they can be seen: the sample is tried again and again."""
        if self._view.active == 1 and self._found is not None and self._found is not self._drawn:
            self._drawn = self._found
            self.account.show(self._found)


