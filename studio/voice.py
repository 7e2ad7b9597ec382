"""Voice: one side of the playground: what a model wrote after a prompt, and how sure it was."""

from __future__ import annotations

from typing import Any

from panel.viewable import Viewable, Viewer

from engine.runs.sources import Source
from studio.texts import Text, surprise
from studio.views import banner, card, join, number, tiles, txt
from studio.writer import Writer

SCALE = (("even odds", 5), ("one in ten", 16), ("one in a hundred", 32), ("one in a thousand", 48))


class Voice(Viewer):
    """`begin`, then `pull` at each tick until it says that the text is over. `writer` may write for others too."""

    def __init__(self, title: str, **params: Any) -> None:
        super().__init__(**params)
        self.writer = Writer()
        self._mine, self._shown, self._prompt, self.seed = False, -1, "", 0
        self.title, self.text, self.facts = Text(), Text(), Text()
        self.name_it(title)
        self.card = card(self.title, self.text, self.facts)

    def __panel__(self) -> Viewable:
        return self.card

    @property
    def written(self) -> list[tuple[float, Any]]:
        return self.writer.written

    def name_it(self, title: str) -> None:
        self.title.html = txt("<h2>{}</h2>", title)

    def say(self, sentence: str) -> None:
        self.text.html = txt('<p class="nothing">{}</p>', sentence)

    def begin(self, source: Source, prompt: str, seed: int, settings: dict[str, Any]) -> None:
        """Start to write; nothing while it writes already."""
        if not self.writer.begin(source, lambda model: model.tokens(prompt, seed=seed, **settings)):
            return
        self._mine, self._shown, self._prompt, self.seed = True, -1, prompt, seed
        self.facts.html = txt("")
        self.say("Reading the model …")

    def stop(self) -> None:
        self.writer.stop()

    def pull(self) -> bool:
        """Show what was written since the last look; True once, when the text is over."""
        if not self._mine:
            return False
        over, tokens = self.writer.take(), self.writer.tokens
        if tokens and (over or len(tokens) != self._shown):
            self._shown = len(tokens)
            # The alternatives weigh ten times the text, so they come when it is whole.
            self.text.html = surprise(self._prompt, tokens, alternatives=over is not None)
            speed = self.writer.speed
            self.facts.html = tiles([
                ("Tokens", number(len(tokens))), ("Tokens per second, measured", number(speed, 1)),
                ("Seed", str(self.seed))])
        if over is not None and over[1]:
            self.facts.html = banner("error", over[1])
            if not tokens:
                self.text.html = txt("")
        self._mine = self._mine and over is None
        return over is not None


def legend() -> Any:
    """What the colours say."""
    return txt('<p class="more">The stronger the colour, the more surprised the model was. Point at a token to see '
               'what else it might have been.</p><ul class="legend">{}</ul>', join(
                   txt('<li><i class="s" style="--p:{}"></i>{}</li>', strength, words) for words, strength in SCALE))
