"""Corpus: which documents, which steps, and what these do to them."""

from __future__ import annotations

from typing import Any

from panel.viewable import Viewable

from studio.corpus_dataset import DatasetView
from studio.corpus_pardons import Pardons
from studio.corpus_sample import Sample
from studio.corpus_sources import Sources
from studio.corpus_steps import Steps
from studio.forms import Form
from studio.layout import actions, button, stack
from studio.page import Page
from studio.views import card


class Corpus(Page):
    title, icon, noun = "Corpus", "library_books", "corpus"
    line = "Which documents the model learns from, and what is done to them before."
    sections, command = ("corpus",), "curate"

    def view(self) -> Viewable:
        self.sources, self.pardons = Sources(self.session), Pardons(self.session)
        self.steps = Steps(self.session, self.pardons.add, self._tried)
        self.sample, self.dataset = Sample(), DatasetView(self.session, self.pardons.add)
        self.go = button("Curate", "play_arrow", self.start, main=True)
        self.result = card(self.sample, title="The sample after the steps", visible=False,
                           line="What Curate would keep and leave out; nothing was written.")
        self.session.draft.param.watch(lambda *_: self._tell(), "version")
        self._tell()
        return stack(
            card(self.sources, title="Documents"),
            card(self.steps, self.pardons, Form("corpus", self.session, skip=("sources", "steps")), actions(self.go),
                 title="Steps", line="What is done to the documents, from top to bottom, tried on a sample while you "
                                     "change it."),
            self.result,
            card(self.dataset, title="What curation made",
                 line="What every step let through, each document that it dropped or edited, and the documents that "
                      "are left."))

    def shown(self) -> None:
        self.sources.look()
        self.dataset.look()

    def tick(self) -> None:
        self.steps.tick()
        self.dataset.tick()

    def _tell(self) -> None:
        wrong = self.session.draft.wrong("corpus")
        self.go.param.update(disabled=bool(wrong), description=wrong[0] if wrong
                             else "Start a run that makes the dataset")

    def _tried(self, found: dict[str, Any] | None) -> None:
        self.result.visible = found is not None
        if found:
            self.sample.show(found)

    def start(self) -> None:
        self.session.start(self.session.draft.settled.replace(jobs=["curate"]))
