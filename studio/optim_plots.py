"""Pictures of the Optimizer page: which parameters are treated alike, and the curve of a range test."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import holoviews as hv

from engine.model.shapes import Shape
from engine.optim import OPTIMIZERS, Optimizer
from engine.optim.groups import Group, assign
from engine.optim.lr_range import Curve
from studio.figures import BAD, EMPTY, FONT, GOOD, KEPT, QUIET, SERIES, _hover, _still
from studio.labels import label

COLOURS = SERIES[:7]
FROZEN = "#6b7280"


def shares(optim: Optimizer, parameters: dict[str, Shape]) -> list[tuple[str, int, str]]:
    """Each group of parameters in words, with how many numbers are in it and its colour."""
    many = len({group.rule for group in assign(optim, parameters) if group.rule}) > 1
    found = []
    for place, group in enumerate(sorted(assign(optim, parameters), key=lambda group: not group.lr_factor)):
        count = sum(math.prod(parameters[name]) for name in group.names)
        colour = COLOURS[place % len(COLOURS)] if group.lr_factor else FROZEN
        found.append((_words(group, optim, many), count, colour))
    return found


def _words(group: Group, optim: Optimizer, many: bool) -> str:
    if not group.lr_factor:
        return "frozen"
    parts = [label(group.rule)] if many and group.rule in OPTIMIZERS else []
    parts.append("weight decay" if group.decays and optim.weight_decay else "no weight decay")
    if group.lr_factor != 1:
        parts.append(f"learning rate × {group.lr_factor:g}")
    return ", ".join(parts)


def groups(found: Sequence[tuple[str, int, str]]) -> Any:
    """The groups end to end, each as wide as its share of all parameters."""
    total, left, bars = sum(count for _, count, _ in found) or 1, 0.0, []
    for words, count, colour in found:
        right = left + count / total
        bars.append((left, 0.2, right, 0.8, words, f"{count:,}", f"{count / total:.2%}", colour))
        left = right
    picture = hv.Rectangles(bars, ["x0", "y0", "x1", "y1"], ["group", "count", "share", "colour"]).opts(
        color="colour", line_color="white", line_alpha=0.5,
        tools=_hover(("group", "@group"), ("parameters", "@count"), ("of all", "@share")))
    return _still(hv.Overlay([picture]), 64, **EMPTY, xlim=(0, 1), ylim=(0, 1))


def lr_range(curve: Curve) -> Any:
    """The loss of a range test over the learning rate, with the rate that is suggested."""
    top, bottom = max(curve.losses[0] * 1.1, min(curve.smooth) * 1.6), min(curve.losses)
    room = (top - bottom) * 0.08
    raw = hv.Curve((curve.rates, curve.losses), "rate", "loss").opts(color=KEPT, alpha=0.3, line_width=1.2)
    smooth = hv.Curve((curve.rates, curve.smooth), "rate", "loss").opts(
        color=KEPT, line_width=2.4, tools=_hover(("learning rate", "@rate{0.00e+0}"), ("smoothed", "@loss{0.000}")))
    marks = [] if curve.suggestion() is None else [
        (curve.suggestion(), f"take {curve.suggestion():g}", GOOD),
        (curve.rates[-1], f"ended {curve.rates[-1]:.2g}", BAD)]
    lines = hv.Segments([(x, bottom - room, x, top - room, colour) for x, _, colour in marks],
                        ["x0", "y0", "x1", "y1"], "colour").opts(color="colour", line_width=2, line_dash="dashed")
    words = hv.Labels([(x, top - room / 3, text) for x, text, _ in marks], ["x", "y"], "text").opts(
        text_color=QUIET, text_font=FONT, text_font_size="9.5pt")
    left, right = curve.rates[0], max(curve.rates[-1] * 8, curve.rates[0] * 10)  # room for the words at the end
    decades = range(math.floor(math.log10(left)), math.ceil(math.log10(right)) + 1)
    ticks = [(10.0**power, f"{10.0**power:g}") for power in decades if left / 1.001 <= 10.0**power <= right * 1.001]
    return _still(raw * smooth * lines * words, 260, logx=True, show_grid=True, xlabel="learning rate", ylabel="loss",
                  xlim=(left, right), ylim=(bottom - room, top), xticks=ticks)
