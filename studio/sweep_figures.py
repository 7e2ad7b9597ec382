"""Figures of a sweep: the best so far, and each trial as a line across its settings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import holoviews as hv

from engine.optim.sweep import Range
from engine.runs.study import Trial
from studio.figures import FONT, KEPT, QUIET, SERIES, _hover, _still

WORST = "#d9a441"


def best_so_far(trials: Sequence[Trial], metric: str) -> Any:
    """What each trial came to, and the lowest of the finished ones up to it."""
    known = [trial for trial in trials if trial.value is not None and trial.over]
    rows = [(trial.number + 1, trial.value, trial.run, trial.state, KEPT if trial.state == "finished" else QUIET)
            for trial in known]
    line, lowest = [], math.inf
    for trial in known:
        if trial.state == "finished":
            lowest = min(lowest, trial.value or math.inf)
        if math.isfinite(lowest):
            line.append((trial.number + 1, lowest))
    dots = hv.Points(rows, ["trial", metric], ["run", "state", "colour"]).opts(
        color="colour", size=8,
        tools=_hover(("run", "@run"), ("state", "@state"), (metric, f"@{{{metric}}}{{0.0000}}")))
    curve = hv.Curve(line, "trial", metric).opts(color=SERIES[1], line_width=2.2, interpolation="steps-post")
    most = max([trial.number + 1 for trial in trials], default=1)
    return _still(curve * dots, 260, show_grid=True, xlabel="trial", ylabel=metric, xlim=(0.5, most + 0.5))


def parallel_coordinates(trials: Sequence[Trial], ranges: Sequence[Range], metric: str) -> Any:
    """Every trial that has a value as a line across the settings' axes, the metric's last; the best are drawn last."""
    known = sorted((t for t in trials if t.over and t.value is not None),
                   key=lambda t: (t.state == "finished", -(t.value or 0.0)))
    axes = [_axis(each, [t.changes.get(each.name) for t in known]) for each in ranges]
    values = [t.value or 0.0 for t in known]
    axes.append((metric, *_scaled(values, log=False)))
    segments = []
    for place, trial in enumerate(known):
        share = place / max(1, len(known) - 1)
        colour = blend(WORST, KEPT, share) if trial.state == "finished" else QUIET
        heights = [axis[1][place] for axis in axes]
        told = ", ".join(f"{name}={_short(value)}" for name, value in trial.changes.items())
        segments += [(x, heights[x], x + 1, heights[x + 1], colour, trial.run, told, f"{trial.value:.4f}",
                      3.0 if place == len(known) - 1 else 1.4) for x in range(len(axes) - 1)]
    lines = hv.Segments(segments, ["x0", "y0", "x1", "y1"], ["colour", "run", "settings", "value", "width"]).opts(
        color="colour", line_width="width", alpha=0.8,
        tools=_hover(("run", "@run"), ("settings", "@settings"), (metric, "@value")))
    stems = hv.Segments([(x, 0, x, 1) for x in range(len(axes))], ["x0", "y0", "x1", "y1"]).opts(
        color=QUIET, line_width=1.5)
    words = [(x, height, text) for x, (_, _, marks) in enumerate(axes) for height, text in marks]
    ends = [(x, 1.06 if height else -0.06, text) for x, height, text in words if height in (0.0, 1.0)]  # off the lines
    style = {"text_color": QUIET, "text_font": FONT, "text_font_size": "9pt"}
    marks = hv.Labels(ends, ["x", "y"], "text").opts(**style, text_align="center") * hv.Labels(
        [word for word in words if word[1] not in (0.0, 1.0)], ["x", "y"], "text").opts(
            **style, text_align="left", xoffset=0.02)
    ticks = [(x, axis[0].removeprefix("train.")) for x, axis in enumerate(axes)]
    return _still(stems * lines * marks, 320, xlabel="", ylabel="", yaxis=None, show_grid=False, xticks=ticks,
                  xlim=(-0.15, len(axes) - 0.65), ylim=(-0.13, 1.13))


def _axis(each: Range, values: Sequence[Any]) -> tuple[str, list[float], list[tuple[float, str]]]:
    if each.kind != "choice":
        return (each.name, *_scaled([float(value) for value in values], log="log" in each.kind,
                                    ends=(each.low, each.high)))
    names = [_short(value) for value in each.values]
    last = max(1, len(names) - 1)
    return (each.name, [names.index(_short(value)) / last for value in values],
            [(place / last, name) for place, name in enumerate(names)])


def _scaled(values: Sequence[float], *, log: bool,
            ends: tuple[float, float] | None = None) -> tuple[list[float], list[tuple[float, str]]]:
    """Values between 0 and 1, and the words for both ends."""
    low, high = ends or (min(values, default=0.0), max(values, default=1.0))

    def scale(value: float) -> float:
        return math.log(value) if log else value

    width = scale(high) - scale(low) or 1.0
    return [(scale(value) - scale(low)) / width for value in values], [(0.0, f"{low:.4g}"), (1.0, f"{high:.4g}")]


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def blend(one: str, other: str, share: float) -> str:
    """A colour between two."""
    pairs = [(int(one[i:i + 2], 16), int(other[i:i + 2], 16)) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in pairs)
