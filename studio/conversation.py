"""Conversation: messages to one or two models, answered as they come, and the card in which they stand."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import panel as pn
import panel_material_ui as pmui
from panel.viewable import Viewable, Viewer

from engine.inference.conversation import Conversation, answer
from engine.runs.sources import Source
from engine.workspace import ASSETS
from studio.layout import NO_BUTTON, actions, button, stack
from studio.pair import Pair
from studio.texts import STYLE, Text, surprise
from studio.theme import STYLESHEET
from studio.views import banner, card, icon, join, number, txt
from studio.writer import Writer

CSS = (ASSETS / "theme" / "chat.css").read_text(encoding="utf-8")
ROLES = {"user": "You", "assistant": "Answer", "system": "System"}
BEGIN = "Say something. The model answers by the template that it was taught with."


class Side(Viewer):
    """One model's conversation. Questions come to all sides alike; each has its own answers."""

    def __init__(self, writer: Writer, **params: Any) -> None:
        super().__init__(**params)
        self.writer, self.talk = writer, Conversation()
        self._mine, self._seed, self._shown = False, 0, -1
        self._last: list[Any] = []          # the tokens of the last answer
        self.coloured, self.problem, self._name = False, "", ""
        self.title = Text()
        self.thread, self.facts = (Text(stylesheets=[STYLESHEET, STYLE, CSS]) for _ in range(2))
        self._view = stack(self.title, self.thread, self.facts, gap="10px")
        self.draw()

    def __panel__(self) -> Viewable:
        return self._view

    @property
    def busy(self) -> bool:
        return self._mine

    def name_it(self, title: str) -> None:
        self.title.html = txt("<h2>{}</h2>", title)

    def begin(self, source: Source, seed: int, settings: dict[str, Any]) -> None:
        """Answer what stands last in `talk`."""
        messages, self.problem = self.talk.messages, ""
        self._seed = seed + self.talk.attempt
        self._last, self._shown = [], -1
        self._mine = self.writer.begin(source, lambda model: answer(model, messages, seed=self._seed, **settings))
        self.draw()

    def forget(self) -> None:
        """Begin anew, with the same system message."""
        self.talk, self._last, self.problem = Conversation(self.talk.system), [], ""
        self.facts.html = txt("")
        self.draw()

    def pull(self) -> bool:
        """Show what was written since the last look; True once, when the answer is over."""
        if not self._mine:
            return False
        over = self.writer.take()
        if over is None:
            if len(self.writer.written) != self._shown:
                self.draw()
            return False
        self._mine, self._last = False, self.writer.tokens
        self.problem = over[1]
        if self._last or not self.problem:
            self.talk.heard("".join(token.text for token in self._last))
            self.facts.html = txt('<p class="facts">{} tokens · {} tokens per second, measured · seed {}</p>',
                                  number(len(self._last)), number(self.writer.speed, 1), self._seed)
        self.draw()
        return True

    def draw(self) -> None:
        """The turns, the one that is being written among them."""
        turns = list(self.talk.messages)
        self._shown = len(self.writer.written) if self._mine else -1
        parts = [self._turn(turn, last=place == len(turns) - 1) for place, turn in enumerate(turns)]
        if self._mine:
            text = "".join(token.text for token in self.writer.tokens)
            parts.append(_said("assistant writing", ROLES["assistant"], txt("{}", text)) if text else
                         _said("assistant writing", "Reading …", txt("")))
        if self.problem:
            parts.append(banner("error", self.problem))
        self.thread.html = txt('<div class="thread" data-follow tabindex="0" role="log" aria-label="Conversation">{}'
                               "</div>", join(parts)) if parts else txt(
            '<div class="thread quiet">{}<p>{}</p></div>', icon("forum"), BEGIN)

    def _turn(self, turn: dict[str, str], last: bool) -> Any:
        if last and self.coloured and turn["role"] == "assistant" and self._last:
            return txt('<article class="turn assistant"><small>{}</small>{}</article>', ROLES["assistant"],
                       surprise("", self._last))
        return _said(turn["role"], ROLES[turn["role"]], txt("{}", turn["content"]))


def _said(kind: str, who: str, text: Any) -> Any:
    return txt('<article class="turn {}"><small>{}</small><p class="said">{}</p></article>', kind, who, text)


class ConversationCard(Viewer):
    """The sides, and below them what one says next.

    `settle` gives who answers and how, (pair, seed, settings), or None while something is wrong with that; `begun` is
    called when they have begun to answer. `pair` is who answered last.
    """

    def __init__(self, writers: tuple[Writer, Writer], settle: Any, begun: Any, **params: Any) -> None:
        super().__init__(**params)
        self._settle, self._begun, self.pair = settle, begun, Pair()
        self.sides = tuple(Side(writer) for writer in writers)
        self.system = pmui.TextAreaInput(label="System message", placeholder="who the model is, and how it answers",
                                         rows=1, auto_grow=True, max_rows=6, margin=0, max_length=20_000,
                                         sizing_mode="stretch_width")
        self.coloured = pmui.Switch(label="Colour the last answer by surprise", value=False, margin=0, size="small",
                                    sx={"alignSelf": "center", "display": "flex"})
        self.coloured.param.watch(self._colour, "value")
        self.entry = pmui.ChatAreaInput(placeholder="Message", enable_upload=False, margin=0, rows=1,
                                        max_rows=8, max_length=100_000, sizing_mode="stretch_width")
        self.entry.param.watch(lambda event: self.send(event.new), "enter_pressed")
        self._refused = ""      # what the browser is about to take out of the field, and shall not
        self.entry.param.watch(self._emptied, "value_input")
        self.entry.on_action("stop", lambda *_: self.stop())
        self.again = button("Answer again", "refresh", self.regenerate, disabled=True, size="small")
        self.edit = button("Edit last message", "edit", self.take_back, disabled=True, size="small")
        self.clear = button("Clear", "delete_sweep", self.forget, disabled=True, size="small")
        second = stack(self.sides[1], visible=False,
                       styles={"flex": "1 1 320px", "min-width": "0"})
        self._second = second
        both = pn.Row(stack(self.sides[0], styles={"flex": "1 1 320px", "min-width": "0"}), second, margin=0,
                      sizing_mode="stretch_width", styles={"flex-wrap": "wrap", "gap": "28px"},
                      stylesheets=[NO_BUTTON])
        self.card = card(both, self.entry, actions(self.again, self.edit, self.clear, self.coloured), visible=False)

    def __panel__(self) -> Viewable:
        return self.card

    @property
    def busy(self) -> bool:
        return any(side.busy for side in self.sides)

    @property
    def two(self) -> bool:
        return bool(self._second.visible)

    def send(self, text: Any = None) -> None:
        """Say what was typed."""
        said = text if isinstance(text, str) else self.entry.value or self.entry.value_input or ""
        if not said.strip():
            return
        if not self.busy and self._answer(lambda side: side.talk.say(said)):
            self.entry.value_input = ""
        else:
            self._put_back(said)

    def _put_back(self, said: str) -> None:
        """A refused message stays in the field. A browser empties it when it has sent it, mostly after we answered."""
        self._refused = said if self.entry.value_input == said else ""
        self.entry.value_input = said

    def _emptied(self, event: Any) -> None:
        if event.new == self._refused:
            return
        refused, self._refused = self._refused, ""
        if refused and not event.new:
            self.entry.value_input = refused

    def regenerate(self) -> None:
        """Ask for the last answer again, with other dice."""
        if not self.busy and self.sides[0].talk.turns:
            self._answer(lambda side: side.talk.again())

    def _answer(self, ready: Any) -> bool:
        settled = self._settle()
        if settled is None:
            return False
        pair, seed, settings = settled
        self._seat(pair)
        for side, source, title in zip(self.sides, pair.sources, pair.titles, strict=False):
            side.talk.system = self.system.value_input or self.system.value or ""
            ready(side)
            side.name_it(title)
            side.begin(source, seed, settings)
        self.tell()
        self._begun()
        return True

    def _seat(self, pair: Pair) -> None:
        """What was said goes where its model sits now."""
        self._second.visible = len(pair.sources) > 1
        if pair is self.pair:
            return
        talks, seats = [side.talk for side in self.sides], pair.seats(self.pair)
        # Who takes another's place goes on with what was said there.
        left = [place for place in range(len(self.pair.sources)) if place not in seats]
        places = [left.pop(0) if seat is None and left else seat for seat in seats]
        told = talks[next((place for place in places if place is not None), 0)]
        # One that joins late is told what was said, by itself it has said nothing.
        seated = [deepcopy(told) if place is None else talks[place] for place in places]
        seated += [talk for talk in talks if all(talk is not each for each in seated)]
        for side, talk in zip(self.sides, seated, strict=False):
            side.talk = talk
        self.pair = pair

    def reveal(self) -> None:
        """Say who answers on which side."""
        self.pair.reveal()
        for side, title in zip(self.sides, self.pair.titles, strict=False):
            side.name_it(title)

    def take_back(self) -> None:
        """The last message back into the field, to be said otherwise."""
        if self.busy:
            return
        said = [side.talk.take_back() for side in self.sides]
        for side in self.sides:
            side.problem = ""
            side.facts.html = txt("")
            side.draw()
        self.entry.value_input = said[0]
        self.tell()

    def forget(self) -> None:
        if not self.busy:
            for side in self.sides:
                side.forget()
            self.tell()

    def stop(self) -> None:
        for side in self.sides:
            if side.busy:
                side.writer.stop()

    def pull(self) -> bool:
        over = [side.pull() for side in self.sides]
        if any(over):
            self.tell()
        return any(over)

    def tell(self) -> None:
        """What can be done now."""
        turns = self.sides[0].talk.turns
        self.entry.loading = self.busy
        self.again.disabled = self.busy or not turns
        self.edit.disabled = self.busy or not turns
        self.clear.disabled = self.busy or not turns

    def _colour(self, event: Any) -> None:
        for side in self.sides:
            side.coloured = event.new
            side.draw()
