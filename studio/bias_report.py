"""Bias report: how groups stand in a corpus, before and after, as a table and as pictures with their intervals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import param
from panel.viewable import Viewable, Viewer

from engine.corpus.bias_table import NOTE, digest, heads, interval, rows
from engine.runs.costs import HOW
from studio import bias_pictures
from studio.layout import pair, picture, stack
from studio.texts import Text
from studio.views import empty, join, number, press, tiles, txt

MOST_APART = 12
NOT_MEASURED = "Bias was not measured with this dataset. Set bias to auto or both, and the next curation measures it."


class BiasReport(Viewer):
    """A report of `engine.corpus.bias_report`, seen. `show` puts another one in its place; None says there is none."""

    visible = param.Boolean(True, doc="Whether there is something to see")

    def __init__(self, **params: Any) -> None:
        super().__init__(**params)
        self.facts, self.table, self.words, self.models = (Text() for _ in range(4))
        self.axes, self.title, self.balance_title = Text(on_press=self._choose), Text(), Text()
        self.association, self.balance = picture(), picture()
        self.report: Mapping[str, Any] | None = None
        self.chosen = ""
        self._pictures = stack(self.axes, pair(stack(self.title, self.association, gap="2px"),
                                               stack(self.balance_title, self.balance, gap="2px")), gap="12px")
        self._view = stack(self.facts, self._pictures, self.words, self.table, self.models, gap="18px",
                           visible=self.param.visible)

    def __panel__(self) -> Viewable:
        return self._view

    def show(self, report: Mapping[str, Any] | None,
             models: Iterable[tuple[str, str, Mapping[str, Any]]] | None = None) -> None:
        """The report on a dataset, or on a sample (`preview`'s "bias_report"); `models` are `engine.runs.costs`, None
        where no model can have been trained."""
        self.report = report
        self.models.html = txt("") if models is None or not (report and report["steps"]) else _models(list(models))
        if report is None:
            self.facts.html, self.table.html, self.words.html = empty(NOT_MEASURED, "balance"), txt(""), txt("")
            self._pictures.visible = False
            return
        after, short = report["after"], digest(report)
        self.facts.html = tiles([
            ("Documents", _change(report["cost"], "documents", after["documents"])),
            ("Words", _change(report["cost"], "words", after["words"])),
            *((f"Gap: {' and '.join(gap['groups'])}", _arrow(*(interval(gap.get(side), 3).split(" ")[0] for side in (
                "before", "after")))) for gap in short["gaps"][:2])])
        self.table.html = txt(
            '<div class="scroll"><table><tr><th>measure</th>{}</tr>{}</table></div><p class="more">{}</p>',
            join(txt('<th class="num">{}</th>', head) for head in heads(short)),
            join(txt("<tr><td>{}</td>{}</tr>", name, join(txt('<td class="num">{}</td>', value) for value in values))
                 for name, values in rows(short)), NOTE)
        axes = list(dict.fromkeys(group["axis"] for side in _sides(report).values() for group in side["groups"]))
        self._pictures.visible = bool(axes)
        self.words.html = txt("") if axes else txt('<p class="nothing">No term of any group stands in the text.</p>')
        if axes:
            self._choose(self.chosen if self.chosen in axes else axes[0])

    def _choose(self, axis: str) -> None:
        """Look at the groups of one axis."""
        assert self.report is not None
        self.chosen = axis
        sides = _sides(self.report)
        axes = dict.fromkeys(group["axis"] for side in sides.values() for group in side["groups"])
        self.axes.html = txt('<div class="choices">{}</div>', join(
            press(name.capitalize(), name, "chosen" if name == axis else "plain") for name in axes))
        gaps = {name: gap for name, side in sides.items() for gap in side["gaps"] if gap["axis"] == axis}
        groups = {name: [group for group in side["groups"] if group["axis"] == axis] for name, side in sides.items()}
        if gaps:
            one, other = next(iter(gaps.values()))["groups"]
            self.title.html = txt("<h4>What goes with {} (right) and with {} (left)</h4>", one, other)
            self.association.object = bias_pictures.intervals(
                {name: gap["sets"] for name, gap in gaps.items()}, "difference of npmi")
        else:
            self.title.html = txt("<h4>Share of each group's blocks that hold a word of abuse</h4>")
            self.association.object = bias_pictures.intervals(
                {name: {group["group"]: group["toxic"] for group in side} for name, side in groups.items()},
                "share of blocks")
        self.balance_title.html = txt("<h4>Share of the mentions of {}</h4>", axis)
        self.balance.object = bias_pictures.balance(
            {name: {group["group"]: group["share"] for group in side} for name, side in groups.items()})
        self.words.html = txt(
            '<h4>Words that go most with each group{}</h4><div class="scroll"><table>{}{}</table></div>',
            ", as it is" if len(sides) > 1 else "", join(_group(group) for group in groups["after"]),
            join(_apart(name, gap) for name, gap in gaps.items()))


def _models(costs: list[tuple[str, str, Mapping[str, Any]]]) -> Any:
    """What mitigation cost the models that were trained before and after it."""
    told = join(txt("<tr><td>{} → {}</td><td>{}</td></tr>", before, after, cost["sentence"])
                for before, after, cost in costs)
    return txt('<h4>What it cost a model</h4><div class="scroll"><table>{}</table></div>', told) if costs else txt(
        '<p class="more">{}</p>', HOW)


def _sides(report: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {name: report[name] for name in ("before", "after") if report[name]}


def _group(group: Mapping[str, Any]) -> Any:
    told = join(txt('<i class="tag neutral" title="npmi {}, {} times near">{}</i> ', interval(word, 2), number(
        word["count"]), word["word"]) for word in group["words"]) or txt('<span class="more">too few to tell</span>')
    return txt("<tr><td>{}<br><small>{} mentions in {} documents</small></td><td>{}</td></tr>", group["group"],
               number(group["mentions"]), number(group["documents"]), told)


def _apart(side: str, gap: Mapping[str, Any]) -> Any:
    """The words of published tests that differ most between the two groups of an axis."""
    told = join(txt('<i class="tag neutral" title="{}">{} {:+.2f}</i> ', interval(word, 2), word["word"], word["value"])
                for word in gap["words"][:MOST_APART])
    return txt("<tr><td>words furthest apart<br><small>{}</small></td><td>{}</td></tr>",
               "as it is" if side == "after" else side, told)


def _change(cost: Mapping[str, list[int]] | None, of: str, after: int) -> str:
    return _arrow(number(cost[of][0]), number(cost[of][1])) if cost else number(after)


def _arrow(before: str, after: str) -> str:
    return after if before in (after, "–") else f"{before} → {after}"
