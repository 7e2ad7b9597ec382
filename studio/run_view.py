"""RunView: one run as a person watches it, with others beside it in its plots, on the page and in a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import panel_material_ui as pmui
from panel.viewable import Viewable, Viewer

from engine import runs
from engine.config import UserError
from engine.recipe import Recipe
from engine.runs import Run
from studio import run_parts as parts
from studio import sweep_view
from studio.layout import later, stack
from studio.metrics_view import MetricsView
from studio.notes_view import NotesView
from studio.run_account import account, check
from studio.run_plots import RunPlots
from studio.session import Session
from studio.sweep_view import SweepView
from studio.views import Fragment, Markup, card, txt
from studio.watch import WATCH, Feed

FOLDS = ("Checkpoints", "What auto became", "Recipe", "Timeline", "Log")


class RunView(Viewer):
    """Follows one run. Call `look(names)` when the selection changes and `tick` twice a second."""

    def __init__(self, session: Session, *, alone: bool = False, **params: Any) -> None:
        super().__init__(**params)
        self.session, self.alone = session, alone
        self.names: list[str] = []
        self.head = Fragment(on_press=self._press)
        self.trouble, self.stepper, self.figures = Fragment(), Fragment(), Fragment()
        self.account, self.check = Fragment(), Fragment()
        self.verdict, self.samples, self.sample_head = Fragment(), Fragment(), Fragment()
        self.plots, self.notes, self.sweep = RunPlots(), NotesView(session), SweepView(session)
        self.metrics = MetricsView(session)
        self.step = pmui.IntSlider(label="", start=0, end=1, value=0, show_value=False, margin=(0, 12),
                                   sizing_mode="stretch_width")
        self.step.param.watch(lambda *_: self._show_sample(), "value")
        self._steps: list[int] = []
        self._seen: Any = None
        self.more = later(self.metrics)
        self.fold = pmui.Tabs(*[(name, Fragment()) for name in FOLDS], ("Metrics", self.more), dynamic=False,
                              sizing_mode="stretch_width", margin=0, sx={"& .MuiTab-root": {"minHeight": 42}})
        self.fold.param.watch(lambda *_: self._unfold(), "active")
        self.sample_card = card(self.sample_head, self.step, self.samples, visible=False)
        self.verdict_card = card(self.verdict, title="Parity", visible=False)
        self.account_card = card(self.account, title="Energy and load", visible=False)
        self.check_card = card(self.check, title="Plan and outcome", visible=False)
        self.plot_cards = stack(card(self.plots), card(self.figures), gap="16px")
        self._view = stack(card(self.head, self.stepper, self.trouble, self.notes), self.sweep, self.plot_cards,
                           self.account_card, self.check_card, self.sample_card, self.verdict_card, card(self.fold),
                           gap="16px", visible=False)

    def __panel__(self) -> Viewable:
        return self._view

    def look(self, names: Sequence[str]) -> None:
        """Show the first of these runs, and the others in its plots."""
        if list(names) != self.names:
            changed = not self.names or not names or names[0] != self.names[0]
            self.names, self._seen = list(names), None
            if changed:
                self._steps = []
                recipe = self._asked() if self.names else None
                self.jobs = list(recipe.jobs) if recipe else []
                if self.names:
                    self.notes.look(self.run)
                    self.metrics.look(self.run)
                    self.sweep.look(self.run, recipe)
                    self.plot_cards.visible = self.jobs != ["sweep"]
        self._view.visible = bool(self.names)
        self.tick()

    @property
    def run(self) -> Run:
        return Run(self.session.workspace.place("runs") / self.names[0])

    def tick(self) -> None:
        """Show what is new."""
        if not self.names:
            return
        root = self.session.workspace.place("runs")
        feeds = [WATCH.follow(Run(root / name)) for name in self.names]
        self.plots.update(feeds)
        feed = feeds[0]
        self.head.html = parts.head(feed, alone=self.alone)
        self.notes.tick()
        self.metrics.tick()
        self.sweep.update(feed)
        if (seen := (feed.version, feed.anew)) == self._seen:
            return
        self._seen = seen
        self.trouble.html = parts.trouble(feed)
        self.trouble.visible = bool(self.trouble.html)
        self.stepper.html = parts.stepper(self.jobs, feed.status) if len(self.jobs) > 1 else Markup("")
        self.figures.html = parts.figures(feed)
        self.account.html = account(feed)
        self.account_card.visible = bool(self.account.html)
        self.check.html = check(feed)
        self.check_card.visible = bool(self.check.html)
        self.verdict.html = parts.verdict(feed)
        self.verdict_card.visible = bool(self.verdict.html)
        self._samples(feed)
        self._unfold()

    def _asked(self) -> Recipe | None:
        try:
            return runs.recipe_of(self.run)
        except UserError:
            return None

    # Samples -----------------------------------------------------------------------------------------

    def _samples(self, feed: Feed) -> None:
        steps = parts.sample_steps(feed)
        if steps == self._steps:
            return
        newest = not self._steps or self.step.value >= len(self._steps) - 1
        self._steps = steps
        self.sample_card.visible = bool(steps)
        self.step.visible = len(steps) > 1
        if len(steps) > 1:
            self.step.end = len(steps) - 1
        if newest:
            self.step.value = max(0, len(steps) - 1)
        self._show_sample()

    def _show_sample(self) -> None:
        if not self._steps or not self.names:
            return
        place = min(self.step.value, len(self._steps) - 1)
        feed = WATCH.follow(self.run)
        hint = "; move the slider to see it learn" if len(self._steps) > 1 else ""
        self.sample_head.html = txt('<h2>Samples</h2><p class="line">What the model wrote after <b>{:,}</b> steps{}.'
                                    "</p>", self._steps[place], hint)
        self.samples.html = parts.samples(feed, self._steps[place])

    # Below -------------------------------------------------------------------------------------------

    def _unfold(self) -> None:
        """Fill the fold that is in sight."""
        if not self.names:
            return
        name = (*FOLDS, "")[self.fold.active]
        if not name:
            self.more.visible = True    # the metrics look after themselves
            return
        feed = WATCH.follow(self.run)
        shown = {"Checkpoints": self._checkpoints, "What auto became": parts.resolved, "Timeline": parts.timeline,
                 "Log": parts.log, "Recipe": self._recipe}[name](feed)
        self.fold[self.fold.active].html = txt('<div class="fold">{}</div>', shown)

    def _checkpoints(self, feed: Feed) -> Markup:
        if self.jobs == ["sweep"]:
            return sweep_view.checkpoints(self.sweep.found, feed.run.path.parent)
        return parts.checkpoints(feed)

    def _recipe(self, feed: Feed) -> Markup:
        try:
            text = feed.run.recipe_path.read_text(encoding="utf-8")
        except OSError:
            text = "recipe.yaml is missing"
        return txt('<p class="line">What this run was asked to do. It never changes.</p><div class="code">'
                   '<pre id="recipe">{}</pre><button type="button" class="press" data-copy="#recipe">Copy</button>'
                   "</div>", text)

    # What a person asks ------------------------------------------------------------------------------

    def _press(self, what: str) -> None:
        if not self.names:
            return
        parts.act(self.session, self.run, what)
        self._seen = None
        self.tick()
