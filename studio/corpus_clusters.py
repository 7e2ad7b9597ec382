"""Clusters of near duplicates in a dataset's ledger, and one of them side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from panel.viewable import Viewable, Viewer

from studio.background import Latest
from studio.corpus_entries import EXCERPT, Sheet
from studio.diff import diff
from studio.layout import stack
from studio.views import banner, join, number, press, txt

MOST = 24
"""Documents of a cluster that are shown beside the one that stays."""


class Clusters(Viewer):
    """The clusters of near duplicates, the largest first, and one of them side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.list, self.one = Sheet(on_press=self._press), Sheet(on_press=self._press)
        self.listing, self.opening = Latest(), Latest()
        self.dataset: Path | None = None
        self.chosen: tuple[str, int] | None = None
        self._view = stack(self.one, self.list, gap="16px")

    def __panel__(self) -> Viewable:
        return self._view

    def show(self, dataset: Path) -> None:
        self.dataset, self.chosen = dataset, None
        self.one.html = self.list.html = txt("")

    def open(self, step: str, cluster: int) -> None:
        self.chosen = (step, cluster)

    def tick(self) -> None:
        if (dataset := self.dataset) is None:
            return

        def listed() -> Any:
            from engine.corpus.search import clusters

            return clusters(dataset)

        self.listing.ask(dataset, listed)
        if over := self.listing.answer():
            self._show_list(*over)
        if (chosen := self.chosen) is not None:
            def opened() -> Any:
                from engine.corpus.search import opened

                return opened(dataset, chosen[1], chosen[0], limit=MOST)

            self.opening.ask((dataset, chosen), opened)
        if (over := self.opening.answer()) and self.chosen is not None:
            self._show_one(*over)

    def _press(self, what: str) -> None:
        if what == "close":
            self.chosen, self.one.html = None, txt("")
            self.opening.again()
            return
        step, _, cluster = what.removeprefix("cluster ").rpartition(" ")
        self.open(step, int(cluster))

    def _show_list(self, found: Any, problem: str) -> None:
        if problem or not found:
            self.list.html = banner("error", problem) if problem else txt(
                '<p class="nothing">No near duplicates: none were found, or no step looked for them.</p>')
            return
        self.list.html = txt('<div class="rows">{}</div>', join(
            txt('<button type="button" data-press="cluster {} {}"><span class="top"><b>{} documents</b><code>{}</code>'
                '<span class="far">from {:.0f} % alike</span></span></button>', one["step"], one["cluster"],
                number(one["others"] + 1), one["kept"], 100 * one["similarity"]) for one in found))

    def _show_one(self, found: Any, problem: str) -> None:
        if found is None:
            self.one.html = banner("error", problem)
            return
        kept = found["kept"]
        begin = kept["text"][:EXCERPT] if kept else ""
        stays = txt('<article><p class="nothing">A later step dropped the one that was kept.</p></article>')
        if kept:
            stays = txt('<article class="stays"><header><i class="tag kept">kept</i><code>{}</code></header>'
                        '<p class="prose">{}{}</p></article>', kept["id"], begin,
                        " …" if len(kept["text"]) > EXCERPT else "")
        others = join(txt(
            '<article><header><i class="tag {}">{}</i><code>{}</code><span>{}</span></header>{}</article>',
            "dropped" if row["action"] == "dropped" else "kept", row["action"], row["id"],
            "" if row["similarity"] is None else f"{100 * row['similarity']:.0f} % alike",
            diff(begin, row["before"], cut=EXCERPT) if kept else txt('<p class="prose">{}</p>', row["before"]))
            for row in found["others"])
        self.one.html = txt('<div class="stack"><div class="note"><h4>One cluster, side by side</h4><span>struck out: '
                            "only in the one that stays; underlined: only in this one</span>{}</div>"
                            '<div class="sides">{}{}</div></div>', press("Close", "close", "small"), stays, others)
