"""Test: talk to models as a program would, one or two at a time, and see what they were sure of."""

from __future__ import annotations

import json
import random
import shlex
from pathlib import Path
from typing import Any

import panel as pn
import panel_material_ui as pmui
from panel.viewable import Viewable

from engine import runs
from engine.config import UserError
from engine.inference.bundle import keeps_adapter, precisions, scores
from engine.model import published
from studio.background import Background
from studio.layout import actions, button, split, stack
from studio.page import Page
from studio.prompt_set import MOST_PROMPTS, PromptSet
from studio.score_board import MOST_TEXTS, ScoreBoard
from studio.texts import Text, percent, shell_line
from studio.views import banner, card, join, number, press, tiles, txt
from studio.voice import Source, Voice, asked

ALTERNATIVES = 5
PULL_MILLISECONDS = 120
NOBODY = "nobody"
SEED_WORDS = "The same seed writes the same text again"
SCALE = (("even odds", 5), ("one in ten", 16), ("one in a hundred", 32), ("one in a thousand", 48))


class Test(Page):
    title, icon, noun = "Test", "forum", "inference"
    line = "Talk to an exported model, as a program would that uses it, or to a checkpoint; to two of them at once."

    def view(self) -> Viewable:
        self.first, self.second = Voice("What it writes"), Voice("")
        self.batch, self.board, self.differ = PromptSet(), ScoreBoard(), Background()
        self.sources: dict[str, Source] = {}
        self.refused: list[str] = []
        self._fast, self._asked = None, ""
        select = {"options": [], "size": "small", "sizing_mode": "stretch_width", "margin": 0}
        self.bundle = pmui.Select(label="Model", **select)
        self.other = pmui.Select(label="Beside it", **{**select, "options": [NOBODY]}, value=NOBODY)
        self.blind = pmui.Switch(label="Blind: which is which is told afterwards", value=False, margin=0, size="small")
        self.prompt = pmui.TextAreaInput(label="Prompt", value="It was", rows=3, auto_grow=True, max_rows=10, margin=0,
                                         max_length=100_000, sizing_mode="stretch_width")
        self.many = pmui.Switch(label="Each line is a prompt of its own", value=False, margin=0, size="small")
        slider = {"sizing_mode": "stretch_width", "margin": (0, 8), "size": "small"}
        self.temperature = pmui.FloatSlider(label="Temperature", value=0.8, start=0, end=2, step=0.05, **slider)
        self.top_p = pmui.FloatSlider(label="Top-p", value=1.0, start=0.05, end=1, step=0.05, **slider)
        self.top_k = pmui.IntSlider(label="Top-k (0: all)", value=0, start=0, end=200, **slider)
        self.length = pmui.IntSlider(label="Most new tokens", value=128, start=8, end=1024, step=8, **slider)
        self.seed = pmui.TextInput(label="Seed", placeholder="another one each time", size="small", margin=0,
                                   helper_text=SEED_WORDS, sizing_mode="stretch_width")
        self.until = pmui.TextAreaInput(label="Stop strings", placeholder="one a line", rows=1, auto_grow=True,
                                        max_rows=4, margin=0, sizing_mode="stretch_width",
                                        helper_text="The text ends before any of them")
        self.go = button("Generate", "play_arrow", self.begin, main=True)
        self.end = button("Stop", "stop", self.stop, disabled=True)
        self.compare = button("Compare with PyTorch", "difference", self.look_closer)
        self.reveal = button("Reveal", "visibility", self._reveal, visible=False)
        self.legend, self.close = Text(_legend()), Text()
        self.words, self.broken = Text(on_press=self.session.goto), Text()
        self.legend.visible = False
        self.closer = card(self.close, title="Logits in PyTorch and in onnxruntime", visible=False,
                           line="The prompt, token by token, in float32 PyTorch and in the bundle's graph.")
        self.second.card.visible = False
        for control in (self.bundle, self.other, self.prompt, self.temperature, self.top_p, self.top_k, self.length,
                        self.seed, self.until, self.many):
            control.param.watch(lambda *_: self._tell(), "value")
        self.first.say("Write the beginning of a text, and press Generate.")
        # A side that is hidden leaves its half to the other.
        sides = pn.Row(*(stack(side, visible=side.card.param.visible, styles={"flex": "1 1 340px", "min-width": "0"})
                         for side in (self.first, self.second)), sizing_mode="stretch_width", margin=0,
                       styles={"flex-wrap": "wrap", "gap": "20px"})
        return split(
            [card(self.bundle, self.other, self.blind, self.prompt, self.many, actions(self.go, self.end, self.compare),
                  self.temperature, self.top_p, self.top_k, self.length, self.seed, self.until, self.words,
                  self.broken, title="Prompt")],
            [stack(sides, self.board, actions(self.reveal), self.legend, self.batch, self.closer)],
            left="minmax(0, 4fr)", right="minmax(0, 8fr)")

    def shown(self) -> None:
        self.sources, self.refused = _sources(self.session)
        names = list(self.sources)
        wanted = next((name for name in (self.session.bundle, self.bundle.value) if name in names), None)
        self.bundle.param.update(options=names, value=wanted or next(iter(names), None))
        writers = [NOBODY, *(name for name, source in self.sources.items() if not source.scores)]
        self.other.param.update(options=writers, value=self.other.value if self.other.value in writers else NOBODY)
        self._tell()

    @property
    def busy(self) -> bool:
        return any(who.writer.busy for who in (self.first, self.second, self.batch, self.board))

    def _tell(self) -> None:
        source = self.sources.get(self.bundle.value or "")
        judges = source is not None and source.scores
        self.go.param.update(disabled=source is None or self.busy, label="Score" if judges else "Generate")
        for control in (self.other, self.temperature, self.top_p, self.top_k, self.length, self.seed, self.until):
            control.visible = not judges
        self.blind.visible = self.other.value != NOBODY and not self.many.value and not judges
        self.compare.disabled = source is None or source.checkpoint or judges or source.adapter or self.differ.busy
        self.broken.html = join(banner("error", sentence) for sentence in self.refused)
        if source is None:
            self.words.html = banner("info", "There is no bundle yet: export a run first.",
                                     press("Go to Export", "export"))
            return
        if source.checkpoint:
            self.words.html = txt('<p class="more">A checkpoint is read through a graph made of it, unproven.</p>')
            return
        self.session.bundle = source.folder.name
        precision = "" if source.precision == "float32" else f" --precision {source.precision}"
        if judges:
            texts = " ".join(map(shlex.quote, self._texts()[:4]))
            self.words.html = shell_line(f"studio score {shlex.quote(source.folder.name)} {texts}{precision}",
                                         self.session.workspace)
            return
        precision += " --adapter" if source.adapter else ""
        seed = f" --seed {self.seed.value}" if self.seed.value else ""
        stops = "".join(f" --stop {shlex.quote(text)}" for text in self._stops())
        self.words.html = join([shell_line(
            f"studio generate {shlex.quote(source.folder.name)} {shlex.quote(self.prompt.value)} --temperature "
            f"{self.temperature.value:g} --top-p {self.top_p.value:g} --top-k {self.top_k.value} --max-new-tokens "
            f"{self.length.value}{seed}{stops}{precision}", self.session.workspace),
            shell_line(f"studio serve {shlex.quote(source.folder.name)}{precision}", self.session.workspace)])

    def _texts(self) -> list[str]:
        """The texts to score."""
        prompt = self.prompt.value_input or ""
        return [line for line in prompt.split("\n") if line.strip()][:MOST_TEXTS] if self.many.value else [prompt]

    def _stops(self) -> list[str]:
        return [line for line in (self.until.value_input or "").split("\n") if line]

    # Writing ------------------------------------------------------------------------------------------

    def begin(self) -> None:
        typed = (self.seed.value_input or "").strip()
        if typed and not typed.isdigit():
            self.seed.param.update(error_state=True, helper_text="Must be a whole number, or empty")
            return
        self.seed.param.update(error_state=False, helper_text=SEED_WORDS)
        one, two = self.sources.get(str(self.bundle.value)), self.sources.get(str(self.other.value))
        if self.busy or one is None:
            return
        self.first.card.visible, self.board.card.visible = not one.scores, one.scores
        self.second.card.visible &= not one.scores
        seed, prompt = int(typed) if typed else random.randrange(1_000_000), self.prompt.value_input or ""
        settings: dict[str, Any] = {"max_new_tokens": self.length.value, "temperature": self.temperature.value,
                                    "top_k": self.top_k.value, "top_p": self.top_p.value, "stop": self._stops()}
        self.reveal.visible = self.batch.card.visible = False
        if one.scores:
            self.board.begin(one, self._texts() or [""])
        elif self.many.value:
            prompts = [line for line in prompt.split("\n") if line.strip()][:MOST_PROMPTS]
            self.batch.begin(one, prompts or [""], seed, settings)
        else:
            self._write([one, two] if two else [one], prompt, seed, {**settings, "alternatives": ALTERNATIVES})
        self.go.disabled, self.end.disabled = True, False
        if pn.state.curdoc is not None and pn.state.curdoc.session_context is not None:
            self._fast = pn.state.add_periodic_callback(self._pull, PULL_MILLISECONDS)

    def _write(self, sources: list[Source], prompt: str, seed: int, settings: dict[str, Any]) -> None:
        self.second.card.visible = len(sources) > 1
        blind = len(sources) > 1 and self.blind.value
        if blind:
            random.shuffle(sources)
        self._titles = [source.label for source in sources]
        for place, (voice, source) in enumerate(zip((self.first, self.second), sources, strict=False)):
            voice.name_it(f"Model {'AB'[place]}" if blind else source.label)
            voice.begin(source, prompt, seed, settings)

    def _reveal(self) -> None:
        for voice, title in zip((self.first, self.second), self._titles, strict=False):
            voice.name_it(title)
        self.reveal.visible = False

    def stop(self) -> None:
        for who in (self.first, self.second, self.batch, self.board):
            who.stop()

    def tick(self) -> None:
        self._pull()
        self._pull_closer()

    def _pull(self) -> None:
        """Show what was written since the last look; ten times a second while there is some."""
        over = [who.pull() for who in (self.first, self.second, self.batch, self.board)]
        if any(over) and not self.busy:
            if self._fast is not None:
                self._fast.stop()
                self._fast = None
            self.end.disabled, self.legend.visible = True, bool(self.first.written)
            self.reveal.visible = self.blind.value and self.blind.visible and self.second.card.visible
            self._tell()

    # The same text in PyTorch ----------------------------------------------------------------------------

    def look_closer(self) -> None:
        """The prompt's logits in PyTorch, in a process of its own, and in onnxruntime."""
        source, prompt = self.sources.get(str(self.bundle.value)), self.prompt.value_input or ""
        if source is None or source.checkpoint or self.differ.busy:
            return
        self.closer.visible, self.compare.disabled = True, True
        self.close.html = txt('<p class="nothing">Reading the model in PyTorch …</p>')
        self.differ.begin(lambda: json.loads(asked("differ", str(source.folder), source.precision, given=prompt)))

    def _pull_closer(self) -> None:
        over = self.differ.take()
        if over is not None:
            self.close.html = banner("error", over[1]) if over[1] else _closer(over[0])
            self._tell()


def _sources(session: Any) -> tuple[dict[str, Source], list[str]]:
    """Everything that can speak, by its label: bundles in each of their precisions, then checkpoints, newest first;
    and a sentence on each bundle whose manifest is damaged, so that it can't."""
    found, refused = [], []
    for bundle in session.workspace.listing("bundles"):
        try:
            kinds, judges, adapted = precisions(bundle), scores(bundle), keeps_adapter(bundle)
        except UserError as error:
            refused.append(f"Bundle {bundle.name} is left out: {error.sentence}")
            continue
        for kind in kinds:
            label = bundle.name if kind == "float32" else f"{bundle.name} ({kind})"
            found.append(Source(label, bundle, kind, scores=judges))
            if adapted:
                found.append(Source(f"{label} with its adapter", bundle, kind, adapter=True))
    for run in runs.listing(session.workspace):
        found += [Source(f"{run.name}, checkpoint {path.name}", path, checkpoint=True, scores=_judges(path))
                  for path in run.checkpoints[::-1]]
    return {source.label: source for source in found}, refused


def _judges(checkpoint: Path) -> bool:
    try:
        return published.scores(checkpoint)
    except UserError:
        return False    # opening it says what is wrong


def _closer(rows: list[dict[str, Any]]) -> Any:
    largest = max(row["difference"] for row in rows)
    lines = join(txt('<tr><td><code>{}</code></td><td class="num">{}</td><td class="num">{}</td><td class="num">{}</td>'
                     "</tr>", row["text"], "–" if row["pytorch"] is None else percent(row["pytorch"]),
                     "–" if row["onnx"] is None else percent(row["onnx"]), f"{row['difference']:.1e}") for row in rows)
    return join([tiles([("Tokens", number(len(rows))), ("Largest difference of a logit", f"{largest:.1e}")]),
                 txt('<div class="scroll"><table><tr><th>token</th><th class="num">PyTorch</th><th class="num">'
                     'onnxruntime</th><th class="num">largest difference after it</th></tr>{}</table></div>', lines)])


def _legend() -> Any:
    return txt('<p class="more">The stronger the colour, the more surprised the model was. Point at a token to see '
               'what else it might have been.</p><ul class="legend">{}</ul>', join(
                   txt('<li><i class="s" style="--p:{}"></i>{}</li>', strength, words) for words, strength in SCALE))
