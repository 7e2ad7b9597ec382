"""Train."""

from __future__ import annotations

import panel as pn
from panel.viewable import Viewable

from studio.forms import Form
from studio.page import Page
from studio.views import card


class Train(Page):
    title, icon, noun, line = "Train", "play_circle", "stages", "How long, in what batches, and what is looked at on the way."
    sections, command = ("train", "optim", "schedule", "stage"), "train"

    def view(self) -> Viewable:
        return pn.Column(card(Form("train", self.session), title="Training"), card(Form("optim", self.session), title="Optimizer"), card(Form("corpus", self.session), title="Corpus"), sizing_mode="stretch_width", styles={"gap": "16px"})
