"""Test: talk to a bundle as a program would, and see what it was sure of."""

from __future__ import annotations

import random
import shlex
import time
from typing import Any

import panel as pn
import panel_material_ui as pmui
from panel.viewable import Viewable

from engine import inference
from studio.background import Background
from studio.layout import actions, button, split
from studio.page import Page
from studio.texts import Text, shell_line, surprise
from studio.views import banner, card, join, number, press, tiles, txt

ALTERNATIVES = 5
PULL_MILLISECONDS = 120
SCALE = (("even odds", 5), ("one in ten", 16), ("one in a hundred", 32), ("one in a thousand", 48))


class Test(Page):
    title, icon, noun = "Test", "forum", "inference"
    line = "Talk to an exported model, as a program would that uses it: onnxruntime alone, no PyTorch."

    def view(self) -> Viewable:
        self.writer, self._model = Background(), ("", None)
        self.written: list[tuple[float, Any]] = []  # (moment, token): the thread appends, the tick reads
        self._halt, self._shown, self._asked, self._fast = False, -1, "", None
        self.bundle = pmui.Select(label="Bundle", options=[], size="small", sizing_mode="stretch_width", margin=0)
        self.prompt = pmui.TextAreaInput(label="Prompt", value="It was", rows=3, auto_grow=True, max_rows=10, margin=0,
                                         max_length=100_000, sizing_mode="stretch_width")
        slider = {"sizing_mode": "stretch_width", "margin": (0, 8), "size": "small"}
        self.temperature = pmui.FloatSlider(label="Temperature", value=0.8, start=0, end=2, step=0.05, **slider)
        self.top_p = pmui.FloatSlider(label="Top-p", value=1.0, start=0.05, end=1, step=0.05, **slider)
        self.top_k = pmui.IntSlider(label="Top-k (0: all)", value=0, start=0, end=200, **slider)
        self.length = pmui.IntSlider(label="Most new tokens", value=128, start=8, end=1024, step=8, **slider)
        self.seed = pmui.TextInput(label="Seed", placeholder="another one each time", size="small", margin=0,
                                   helper_text="The same seed writes the same text again", sizing_mode="stretch_width")
        self.go = button("Generate", "play_arrow", self.begin, main=True)
        self.end = button("Stop", "stop", self.stop, disabled=True)
        self.facts, self.text, self.legend = Text(), Text(), Text(_legend())
        self.words = Text(on_press=self.session.goto)
        self.legend.visible = False
        for control in (self.bundle, self.prompt, self.temperature, self.top_p, self.top_k, self.length, self.seed):
            control.param.watch(lambda *_: self._tell(), "value")
        self._say("Write the beginning of a text, and press Generate.")
        return split(
            [card(self.bundle, self.prompt, actions(self.go, self.end), self.temperature, self.top_p, self.top_k,
                  self.length,
                  self.seed, self.words, title="Prompt")],
            [card(self.text, self.legend, self.facts, title="What it writes",
                  line="The stronger the colour, the more surprised the model was. Point at a token to see what "
                       "else it might have been.")], left="minmax(0, 4fr)", right="minmax(0, 8fr)")

    def shown(self) -> None:
        names = [bundle.name for bundle in self.session.workspace.listing("bundles")]
        wanted = self.session.bundle if self.session.bundle in names else self.bundle.value
        self.bundle.param.update(options=names, value=wanted if wanted in names else next(iter(names), None))
        self._tell()

    def _tell(self) -> None:
        name = self.bundle.value or ""
        self.go.disabled = not name or self.writer.busy
        if not name:
            self.words.html = banner("info", "There is no bundle yet: export a run first.",
                                     press("Go to Export", "export"))
            return
        self.session.bundle = name
        seed = f" --seed {self.seed.value}" if self.seed.value else ""
        self.words.html = shell_line(
            f"studio generate {name} {shlex.quote(self.prompt.value)} --temperature {self.temperature.value:g} --top-p "
            f"{self.top_p.value:g} --top-k {self.top_k.value} --max-new-tokens {self.length.value}{seed}",
            self.session.workspace)

    def _say(self, sentence: str) -> None:
        self.text.html = txt('<p class="nothing">{}</p>', sentence)

    # Writing ------------------------------------------------------------------------------------------

    def begin(self) -> None:
        typed = (self.seed.value_input or "").strip()
        if typed and not typed.isdigit():
            self.seed.param.update(error_state=True, helper_text="Must be a whole number, or empty")
            return
        self.seed.param.update(error_state=False, helper_text="The same seed writes the same text again")
        self.used = int(typed) if typed else random.randrange(1_000_000)
        folder, prompt = self.session.workspace.place("bundles") / str(self.bundle.value), self.prompt.value_input or ""
        asked: dict[str, Any] = {"max_new_tokens": self.length.value, "temperature": self.temperature.value, "top_k":
                                 self.top_k.value, "top_p": self.top_p.value, "seed": self.used,
                                 "alternatives": ALTERNATIVES}
        written: list[tuple[float, Any]] = []

        def work() -> None:
            if self._model[0] != str(folder):
                self._model = (str(folder), inference.load(folder))  # imports onnxruntime
            assert self._model[1] is not None
            for token in self._model[1].tokens(prompt, **asked):
                written.append((time.perf_counter(), token))
                if self._halt:
                    return

        if self.writer.busy:
            return
        self.written, self._halt, self._shown, self._asked = written, False, -1, prompt
        self.facts.html = txt("")
        self._say("Reading the model …")
        self.writer.begin(work)
        self.go.disabled, self.end.disabled = True, False
        if pn.state.curdoc is not None and pn.state.curdoc.session_context is not None:
            self._fast = pn.state.add_periodic_callback(self._pull, PULL_MILLISECONDS)

    def stop(self) -> None:
        """The thread looks after each token."""
        self._halt = True

    def tick(self) -> None:
        self._pull()

    def _pull(self) -> None:
        """Show what was written since the last look; ten times a second while there is some."""
        over = self.writer.take()
        if over is None and len(self.written) == self._shown:
            return
        if self.written and (over or len(self.written) != self._shown):
            tokens = [token for _, token in self.written]
            self._shown = len(tokens)
            # The alternatives weigh ten times the text, so they come when it is whole.
            self.text.html = surprise(self._asked, tokens, alternatives=over is not None)
            self.facts.html = self._measured()
        if over is not None:
            self._finish(over[1])

    def _finish(self, problem: str) -> None:
        if self._fast is not None:
            self._fast.stop()
            self._fast = None
        self.go.disabled, self.end.disabled, self.legend.visible = False, True, bool(self.written)
        if problem:
            self._model = ("", None)
            self.facts.html = banner("error", problem)
            if not self.written:
                self.text.html = txt("")

    def _measured(self) -> Any:
        """Tokens a second from the first to the last: the prompt and the loading are left out."""
        first, last, count = self.written[0][0], self.written[-1][0], len(self.written)
        speed = number((count - 1) / (last - first), 1) if count > 1 and last > first else "–"
        return tiles([("Tokens", number(count)), ("Tokens per second, measured", speed), ("Seed", str(self.used))])


def _legend() -> Any:
    return txt('<ul class="legend">{}</ul>', join(
        txt('<li><i class="s" style="--p:{}"></i>{}</li>', strength, words) for words, strength in SCALE))
