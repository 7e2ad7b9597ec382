"""Bias pictures: figures with their intervals, before in grey and after in colour. Pure functions, as in `figures`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import holoviews as hv

from studio.figures import EMPTY, FONT, KEPT, QUIET, _hover, _still

OFFSET = 0.17
MOST = 20
COLOURS = {"before": QUIET, "after": KEPT}
Figure = Mapping[str, float | None]


def intervals(sides: Mapping[str, Mapping[str, Figure]], words: str) -> Any:
    """A row for each name, a mark for its figure on either side, and a line as long as its interval: {"before":
    {name: {"value", "low", "high"}}, "after": {...}}, the largest first. A figure without interval has no line."""
    largest: dict[str, float] = {}
    for side in sides.values():
        for name, figure in side.items():
            if figure["value"] is not None:
                largest[name] = max(largest.get(name, 0), abs(figure["value"]))
    if not largest:
        return _nothing()
    names = sorted(largest, key=lambda name: -largest[name])[:MOST]
    marks, lines = [], []
    for side, figures in sides.items():
        shift = 0.0 if len(sides) == 1 else OFFSET if side == "before" else -OFFSET
        for place, name in enumerate(names):
            figure = figures.get(name)
            if figure is None or figure["value"] is None:
                continue
            value, low, high, y = figure["value"], figure["low"], figure["high"], shift - place
            around = "not known" if low is None or high is None else f"{low:.3f} to {high:.3f}"
            marks.append((value, y, name, _side(side), f"{value:.3f}", around, COLOURS[side]))
            if low is not None and high is not None:
                lines.append((low, y, high, y, COLOURS[side]))
    ends = [0.0, *(mark[0] for mark in marks), *(end for line in lines for end in (line[0], line[2]))]
    room = (max(ends) - min(ends) or 1) * 0.06
    zero = hv.Segments([(0, -len(names) + 0.4, 0, 0.6)], ["x0", "y0", "x1", "y1"]).opts(
        color=QUIET, line_dash="dashed", line_width=1.2, alpha=0.7)
    whiskers = hv.Segments(lines, ["x0", "y0", "x1", "y1"], "colour").opts(color="colour", line_width=2.4, alpha=0.75)
    points = hv.Points(marks, ["value", "place"], ["name", "side", "figure", "around", "colour"]).opts(
        color="colour", size=8, tools=_hover(("", "@name"), ("", "@side"), (words, "@figure"), ("95 %", "@around")))
    legend = _legend(sides, (min(ends) + max(ends)) / 2)
    return _still(zero * whiskers * points * legend, 26 * len(names) + 92, xlabel=words, ylabel="",
                  xlim=(min(ends) - room, max(ends) + room), ylim=(-len(names) + 0.4, 1.5 if len(sides) > 1 else 0.6),
                  yticks=[(-place, name) for place, name in enumerate(names)], show_grid=False)


def balance(sides: Mapping[str, Mapping[str, float]]) -> Any:
    """A pair of bars for each group: its share of the mentions, from 0 to 1, before and after."""
    names = list(dict.fromkeys(name for side in sides.values() for name in side))[:MOST]
    if not names:
        return _nothing()
    bars, words = [], []
    for side, shares in sides.items():
        shift = 0.0 if len(sides) == 1 else OFFSET + 0.03 if side == "before" else -OFFSET - 0.03
        for place, name in enumerate(names):
            share, y = shares.get(name, 0.0), shift - place
            bars.append((0, y - OFFSET, share, y + OFFSET, name, _side(side), f"{share:.1%}", COLOURS[side]))
            words.append((share, y, f"  {share:.1%}"))
    widest = max([0.01, *(bar[2] for bar in bars)])
    boxes = hv.Rectangles(bars, ["x0", "y0", "x1", "y1"], ["name", "side", "share", "colour"]).opts(
        color="colour", line_alpha=0, alpha=0.85, tools=_hover(("", "@name"), ("", "@side"), ("share", "@share")))
    labels = hv.Labels(words, ["x", "y"], "text").opts(text_color=QUIET, text_align="left", text_font=FONT,
                                                       text_font_size="9pt")
    return _still(boxes * labels, (40 if len(sides) > 1 else 26) * len(names) + 40, xaxis=None, xlabel="", ylabel="",
                  xlim=(0, widest * 1.22), ylim=(-len(names) + 0.4, 0.6), show_grid=False,
                  yticks=[(-place, name) for place, name in enumerate(names)])


def _nothing() -> Any:
    return _still(hv.Overlay([hv.Curve([], "x", "y")]), 60, **EMPTY)


def _legend(sides: Mapping[str, Any], x: float) -> Any:
    if len(sides) < 2:
        return hv.Labels([], ["x", "y"], "text")
    one, other = (hv.Labels([(x, 1.05, text)], ["x", "y"], "text").opts(
        text_color=COLOURS[side], text_align=align, text_font=FONT, text_font_size="9.5pt")
        for side, text, align in (("before", "● before   ", "right"), ("after", "   ● as it is", "left")))
    return one * other


def _side(side: str) -> str:
    return "as it is" if side == "after" else side
