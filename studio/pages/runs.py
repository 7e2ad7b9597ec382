"""Runs: what is running and what ran; watch one, compare several."""

from __future__ import annotations

import time

import panel as pn
from panel.viewable import Viewable

from studio import run_parts
from studio.layout import stack
from studio.page import Page
from studio.run_view import RunView
from studio.views import Fragment, card, empty, join, press, txt
from studio.watch import lines

LIST_SECONDS = 1.0


class Runs(Page):
    title, icon, noun, line = "Runs", "show_chart", "runs", "Watch what is running, replay what ran, compare them."

    def view(self) -> Viewable:
        self.list = Fragment(on_press=self._pressed)
        self.watched = RunView(self.session)
        self.nothing = Fragment(on_press=self.session.goto)
        self.nothing.html = join([empty("There are no runs yet. Start one, and it appears here.", "show_chart"),
                                  txt('<div class="centre">{} {}</div>', press("Quick start", "home", "full"),
                                      press("Set up a run", "stages"))])
        self.names: list[str] = []
        self._listed = 0.0
        self.session.param.watch(lambda *_: self._look(), ["run", "others"])
        self.side = card(self.list, title="All runs", sizing_mode=None, styles={"flex": "1 1 270px"})
        self.main = pn.Column(self.watched, margin=0, styles={"flex": "3 1 560px", "min-width": "0"})
        self.empty = card(self.nothing, visible=False)
        return stack(self.empty, pn.Row(self.side, self.main, margin=0, sizing_mode="stretch_width", styles={
            "flex-wrap": "wrap", "gap": "16px", "align-items": "flex-start"}), gap="0px")

    def shown(self) -> None:
        self._list()
        self._look()

    def tick(self) -> None:
        if time.monotonic() - self._listed > LIST_SECONDS:
            self._list()
        self.watched.tick()

    def _list(self) -> None:
        self._listed = time.monotonic()
        found = lines(self.session.workspace)
        self.names = [line.name for line in found]
        if found and self.session.run not in self.names:
            self.session.run = self.names[0]
        self.list.html = run_parts.listing(found, self._selected())
        self.side.visible, self.empty.visible = bool(found), not found

    def _look(self) -> None:
        self.watched.look(self._selected())
        self._listed = 0.0

    def _selected(self) -> list[str]:
        return [name for name in self.session.compared if name in self.names]

    def _pressed(self, what: str) -> None:
        verb, _, name = what.partition(":")
        others = [other for other in self.session.others.split(",") if other]
        if verb == "pick":
            self.session.param.update(run=name, others=",".join(other for other in others if other != name))
        else:
            others = [other for other in others if other != name] if name in others else [*others, name]
            self.session.others = ",".join(others)
        self._list()
