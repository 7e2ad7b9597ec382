"""Optimizer: how the parameters move, and how far in each step of the run."""

from __future__ import annotations

from typing import Any

from panel.viewable import Viewable

from engine.model import estimate
from studio import figures
from studio.forms import Form
from studio.layout import picture, split
from studio.page import Page
from studio.texts import Text
from studio.views import banner, card, join, number, tiles, txt


class Optim(Page):
    title, icon, noun = "Optimizer", "trending_down", "optim"
    line = "How the parameters move, and how far in each step of the run."
    sections, command = ("optim", "schedule"), "train"

    def view(self) -> Viewable:
        self.facts, self.words, self.curve = Text(), Text(), picture(height=280)
        self._drawn: Any = None
        self.session.draft.param.watch(lambda *_: self._tell(), "version")
        self._tell()
        self._draw()
        forms = [card(Form("optim", self.session), title="Optimizer", line="How gradients become updates."),
                 card(Form("schedule", self.session), title="Schedule", line="The learning rate over the run."),
                 card(Form("train", self.session, only=("max_steps", "max_grad_norm")), title="Length",
                      line="Also under Train, where the rest of the run is set.")]
        return split(forms, [card(self.facts, self.curve, self.words, title="Learning rate over the run",
                                  line="As the run would use it.")])

    def shown(self) -> None:
        self._tell()

    def tick(self) -> None:
        self._draw()

    def _tell(self) -> None:
        recipe = self.session.draft.settled
        steps, warmup = recipe.train.max_steps, recipe.schedule.warmup_steps
        last = recipe.optim.lr * recipe.schedule.factor(steps - 1, steps)
        state = recipe.optim.state_bytes_per_parameter * estimate.parameters(recipe.model)
        self.facts.html = tiles([("Peak", f"{recipe.optim.lr:g}"), ("at the end", f"{last:.2g}"),
                                 ("Warmup", f"{min(1.0, warmup / steps):.1%}"),
                                 ("Optimizer state", figures.byte_size(state))])
        warning = banner("warning", f"Warmup takes {number(warmup)} of {number(steps)} steps: the run would hardly "
                                    "reach its peak. Shorten the warmup or add steps.") if warmup > steps / 2 else ""
        self.words.html = join([warning, txt(
            '<p class="more">{} steps of {} tokens: {} tokens in all.</p>', number(steps),
            number(recipe.tokens_per_step),
            number(steps * recipe.tokens_per_step))])

    def _draw(self) -> None:
        recipe = self.session.draft.settled
        seen = (recipe.optim.lr, recipe.schedule, recipe.train.max_steps)
        if seen != self._drawn:
            self._drawn = seen
            self.curve.object = figures.learning_rate(recipe.schedule.factor, recipe.optim.lr, recipe.train.max_steps)
