"""Prompt set: many prompts written by one model in a thread, and the report on them."""

from __future__ import annotations

import math
import time
from typing import Any

from panel.viewable import Viewable, Viewer

from studio.background import Background
from studio.texts import Text, percent
from studio.views import banner, bar, card, join, number, tiles, txt
from studio.voice import Source, open_source

MOST_PROMPTS = 200


class PromptSet(Viewer):
    """`begin` with the prompts, then `pull` at each tick until it says that all are written."""

    def __init__(self, **params: Any) -> None:
        super().__init__(**params)
        self.writer = Background()
        self.rows: list[dict[str, Any]] = []
        self._of, self._halt, self._shown = 0, False, -1
        self.report = Text()
        self.card = card(self.report, title="Prompt set", visible=False)

    def __panel__(self) -> Viewable:
        return self.card

    def begin(self, source: Source, prompts: list[str], seed: int, settings: dict[str, Any]) -> None:
        rows: list[dict[str, Any]] = []

        def work() -> None:
            model = open_source(source)
            for number_of, prompt in enumerate(prompts):
                begun = time.perf_counter()
                tokens = []
                for token in model.tokens(prompt, seed=seed + number_of, **settings):
                    tokens.append(token)
                    if self._halt:
                        break
                rows.append(_row(prompt, tokens, time.perf_counter() - begun))
                if self._halt:
                    return

        self.rows, self._of, self._halt, self._shown = rows, len(prompts), False, -1
        self.card.visible = True
        self.writer.begin(work)

    def stop(self) -> None:
        self._halt = True

    def pull(self) -> bool:
        """Show the rows that are done; True once, when all are."""
        over = self.writer.take()
        if over is None and len(self.rows) == self._shown:
            return False
        self._shown = len(self.rows)
        parts = [banner("error", over[1]) if over and over[1] else "",
                 "" if over else bar(len(self.rows), self._of, label="prompts"), _told(self.rows)]
        self.report.html = join(parts)
        return over is not None


def _row(prompt: str, tokens: list[Any], seconds: float) -> dict[str, Any]:
    """`surprise`: mean nats of the tokens that were taken; `repeated`: share of tokens that stood there before."""
    taken = [token.id for token in tokens]
    return {"prompt": prompt, "text": "".join(token.text for token in tokens), "tokens": len(tokens),
            "surprise": sum(-math.log(max(1e-9, token.probability)) for token in tokens) / max(1, len(tokens)),
            "repeated": 1 - len(set(taken)) / max(1, len(taken)), "seconds": seconds,
            "finish": tokens[-1].finish if tokens else ""}


def _told(rows: list[dict[str, Any]]) -> Any:
    if not rows:
        return txt('<p class="nothing">Reading the model …</p>')
    tokens, seconds = sum(row["tokens"] for row in rows), sum(row["seconds"] for row in rows)
    ended = sum(row["finish"] == "stop" for row in rows) / len(rows)
    head = tiles([("Prompts", number(len(rows))), ("Tokens", number(tokens)),
                  ("Tokens per second, prompts included", number(tokens / max(1e-9, seconds), 1)),
                  ("Mean surprise (nats)", number(sum(r["surprise"] for r in rows) / len(rows))),
                  ("Ended by themselves", percent(ended))])
    lines = join(txt('<tr><td><b>{}</b></td><td class="prose">{}</td><td class="num">{}</td><td class="num">{}</td>'
                     '<td class="num">{}</td></tr>', row["prompt"], row["text"], row["tokens"],
                     number(row["surprise"]), percent(row["repeated"])) for row in rows)
    return join([head, txt('<div class="scroll"><table><tr><th>prompt</th><th>text</th><th class="num">tokens</th>'
                           '<th class="num">surprise</th><th class="num">repeated</th></tr>{}</table></div>', lines)])
