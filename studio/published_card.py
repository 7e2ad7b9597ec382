"""Published card: a model that others trained comes into the workspace, from a folder or over the network."""

from __future__ import annotations

from pathlib import Path

import panel_material_ui as pmui
from panel.viewable import Viewable, Viewer

from engine.config import UserError, read, settings
from engine.model.hub import PublishedConfig
from engine.runs.imported import recipe_for
from engine.runs.possible import impossible
from studio.fields import label
from studio.layout import button
from studio.session import Session
from studio.texts import Text
from studio.views import Markup, banner, card, press, txt


class PublishedCard(Viewer):
    """What is asked for, and a button that says what it will do and whether that goes to the network.

    The fields are no part of the draft: a name typed half must not keep anybody from training.
    """

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self.words, self.go = Text(on_press=self.allow), button("Bring in", "download", self.start)
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
                wrong = "".join(f"The folder {each.sentence}." for each in found)
        except UserError as error:
            asked, wrong = PublishedConfig(), error.sentence
        if asked.repository:
            self.go.label = f"Fetch {asked.repository} over the network"
            self.words.html = banner("warning", f"This goes to the network: {asked.repository} at {asked.revision} is "
                                                "asked for at the Hugging Face hub. Only weights as safetensors, "
                                                "settings and the tokenizer are fetched; no code is.")
        else:
            self.go.label = "Bring in from the folder"
            self.words.html = banner("error", wrong, self._may_allow(asked.folder)) if wrong else txt(
                '<p class="more">Nothing goes to the network unless a repository is named.</p>')
        self.go.disabled = bool(wrong) or not (asked.folder or asked.repository)

    def _may_allow(self, typed: str) -> Markup | str:
        """A button, where a folder is there and nothing but where it lies is wrong."""
        folder = Path(typed).expanduser()
        outside = typed and folder.is_absolute() and folder.is_dir() and not self.session.workspace.permits(folder)
        return press("Allow this folder", f"allow:{folder}") if outside else ""

    def allow(self, what: str) -> None:
        self.session.attempt(self.session.workspace.allow, what.partition(":")[2])
        self.tell()

    def start(self) -> None:
        try:
            asked = self.asked()
            self.session.start(recipe_for(asked.folder, asked.repository, asked.revision))
        except UserError as error:
            self.session.notify(error.sentence, "error")
