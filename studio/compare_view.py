"""CompareView: curves of several runs on one of five axes, what they came to, and only those settings that differ."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import panel as pn
import panel_material_ui as pmui
from panel.viewable import Viewable, Viewer

from engine.runs import Run
from studio.background import Latest
from studio.compared import Asked, asked, differences, legend, standings
from studio.crowd import AXES, Crowd
from studio.layout import later
from studio.run_plots import DIAL_SX
from studio.session import Session
from studio.views import Fragment, Markup, card, empty, press, txt
from studio.watch import WATCH, Feed

FIRST = ("val/loss", "train/loss", "val/bits_per_byte")
SOON_MILLISECONDS, SOON_SECONDS = 100, 2.0  # until the next look, while histories are read, and for how long so soon


class CompareView(Viewer):
    """Compares runs. Call `look(names)` when the selection changes and `tick` twice a second."""

    def __init__(self, session: Session, on_press: Callable[[str], None], **params: Any) -> None:
        super().__init__(**params)
        self.session = session
        self.names: list[str] = []
        self.crowd = Crowd()
        self.metric = pmui.Select(label="Metric", options=["train/loss"], value="train/loss", size="small", width=230,
                                  margin=0)
        self.axis = pmui.RadioButtonGroup(options=list(AXES), value="Steps", size="small", margin=0, sx=DIAL_SX)
        self.smoothing = pmui.FloatSlider(label="Smoothing", start=0.0, end=0.99, step=0.01, value=0.6, width=160,
                                          margin=(0, 14, 0, 10), size="small", sx=DIAL_SX)
        self.log = pmui.Switch(label="Log axis", value=False, margin=0, size="small", sx=DIAL_SX)
        for dial in (self.metric, self.axis, self.smoothing, self.log):
            dial.param.watch(lambda *_: self.tick(), "value")
        self.head, self.legend, self.nothing = Fragment(on_press=on_press), Fragment(), Fragment()
        self.standings, self.differences = Fragment(on_press=on_press), Fragment()
        self._reading, self._known = Latest(), dict[str, Asked]()
        self._told: Any = None
        self._many = False
        self._soon, self._begun = False, 0.0
        dials = pmui.FlexBox(self.metric, self.axis, self.smoothing, self.log, margin=0, gap="10px 18px",
                             align_items="center", sizing_mode="stretch_width")
        self._view = later(card(self.head, dials, self.legend, self.nothing, self.crowd),
                           card(self.standings, title="What they came to"),
                           card(self.differences, title="What they were asked", line="Only the settings that differ."),
                           gap="16px")

    def __panel__(self) -> Viewable:
        return self._view

    def look(self, names: Sequence[str], *, many: bool = True) -> None:
        """Compare these runs; with fewer than two there is nothing to see, but `many` may be chosen any moment."""
        self._many = many
        if list(names) != self.names:
            self.names, self._told = list(names), None
            self._view.visible = len(self.names) > 1
            self._begun = time.monotonic()
            if self._view.visible:
                self._draw()
                self._again()

    def tick(self) -> None:
        """Show what is new, and whatever has been read of a long history."""
        if len(self.names) < 2:
            if self._many:
                self.crowd.prepare()
            return
        feeds = self._draw()
        unread = sum(not feed.ready for feed in feeds)
        if not unread and self.crowd.drawn:  # curves first
            self._reading.ask(tuple(self.names), lambda: asked([feed.run for feed in feeds]))
        if (answer := self._reading.answer()) and answer[0]:
            self._known = answer[0]
        seen = (self.metric.value, -(-unread // 10), len(self._known), [feed.version for feed in feeds])
        if seen != self._told:
            self._told = seen
            self._words(feeds, unread)
        if unread or self._reading.busy:
            self._again()

    def _draw(self) -> list[Feed]:
        """The curves, of what is read."""
        root = self.session.workspace.place("runs")
        feeds = [WATCH.follow(Run(root / name)) for name in self.names]
        self._choices(feeds)
        flops = {name: each[1] for name, each in self._known.items()}
        self.crowd.update(feeds, self.metric.value, axis=AXES[self.axis.value], smoothing=self.smoothing.value,
                          log=self.log.value, flops=flops)
        return feeds

    def _words(self, feeds: Sequence[Feed], unread: int) -> None:
        reading = txt('<p class="line">Reading {} more…</p>', unread) if unread else ""
        alone = press("Only the first", "alone:", "quiet")
        self.head.html = txt('<div class="runhead"><div class="top"><h2>{} runs compared</h2><span class="buttons">{}'
                             "</span></div>{}</div>", len(self.names), alone, reading)
        self.legend.html = legend(self.names)
        self.nothing.html = Markup("") if self.crowd.drawn or unread else empty(self._why(), "show_chart")
        self.standings.html = standings([feed for feed in feeds if feed.ready], self._judged())
        self.differences.html = differences(self._known, self.names)

    def _judged(self) -> str:
        """What the runs are ordered by: what is looked at if it is a validation, or else the validation loss."""
        return self.metric.value if self.metric.value.startswith("val/") else "val/loss"

    def _why(self) -> str:
        if self.axis.value == "kWh":
            return "None of these runs has a reading of its energy, so nothing can stand on this axis."
        return f"None of these runs has {self.metric.value} yet."

    def _choices(self, feeds: Sequence[Feed]) -> None:
        """The metrics that any of the runs has."""
        found = {name for feed in feeds for name in list(feed.series)}
        options = [name for name in FIRST if name in found] + sorted(found - set(FIRST))
        if options and options != list(self.metric.options):
            kept = self.metric.value if self.metric.value in options else options[0]
            self.metric.param.update(options=options, value=kept)

    def _again(self) -> None:
        """Look again soon: half a second is long when a hundred histories are read in one."""
        if pn.state.curdoc is None or pn.state.curdoc.session_context is None or self._soon or (
                time.monotonic() - self._begun > SOON_SECONDS):
            return
        self._soon = True

        def look() -> None:
            self._soon = False
            self.tick()

        pn.state.curdoc.add_timeout_callback(look, SOON_MILLISECONDS)
