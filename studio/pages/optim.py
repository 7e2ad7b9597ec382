"""Optimizer: how the parameters move, and how far in each step of the run."""

from __future__ import annotations

from typing import Any

from panel.viewable import Viewable

from engine.model import estimate
from engine.model.shapes import shapes
from engine.optim import OPTIMIZERS, Optimizer
from engine.optim.groups import state_bytes
from engine.recipe import Recipe
from studio import figures, optim_plots
from studio.forms import Form
from studio.labels import label
from studio.layout import picture, split
from studio.lists import first_sentence
from studio.lr_range import RangeTest
from studio.page import Page
from studio.texts import Text, legend, percent
from studio.views import banner, card, join, number, press, tiles, txt


class Optim(Page):
    title, icon, noun = "Optimizer", "trending_down", "optim"
    line = "How the parameters move, and how far in each step of the run."
    sections, command = ("optim", "schedule", "lr_range"), "train"

    def view(self) -> Viewable:
        self.facts, self.words, self.curve = Text(), Text(on_press=self._pressed), picture(height=280)
        self.kinds, self.shares, self.areas = Text(on_press=self._pressed), Text(), picture(height=64)
        self.test = RangeTest(self.session)
        self._drawn: Any = None
        self.session.draft.param.watch(lambda *_: self._tell(), "version")
        self._tell()
        self._draw()
        forms = [card(Form("optim", self.session), title="Optimizer", line="How gradients become updates."),
                 card(Form("schedule", self.session), title="Schedule", line="The learning rate over the run."),
                 card(Form("train", self.session, only=("max_steps", "max_grad_norm", "ema_decay")), title="Length",
                      line="Also under Train, where the rest of the run is set."),
                 card(self.kinds, title="Every optimizer", line="What each keeps in memory for this model, beside its "
                                                                "weights and gradients.")]
        return split(forms, [card(self.facts, self.curve, self.words, title="Learning rate over the run",
                                  line="As the run would use it."),
                             self.test.view(),
                             card(self.areas, self.shares, title="Parameters",
                                  line="Which are treated alike: by rule, weight decay and learning rate.")])

    def shown(self) -> None:
        self._tell()
        self.test.shown()

    def tick(self) -> None:
        self._draw()
        self.test.tick()

    def _tell(self) -> None:
        recipe = self.session.draft.settled
        steps, warmup = recipe.train.max_steps, recipe.schedule.warmup_steps
        last = recipe.optim.lr * recipe.schedule.factor(steps - 1, steps)
        self.facts.html = tiles([("Peak", f"{recipe.optim.lr:g}"), ("At the end", f"{last:.2g}"),
                                 ("Warmup", f"{min(1.0, warmup / steps):.1%}"),
                                 ("Optimizer state", figures.byte_size(_state(recipe, recipe.optim)))])
        warning = banner("warning", f"Warmup takes {number(warmup)} of {number(steps)} steps: the run would hardly "
                                    "reach its peak. Shorten the warmup or add steps.") if warmup > steps / 2 else ""
        free = recipe.optim.kind == "schedule_free" and recipe.schedule.kind != "constant"
        advice = banner("info", "Schedule-Free is made for a constant learning rate after warmup.",
                        press("Use constant", "constant")) if free else ""
        self.words.html = join([warning, advice, txt(
            '<p class="more">{} steps of {} tokens: {} tokens in all.</p>', number(steps),
            number(recipe.tokens_per_step),
            number(steps * recipe.tokens_per_step))])
        self.kinds.html = txt('<table><tr><th>optimizer</th><th></th><th class="num">a parameter</th>'
                              '<th class="num">in all</th><th></th></tr>{}</table>',
                              join(self._kind(recipe, kind) for kind in OPTIMIZERS))
        found = optim_plots.shares(recipe.optim, shapes(recipe.model))
        total = sum(count for _, count, _ in found)
        self.shares.html = legend((colour, words, f"{figures.number(count)} ({percent(count / total)})")
                                  for words, count, colour in found)

    def _kind(self, recipe: Recipe, kind: str) -> Any:
        chosen = recipe.optim.kind == kind
        state = _state(recipe, recipe.optim if chosen else OPTIMIZERS[kind]())
        each = state / estimate.parameters(recipe.model)
        return txt('<tr><td><b>{}</b></td><td><p class="more">{}</p></td><td class="num">{}&nbsp;B</td>'
                   '<td class="num">{}</td><td>{}</td></tr>', label(kind),
                   first_sentence(OPTIMIZERS[kind]), f"{each:.2g}" if each < 1 else f"{each:.1f}",
                   figures.byte_size(state).replace(" ", "\u00a0"),
                   txt("&ensp;chosen") if chosen else press("Choose", f"kind {kind}", "quiet"))

    def _pressed(self, what: str) -> None:
        if what == "constant":
            warmup = self.session.draft.settled.schedule.warmup_steps
            self.session.draft.put(("schedule",), {"kind": "constant", "warmup_steps": warmup})
        else:
            self.session.draft.choose(("optim",), what.removeprefix("kind "))

    def _draw(self) -> None:
        recipe = self.session.draft.settled
        found = optim_plots.shares(recipe.optim, shapes(recipe.model))
        seen = (recipe.optim.lr, recipe.schedule, recipe.train.max_steps, tuple(found))
        if seen != self._drawn:
            self._drawn = seen
            self.curve.object = figures.learning_rate(recipe.schedule.factor, recipe.optim.lr, recipe.train.max_steps)
            self.areas.object = optim_plots.groups(found)


def _state(recipe: Recipe, optim: Optimizer) -> int:
    return state_bytes(optim, recipe.model, averaged=recipe.train.ema_decay > 0)
