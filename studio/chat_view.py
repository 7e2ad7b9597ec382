"""A chat template, seen: a conversation as the tokens that a model reads, those that it learns set apart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import panel_material_ui as pmui
from panel.viewable import Viewable

from engine.tokens.presets import CHAT_TEMPLATES
from studio.background import Background
from studio.layout import actions, button
from studio.session import Session
from studio.texts import Text, masked, percent
from studio.views import banner, card, number, txt

EXAMPLE = "[\n{}\n]".format(",\n".join(f" {json.dumps(message)}" for message in [
    {"role": "system", "content": "You answer briefly."},
    {"role": "user", "content": "Who wrote Emma?"},
    {"role": "assistant", "content": "Jane Austen did."},
    {"role": "user", "content": "When?"},
    {"role": "assistant", "content": "It appeared in 1815."}]))
OWN = "the draft's own"


class ChatView:
    """Shows a template on any messages, and puts it into the draft."""

    def __init__(self, session: Session) -> None:
        self.session, self.work = session, Background()
        self._shown: tuple[str, ...] = ()
        self._tokenizer: Path | None = None
        self.chosen = pmui.Select(label="Chat template", options=[*CHAT_TEMPLATES], value="chatml", size="small",
                                  width=240, margin=0)
        self.go = button("Use this template", "check", self.use)
        self.words = Text()
        self.typed = pmui.TextAreaInput(label="Messages", value=EXAMPLE, rows=8, auto_grow=True, max_rows=16, margin=0,
                                        max_length=20_000, sizing_mode="stretch_width")
        self.turns = Text()
        self.box = card(actions(self.chosen, self.go), self.words, self.typed, self.turns, title="Chat template",
                        line="Coloured tokens are learned in fine-tuning; grey ones are only read.", visible=False)
        session.draft.param.watch(lambda *_: self._tell(), "version")
        self._tell()

    def view(self) -> Viewable:
        return self.box

    def look(self, tokenizer: Path | None) -> None:
        """Show it with this tokenizer.json."""
        self._tokenizer = tokenizer
        self.box.visible = tokenizer is not None

    def use(self) -> None:
        if self.chosen.value != OWN:
            self.session.draft.put(("tokens", "chat_template"), self.chosen.value)
            self.session.notify("The template and its special tokens come with the next tokens that are made.",
                                "success")

    def tick(self) -> None:
        if over := self.work.take():
            self._show(*over)
        template = self._template()
        wanted = (str(self._tokenizer), template, self.typed.value_input or self.typed.value or "")
        if self._tokenizer is None or wanted == self._shown or self.work.busy:
            return
        self._shown, path, workspace = wanted, self._tokenizer, self.session.workspace

        def work() -> Any:
            from engine.config import UserError
            from engine.tokens import chat
            from engine.tokens.tokenizer import complete, load

            try:
                messages = json.loads(wanted[2])
            except json.JSONDecodeError as error:
                raise UserError(f"The messages are not JSON: {error.msg} in line {error.lineno}.") from None
            tokenizer = load(path)
            lacking = [one for one in chat.special_tokens(template) if tokenizer.token_to_id(one) is None]
            complete(tokenizer, chat.special_tokens(template))
            if not isinstance(messages, list):
                raise UserError("The messages are no list; write [{\"role\": \"user\", \"content\": ...}, ...].")
            return chat.encode(tokenizer, chat.source(template, workspace), messages), lacking

        self.work.begin(work)

    def _template(self) -> str:
        own = self.session.draft.settled.tokens.chat_template
        return own if self.chosen.value == OWN else self.chosen.value

    def _tell(self) -> None:
        own = self.session.draft.settled.tokens.chat_template
        options = [*CHAT_TEMPLATES, *([OWN] if own and own not in CHAT_TEMPLATES else [])]
        self.chosen.param.update(options=options, value=self.chosen.value if self.chosen.value in options
                                 else options[-1])
        self.go.disabled = own == self._template()

    def _show(self, found: Any, problem: str) -> None:
        self._tell()
        preset = CHAT_TEMPLATES.get(self._template())
        self.words.html = txt('<p class="line">{}</p>', preset.words if preset else self._template())
        if problem:
            self.turns.html = banner("error", problem)
            return
        turns, lacking = found
        learned = sum(turns.learned)
        notes = txt("")
        if not learned:
            notes = banner("warning", "The template marks nothing with {% generation %}, so nothing would be learned.")
        elif lacking:
            notes = banner("info", f"This tokenizer lacks {', '.join(lacking)}; here they stand as they would be "
                                   "once tokens are made with this template.")
        self.turns.html = txt('{}{}<p class="more">{} of {} tokens learned ({})</p>', notes,
                              masked(turns.pieces, turns.learned), number(learned), number(len(turns.ids)),
                              percent(learned / max(1, len(turns.ids))))
