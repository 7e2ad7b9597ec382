"""The learning-rate range test on the Optimizer page: started on the draft, drawn while it runs, taken with a press."""

from __future__ import annotations

from typing import Any

from panel.viewable import Viewable

from engine import runs
from engine.config import UserError
from engine.optim.lr_range import Curve
from engine.runs import Run
from studio import optim_plots
from studio.layout import actions, button, later, picture
from studio.run_parts import progress
from studio.session import Session
from studio.texts import Text
from studio.views import banner, card, join, press, txt
from studio.watch import WATCH, Feed

NAME = "-lr-range"


class RangeTest:
    """The newest range test of the workspace, and the button that starts one."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.run: Run | None = None
        self.words, self.curve = Text(on_press=self._pressed), picture(height=260)
        self.curve_frame = later(self.curve)
        self.begin = button("Find a learning rate", "troubleshoot", self.start)
        self._seen: Any = None
        self._drawn = -1

    def view(self) -> Viewable:
        return card(actions(self.begin), self.words, self.curve_frame, title="Range test",
                    line="A short training of this model, optimizer and text, in which the learning rate rises until "
                         "the loss does.")

    def start(self) -> None:
        """Begin a test of the draft."""
        recipe = self.session.recipe()
        if recipe is None:
            self.session.notify("Some settings are wrong; put them right first.", "warning")
            return
        started = self.session.start(recipe.replace(jobs=["lr_range"], name=f"{recipe.name[:60]}{NAME}"), show=False)
        if started is not None:
            self._show(started)

    def shown(self) -> None:
        """Look for the newest test again."""
        found = [run for run in runs.listing(self.session.workspace) if NAME in run.name]
        self._show(found[0] if found else None)

    def tick(self) -> None:
        if self.run is None:
            return
        feed = WATCH.follow(self.run)
        self.begin.disabled = feed.status.active
        seen = (feed.version, self.session.draft.version)
        if seen != self._seen and feed.ready:
            self._seen = seen
            self._tell(feed)
            self._draw(feed)

    def _show(self, run: Run | None) -> None:
        if run != self.run:
            self.run, self._seen, self._drawn = run, None, -1
        if run is None:
            self.words.html, self.curve_frame.visible = txt('<p class="more">No test was made yet.</p>'), False

    def _draw(self, feed: Feed) -> None:
        curve = curve_of(feed)
        self.curve_frame.visible = len(curve.rates) > 1
        if self.curve_frame.visible and len(curve.rates) != self._drawn:
            self._drawn = len(curve.rates)
            self.curve.object = optim_plots.lr_range(curve)

    def _tell(self, feed: Feed) -> None:
        found = [event for event in feed.told("advice") if event.get("what") == "lr_range"]
        if not found:
            error = banner("error", feed.status.error) if feed.status.error else ""
            stop = press("Stop", "stop", sign="stop") if feed.status.active else ""
            self.words.html = join([progress(feed.status), stop, error])
            return
        rate = found[-1].get("suggestion")
        use = press(f"Use {rate:g}", "use", "full", "check") if isinstance(rate, (int, float)) else txt("")
        self.words.html = join([banner("success" if use else "warning", found[-1].get("sentence", ""), use),
                                self._of_something_else()])

    def _of_something_else(self) -> Any:
        """A note when the test was of another optimizer or model than the draft's."""
        assert self.run is not None
        try:
            tested, draft = runs.recipe_of(self.run), self.session.draft.settled
        except UserError:
            return ""
        others = [words for words, mine, its in (
            ("optimizer", draft.optim.replace(lr=1.0), tested.optim.replace(lr=1.0)),
            ("model", draft.model, tested.model),
            ("batch", draft.tokens_per_step, tested.tokens_per_step)) if mine != its]
        return txt('<p class="more">{} tested another {} than the one that is set now.</p>', self.run.name,
                   " and another ".join(others)) if others else ""

    def _pressed(self, what: str) -> None:
        if self.run is None:
            return
        if what == "stop":
            self.session.attempt(runs.stop, self.run)
            return
        rate = WATCH.follow(self.run).told("advice")[-1]["suggestion"]
        self.session.draft.put(("optim", "lr"), rate)
        self.session.notify(f"The learning rate is now {rate:g}.", "success")


def curve_of(feed: Feed) -> Curve:
    """The steps of the test so far."""
    curve = Curve()
    rates, losses = feed.series.get("train/lr"), feed.series.get("train/loss")
    if rates is not None and losses is not None:
        for rate, loss in zip(rates.values.tolist(), losses.values.tolist(), strict=False):
            curve.add(rate, loss)
    return curve
