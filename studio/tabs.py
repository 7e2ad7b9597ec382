"""Tabs: views of which one is in sight. Each is made part of the page when it is first looked at, and then kept.

Not Material's own: its dynamic tabs take a view out of the page when one turns away from it, and a figure that is
taken out while Bokeh measures it brings the whole strip down.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import param
from panel.viewable import Viewable, Viewer

from studio.corpus_entries import Sheet
from studio.layout import stack
from studio.views import join, txt


class Tabs(Viewer):
    """`views` by their names; `on_turn(name)` hears which one came into sight."""

    active = param.Integer(0, doc="Place of the view in sight")
    visible = param.Boolean(True, doc="Whether the strip and its view are shown at all")

    def __init__(self, views: dict[str, Any], on_turn: Callable[[str], None], **params: Any) -> None:
        super().__init__(**params)
        self.names, self._views, self._on_turn = tuple(views), tuple(views.values()), on_turn
        self.strip = Sheet(on_press=self.turn)
        self.holders = [stack(visible=False) for _ in self._views]
        self._view = stack(self.strip, *self.holders, gap="16px", visible=self.param.visible)
        self._show()

    def __panel__(self) -> Viewable:
        return self._view

    @property
    def name_in_sight(self) -> str:
        return self.names[self.active]

    def turn(self, name: str) -> None:
        """Bring a view into sight by its name."""
        self.active = self.names.index(name)

    @param.depends("active", watch=True)
    def _show(self) -> None:
        self.strip.html = txt('<div class="tabs" role="tablist">{}</div>', join(
            txt('<button type="button" role="tab" aria-selected="{}" data-press="{}">{}</button>',
                "true" if place == self.active else "false", name, name) for place, name in enumerate(self.names)))
        holder = self.holders[self.active]
        if not holder.objects:
            holder.objects = [self._views[self.active]]
        for place, each in enumerate(self.holders):
            each.visible = place == self.active
        self._on_turn(self.name_in_sight)
