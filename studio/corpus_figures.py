"""Figures of the data bench: where documents go, how alike near duplicates must be, lengths before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import holoviews as hv
import numpy as np

from studio.figures import DROPPED, FONT, KEPT, QUIET, _hover, _still, number
from studio.texts import step_name

MOST_REASONS = 4
"""Reasons of a step that have a ribbon of their own; the rarer ones share one."""

LONGEST_REASON = 32
"""Letters of a reason in the picture; the list below it has them all."""


def flow(steps: Sequence[Mapping[str, Any]]) -> Any:
    """Documents from step to step as a Sankey diagram, and what falls out at each, by reason.

    Steps that let every document through are left out: the picture shows where documents go, the lists what is done.
    """
    changing = [(step, name) for step, name in zip(steps, _named([step_name(str(s["step"])) for s in steps]),
                                                   strict=True) if step["reasons"] or step["added"]]
    edges: list[tuple[str, str, float, str, str]] = []
    at, amount = "read", steps[0]["documents_in"] if steps else 0
    for step, name in changing:
        edges.append((at, name, amount, f"{number(amount)} go on", KEPT))
        at, amount = name, step["documents_out"]
        found = sorted(step["reasons"].items(), key=lambda pair: -pair[1])
        rest = sum(count for _, count in found[MOST_REASONS:])
        for reason, count in [*found[:MOST_REASONS], *([("other reasons", rest)] if rest else [])]:
            # a reason of two steps is a node of each: of names that are alike a Sankey makes one node
            words = reason if len(reason) <= LONGEST_REASON else f"{reason[:LONGEST_REASON]}…"
            edges.append((name, f"−{number(count)}  {words} ({name})", count, f"{number(count)} dropped", DROPPED))
    if amount:
        edges.append((at, f"{number(amount)} kept", amount, f"{number(amount)} kept", KEPT))
    picture = hv.Sankey(edges, ["from", "to"], [hv.Dimension("documents"), "what", "colour"]).opts(
        edge_color="colour", edge_alpha=0.5, edge_line_alpha=0, node_color=QUIET, node_line_alpha=0, node_width=8,
        node_padding=22, label_position="right", label_text_font_size="9.5pt", show_values=False)
    drops = sum(1 for edge in edges if edge[4] == DROPPED)
    # Its frame stretches it; responsive and a Sankey go together in no way that HoloViews knows.
    return picture.opts(width=800, height=max(200, 110 + 30 * drops), toolbar=None, default_tools=[],
                        hooks=[_place_words])


def _place_words(plot: Any, _: Any) -> None:
    """Words that read in both themes: of what ends here beside it, of the steps above them, at two heights in turn."""
    figure, words = plot.state, plot.handles["text_1_source"]
    figure.background_fill_alpha = figure.border_fill_alpha = 0
    figure.outline_line_color = None
    nodes = plot.handles["quad_1_source"].data
    tops, x, y = np.asarray(nodes["y1"], float), list(words.data["x"]), list(words.data["y"])
    last = max(nodes["x1"])
    inner = [place for place in range(len(x)) if nodes["x1"][place] < last]
    for turn, place in enumerate(sorted(inner, key=lambda place: nodes["x0"][place])):
        x[place] = nodes["x0"][place]
        y[place] = float(tops.max()) + 14 + 34 * (turn % 2)
    # Ribbons of a few documents among thousands have no height of their own: their words make room for one another.
    room, below = 17 * (float(tops.max()) + 88) / figure.height, -float("inf")
    for place in sorted(set(range(len(x))) - set(inner), key=lambda place: y[place]):
        y[place] = below = max(y[place], below + room)
    words.data = {**words.data, "x": x, "y": y}
    plot.handles["text_1_glyph"].update(text_color=QUIET, text_font=FONT)
    plot.handles["scatter_1_glyph"].update(fill_alpha=0, line_alpha=0)
    plot.handles["x_range"].update(start=-10, end=1.7 * last)
    plot.handles["y_range"].update(start=min(y) - room, end=float(tops.max()) + 76)


def _named(names: list[str]) -> list[str]:
    """Names that are all different: the second "quality" is "quality 2"."""
    return [name if names.index(name) == place else f"{name} {names[:place + 1].count(name)}"
            for place, name in enumerate(names)]


def s_curve(similarity: float, num_hashes: int) -> Any:
    """The probability that a pair is found near-duplicate, against its similarity (`engine.corpus.minhash.found`)."""
    from engine.corpus.minhash import banding, candidate, found

    bands, rows = banding(similarity, num_hashes)
    x = np.linspace(0, 1, 101)
    told = [("similarity", "@similarity{0.00}"), ("chance", "@chance{0.0%}")]
    sure = hv.Curve((x, found(x, similarity, num_hashes)), "similarity", "chance", label="called near-duplicate").opts(
        color=KEPT, line_width=2.6, tools=_hover(*told))
    bands_alone = hv.Curve((x, candidate(x, bands, rows)), "similarity", "chance",
                           label=f"compared: {bands} bands of {rows}").opts(
        color=QUIET, line_width=1.6, line_dash="dashed", tools=_hover(*told))
    at = hv.Segments([(similarity, 0, similarity, 1)], ["x0", "y0", "x1", "y1"]).opts(color=DROPPED, line_width=1.4,
                                                                                      line_dash="dotted")
    return _still(bands_alone * sure * at, 230, xlabel="similarity of the pair", ylabel="chance", xlim=(0, 1),
                  ylim=(0, 1.04), show_legend=True, legend_position="top_left", show_grid=True)


def before_and_after(edges: Sequence[float], before: Sequence[int], after: Sequence[int], words: str, *,
                     logarithmic: bool = False) -> Any:
    """Two histograms of one figure over each other, as shares of the documents: before in grey, after in colour."""
    shares = [[100 * count / (sum(counts) or 1) for count in counts] for counts in (before, after)]
    bars = [[(left, 0, right, share, f"{left:g} to {right:g}", f"{share:.1f} %")
             for left, right, share in zip(edges, edges[1:], each, strict=False)] for each in shares]
    full = [place for place in range(len(before)) if before[place] or after[place]]
    left, right = (edges[full[0]], edges[full[-1] + 1]) if full else (edges[0], edges[-1])
    common = {"tools": _hover((words, "@range"), ("documents", "@share")), "line_alpha": 0}
    old, new = (hv.Rectangles(each, ["x0", "y0", "x1", "y1"], ["range", "share"]) for each in bars)
    picture = old.opts(color=QUIET, alpha=0.42, **common) * new.opts(color=KEPT, alpha=0.62, **common)
    return _still(picture, 250, logx=logarithmic, xlabel=words, ylabel="% of documents", xlim=(left, right),
                  ylim=(0, 1.06 * max([1, *shares[0], *shares[1]])), show_grid=False)
