"""Published card: a model that others trained comes into the workspace, from a folder or over the network."""

from __future__ import annotations

import panel_material_ui as pmui
from panel.viewable import Viewable, Viewer

from engine.config import UserError, read, settings
from engine.model.hub import PublishedConfig
from engine.runs.imported import recipe_for
from engine.runs.possible import impossible
from studio.allowing import allow, allow_button
from studio.labels import label, named
from studio.layout import button
from studio.session import Session
from studio.texts import Text
from studio.views import banner, card, txt


class PublishedCard(Viewer):
    """What is asked for, and a button that says what it will do and whether that goes to the network.

    The fields are no part of the draft: a name typed half must not keep anybody from training.
    """

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self.words, self.go = Text(on_press=self.press), button("Bring in", "download", self.start)
        self.fields = {s.name: pmui.TextInput(label=label(s.name), value=s.default, helper_text=s.words, size="small",
                                              margin=0, sizing_mode="stretch_width")
                       for s in settings(PublishedConfig)}
        for field in self.fields.values():
            field.param.watch(lambda *_: self.tell(), ["value", "value_input"])
        self.card = card(*self.fields.values(), self.words, self.go, title="Published model",
                         line="A model that others trained, to be exported, measured and talked to like one's own.")
        self.tell()

    def __panel__(self) -> Viewable:
        return self.card

    def asked(self) -> PublishedConfig:
        """What is in the fields. Raises UserError that names the wrong one."""
        typed = {name: (field.value_input or field.value or "").strip() for name, field in self.fields.items()}
        return read(PublishedConfig, {name: text for name, text in typed.items() if text})

    def tell(self) -> None:
        try:
            asked, wrong = self.asked(), ""
            if asked.folder and not asked.repository:
                found = impossible(recipe_for(asked.folder, ""), self.session.workspace)
                wrong = "".join(f"The folder {named(each.sentence)}." for each in found)
        except UserError as error:
            asked, wrong = PublishedConfig(), named(error.sentence)
        if asked.repository:
            self.go.label = f"Fetch {asked.repository} over the network"
            self.words.html = banner("warning", f"This goes to the network: {asked.repository} at {asked.revision} is "
                                                "asked for at the Hugging Face hub. Only weights as safetensors, "
                                                "settings and the tokenizer are fetched; no code is.")
        else:
            self.go.label = "Bring in from the folder"
            offer = wrong and allow_button(asked.folder, self.session.workspace)
            self.words.html = banner("error", wrong, offer or "") if wrong else txt(
                '<p class="more">Nothing goes to the network unless a repository is named.</p>')
        self.go.disabled = bool(wrong) or not (asked.folder or asked.repository)

    def press(self, what: str) -> None:
        if allow(self.session, what):
            self.tell()

    def start(self) -> None:
        try:
            asked = self.asked()
            self.session.start(recipe_for(asked.folder, asked.repository, asked.revision))
        except UserError as error:
            self.session.notify(error.sentence, "error")
