"""The profile of a dataset: lengths, quality signals, sources and languages, before the steps and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from panel.viewable import Viewable, Viewer

from studio import figures
from studio.corpus_entries import Sheet
from studio.corpus_figures import before_and_after
from studio.layout import pair, picture, stack
from studio.texts import percent, step_name
from studio.views import Markup, join, number, press, txt

BEGINNING = 20_000
"""Characters of a document that signals are taken of (`engine.corpus.profile`, which needs pyarrow)."""


class ProfileView(Viewer):
    """What is drawn is what the manifest's summary has; an older dataset has lengths alone."""

    def __init__(self) -> None:
        super().__init__()
        self.lengths_read, self.lengths = picture(height=240), picture(height=240)
        self.choices, self.signal, self.tables = Sheet(on_press=self._choose), picture(height=250), Sheet()
        self._signals: Sequence[Mapping[str, Any]] = ()
        self._looked_at: Mapping[str, int] = {}
        self._drawn = stack(self.choices, self.signal, gap="8px")
        self._view = stack(pair(titled("Lengths as read", self.lengths_read), titled("Lengths as kept", self.lengths)),
                           self._drawn, self.tables, gap="22px")

    def __panel__(self) -> Viewable:
        return self._view

    def show(self, summary: Mapping[str, Any]) -> None:
        """The summary of a dataset or of a sample (`engine.corpus.pipeline.summary`)."""
        before, after = summary["lengths_read"], summary["lengths"]
        self.lengths_read.object = figures.histogram(before["edges"], before["counts"], colour=figures.QUIET)
        self.lengths.object = figures.histogram(after["edges"], after["counts"])
        self._signals, self._looked_at = summary.get("signals", ()), summary.get("looked_at", {})
        self._drawn.visible = bool(self._signals)
        if self._signals:
            self._choose(str(self._signals[0]["name"]))
        self.tables.html = join([_sources(summary.get("sources", ()), summary.get("tokens", {})),
                                 *(_languages(step["step"], step["languages"]) for step in summary["steps"]
                                   if step.get("languages"))])

    def _choose(self, name: str) -> None:
        chosen = next(signal for signal in self._signals if signal["name"] == name)
        few = ", ".join(f"{number(self._looked_at.get(side, 0))} {side}" for side in ("before", "after"))
        self.choices.html = txt(
            '<div class="stack"><h4>Quality signals</h4><p class="line">{}{}, in the first {} characters of '
            'each document looked at ({}). Grey: before the steps; green: after.</p>'
            '<div class="choices">{}</div></div>',
            chosen["words"][:1].upper(), chosen["words"][1:], number(BEGINNING), few,
            join(press(signal["name"].replace("_", " "), signal["name"], "small chosen" if signal is chosen
                       else "small plain") for signal in self._signals))
        self.signal.object = before_and_after(chosen["edges"], chosen["before"], chosen["after"], chosen["words"],
                                              logarithmic=chosen["logarithmic"])


def titled(title: str, view: Any, line: str = "") -> Viewable:
    """A figure under its title."""
    words = txt("<h4>{}</h4>{}", title, txt('<p class="line">{}</p>', line) if line else "")
    return stack(Sheet(words), view, gap="4px")


def _sources(rows: Sequence[Mapping[str, Any]], tokens: Mapping[str, Any]) -> Markup:
    if not rows:
        return Markup("")
    held = sum(row["bytes_out"] for row in rows) or 1
    estimated = txt(' <small class="estimated">estimated</small>') if tokens.get("estimated") else ""
    return txt('<h4>Sources</h4><div class="scroll"><table><tr><th>source</th><th class="num">documents read</th>'
               '<th class="num">kept</th><th class="num">text kept</th><th class="num">of all text</th>'
               '<th class="num">tokens{}</th></tr>{}</table></div>', estimated, join(
                   txt('<tr><td><code>{}</code></td><td class="num">{}</td><td class="num">{}</td>'
                       '<td class="num">{}</td><td class="num">{}</td><td class="num">{}</td></tr>', row["source"],
                       number(row["documents_in"]), number(row["documents_out"]), figures.byte_size(row["bytes_out"]),
                       percent(row["bytes_out"] / held), figures.number(row.get("tokens_out", 0))) for row in rows))


def _languages(step: str, found: Mapping[str, Mapping[str, int]]) -> Markup:
    return txt('<h4>Languages that the step {} found</h4><p class="line">Let through: what this step passed on; '
               'later steps may have dropped some of it.</p><table><tr><th>language</th><th class="num">documents</th>'
               '<th class="num">let through</th></tr>{}</table>', step_name(step), join(
                   txt('<tr><td>{}</td><td class="num">{}</td><td class="num">{}</td></tr>', code,
                       number(counts.get("documents_in", 0)), number(counts.get("documents_out", 0)))
                   for code, counts in list(found.items())[:12]))
