"""Live: figures that HoloViews made, fed through their own sources, so that a zoom survives every new point.

A redraw by HoloViews costs tens of milliseconds and forgets the zoom; new columns in the source of
the figure that it made cost one. The window that is looked at is downsampled anew when it changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import holoviews as hv
import numpy as np
import panel as pn
from bokeh.events import RangesUpdate, Reset
from bokeh.models import DataRange1d, HoverTool, LinearScale, LogScale, NumeralTickFormatter, PrintfTickFormatter
from panel.viewable import Viewable, Viewer

from studio.elapsed import elapsed
from studio.plots import NOTHING, Columns, Smooth, curves, downsample, run_colour
from studio.theme import VALIDATION_COLOUR
from studio.watch import Feed, Series

AXES = {"Steps": "step", "Tokens": "tokens", "Minutes": "time"}
FORMATS = {"step": "0,0", "tokens": "0.[0]a", "time": "0.[0]"}


@dataclass(frozen=True)
class Metric:
    """One metric of a figure. `smooth` draws its average over a faint line, `mark` its points."""

    name: str
    label: str
    smooth: bool = False
    mark: bool = False


LOSS = (Metric("train/loss", "train", smooth=True), Metric("val/loss", "validation", mark=True))


class Live(Viewer):
    """One figure of some metrics of some runs. Call `update` at each tick.

    With a `leader` it has no tools of its own, and looks at the window that its leader looks at.
    """

    def __init__(self, metrics: Sequence[Metric], ylabel: str, *, height: int = 320, number: str = "0.[000]",
                 leader: Live | None = None, **params: Any) -> None:
        super().__init__(**params)
        self.metrics, self.ylabel, self.height, self.number = tuple(metrics), ylabel, height, number
        self.leader = leader
        self.window: tuple[float, float] | None = None
        self.sources: list[Any] = []
        self.figure: Any = None
        self._mounted: Any = None
        self._runs: list[str] = []
        self._seen: Any = None
        self._averages: dict[tuple[str, str, int, float], Smooth] = {}
        self._view = pn.Column(sizing_mode="stretch_width", margin=0)

    def __panel__(self) -> Viewable:
        return self._view

    def update(self, feeds: Sequence[Feed], *, axis: str = "step", smoothing: float = 0.0, log: bool = False) -> None:
        """Show what the feeds hold now; the first is the run looked at, the others are compared with it."""
        names = [feed.run.name for feed in feeds]
        if self.leader is not None:
            self.window = self.leader.window
        if self.figure is None and not any(metric.name in feed.series for feed in feeds for metric in self.metrics):
            return
        if names != self._runs or self.figure is None:
            self._build(names, log)
        seen = (axis, smoothing, log, self.window, [(feed.version, feed.anew) for feed in feeds])
        if seen == self._seen:
            return
        if self._seen is not None and axis != self._seen[0]:
            self.window = None  # a window in steps is none in minutes
            self._build(names, log)
            seen = (axis, smoothing, log, None, seen[4])
        self._scale(log)
        self.figure.xaxis[0].formatter = NumeralTickFormatter(format=FORMATS[axis])
        drawn = [columns for feed in feeds for metric in self.metrics
                 for columns in self._drawn(feed, metric, axis, smoothing)]
        for source, (x, y) in zip(self.sources, drawn, strict=True):
            if len(x) or len(source.data["x"]):
                source.data = {"x": x, "y": y}
        self._seen = seen
        if self._mounted is not self.figure:  # only now, since a figure that is shown empty has no ranges yet
            self._mounted = self.figure
            self._view[:] = [pn.pane.Bokeh(self.figure, sizing_mode="stretch_width", height=self.height, margin=0)]

    @property
    def empty(self) -> bool:
        """Whether there is nothing to see yet."""
        return not any(len(source.data["x"]) for source in self.sources)

    # Figure ------------------------------------------------------------------------------------------

    def _build(self, names: list[str], log: bool) -> None:
        self._runs, self._seen = names, None
        lines: dict[str, dict[str, Any]] = {}
        for place, name in enumerate(names):
            for metric in self.metrics:
                alone = len(names) == 1
                colour = VALIDATION_COLOUR if metric.mark and alone else run_colour(place)
                style = {"color": colour, "dash": "dashed" if metric.mark and not alone else "solid"}
                if metric.smooth:
                    lines[f"{name} {metric.label} raw"] = {**style, "alpha": 0.28, "width": 1.0}
                lines[f"{name} {metric.label}"] = {**style, "mark": metric.mark, "width": 2.0}
        plot = hv.renderer("bokeh").get_plot(curves(lines, xlabel="", ylabel=self.ylabel, height=self.height, log=log))
        self.figure = plot.state
        parts = list(plot.subplots.values())
        self.sources = [part.handles["cds"] for part in parts]
        self._dress()
        renderers = [part.handles["glyph_renderer"] for part in parts]
        bold = []
        for label, renderer in zip(self._labels(lines), renderers, strict=True):
            renderer.name = label
            if not label.endswith(" raw"):
                bold.append(renderer)
        self.figure.add_tools(HoverTool(renderers=bold, line_policy="nearest", visible=False, tooltips=[
            ("", "$name"), (self.ylabel or "value", "@y" if "%" in self.number else f"@y{{{self.number}}}"),
            ("at", "@x{0,0.[0]}")]))

    def _dress(self) -> None:
        figure = self.figure
        figure.toolbar.logo = None
        figure.title.visible = False
        figure.y_range = DataRange1d(range_padding=0.06)
        figure.yaxis[0].formatter = (PrintfTickFormatter(format=self.number) if "%" in self.number
                                     else NumeralTickFormatter(format=self.number))
        figure.yaxis[0].ticker.desired_num_ticks = 6 if self.leader is None else 4
        figure.xaxis[0].ticker.desired_num_ticks = 8 if self.leader is None else 4
        figure.min_border_left = 56
        figure.outline_line_color = None
        if self.leader is None:
            figure.x_range = DataRange1d(range_padding=0.02)
            figure.on_event(RangesUpdate, self._zoomed)
            figure.on_event(Reset, lambda event: self._look(None))
        else:
            figure.x_range = self.leader.figure.x_range
            figure.toolbar_location = None
            figure.toolbar.tools = []

    @staticmethod
    def _labels(lines: dict[str, dict[str, Any]]) -> list[str]:
        """The label of each part of the overlay: a marked line is two."""
        return [name for name, line in lines.items() for _ in range(2 if line.get("mark") else 1)]

    def _scale(self, log: bool) -> None:
        wanted = LogScale if log else LinearScale
        if not isinstance(self.figure.y_scale, wanted):
            self.figure.y_scale = wanted()

    # Window ------------------------------------------------------------------------------------------

    def _zoomed(self, event: RangesUpdate) -> None:
        if event.x0 is None or event.x1 is None:
            return
        ends = [(source.data["x"][0], source.data["x"][-1]) for source in self.sources if len(source.data["x"])]
        inside = self.window is not None or any(event.x0 > a or event.x1 < b for a, b in ends)
        self._look((event.x0, event.x1) if inside else None)

    def _look(self, window: tuple[float, float] | None) -> None:
        self.window = window  # the next tick draws it

    # Columns -----------------------------------------------------------------------------------------

    def _drawn(self, feed: Feed, metric: Metric, axis: str, smoothing: float) -> list[Columns]:
        """What each part of the overlay shows of one metric."""
        series = feed.series.get(metric.name)
        parts = 2 if metric.smooth or metric.mark else 1
        if series is None or not series.length:
            return [NOTHING] * parts
        x, values = along(series, axis, feed), series.values
        shown = downsample(x, values, self.window)
        if not metric.smooth:
            return [shown] * parts
        if not smoothing:
            return [NOTHING, shown]
        key = (feed.run.name, metric.name, feed.anew, smoothing)
        if key not in self._averages:
            self._averages = {k: v for k, v in self._averages.items() if k[:2] != key[:2]}
            self._averages[key] = Smooth(smoothing)
        return [shown, downsample(x, self._averages[key](values), self.window)]


def along(series: Series, axis: str, feed: Feed) -> np.ndarray:
    """Where each value stands: step, tokens seen, or minutes of training since the first row of the run."""
    where = series.axis(axis)
    if axis != "time":
        return where
    return elapsed(feed, where) / 60
