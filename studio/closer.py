"""Closer: a prompt's logits in PyTorch, in a process of its own, and in onnxruntime, token by token."""

from __future__ import annotations

import json
from typing import Any

from panel.viewable import Viewable, Viewer

from engine.runs.sources import Source, asked
from studio.background import Background
from studio.texts import Text, percent
from studio.views import banner, card, join, number, tiles, txt


class Closer(Viewer):
    """`begin` with a text, then `pull` at each tick until it says that the answer is there."""

    def __init__(self, **params: Any) -> None:
        super().__init__(**params)
        self.work, self.shown = Background(), Text()
        self.card = card(self.shown, title="Logits in PyTorch and in onnxruntime", visible=False,
                         line="The prompt, token by token, in float32 PyTorch and in the bundle's graph.")

    def __panel__(self) -> Viewable:
        return self.card

    @property
    def busy(self) -> bool:
        return self.work.busy

    def begin(self, source: Source, text: str) -> None:
        self.card.visible = True
        self.shown.html = txt('<p class="nothing">Reading the model in PyTorch …</p>')
        self.work.begin(lambda: json.loads(asked("differ", str(source.folder), source.precision, given=text)))

    def pull(self) -> bool:
        over = self.work.take()
        if over is not None:
            self.shown.html = banner("error", over[1]) if over[1] else _told(over[0])
        return over is not None


def _told(rows: list[dict[str, Any]]) -> Any:
    largest = max(row["difference"] for row in rows)
    lines = join(txt('<tr><td><code>{}</code></td><td class="num">{}</td><td class="num">{}</td><td class="num">{}</td>'
                     "</tr>", row["text"], "–" if row["pytorch"] is None else percent(row["pytorch"]),
                     "–" if row["onnx"] is None else percent(row["onnx"]), f"{row['difference']:.1e}") for row in rows)
    return join([tiles([("Tokens", number(len(rows))), ("Largest difference of a logit", f"{largest:.1e}")]),
                 txt('<div class="scroll"><table><tr><th>token</th><th class="num">PyTorch</th><th class="num">'
                     'onnxruntime</th><th class="num">largest difference after it</th></tr>{}</table></div>', lines)])
