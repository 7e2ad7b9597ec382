"""Runs: what is running, what waits and what ran; watch one, compare many."""

from __future__ import annotations

import time

import panel as pn
import panel_material_ui as pmui
from panel.viewable import Viewable

from engine.runs import notes
from studio import run_parts
from studio.compare_view import CompareView
from studio.layout import later, stack
from studio.page import Page
from studio.queue_view import QueueView
from studio.run_view import RunView
from studio.trash_view import TrashView
from studio.views import Fragment, card, empty, join, press, txt
from studio.watch import Line, lines

LIST_SECONDS = 1.0


class Runs(Page):
    title, icon, noun, line = "Runs", "show_chart", "runs", "Watch what is running, replay what ran, compare them."

    def view(self) -> Viewable:
        self.list, self.many = Fragment(on_press=self._pressed), Fragment(on_press=self._pressed)
        self.filter = pmui.TextInput(placeholder="Filter: words, #tag", size="small", margin=0, label="Filter runs",
                                     sizing_mode="stretch_width")
        self.filter.param.watch(lambda *_: self._list(), "value_input")
        self.watched = RunView(self.session)
        self.compared = CompareView(self.session, self._pressed)
        self.queue, self.trash = QueueView(self.session), TrashView(self.session)
        self.nothing = Fragment(on_press=self.session.goto)
        self.nothing.html = join([empty("There are no runs yet. Start one, and it appears here.", "show_chart"),
                                  txt('<div class="centre">{} {}</div>', press("Quick start", "home", "full"),
                                      press("Set up a run", "stages"))])
        self.names: list[str] = []
        self.shown_names: list[str] = []
        self._listed = 0.0
        self.session.param.watch(lambda *_: self._look(), ["run", "others"])
        self.watched.notes.on_tag = self._tagged
        self.side = card(self.filter, self.many, self.list, self.trash, title="All runs", sizing_mode=None,
                         styles={"flex": "1 1 270px"})
        self.main = pn.Column(self.compared, self.watched, margin=0,
                              styles={"flex": "3 1 560px", "min-width": "0", "gap": "16px"})
        self.empty = later(card(self.nothing))
        both = pn.Row(self.side, self.main, margin=0, sizing_mode="stretch_width", styles={
            "flex-wrap": "wrap", "gap": "16px", "align-items": "flex-start"})
        return stack(self.empty, self.queue, both, gap="16px")

    def shown(self) -> None:
        self._list()
        self._look()

    def tick(self) -> None:
        if time.monotonic() - self._listed > LIST_SECONDS:
            self._list()
        self.compared.tick()
        self.watched.tick()

    def _list(self) -> None:
        self._listed = time.monotonic()
        found = lines(self.session.workspace)
        self.names = [line.name for line in found]
        if found and self.session.run not in self.names:
            self.session.run = self.names[0]
        shown = self._filtered(found)
        self.shown_names = [line.name for line in shown]
        self.list.html = run_parts.listing(shown, self._selected())
        self.many.html = self._all()
        self.many.visible = bool(self.many.html)
        self.queue.tick()
        self.trash.tick()
        self.side.visible, self.empty.visible = bool(found) or self.trash.list.visible, not found

    def _filtered(self, found: list[Line]) -> list[Line]:
        wanted = self.filter.value_input or ""
        return [line for line in found if notes.matches(line.name, line.noted, wanted)] if wanted.strip() else found

    def _all(self) -> object:
        """What can be done with all runs in the list."""
        if self.filter.value_input and not self.shown_names:
            return txt('<p class="line">No run answers to that.</p>')
        buttons = []
        if len(self.shown_names) > 1 and set(self.shown_names) - set(self._selected()):
            buttons.append(press(f"Compare all {len(self.shown_names)}", "all:", sign="stacked_line_chart"))
        if len(self._selected()) > 1:
            buttons.append(press("Only the first", "alone:", "quiet"))
        return txt('<div class="fixes">{}</div>', join(buttons)) if buttons else txt("")

    def _look(self) -> None:
        chosen = self._selected()
        self.compared.look(chosen, many=len(self.names) > 1)
        self.watched.look(chosen[:1])
        self._listed = 0.0

    def _selected(self) -> list[str]:
        known = set(self.names)
        return [name for name in self.session.compared if name in known]

    def _tagged(self, tag: str) -> None:
        """A tag was pressed: the list is those that have it."""
        self.filter.param.update(value=f"#{tag}", value_input=f"#{tag}")

    def _pressed(self, what: str) -> None:
        verb, _, name = what.partition(":")
        others = [other for other in self.session.others.split(",") if other]
        if verb == "pick":
            self.session.param.update(run=name, others=",".join(other for other in others if other != name))
        elif verb == "first":
            self.session.param.update(run=name, others=",".join(n for n in self.session.compared if n != name))
        elif verb == "all":
            first = self.session.run if self.session.run in self.shown_names else self.shown_names[0]
            self.session.param.update(run=first, others=",".join(n for n in self.shown_names if n != first))
        elif verb == "alone":
            self.session.others = ""
        else:
            others = [other for other in others if other != name] if name in others else [*others, name]
            self.session.others = ",".join(others)
        self._list()
