"""The plots of one or several runs: loss large, the rest beside it, and the few dials that they share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import panel as pn
import panel_material_ui as pmui
from panel.viewable import Viewable, Viewer

from studio.layout import stack
from studio.live import AXES, LOSS, Live, Metric
from studio.plots import run_colour
from studio.theme import VALIDATION_COLOUR
from studio.views import Fragment, Markup, empty, join, txt
from studio.watch import Feed

SIDE = (
    ("train/lr", "Learning rate", "%.2g"),
    ("train/grad_norm", "Gradient norm", "0.[00]"),
    ("speed/tokens_per_second", "Tokens per second", "0.[0]a"),
)

DIAL_SX = {"& .MuiTypography-root": {"fontSize": 13},
           "& .MuiToggleButton-root": {"padding": "4px 10px", "fontSize": 13},
           "& .MuiFormControlLabel-label": {"fontSize": 13, "paddingLeft": "6px"}}


class RunPlots(Viewer):
    """Live plots. Call `update(feeds)` at each tick. `small` leaves out what stands beside the loss."""

    def __init__(self, *, small: bool = False, height: int = 340, **params: Any) -> None:
        super().__init__(**params)
        self.loss = Live(LOSS, "loss", height=height)
        self.side = [] if small else [Live((Metric(name, words),), "", height=150, number=form, leader=self.loss)
                                      for name, words, form in SIDE]
        self.smoothing = pmui.FloatSlider(label="Smoothing", start=0.0, end=0.99, step=0.01, value=0.6, width=180,
                                          margin=(0, 14, 0, 10), size="small", sx=DIAL_SX)
        self.log = pmui.Switch(label="Log axis", value=False, margin=0, size="small", sx=DIAL_SX)
        self.axis = pmui.RadioButtonGroup(options=list(AXES), value="Steps", size="small", margin=0, sx=DIAL_SX)
        for dial in (self.smoothing, self.log, self.axis):
            dial.param.watch(lambda *_: self.update(self._feeds), "value")
        self._feeds: Sequence[Feed] = ()
        self._legend = Fragment()
        self._nothing = Fragment()
        dials = pmui.FlexBox(self._legend, self.axis, self.smoothing, self.log, margin=0, gap="8px 18px",
                             align_items="center", sizing_mode="stretch_width",
                             sx={"& > :first-child": {"flex": "1 1 260px"}})
        beside = pn.Row(*[self._titled(words, live) for (_, words, _), live in zip(SIDE, self.side, strict=False)],
                            margin=0, sizing_mode="stretch_width",
                        styles={"flex-wrap": "wrap", "gap": "8px 20px"})
        self._drawn = stack(self.loss, *([beside] if self.side else []), gap="14px")
        self._view = stack(dials, self._nothing, self._drawn, gap="12px")

    def __panel__(self) -> Viewable:
        return self._view

    @staticmethod
    def _titled(words: str, live: Live) -> Viewable:
        return pn.Column(Fragment(txt('<h3 class="line">{}</h3>', words)), live, sizing_mode="stretch_width", margin=0,
                         styles={"flex": "1 1 200px", "min-width": "0"})

    def update(self, feeds: Sequence[Feed]) -> None:
        """Show what the feeds hold now."""
        self._feeds = feeds
        if not feeds:
            return
        axis = AXES[self.axis.value]
        self.loss.update(feeds, axis=axis, smoothing=self.smoothing.value, log=self.log.value)
        for live in self.side:
            live.update(feeds, axis=axis)
        self._legend.html = legend([feed.run.name for feed in feeds])
        self._nothing.html = empty(why_empty(feeds[0]), "show_chart") if self.loss.empty else Markup("")
        self._nothing.visible, self._drawn.visible = self.loss.empty, not self.loss.empty


def legend(names: Sequence[str]) -> Markup:
    """What the colours mean."""
    if len(names) == 1:
        found = [(run_colour(0), "", "train loss"), (VALIDATION_COLOUR, "dot", "validation loss")]
    else:
        found = [(run_colour(place), "", name) for place, name in enumerate(names)]
    words = txt('<span class="hint">solid: train · dashed: validation</span>') if len(names) > 1 else ""
    return txt('<div class="legend">{}{}</div>', join(
        txt('<span><i class="{}" style="background:{}"></i>{}</span>', kind, colour, name)
        for colour, kind, name in found), words)


def why_empty(feed: Feed) -> str:
    """Why there is no curve, in one sentence."""
    status = feed.status
    if not feed.ready:
        return "Reading the run…"
    if status.state == "queued":
        return "The run is about to start. The loss appears here with its first training step."
    if status.active and status.job in ("curate", "tokenize"):
        return "The text is being prepared. The loss appears here with the first training step."
    if status.active and status.job == "train":
        return "Training is warming up. The loss appears here with the first step."
    if status.active:
        return "This run trains nothing, so it has no loss curve."
    return "No training step was made in this run, so there is no loss curve."
