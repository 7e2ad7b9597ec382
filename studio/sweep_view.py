"""SweepView: the trials of a sweep, which is best, what mattered, and the way from there to a draft."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from panel.viewable import Viewable, Viewer

from engine import runs
from engine.recipe import JOBS, Recipe
from engine.runs import Run
from engine.runs.study import Trial
from engine.runs.sweep import best, trials
from studio.layout import later, picture, stack
from studio.session import Session
from studio.sweep_figures import best_so_far, parallel_coordinates
from studio.views import Fragment, Markup, card, empty, join, number, press, tiles, txt
from studio.watch import Feed


class SweepView(Viewer):
    """Shows one sweep. Call `look(run, recipe)` when another is looked at, and `update(feed)` when something is new."""

    def __init__(self, session: Session, **params: Any) -> None:
        super().__init__(**params)
        self.session = session
        self.run: Run | None = None
        self.recipe: Recipe | None = None
        self.found: list[Trial] = []
        self.head, self.mattered = Fragment(on_press=self._pressed), Fragment()
        self.table = Fragment(on_press=self._pressed)
        self.progress, self.lines = picture(), picture()
        self._seen: Any = None
        self.pictures = stack(card(self.progress, title="Best so far"),
                              card(self.lines, self.mattered, title="Settings",
                                   line="Each line is a trial. The greener, the better; grey ones were stopped early."),
                              gap="16px", visible=False)
        self._view = later(card(self.head, title="Sweep"), self.pictures, card(self.table, title="Trials"),
                           gap="16px")

    def __panel__(self) -> Viewable:
        return self._view

    def look(self, run: Run, recipe: Recipe | None) -> None:
        """Show this run if it is a sweep."""
        self.run, self._seen = run, None
        self.recipe = recipe if recipe is not None and recipe.jobs == ("sweep",) else None
        self._view.visible = self.recipe is not None

    def update(self, feed: Feed) -> None:
        """Show what is new."""
        if self.recipe is None or self.run is None:
            return
        self.found = trials(self.run)
        told = feed.told("swept")
        seen = (len(self.found), sum(t.over for t in self.found), len(told), feed.status.state)
        if seen == self._seen:
            return
        self._seen = seen
        sweep, first = self.recipe.sweep, best(self.found)
        self.head.html = self._told(first)
        self.table.html = table(self.found, sweep.metric, first)
        known = [t for t in self.found if t.over and t.value is not None]
        self.pictures.visible = bool(known)
        if known:
            self.progress.object = best_so_far(self.found, sweep.metric)
            self.lines.object = parallel_coordinates(self.found, sweep.ranges, sweep.metric)
        self.mattered.html = importance(told[-1].get("importance", {}) if told else {})

    def _told(self, first: Trial | None) -> Markup:
        assert self.recipe is not None
        sweep = self.recipe.sweep
        over = sum(t.over for t in self.found)
        facts: list[tuple[str, Any]] = [("Trials", txt("{} <small>of {}</small>", over, sweep.trials)),
                                        ("Stopped early", sum(t.state == "pruned" for t in self.found))]
        if first is None:
            return tiles(facts)
        facts += [(f"Lowest {sweep.metric}", number(first.value)), ("Best trial", first.run)]
        settings = join(txt("<li><code>{}</code></li>", f"{name} = {_short(value)}")
                        for name, value in first.changes.items())
        return txt('{}<ul class="settings">{}</ul><div class="fixes gap">{}{}</div>', tiles(facts), settings,
                   press("Use the best as draft", "draft", "full", "edit"),
                   press("Compare the trials", "compare", sign="stacked_line_chart"))

    def _pressed(self, what: str) -> None:
        verb, _, name = what.partition(":")
        first = best(self.found)
        if verb == "pick":
            self.session.param.update(run=name, others="")
        elif verb == "draft" and first is not None:
            self._draft(first)
        elif verb == "compare" and first is not None:
            others = [trial.run for trial in self.found if trial.run != first.run]
            self.session.param.update(run=first.run, others=",".join(others))

    def _draft(self, first: Trial) -> None:
        """The best trial's settings as the draft, with all the jobs of a whole run."""
        assert self.run is not None
        recipe = self.session.attempt(runs.recipe_of, Run(self.run.path.parent / first.run))
        if recipe is not None:
            name = f"{self.run.name.removesuffix('-sweep')}-best"
            self.session.draft.replace({**recipe.dump(), "name": name, "jobs": list(JOBS)})
            self.session.notify(f"The settings are now those of {first.run}.", "success")
            self.session.goto("stages")


def table(found: list[Trial], metric: str, first: Trial | None) -> Markup:
    """Every trial with its settings and what it came to; newest first."""
    if not found:
        return empty("The first trial is about to begin.", "hourglass_empty")
    names = list(dict.fromkeys(name for trial in found for name in trial.changes))
    head = txt('<tr><th>trial</th>{}<th class="num">{}</th><th>state</th></tr>',
               join(txt('<th class="num">{}</th>', name) for name in names), metric)
    rows = join(txt('<tr><td><button type="button" class="pickrun" data-press="pick:{0}">{0}</button></td>{1}'
                    '<td class="num {4}">{2}</td><td>{3}</td></tr>', trial.run,
                    join(txt('<td class="num">{}</td>', _short(trial.changes.get(name, "–"))) for name in names),
                    number(trial.value), {"pruned": "stopped early"}.get(trial.state, trial.state),
                    "best" if first and trial.run == first.run else "")
                for trial in reversed(found))
    return txt('<div class="scroll tall"><table>{}{}</table></div>', head, rows)


def checkpoints(found: list[Trial], root: Path) -> Markup:
    """What the trials saved; the sweep itself has no weights."""
    rows = join(txt('<tr><td>{}</td><td class="num">{}</td><td class="mono">{}</td></tr>', trial.run,
                    number(trial.value), join(txt("<div>{}</div>", f"runs/{trial.run}/checkpoints/{path.name}")
                                              for path in Run(root / trial.run).checkpoints) or "none kept")
                for trial in reversed(found))
    return txt('<p class="line">Each trial has its own.</p><table><tr><th>trial</th><th class="num">lowest</th>'
               "<th>folders</th></tr>{}</table>", rows) if found else txt('<p class="line">No trial has begun.</p>')


def importance(shares: dict[str, float]) -> Markup:
    """How much of the differences between trials each setting explains."""
    if not shares:
        return Markup("")
    rows = join(txt('<li><code>{}</code><i style="width:{:.1f}%"></i><span>{:.0%}</span></li>', name, 60 * share, share)
                for name, share in sorted(shares.items(), key=lambda pair: -pair[1]))
    return txt('<h3>What mattered</h3><p class="line">Share of the differences between finished trials that each '
               "setting explains, as Optuna estimates it; with few trials it is a guess.</p>"
               '<ul class="shares">{}</ul>', rows)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
