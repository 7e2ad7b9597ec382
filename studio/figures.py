"""Figures: the still pictures, as pure functions from data to HoloViews. Those that stream are in `live`.

Nothing here names a colour of the page: axes, grid and background follow the theme by themselves, and
the marks are of one brightness that reads on both. Names that stem from a person's files are data to
the canvas and never markup.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import holoviews as hv
import numpy as np
from bokeh.core.properties import value

from studio.texts import step_name

if "bokeh" not in hv.Store.renderers:
    hv.extension("bokeh", logo=False)

PARTS = {"embedding": "#0f8577", "positions": "#7a8a12", "attention": "#5b6ee1", "mlp": "#c2570c",
         "norms": "#6b7280", "head": "#2a86c7"}
KEPT, DROPPED, QUIET, GOOD, BAD = "#0f8577", "#c9493a", "#7d8a87", "#1f9256", "#d0443a"
MOST_CASES = 500    # of a proof that are drawn
SERIES = ("#0f8577", "#c2570c", "#5b6ee1", "#b0388f", "#7a8a12", "#2a86c7", "#a3591d", "#6b7280")
FAMILY = "Roboto, Arial, sans-serif"
FONT = value(FAMILY)
EMPTY = {"xaxis": None, "yaxis": None, "show_grid": False}


def _still(element: Any, height: int, **options: Any) -> Any:
    """A figure that fills its width and has no tools: it is looked at, not worked with."""
    common = {"shared_axes": False, "responsive": True, "height": height, "toolbar": None, "default_tools": [],
              "show_legend": False, "hooks": [_dress]}
    return element.opts(hv.opts.Overlay(**{**common, **options}))


def _dress(plot: Any, _: Any) -> None:
    """Tones that read on both backgrounds, for a figure that is drawn where the page's theme does not reach it."""
    figure = plot.state
    figure.outline_line_color = None
    for axis in (*figure.xaxis, *figure.yaxis):
        axis.update(major_label_text_color=QUIET, axis_label_text_color=QUIET, axis_label_text_font_style="normal",
                    axis_label_text_font=FAMILY, major_label_text_font=FAMILY, axis_label_text_font_size="13px",
                    major_label_text_font_size="12px", axis_line_color=None,
                    major_tick_line_color=None, minor_tick_line_color=None)
    for grid in figure.grid:
        grid.grid_line_alpha = 0.4
    figure.background_fill_alpha = figure.border_fill_alpha = 0


def _hover(*rows: tuple[str, str]) -> list[Any]:
    from bokeh.models import HoverTool

    return [HoverTool(tooltips=list(rows), point_policy="follow_mouse")]


def number(value: float) -> str:
    """A count as people write it: 1,234 below ten thousand, then 12.3k, 4.5M, 6.7B."""
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if letter == 'k' else size):.3g}{letter}"
    return f"{value:,.0f}"


def drawn(value: Any) -> float:
    """A number that a figure can place; ValueError for what is none, as damaged files have it."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e100:
        raise ValueError(value)
    return float(value)


def byte_size(num_bytes: float) -> str:
    """Bytes in the binary unit that fits."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(num_bytes) < 1024 or unit == "TiB":
            return f"{num_bytes:,.0f} {unit}" if unit == "B" else f"{num_bytes:,.3g} {unit}"
        num_bytes /= 1024
    raise AssertionError


# Corpus -------------------------------------------------------------------------------------------------

def waterfall(steps: Sequence[Mapping[str, Any]], of: str = "documents") -> Any:
    """What each step of the ledger let through: `of` "documents" or "bytes", from what was read to what was kept."""
    write = byte_size if of == "bytes" else number
    names = [step_name(str(step["step"])) for step in steps]
    first = steps[0][f"{of}_in"] if steps else 0
    rows = [(0, first, "read", first, first)]
    rows += [(i + 1, first, name, step[f"{of}_out"], step[f"{of}_in"])
             for i, (step, name) in enumerate(zip(steps, names, strict=True))]
    widest = max([1, *(max(row[3], row[4]) for row in rows)])
    kept, gone, words = [], [], []
    for place, _, name, out, came in rows:
        share = f"{out / came:.1%}" if came else "nothing"
        kept.append((0, -place - 0.36, out, -place + 0.36, name, write(out), share))
        if out < came:
            gone.append((out, -place - 0.36, came, -place + 0.36, name, write(came - out), f"{1 - out / came:.1%}"))
        change = "" if out == came else f"  {'−' if out < came else '+'}{write(abs(out - came))}"
        words.append((max(out, came) + widest * 0.012, -place, write(out) + change))
    dims = ["x0", "y0", "x1", "y1"]
    picture = (hv.Rectangles(kept, dims, ["step", "amount", "share"]).opts(
                   color=KEPT, line_alpha=0, tools=_hover(("step", "@step"), ("goes on", "@amount"),
                                                          ("of what came", "@share")))
               * hv.Rectangles(gone, dims, ["step", "amount", "share"]).opts(
                   color=DROPPED, alpha=0.55, line_alpha=0,
                   tools=_hover(("step", "@step"), ("dropped", "@amount"), ("of what came", "@share")))
               * hv.Labels(words, ["x", "y"], "text").opts(text_color=QUIET, text_align="left", text_font=FONT,
                                                           text_font_size="9.5pt"))
    return _still(picture, 34 * len(rows) + 12, xaxis=None, xlabel="", ylabel="", show_grid=False,
                  xlim=(0, widest * 1.55), ylim=(-len(rows) + 0.45, 0.55),
                  yticks=[(-row[0], row[2]) for row in rows])


def histogram(edges: Sequence[float], counts: Sequence[int], *, of: str = "characters",
              marks: Mapping[int, str] | None = None, colour: str = KEPT) -> Any:
    """How long documents are, on a logarithmic axis, with some lengths marked by a line and words."""
    heights = list(counts)
    top = max([1, *heights])
    # A logarithmic axis has no zero.
    ends = [max(0.5, float(edge)) for edge in edges]
    bars = [(left, 0, right, count, f"{edges[i]:,.0f} to {edges[i + 1]:,.0f}", f"{count:,}")
            for i, (left, right, count) in enumerate(zip(ends, ends[1:], heights, strict=False)) if right > left]
    full = [place for place, bar in enumerate(bars) if bar[3]]
    bars = bars[full[0]:full[-1] + 1] if full else []  # no empty bars before the first and after the last
    picture = hv.Rectangles(bars, ["x0", "y0", "x1", "y1"], ["length", "documents"]).opts(
        color=colour, alpha=0.85, line_color="white", line_alpha=0.35,
        tools=_hover((of, "@length"), ("documents", "@documents")))
    rows = [(x, top * 1.10, words) for x, words in sorted((marks or {}).items())]
    lines = hv.Segments([(x, 0, x, top * 1.06) for x, _, _ in rows], ["x0", "y0", "x1", "y1"]).opts(
        color=QUIET, line_dash="dashed", line_width=1.4)
    labels = hv.Labels(rows, ["x", "y"], "text").opts(text_color=QUIET, text_font=FONT, text_font_size="9pt",
                                                      text_align="center")
    left, right = (min(b[0] for b in bars), max(b[2] for b in bars)) if bars else (1, 10)
    if rows:
        left, right = min(left, rows[0][0] * 0.8), max(right, rows[-1][0] * 1.35)
    round_ones = [2**p for p in range(60)] if of == "tokens" else [m * 10**p for p in range(15) for m in (1, 2, 5)]
    places = [place for place in round_ones if left <= place <= right] or [left, right]
    ticks = [(place, number(place)) for place in places[::math.ceil(len(places) / 10)]]
    return _still(picture * lines * labels, 240, logx=True, xlabel=f"{of} in a document", ylabel="documents",
                  xlim=(left, right), ylim=(0, top * (1.2 if rows else 1.05)), show_grid=False, xticks=ticks)


def vocabularies(rows: Sequence[tuple[str, int, float, bool]]) -> Any:
    """Bytes per token against the vocabulary's size: (name, size, bytes per token, trained here); the trained ones
    are joined by a line."""
    points = [(size, held, name, figure, KEPT if own else SERIES[1]) for name, size, held, own in rows
              for figure in [f"{held:.2f}"]]
    line = hv.Curve(sorted((size, held) for _, size, held, own in rows if own), "size", "bytes").opts(
        color=KEPT, line_width=2)
    dots = hv.Points(points, ["size", "bytes"], ["tokenizer", "figure", "colour"]).opts(
        color="colour", size=10, tools=_hover(("tokenizer", "@tokenizer"), ("bytes per token", "@figure")))
    words = hv.Labels([(size, held, f"{name.rpartition('/')[2]}: {held:.2f}") for name, size, held, _ in rows],
                      ["size", "bytes"], "text").opts(text_color=QUIET, text_font=FONT, text_font_size="9pt",
                                                      yoffset=0.05 * max(row[2] for row in rows), text_align="center")
    sizes, heights = [row[1] for row in rows], [row[2] for row in rows]
    return _still(line * dots * words, 240, logx=True, xlabel="tokens in the vocabulary", ylabel="bytes per token",
                  xlim=(min(sizes) / 1.5, max(sizes) * 1.5), ylim=(min(heights) * 0.85, max(heights) * 1.15),
                  xticks=[(2**p, number(2**p)) for p in range(8, 22)])


# Model --------------------------------------------------------------------------------------------------

def parameters(tree: Mapping[str, Any]) -> Any:
    """Where the parameters sit (`engine.model.estimate.tree`): every area is its share of them."""
    blocks = tree.get("blocks", {})
    columns = [(name, {name: tree[name]}) for name in ("embedding", "positions") if name in tree]
    columns += [(name, dict(inner)) for name, inner in blocks.items() if name != "norms"]
    norms = {**blocks.get("norms", {}), "last_norm": tree.get("norm", 0)}
    columns += [("norms", norms)] + ([("head", {"head": tree["head"]})] if "head" in tree else [])
    total = sum(sum(inner.values()) for _, inner in columns) or 1
    cells, words, left = [], [], 0.0
    for part, inner in columns:
        whole, below = sum(inner.values()), 1.0
        right = left + whole / total
        for name, count in inner.items():
            if not count:
                continue
            above, below = below, below - count / whole
            cells.append((left, below, right, above, part, name.replace("_", " "), f"{count:,}",
                          f"{count / total:.1%}"))
            if right - left > _room(name) and above - below > 0.12 and name != part:
                words.append(((left + right) / 2, (above + below) / 2, name.replace("_", " ")))
        if right - left > _room(part) and len(inner) == 1:
            words.append(((left + right) / 2, 0.5, part))
        left = right
    boxes = hv.Rectangles(cells, ["x0", "y0", "x1", "y1"], ["part", "name", "count", "share"]).opts(
        color=hv.dim("part").categorize(PARTS, default=QUIET), line_color="white", line_width=1.5, line_alpha=0.7,
        tools=_hover(("part", "@part"), ("matrix", "@name"), ("parameters", "@count"), ("of all", "@share")))
    labels = hv.Labels(words, ["x", "y"], "text").opts(text_color="white", text_font=FONT, text_font_size="10pt")
    return _still(boxes * labels, 210, **EMPTY, xlim=(0, 1), ylim=(0, 1))


def _room(word: str) -> float:
    """The share of a figure's width, about 400 pixels, that a word in it takes."""
    return 0.02 * len(word) + 0.01


def memory(parts: Mapping[str, float], available: float) -> Any:
    """The parts of an estimate in bytes, end to end, against what this machine has free."""
    left, bars = 0.0, []
    total = sum(parts.values()) or 1
    for i, (name, amount) in enumerate(parts.items()):
        bars.append((left, 0.2, left + amount, 0.8, name, byte_size(amount), f"{amount / total:.0%}",
                     SERIES[i % len(SERIES)]))
        left += amount
    picture = hv.Rectangles(bars, ["x0", "y0", "x1", "y1"], ["part", "amount", "share", "colour"]).opts(
        color="colour", line_color="white", line_alpha=0.5,
        tools=_hover(("part", "@part"), ("estimated", "@amount"), ("of all", "@share")))
    shown = available < 4 * total
    limit = hv.Segments([(available, 0.05, available, 0.95)] if shown else [], ["x0", "y0", "x1", "y1"]).opts(
        color=BAD if total > available else QUIET, line_width=2, line_dash="dashed")
    right = max(total, available if shown else 0) * 1.02
    return _still(picture * limit, 64, **EMPTY, xlim=(0, right), ylim=(0, 1))


# Optimizer ----------------------------------------------------------------------------------------------

def learning_rate(factor: Callable[[int, int], float], lr: float, max_steps: int, points: int = 400) -> Any:
    """The learning rate over the run: `lr` times a schedule's `factor(step, max_steps)`."""
    steps = np.unique(np.linspace(0, max(0, max_steps - 1), min(points, max_steps)).round().astype(int))
    rates = np.array([lr * factor(int(step), max_steps) for step in steps])
    curve = hv.Curve((steps, rates), "step", "learning rate").opts(
        color=KEPT, line_width=2.5, tools=_hover(("step", "@step"), ("learning rate", "@{learning_rate}{0.000e+0}")))
    return _still(hv.Area(curve).opts(color=KEPT, alpha=0.12, line_alpha=0) * curve, 280, show_grid=True, xlabel="step",
                  ylabel="learning rate", ylim=(0, float(rates.max()) * 1.08), yformatter="%.2g",
                  xlim=(0, max(1, max_steps - 1)))


# Evaluate and export ------------------------------------------------------------------------------------

def loss_by_position(series: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> Any:
    """Loss against the place in the context, a line for each report: {name: (places, losses in nats)}."""
    curves = [hv.Curve((list(places), list(losses)), "place", "loss", label=name).opts(
                  color=SERIES[i % len(SERIES)], line_width=2.2,
                  tools=_hover(("place", "@place"), ("loss", "@loss{0.000}")))
              for i, (name, (places, losses)) in enumerate(series.items())]
    if not curves:
        return _still(hv.Overlay([hv.Curve([], "place", "loss")]), 260)
    last = max(max(places, default=1) for places, _ in series.values())
    return _still(hv.Overlay(curves), 280, logx=True, title="", show_grid=True, xlabel="tokens before the one to guess",
                  ylabel="loss (nats a token)", xticks=[(2**p, number(2**p)) for p in range(24) if 2**p <= last],
                  show_legend=len(curves) > 1, legend_position="top_right")


def parity(cases: Sequence[Mapping[str, Any]], tolerance: float) -> Any:
    """The largest difference of each case on a logarithmic axis, against the tolerance.

    Raises ValueError for a tolerance that is no number above 0, and for more cases than a proof has.
    """
    smallest = 1e-9  # a logarithmic axis has no zero: an exact case stands at its edge
    if drawn(tolerance) <= 0 or len(cases) > MOST_CASES:
        raise ValueError(tolerance)
    known = [case["max_difference"] if case["max_difference"] is not None else float("nan") for case in cases]
    rows = [(max(smallest, drawn(value)) if np.isfinite(value) else 1e3, -i, str(case["name"]),
             f"{value:.2g}" if np.isfinite(value) else "no number", GOOD if case["passed"] else BAD)
            for i, (case, value) in enumerate(zip(cases, known, strict=True))]
    left = min([tolerance / 100, *(row[0] for row in rows)]) / 3
    right = max([tolerance * 10, *(row[0] for row in rows)]) * 6
    stems = hv.Segments([(left, row[1], row[0], row[1], row[4]) for row in rows], ["x0", "y0", "x1", "y1"],
                        "colour").opts(
        color="colour", alpha=0.45, line_width=3)
    points = hv.Points(rows, ["difference", "place"], ["case", "figure", "colour"]).opts(
        color="colour", size=11, tools=_hover(("case", "@case"), ("largest difference", "@figure")))
    words = hv.Labels([(row[0] * 1.25, row[1], row[3]) for row in rows], ["x", "y"], "text").opts(
        text_color=QUIET, text_align="left", text_font=FONT, text_font_size="9.5pt")
    limit = hv.Segments([(tolerance, -len(rows) + 0.4, tolerance, 0.6)], ["x0", "y0", "x1", "y1"]).opts(
        color=QUIET, line_width=1.6, line_dash="dashed")
    named = hv.Labels([(tolerance, 0.86, f"tolerance {tolerance:g}")], ["x", "y"], "text").opts(
        text_color=QUIET, text_font=FONT, text_font_size="9pt")
    return _still(stems * points * words * limit * named, 34 * len(rows) + 84, logx=True, ylabel="", show_grid=False,
                  xlabel="largest difference of a logit", xlim=(left, right), ylim=(-len(rows) + 0.4, 1.25),
                  **({"yticks": [(row[1], row[2]) for row in rows]} if rows else {"yaxis": None}))
