"""Train: how long and how, what that comes to, and the button that starts it."""

from __future__ import annotations

import panel as pn
import panel_material_ui as pmui
from panel.viewable import Viewable

from engine.config import UserError
from engine.plan.outline import text_of
from engine.recipe import Recipe, shipped
from engine.runs import queue
from engine.runs.possible import impossible
from engine.workspace import Workspace, slug
from studio.forms import Form
from studio.labels import said
from studio.layout import stack
from studio.page import Page
from studio.plan_card import PlanCard
from studio.run_parts import JOB_WORDS
from studio.spread_card import SpreadCard
from studio.sweep_form import SweepForm
from studio.views import Fragment, card, icon, join, number, press, size, tiles, txt

PAGE_OF = {"corpus": "corpus", "tokens": "tokens", "model": "model", "optim": "optim", "schedule": "optim",
           "evaluate": "evaluate", "export": "export"}


class Train(Page):
    title, icon, noun = "Train", "play_circle", "stages"
    line = "How long, in what batches, and what is looked at on the way."
    sections, command = ("name", "seed", "jobs", "stage", "train"), "run"

    def view(self) -> Viewable:
        draft = self.session.draft
        self.ready = Fragment(on_press=self._pressed)
        self.start = pmui.Button(label="Start", icon="play_arrow", variant="contained", size="large", margin=0,
                                 sx={"minHeight": "46px"}, on_click=lambda *_: self._start(),
                                 sizing_mode="stretch_width")
        self.wait = pmui.Button(label="Add to queue", icon="playlist_add", variant="outlined", size="large", margin=0,
                                sizing_mode="stretch_width", sx={"minHeight": "40px"},
                                on_click=lambda *_: self._enqueue())
        self.at = pmui.TextInput(label="Not before", placeholder="22:30", size="small", width=110, margin=0)
        recipes = pmui.MenuButton(label="Begin with a recipe", icon="menu_book", variant="outlined", size="small",
                                  margin=0, items=[{"label": name} for name in shipped()],
                                  on_click=lambda item: self._load(item["label"]))
        draft.param.watch(lambda *_: self._estimate(), "version")
        form = Form("train", self.session)
        stage = Form("stage", self.session)
        top = Form("", self.session, only=("name", "seed", "jobs"))
        self.plan = PlanCard(self.session)
        self.plan.tick()
        self._estimate()
        queued = pn.Row(self.at, self.wait, margin=0, sizing_mode="stretch_width", styles={"gap": "10px"})
        go = stack(self.start, queued, gap="12px", sizing_mode=None, width=280)
        head = pn.Row(self.ready, go, sizing_mode="stretch_width", margin=0, styles={"gap": "20px"})
        return stack(card(head), self.plan, card(top, recipes, title="Run"),
                     card(form, title="Training"), SpreadCard(self.session), card(stage, title="Loss"),
                     card(SweepForm(self.session), title="Sweep", line="Many trainings with other settings, each a run "
                          "of its own, to find good ones."))

    def shown(self) -> None:
        self._estimate()

    def tick(self) -> None:
        self.plan.tick()
        if self.start.loading:
            self.start.param.update(loading=False)

    # Before the start --------------------------------------------------------------------------------

    def missing(self) -> list[tuple[str, str]]:
        """What stands in the way of a start: sentences, each with the page where it can be put right."""
        draft = self.session.draft
        wrong = draft.problems or impossible(draft.settled, self.session.workspace)
        found = [(said(problem), PAGE_OF.get(problem.field.partition(".")[0], "")) for problem in wrong]
        if not draft.problems:
            found += [(sentence, "corpus") for sentence in unreadable(draft.settled, self.session.workspace)]
        return found

    def _estimate(self) -> None:
        recipe, missing = self.session.draft.settled, self.missing()
        self.start.disabled = self.wait.disabled = bool(missing)
        if missing:
            many = "one thing" if len(missing) == 1 else f"{len(missing)} things"
            lines = join(txt("<li>{} {}</li>", sentence[:1].upper() + sentence[1:],
                             press("Go there", page, "quiet") if page else "") for sentence, page in missing)
            self.ready.html = txt('<div class="ready no">{}<div><h2>Not ready: {} to put right</h2><ul>{}</ul></div>'
                                  "</div>", icon("error_outline"), many, lines)
            return
        folder = slug(recipe.name)
        name = recipe.name if folder == recipe.name else f"{recipe.name}” in the folder “{folder}"
        jobs = " → ".join(JOB_WORDS[job].lower() for job in recipe.jobs)
        facts = [("Tokens per step", number(recipe.tokens_per_step)),
                 ("Tokens in all", size(recipe.tokens_per_step * recipe.train.max_steps))]
        if (text := text_of(recipe, self.session.workspace)).unique:
            times = recipe.tokens_per_step * recipe.train.max_steps / max(1.0, text.unique)
            facts.append(("Epochs over the text", txt("{} <small>of {}</small>", number(times, 2), size(text.unique))))
        self.ready.html = txt('<div class="ready yes">{}<div><h2>Ready to start “{}”</h2><p class="line">{}</p>{}</div>'
                              "</div>", icon("check_circle"), name, jobs[:1].upper() + jobs[1:], tiles(facts))

    def _pressed(self, page: str) -> None:
        self.session.goto(page)

    def _load(self, name: str) -> None:
        recipe = self.session.attempt(Recipe.load, name)
        if recipe is not None:
            self.session.draft.replace(recipe.dump())
            self.session.notify(f"The settings are now those of the recipe {name}.", "success")

    def _start(self) -> None:
        recipe = self.session.recipe()
        if recipe is None or self.missing():
            self._estimate()
            return
        self.session.start(recipe)

    def _enqueue(self) -> None:
        recipe = self.session.recipe()
        if recipe is None or self.missing():
            self._estimate()
            return
        at = self.session.attempt(queue.moment, self.at.value_input or "")
        if at is not None:
            self.session.enqueue(recipe, start_at=at)


def unreadable(recipe: Recipe, workspace: Workspace) -> list[str]:
    """The sources that lead nowhere, each in a sentence. Only what a run that curates would read."""
    if "curate" not in recipe.jobs and "tokenize" not in recipe.jobs and "train" not in recipe.jobs:
        return []
    found = []
    for source in recipe.corpus.sources:
        try:
            path = workspace.resolve(source.path)
            if not path.exists() and not any(sign in source.path for sign in "*?["):
                found.append(f"The corpus has no file or folder {source.path}.")
        except UserError as error:
            found.append(error.sentence)
    return found
