"""NotesView: a person's words on a run, in Markdown, and its tags."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import panel_material_ui as pmui
from markdown_it import MarkdownIt
from panel.viewable import Viewable, Viewer

from engine.runs import Run, notes
from engine.runs.notes import Notes
from studio.layout import actions, button, later, stack
from studio.session import Session
from studio.views import Fragment, Markup, join, txt

# Markup in the text is shown as it was typed; a picture would be fetched from wherever it says.
MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")


def rendered(text: str) -> Markup:
    """Markdown as markup. Tags in it are escaped, links to scripts are left as text, pictures are not shown."""
    return Markup('<div class="noted">{}</div>').format(Markup(MARKDOWN.render(text)))


def tags(found: tuple[str, ...] | list[str]) -> Markup:
    """Tags to press, which filters by them."""
    return join(txt('<button type="button" class="tag" data-press="tag:{0}">#{0}</button>', tag) for tag in found)


class NotesView(Viewer):
    """Shows and edits the notes of one run. Call `look(run)` when another run is looked at, and `tick`."""

    def __init__(self, session: Session, **params: Any) -> None:
        super().__init__(**params)
        self.session = session
        self.run: Run | None = None
        self.on_tag: Callable[[str], None] = lambda tag: None  # what a press on a tag does
        self.shown = Fragment(on_press=self._pressed)
        self.text = pmui.TextAreaInput(label="Notes, in Markdown", rows=4, auto_grow=True, max_rows=16, size="small",
                                       sizing_mode="stretch_width", margin=0)
        self.tags = pmui.TextInput(label="Tags, with commas between", size="small", margin=0,
                                   sizing_mode="stretch_width")
        self.editor = later(self.text, self.tags,
                            actions(button("Save", "check", self.save, main=True, size="small"),
                                    button("Cancel", "close", self._close, size="small")), gap="12px")
        self._seen: Notes | None = None
        self._view = stack(self.shown, self.editor, gap="10px")

    def __panel__(self) -> Viewable:
        return self._view

    def look(self, run: Run) -> None:
        if run != self.run:
            self.run, self._seen = run, None
            self.editor.visible = False
        self.tick()

    def tick(self) -> None:
        if self.run is None or (noted := notes.read(self.run)) == self._seen:
            return
        self._seen = noted
        edit = txt('<button type="button" class="press quiet" data-press="edit"><span class="material-icons">edit_note'
                   "</span>{}</button>", "Edit notes" if noted != Notes() else "Add notes or tags")
        self.shown.html = txt('<div class="noteline">{}{}</div>{}', tags(noted.tags), edit,
                              rendered(noted.text) if noted.text else "")

    def _pressed(self, what: str) -> None:
        verb, _, tag = what.partition(":")
        if verb == "tag":
            self.on_tag(tag)
        else:
            self._edit()

    def _edit(self) -> None:
        noted = self._seen or Notes()
        self.text.param.update(value=noted.text, value_input=noted.text)
        self.tags.param.update(value=", ".join(noted.tags), value_input=", ".join(noted.tags))
        self.editor.visible = True

    def save(self) -> None:
        """Keep what was typed."""
        assert self.run is not None
        text, typed = self.text.value_input or "", self.tags.value_input or ""
        if self.session.attempt(notes.write, self.run, text=text, tags=typed.split(",")) is not None:
            self._close()
            self.tick()

    def _close(self) -> None:
        self.editor.visible = False
