"""Figures of the data bench: where documents go, how alike near duplicates must be, lengths before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import holoviews as hv
import numpy as np

from studio.figures import DROPPED, FAMILY, KEPT, QUIET, _hover, _still

MOST_REASONS = 4
"""Reasons of a step that have a ribbon of their own; the rarer ones share one."""


def flow(steps: Sequence[Mapping[str, Any]]) -> Any:
    """Documents from step to step as a Sankey diagram, and what falls out at each, by reason."""
    edges: list[tuple[str, str, float, str, str]] = []
    shown = [step for step in steps if step["documents_in"] or step["documents_out"]]
    names = _named([str(step["step"]).replace("_", " ") for step in shown])
    for place, (step, name) in enumerate(zip(shown, names, strict=True)):
        following = names[place + 1] if place + 1 < len(names) else "kept"
        if not place:
            edges.append(("read", name, step["documents_in"], "goes on", KEPT))
        if step["documents_out"]:
            edges.append((name, following, step["documents_out"], "goes on", KEPT))
        found = sorted(step["reasons"].items(), key=lambda pair: -pair[1])
        rest = sum(count for _, count in found[MOST_REASONS:])
        for reason, count in [*found[:MOST_REASONS], *([("other reasons", rest)] if rest else [])]:
            edges.append((name, f"{name}: {reason}", count, "dropped", DROPPED))
    dims = [hv.Dimension("documents"), "what", "colour"]
    picture = hv.Sankey(edges, ["from", "to"], dims).opts(
        edge_color="colour", edge_alpha=0.45, edge_line_alpha=0, node_color=QUIET, node_line_alpha=0, node_width=10,
        node_padding=14, label_position="right", label_text_font_size="9pt", show_values=False)
    drops = sum(1 for edge in edges if edge[3] == "dropped")
    return picture.opts(responsive=True, width=None, height=max(220, 60 + 34 * drops), toolbar=None,
                        default_tools=["hover"], hooks=[_quiet])


def _quiet(plot: Any, _: Any) -> None:
    """Words and background that read in both themes."""
    plot.state.background_fill_alpha = plot.state.border_fill_alpha = 0
    plot.state.outline_line_color = None
    plot.handles["text_1_glyph"].update(text_color=QUIET, text_font=FAMILY)


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
