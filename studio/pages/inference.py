"""Test: talk to models as a program would, one or two at a time, and see what they were sure of."""

from __future__ import annotations

import random
from typing import Any

import panel as pn
import panel_material_ui as pmui
from panel.viewable import Viewable

from engine.config import UserError
from engine.inference.prompts import Prompt, lines, read
from engine.runs.sources import Source, sources
from studio import same_command
from studio.closer import Closer
from studio.conversation import ConversationCard
from studio.fields import whole
from studio.layout import actions, button, split, stack
from studio.page import Page
from studio.pair import Pair
from studio.prompt_set import PromptSet
from studio.score_board import MOST_TEXTS, ScoreBoard
from studio.serve_card import ServeCard
from studio.texts import Text, shell_line
from studio.views import banner, card, join, press, txt
from studio.voice import Voice, legend

ALTERNATIVES = 5
PULL_MILLISECONDS = 120
NOBODY = "nobody"
COMPLETION, CONVERSATION = "Completion", "Conversation"
SEED_WORDS = "The same seed writes the same text again"
FILE_WORDS = "A .txt with one a line, or a .jsonl with the key prompt, in the workspace"


class Test(Page):
    title, icon, noun = "Test", "forum", "inference"
    line = "Talk to an exported model, as a program would that uses it, or to a checkpoint; to two of them at once."

    def view(self) -> Viewable:
        self.first, self.second = Voice("What it writes"), Voice("")
        self.batch, self.board, self.closer = PromptSet(self.session.workspace), ScoreBoard(), Closer()
        self.talk = ConversationCard((self.first.writer, self.second.writer), self._settle, self._begun)
        self.serving = ServeCard(self.session)
        self.sources: dict[str, Source] = {}
        self.refused: list[str] = []
        self._answers: dict[str, bool] = {}
        self._pair, self._fast = Pair(), None       # who completes; the conversation has a pair of its own
        wide: dict[str, Any] = {"sizing_mode": "stretch_width", "margin": 0}
        select = {"options": [], "size": "small", **wide}
        self.bundle = pmui.Select(label="Model", **select)
        self.other = pmui.Select(label="Beside it", **{**select, "options": [NOBODY]}, value=NOBODY)
        self.blind = pmui.Switch(label="Blind: which is which is told afterwards", value=False, margin=0, size="small")
        self.mode = pmui.RadioButtonGroup(options=[COMPLETION, CONVERSATION], value=COMPLETION, size="small", **wide)
        self.why = Text()
        self.prompt = pmui.TextAreaInput(label="Prompt", value="It was", rows=3, auto_grow=True, max_rows=10,
                                         max_length=100_000, **wide)
        self.many = pmui.Switch(label="Each line is a prompt of its own", value=False, margin=0, size="small")
        self.file = pmui.TextInput(label="Or a file of prompts", placeholder="corpora/prompts.txt", size="small",
                                   helper_text=FILE_WORDS, **wide)
        slider = {"sizing_mode": "stretch_width", "margin": (0, 8), "size": "small"}
        self.temperature = pmui.FloatSlider(label="Temperature", value=0.8, start=0, end=2, step=0.05, **slider)
        self.top_p = pmui.FloatSlider(label="Top-p", value=1.0, start=0.05, end=1, step=0.05, **slider)
        self.top_k = pmui.IntSlider(label="Top-k (0: all)", value=0, start=0, end=200, **slider)
        self.length = pmui.IntSlider(label="Most new tokens", value=128, start=8, end=1024, step=8, **slider)
        self.seed = pmui.TextInput(label="Seed", placeholder="another one each time", size="small",
                                   helper_text=SEED_WORDS, **wide)
        self.until = pmui.TextAreaInput(label="Stop strings", placeholder="one a line", rows=1, auto_grow=True,
                                        max_rows=4, helper_text="The text ends before any of them", **wide)
        self.go = button("Generate", "play_arrow", self.begin, main=True)
        self.end = button("Stop", "stop", self.stop, disabled=True)
        self.compare = button("Compare with PyTorch", "difference", self.look_closer)
        self.reveal = button("Reveal", "visibility", self._reveal, visible=False)
        self.buttons = actions(self.go, self.end, self.compare)
        self.legend = Text(legend(), visible=False)
        self.words, self.broken = Text(on_press=self.session.goto), Text()
        self.second.card.visible = False
        for control in (self.bundle, self.other, self.mode, self.prompt, self.temperature, self.top_p, self.top_k,
                        self.length, self.seed, self.until, self.many, self.file, self.talk.system):
            control.param.watch(lambda *_: self._tell(), "value")
        self.first.say("Write the beginning of a text, and press Generate.")
        # A side that is hidden leaves its half to the other.
        sides = pn.Row(*(stack(side, visible=side.card.param.visible, styles={"flex": "1 1 340px", "min-width": "0"})
                         for side in (self.first, self.second)), sizing_mode="stretch_width", margin=0,
                       visible=self.first.card.param.visible, styles={"flex-wrap": "wrap", "gap": "20px"})
        return split(
            [card(self.bundle, self.other, self.blind, self.mode, self.why, self.prompt, self.many, self.file,
                  self.talk.system, self.buttons, self.temperature, self.top_p, self.top_k, self.length, self.seed,
                  self.until, self.words, self.broken, title="Model")],
            [stack(self.talk, sides, self.board, stack(self.reveal, visible=self.reveal.param.visible), self.legend,
                   self.batch, self.closer, self.serving)],
            left="minmax(0, 4fr)", right="minmax(0, 8fr)")

    def shown(self) -> None:
        self.refused, self._answers = [], {}
        self.sources = sources(self.session.workspace, self.refused)
        names = list(self.sources)
        wanted = next((name for name in (self.session.bundle, self.bundle.value) if name in names), None)
        self.bundle.param.update(options=names, value=wanted or next(iter(names), None))
        self._tell()

    @property
    def busy(self) -> bool:
        return any(who.writer.busy for who in (self.first, self.second, self.batch, self.board))

    def _answer(self, name: str) -> bool:
        """Whether a source has a chat template; its files are looked at once."""
        if name not in self._answers:
            self._answers[name] = self.sources[name].answers
        return self._answers[name]

    def _tell(self) -> None:
        source = self.sources.get(self.bundle.value or "")
        judges = source is not None and source.scores
        able = source is not None and not judges and self._answer(source.label)
        talks = able and self.mode.value == CONVERSATION
        self.mode.param.update(disabled=not able, visible=source is not None and not judges)
        self.why.visible = source is not None and not judges and not able
        self.why.html = txt('<p class="more" style="margin:0">{} has no chat template: it continues texts and was not '
                            "taught to answer.</p>", source.label if source else "")
        others = [NOBODY, *(name for name, other in self.sources.items()
                            if not other.scores and (not talks or self._answer(name)))]
        if others != self.other.options or self.other.value not in others:
            self.other.param.update(options=others, value=self.other.value if self.other.value in others else NOBODY)
        self.go.param.update(disabled=source is None or self.busy, label="Score" if judges else "Generate")
        for control in (self.other, self.temperature, self.top_p, self.top_k, self.length, self.seed, self.until):
            control.visible = not judges
        for control in (self.prompt, self.many, self.buttons):
            control.visible = not talks
        self.talk.system.visible = self.talk.card.visible = talks
        self.file.visible = self.many.value and not judges and not talks
        self.blind.visible = self.other.value != NOBODY and not judges and (talks or not self.many.value)
        self.compare.disabled = source is None or source.checkpoint or judges or source.adapter or self.closer.busy
        self.serving.choose(source)
        if talks:
            for view in (self.first.card, self.second.card, self.batch.card, self.board.card, self.closer.card,
                         self.legend):
                view.visible = False
        elif not any(view.visible for view in (self.first.card, self.board.card, self.batch.card)):
            self.first.card.visible = True
        self.reveal.visible = not self.busy and (self.talk.two and self.talk.pair.hidden if talks else
                                                 self.second.card.visible and self._pair.hidden)
        self.broken.html = join(banner("error", sentence) for sentence in self.refused)
        if source is None:
            self.words.html = banner("info", "There is no bundle yet: export a run first.",
                                     press("Go to Export", "export"))
            return
        if not source.checkpoint:
            self.session.bundle = source.folder.name
        self.words.html = self._commands(source, talks)

    def _commands(self, source: Source, talks: bool) -> Any:
        """What does the same on the command line."""
        seed, sampling = (self.seed.value or "").strip(), self._sampling()
        if source.scores:
            line = same_command.scoring(source, self._texts()[:4])
        elif talks:
            system = self.talk.system.value_input or self.talk.system.value or ""
            line = same_command.conversing(source, system, sampling, seed)
        elif self.many.value:
            # A typed path is the workspace's here, and the terminal's there.
            line = same_command.prompts(source, self._file(), sampling, seed)
        else:
            other = self.other.value if self.other.value != NOBODY else ""
            line = same_command.continuing(source, self.prompt.value, other, sampling, seed)
        unproven = txt('<p class="more">A checkpoint is read through a graph made of it, unproven.</p>')
        return join([unproven if source.checkpoint else "",
                     shell_line(line, self.session.workspace) if line else ""])

    def _file(self) -> str:
        """The whole path of the file of prompts that is named; empty if none is, or none that may be read."""
        named = (self.file.value_input or self.file.value or "").strip()
        try:
            return str(self.session.workspace.resolve(named)) if named else ""
        except UserError:
            return ""

    def _sampling(self) -> dict[str, Any]:
        return {"max_new_tokens": self.length.value, "temperature": self.temperature.value, "top_k": self.top_k.value,
                "top_p": self.top_p.value, "stop": self._stops()}

    def _texts(self) -> list[str]:
        """The texts to score."""
        prompt = self.prompt.value_input or ""
        return [line for line in prompt.split("\n") if line.strip()][:MOST_TEXTS] if self.many.value else [prompt]

    def _stops(self) -> list[str]:
        return [line for line in (self.until.value_input or "").split("\n") if line]

    # Writing ------------------------------------------------------------------------------------------

    def _settings(self) -> tuple[int, dict[str, Any]] | None:
        """Seed and sampling; None, and the field says so, while the seed is none."""
        typed = (self.seed.value_input or "").strip()
        if typed and whole(typed) is None:
            self.seed.param.update(error_state=True, helper_text="Must be a whole number, or empty")
            return None
        self.seed.param.update(error_state=False, helper_text=SEED_WORDS)
        seed = whole(typed)
        return random.randrange(1_000_000) if seed is None else seed, self._sampling()

    def begin(self) -> None:
        settled = self._settings()
        one, two = self.sources.get(str(self.bundle.value)), self.sources.get(str(self.other.value))
        if settled is None or self.busy or one is None:
            return
        seed, settings = settled
        prompts = self._prompts() if self.many.value and not one.scores else []
        if prompts is None:
            return
        self.first.card.visible = not one.scores and not self.many.value
        self.board.card.visible = one.scores
        self.second.card.visible &= self.first.card.visible
        self.batch.card.visible = self.legend.visible = False
        if one.scores:
            self.board.begin(one, self._texts() or [""])
        elif self.many.value:
            self.batch.begin(one, prompts, seed, settings)
        else:
            self._pair = pair = Pair([one, two] if two else [one], self.blind.value)
            self.second.card.visible = len(pair.sources) > 1
            for voice, source, title in zip((self.first, self.second), pair.sources, pair.titles, strict=False):
                voice.name_it(title)
                voice.begin(source, self.prompt.value_input or "", seed, {**settings, "alternatives": ALTERNATIVES})
        self._begun()

    def _prompts(self) -> list[Prompt] | None:
        """Those of the file if one is named, else the lines of the field; None, and the field says why, if the file
        cannot be read."""
        named = (self.file.value_input or self.file.value or "").strip()
        self.file.param.update(error_state=False, helper_text=FILE_WORDS)
        if not named:
            return lines(self.prompt.value_input or "") or [Prompt("")]
        try:
            return read(self.session.workspace.resolve(named))
        except UserError as error:
            self.file.param.update(error_state=True, helper_text=error.sentence)
            return None

    def _settle(self) -> tuple[Pair, int, dict[str, Any]] | None:
        """Who answers in a conversation, and how. Sides stay where they are, and as unknown, while it lasts."""
        settled = self._settings()
        one, two = self.sources.get(str(self.bundle.value)), self.sources.get(str(self.other.value))
        if settled is None or one is None or self.busy:
            return None
        wanted = [one, two] if two else [one]
        begun = self.talk.sides[0].talk.turns and self.talk.pair.holds(wanted)
        pair = self.talk.pair if begun else Pair(wanted, self.blind.value)
        return pair, settled[0], {**settled[1], "alternatives": ALTERNATIVES}

    def _reveal(self) -> None:
        if self.talk.card.visible:
            self.talk.reveal()
        else:
            self._pair.reveal()
            for voice, title in zip((self.first, self.second), self._pair.titles, strict=False):
                voice.name_it(title)
        self.reveal.visible = False

    def stop(self) -> None:
        for who in (self.first, self.second, self.batch, self.board):
            who.stop()

    def _begun(self) -> None:
        """Something writes: look at it often while it does."""
        self.go.disabled, self.end.disabled, self.reveal.visible = True, False, False
        if pn.state.curdoc is not None and pn.state.curdoc.session_context is not None and self._fast is None:
            self._fast = pn.state.add_periodic_callback(self._pull, PULL_MILLISECONDS)

    def tick(self) -> None:
        self._pull()
        if self.closer.pull():
            self._tell()
        self.serving.tick()

    def _pull(self) -> None:
        """Show what was written since the last look; ten times a second while there is some."""
        over = [who.pull() for who in (self.first, self.second, self.batch, self.board, self.talk)]
        if any(over) and not self.busy:
            if self._fast is not None:
                self._fast.stop()
                self._fast = None
            self.end.disabled = True
            self.legend.visible = bool(self.first.written) and self.first.card.visible
            self._tell()

    def look_closer(self) -> None:
        """The prompt's logits in PyTorch and in onnxruntime."""
        source = self.sources.get(str(self.bundle.value))
        if source is not None and not source.checkpoint and not self.closer.busy:
            self.compare.disabled = True
            self.closer.begin(source, self.prompt.value_input or "")
