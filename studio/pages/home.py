"""Home: the path at a glance, one button that walks it, and the run that walks it now."""

from __future__ import annotations

import time

import panel as pn
from panel.viewable import Viewable

from engine.recipe import Recipe
from engine.runs import Run, queue, recipe_of
from studio import run_parts
from studio.layout import stack
from studio.page import Page
from studio.run_plots import RunPlots
from studio.theme import CURVE
from studio.views import Fragment, Markup, age, card, chip, icon, join, number, press, txt
from studio.watch import WATCH, Feed, Line, lines

RECIPE = "demo"
RECENT_SECONDS = 3600.0
LIST_SECONDS = 1.0

# noun, title, icon, what it does, what is counted there
PATH = (
    ("corpus", "Corpus", "library_books", "Text in, clean text out", "datasets"),
    ("tokens", "Tokens", "segment", "Text becomes numbers", "tokens"),
    ("model", "Model", "hub", "How deep, how wide", ""),
    ("optim", "Optimizer", "trending_down", "How it learns", ""),
    ("stages", "Train", "play_circle", "Press start", ""),
    ("runs", "Runs", "show_chart", "Watch it learn", "runs"),
    ("evaluate", "Evaluate", "insights", "How good it is", ""),
    ("export", "Export", "inventory_2", "ONNX, and the proof", "bundles"),
    ("inference", "Test", "chat", "Talk to it", ""),
)
COUNTED = {"datasets": ("dataset", "datasets"), "tokens": ("token set", "token sets"), "runs": ("run", "runs"),
           "bundles": ("bundle", "bundles")}


class Home(Page):
    title, icon, noun, line = "Home", "home", "home", ""

    def view(self) -> Viewable:
        self.hero = Fragment(on_press=self._pressed)
        self.path = Fragment(on_press=self.session.goto)
        self.recent = Fragment(on_press=lambda name: self.session.goto("runs", run=name))
        self.head, self.steps = Fragment(on_press=self._live_pressed), Fragment()
        self.trouble, self.verdict, self.samples = Fragment(), Fragment(), Fragment()
        self.plots = RunPlots(small=True, height=280)
        self.live = ""
        self._seen: object = None
        self._listed = 0.0
        samples = pn.Column(self.samples, margin=0, styles={"flex": "1 1 260px", "min-width": "0"})
        plots = pn.Column(self.plots, margin=0, styles={"flex": "2.2 1 440px", "min-width": "0"})
        self.training = pn.Row(plots, samples, margin=0, sizing_mode="stretch_width", visible=False,
                               styles={"flex-wrap": "wrap", "gap": "16px 28px"})
        self.live_card = card(self.head, self.steps, self.trouble, self.verdict, self.training, visible=False)
        self.recent_card = card(self.recent, title="Recent runs", visible=False)
        return stack(self.hero, self.live_card, card(self.path, title="The path",
                         line="From raw text to a model that answers. Each step is a page; begin anywhere."),
                         self.recent_card)

    def shown(self) -> None:
        self._list()
        self._follow()

    def tick(self) -> None:
        if time.monotonic() - self._listed > LIST_SECONDS:
            self._list()
        self._follow()

    # What there is -----------------------------------------------------------------------------------

    def _list(self) -> None:
        self._listed = time.monotonic()
        found = lines(self.session.workspace)
        active = next((line for line in found if line.status.active and not self._waits(line)), None)
        fresh = next((line for line in found if time.time() - line.status.ended < RECENT_SECONDS), None)
        here = next((line for line in found if line.name == self.live), None)
        shown = active or here or fresh
        if (shown.name if shown else "") != self.live:
            self.live, self._seen = (shown.name if shown else ""), None
        self.hero.html = hero(active)
        counts = run_parts.what_exists(self.session.workspace)
        self.path.html = path(counts)
        self.recent.html = recent(found[:6])
        self.recent_card.visible = bool(found)

    def _waits(self, line: Line) -> bool:
        """Whether a run has not begun, since its turn in the queue has not come."""
        return line.status.state == "queued" and queue.waiting(Run(self.session.workspace.place("runs") / line.name))

    def _follow(self) -> None:
        """Show what is new in the run that is watched here."""
        self.live_card.visible = bool(self.live)
        if not self.live:
            return
        feed = WATCH.follow(Run(self.session.workspace.place("runs") / self.live))
        self.plots.update([feed])
        if (feed.version, feed.anew) == self._seen:
            return
        self._seen = feed.version, feed.anew
        self.head.html = run_parts.head(feed, watch=True)
        jobs = list(self.session.attempt(recipe_of, feed.run).jobs)
        self.training.visible = "train" in jobs     # without it there is no loss to come, and no first words
        self.steps.html = run_parts.stepper(jobs, feed.status)
        self.trouble.html, self.verdict.html = run_parts.trouble(feed), run_parts.verdict(feed)
        self.trouble.visible, self.verdict.visible = bool(self.trouble.html), bool(self.verdict.html)
        self.samples.html = latest_samples(feed)

    # What a person asks ------------------------------------------------------------------------------

    def _pressed(self, what: str) -> None:
        if what == "quick":
            recipe = self.session.attempt(Recipe.load, RECIPE)
            run = self.session.start(recipe, show=False) if recipe is not None else None
            if run is not None:
                self.live = run.name
                self._list()
                self._follow()
        else:
            self.session.goto(what)

    def _live_pressed(self, what: str) -> None:
        run = Run(self.session.workspace.place("runs") / self.live)
        if what == "watch":
            self.session.goto("runs", run=run.name)
        else:
            run_parts.act(self.session, run, what)
        self._seen = None
        self._list()


def hero(active: Line | None) -> Markup:
    busy = txt('<p class="note">{} <b>{}</b> is at work below. You can close this page: it goes on.</p>', icon("bolt"),
               active.name) if active else ""
    words = ("One press takes a shelf of old novels to a small GPT: cleaned, tokenized, trained, measured, exported to "
             "ONNX, and proven to be the same model. It takes a few minutes on this machine, and nothing leaves it.")
    return txt('<section class="hero"><div><h1>Watch a language model learn</h1><p>{}</p><div class="row">{}{}</div>{}'
               "</div>{}</section>", words, press("Quick start", "quick", "full big", "play_arrow"),
               press("Use my own text", "corpus", "big", "library_books"), busy, Markup(CURVE))


def path(counts: dict[str, int]) -> Markup:
    found = []
    for noun, title, sign, words, kind in PATH:
        amount = counts.get(kind, 0)
        there = txt('<em>{} {}</em>', amount, COUNTED[kind][amount != 1]) if kind and amount else ""
        found.append(txt('<li class="{}"><button type="button" data-press="{}"><i>{}</i><b>{}</b><span>{}</span>{}'
                         '</button></li>', "has" if there else "", noun, icon(sign), title, words, there))
    return txt('<ol class="path">{}</ol>', join(found))


def recent(found: list[Line]) -> Markup:
    return txt('<div class="recent">{}</div>', join(
        txt('<button type="button" data-press="{0}"><b>{0}</b>{1}<span>{2}</span><span>{3}</span></button>', line.name,
            chip(line.status.state), f"lowest val loss {number(line.val_loss)}" if line.val_loss is not None else "",
            age(line.status.created)) for line in found))


def latest_samples(feed: Feed) -> Markup:
    steps = run_parts.sample_steps(feed)
    if not steps:
        return txt('<div class="await"><h3>What it writes</h3><p class="line">Its first words appear here in a moment. '
                   "They will be noise; watch them turn into English.</p></div>")
    return txt('<h3 class="line gapless">What it writes after {} steps</h3>{}', number(steps[-1]),
               run_parts.samples(feed, steps[-1]))
