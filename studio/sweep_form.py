"""SweepForm: what a sweep varies, how many trials that makes, and the buttons that start it or let it wait."""

from __future__ import annotations

from typing import Any

from panel.viewable import Viewable, Viewer

from engine.config import UserError
from engine.recipe import Recipe
from engine.runs.sweep import check
from studio.forms import Form
from studio.labels import named
from studio.layout import actions, button, stack
from studio.session import Session
from studio.views import Fragment, Markup, banner, number, tiles, txt

SHOWN = 4  # values of a setting in a grid


class SweepForm(Viewer):
    """The draft's sweep. It looks at the draft whenever that changes."""

    def __init__(self, session: Session, **params: Any) -> None:
        super().__init__(**params)
        self.session = session
        self.size = Fragment()
        self.buttons = [button("Start the sweep", "tune", self.start, main=True),
                        button("Add the sweep to the queue", "playlist_add", lambda: self.start(wait=True))]
        self._view = stack(Form("sweep", session), self.size, actions(*self.buttons), gap="16px")
        session.draft.param.watch(lambda *_: self.refresh(), "version")
        self.refresh()

    def __panel__(self) -> Viewable:
        return self._view

    def recipe(self) -> Recipe | None:
        """The draft as a sweep, or None while it cannot be one (`refresh` says why)."""
        recipe = self.session.recipe()
        if recipe is None or not recipe.sweep.vary:
            return None
        return recipe.override(f"name={recipe.name[:70]}-sweep", "jobs=[sweep]")

    def refresh(self) -> None:
        """Say how large the sweep is, or what is wrong with it."""
        recipe, problem = self.recipe(), ""
        if recipe is not None:
            try:
                check(recipe)
            except UserError as error:
                problem = named(error.sentence)
        for each in self.buttons:
            each.disabled = recipe is None or bool(problem)
        if problem:
            self.size.html = banner("error", problem)
        else:
            self.size.html = told(recipe) if recipe is not None else txt(
                '<p class="line">Write what to vary, one setting a line, and the number of trials stands here.</p>')

    def start(self, *, wait: bool = False) -> None:
        recipe = self.recipe()
        if recipe is not None:
            self.session.enqueue(recipe) if wait else self.session.start(recipe)


def told(recipe: Recipe) -> Markup:
    """How many trials of how many steps; of a grid, the values that are crossed."""
    sweep, steps = recipe.sweep, recipe.train.max_steps
    most = f"{sweep.trials * steps:,}" + (" at most" if sweep.prune else "")
    facts = tiles([("Trials", number(sweep.trials)), ("Steps in each", number(steps)), ("Steps in all", most)])
    if sweep.sampler != "grid":
        return facts
    crossed = []
    for each in sweep.ranges:
        values = [f"{value:.4g}" if isinstance(value, float) else str(value) for value in each.grid()]
        crossed.append(f"{len(values)} of {each.name} ({', '.join(values[:SHOWN])}{', …' * (len(values) > SHOWN)})")
    return txt('{}<p class="line gap">{}</p>', facts, " × ".join(crossed))
