"""Score board: texts scored by one model in a thread, and how they stand."""

from __future__ import annotations

from typing import Any

from panel.viewable import Viewable, Viewer

from engine.runs.sources import Source, open_source
from studio.background import Background
from studio.texts import Text, percent
from studio.views import banner, card, join, txt

MOST_TEXTS = 200


class ScoreBoard(Viewer):
    """`begin` with the texts, then `pull` at each tick until it says that all are scored."""

    def __init__(self, **params: Any) -> None:
        super().__init__(**params)
        self.writer, self.report = Background(), Text()
        self.card = card(self.report, title="Scores", visible=False,
                         line="Of a reward model more is better; a classifier's answer is the label with the largest "
                              "share.")

    def __panel__(self) -> Viewable:
        return self.card

    def begin(self, source: Source, texts: list[str]) -> None:
        """Start to score; nothing while it does already."""
        if self.writer.busy:
            return

        def work() -> Any:
            model = open_source(source)
            return model.labels, texts, model.score(texts)

        self.card.visible = True
        self.report.html = txt('<p class="nothing">Reading the model …</p>')
        self.writer.begin(work)

    def stop(self) -> None:
        """A batch of texts is over in a moment; there is nothing to stop."""

    def pull(self) -> bool:
        """True once, when the scores are there or could not be had."""
        over = self.writer.take()
        if over is not None:
            self.report.html = banner("error", over[1]) if over[1] else _told(*over[0])
        return over is not None


def _told(labels: tuple[str, ...], texts: list[str], scores: Any) -> Any:
    """The texts with their scores, the one that scores most first; with several labels in the order given."""
    from engine.inference.sampling import softmax

    if len(labels) == 1:
        order = sorted(range(len(texts)), key=lambda place: -scores[place, 0])
        head = txt('<th class="num">score</th><th>text</th>')
        rows = join(txt('<tr><td class="num"><b>{}</b></td><td class="prose">{}</td></tr>', f"{scores[n, 0]:+.4f}",
                        texts[n]) for n in order)
    else:
        head = txt('<th>label</th><th class="num">share</th><th>text</th>')
        shares = [softmax(row) for row in scores]
        best = [int(row.argmax()) for row in shares]
        rows = join(txt('<tr><td><b>{}</b></td><td class="num">{}</td><td class="prose">{}</td></tr>', labels[which],
                        percent(row[which]), text) for which, row, text in zip(best, shares, texts, strict=True))
    return txt('<div class="scroll"><table><tr>{}</tr>{}</table></div>', head, rows)
