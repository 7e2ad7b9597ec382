"""Voice: one model that writes in a thread, and the card that shows what it wrote and how sure it was."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from panel.viewable import Viewable, Viewer

from engine import inference
from engine.config import UserError
from studio.background import Background
from studio.texts import Text, surprise
from studio.views import banner, card, number, tiles, txt

OPENING_SECONDS = 300


class Source(NamedTuple):
    """What can speak: a graph of a bundle, or a checkpoint."""

    label: str
    folder: Path
    precision: str = "float32"
    checkpoint: bool = False
    scores: bool = False        # it reads texts and writes none
    adapter: bool = False       # with the LoRA adapter that the bundle keeps


def open_source(source: Source) -> Any:
    """The model of a source, ready to write or to score.

    A checkpoint becomes a graph first, in a process that has torch.
    """
    if source.scores and not source.checkpoint:
        return inference.load_scorer(source.folder, precision=source.precision)     # imports onnxruntime
    if not source.checkpoint:
        return inference.load(source.folder, precision=source.precision, adapter=source.adapter)
    with tempfile.TemporaryDirectory() as place:
        asked("speak", str(source.folder), f"{place}/speaks")
        return (inference.load_scorer if source.scores else inference.load)(Path(place) / "speaks")


def asked(*arguments: str, given: str = "") -> str:
    """What `engine.export.preview` prints; its sentence as a UserError."""
    command = [sys.executable, "-m", "engine.export.preview", *arguments]
    try:
        done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=OPENING_SECONDS)
    except subprocess.TimeoutExpired:
        raise UserError(f"the model was not ready after {OPENING_SECONDS} seconds; try a smaller one.") from None
    if done.returncode:
        last = done.stderr.strip().splitlines()
        raise UserError(last[-1] if last else "the process that reads the model ended without a word.")
    return done.stdout


class Voice(Viewer):
    """One side of the playground. `begin`, then `pull` at each tick until it says that the text is over."""

    def __init__(self, title: str, **params: Any) -> None:
        super().__init__(**params)
        self.writer, self._model = Background(), (None, None)
        self.written: list[tuple[float, Any]] = []  # (moment, token): the thread appends, the tick reads
        self._halt, self._shown, self._prompt, self.seed = False, -1, "", 0
        self.title, self.text, self.facts = Text(), Text(), Text()
        self.name_it(title)
        self.card = card(self.title, self.text, self.facts)

    def __panel__(self) -> Viewable:
        return self.card

    def name_it(self, title: str) -> None:
        self.title.html = txt("<h2>{}</h2>", title)

    def say(self, sentence: str) -> None:
        self.text.html = txt('<p class="nothing">{}</p>', sentence)

    def begin(self, source: Source, prompt: str, seed: int, settings: dict[str, Any]) -> None:
        """Start to write; nothing while it writes already."""
        if self.writer.busy:
            return
        written: list[tuple[float, Any]] = []

        def work() -> None:
            if self._model[0] != source:
                self._model = (None, None)
                self._model = (source, open_source(source))
            for token in self._model[1].tokens(prompt, seed=seed, **settings):
                written.append((time.perf_counter(), token))
                if self._halt:
                    return

        self.written, self._halt, self._shown, self._prompt, self.seed = written, False, -1, prompt, seed
        self.facts.html = txt("")
        self.say("Reading the model …")
        self.writer.begin(work)

    def stop(self) -> None:
        """The thread looks after each token."""
        self._halt = True

    def pull(self) -> bool:
        """Show what was written since the last look; True once, when the text is over."""
        over = self.writer.take()
        if self.written and (over or len(self.written) != self._shown):
            tokens = [token for _, token in self.written]
            self._shown = len(tokens)
            # The alternatives weigh ten times the text, so they come when it is whole.
            self.text.html = surprise(self._prompt, tokens, alternatives=over is not None)
            self.facts.html = self._measured()
        if over is not None and over[1]:
            self._model = (None, None)
            self.facts.html = banner("error", over[1])
            if not self.written:
                self.text.html = txt("")
        return over is not None

    def _measured(self) -> Any:
        """Tokens a second from the first to the last: the prompt and the loading are left out."""
        first, last, count = self.written[0][0], self.written[-1][0], len(self.written)
        speed = number((count - 1) / (last - first), 1) if count > 1 and last > first else "–"
        return tiles([("Tokens", number(count)), ("Tokens per second, measured", speed), ("Seed", str(self.seed))])
