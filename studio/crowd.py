"""Crowd: one metric of any number of runs in one figure, in which one glyph holds all curves.

HoloViews makes the figure; its sources take the columns from then on (see `live`). A hundred curves in glyphs of their
own take seconds to make and to draw: in one they take milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import holoviews as hv
import numpy as np
import panel as pn
from bokeh.events import RangesUpdate, Reset
from bokeh.models import DataRange1d, HoverTool, LinearScale, LogScale, NumeralTickFormatter, PrintfTickFormatter
from panel.viewable import Viewable, Viewer

from studio.live import along
from studio.plots import NOTHING, Columns, averaged, downsample, run_colour
from studio.watch import Feed

AXES = {"Steps": "step", "Tokens": "tokens", "Minutes": "time", "FLOPs": "flops", "kWh": "kwh"}
FORMATS = {"step": "0,0", "tokens": "0.[0]a", "time": "0,0.[0]"}
POINTS_IN_ALL, MOST, FEWEST = 20_000, 1500, 200  # of a screen; a browser pans that many without a stutter
CLOSER, FARTHER = 0.6, 1.7  # so much narrower or wider may a window get before it is drawn anew
FAINT = 6       # so many runs show what was measured behind the average
DOTTED = 3_000  # so many points are marked


class Crowd(Viewer):
    """Curves of one metric. Call `update` at each tick."""

    def __init__(self, *, height: int = 400, **params: Any) -> None:
        super().__init__(**params)
        self.height = height
        self.figure: Any = None
        self.window: tuple[float, float] | None = None
        self.drawn = 0  # curves in sight
        self._parts: dict[str, Any] = {}
        self._axis = ""
        self._mounted: Any = None
        self._seen: Any = None
        self._columns: dict[str, tuple[Any, Columns, Columns]] = {}
        self._view = pn.Column(sizing_mode="stretch_width", margin=0)

    def __panel__(self) -> Viewable:
        return self._view

    def update(self, feeds: Sequence[Feed], metric: str, *, axis: str = "step", smoothing: float = 0.0,
               log: bool = False, flops: Mapping[str, float] | None = None) -> None:
        """Show a metric of the feeds, whatever of it is there; `flops` is what a token of each run costs."""
        flops = flops or {}
        here = [feed for feed in feeds if feed.ready and metric in feed.series]
        seen = (metric, axis, smoothing, log, self.window, axis == "flops" and len(flops),
                [(feed.run.name, feed.version, feed.anew) for feed in here])
        if seen == self._seen:
            return
        self.prepare(axis)
        self._seen = (*seen[:4], self.window, *seen[5:])
        self._scale(log, metric)
        points = int(np.clip(POINTS_IN_ALL // max(1, len(here)), FEWEST, MOST))
        rows = []
        places = {feed.run.name: place for place, feed in enumerate(feeds)}
        for feed in here:
            name = feed.run.name
            key = (metric, axis, smoothing, self.window, feed.version, feed.anew, points,
                   axis == "flops" and flops.get(name))
            if self._columns.get(name, (None,))[0] != key:
                self._columns[name] = (key, *self._of(feed, metric, axis, smoothing, points, flops.get(name, 0.0),
                                                      len(here) <= FAINT))
            _, measured, shown = self._columns[name]
            if len(shown[0]):
                rows.append((name, run_colour(places[name]), measured, shown))
        self.drawn = len(rows)
        self._put("bold", [(name, colour, *shown) for name, colour, _, shown in rows])
        self._put("faint", [(name, colour, *measured) for name, colour, measured, _ in rows]
                  if smoothing and len(here) <= FAINT else [])
        few = sum(len(shown[0]) for *_, shown in rows) <= DOTTED and not smoothing
        self._dots([(name, colour, *shown) for name, colour, _, shown in rows] if few else [])
        if self._mounted is not self.figure:  # replaced in one go: emptied first, the browser keeps the old one
            self._mounted = self.figure
            self._view[:] = [pn.pane.Bokeh(self.figure, sizing_mode="stretch_width", height=self.height, margin=0)]

    def prepare(self, axis: str = "step") -> None:
        """Make the figure of an axis, if it isn't made."""
        if axis != self._axis:
            self._axis, self.window = axis, None  # a window in steps is none in minutes
            self._build()

    def _of(self, feed: Feed, metric: str, axis: str, smoothing: float, points: int,
            flops: float, faint: bool) -> tuple[Columns, Columns]:
        """What stands faintly behind (what was measured) and the line, inside the window and half as far again to
        both sides, for panning."""
        series = feed.series[metric]
        x, y = where(feed, metric, axis, flops), series.values
        window = None
        if self.window is not None:
            margin = (self.window[1] - self.window[0]) / 2
            window, points = (self.window[0] - margin, self.window[1] + margin), 2 * points
        if not smoothing:
            return NOTHING, downsample(x, y, window, points)
        return (downsample(x, y, window, points) if faint else NOTHING,
                downsample(*averaged(x, y, smoothing, window), window, points))

    # Figure ------------------------------------------------------------------------------------------

    def _build(self) -> None:
        still = [(0.0, 0.0), (1.0, 1.0)]  # HoloViews makes no glyph of nothing
        overlay = hv.Overlay([
            hv.Path([still], ["x", "y"]).opts(line_width=1, alpha=0.25),
            hv.Path([still], ["x", "y"]).opts(line_width=2, alpha=0.9),
            hv.Scatter(still, "x", "y").opts(size=5)]).opts(hv.opts.Overlay(
                responsive=True, height=self.height, show_legend=False, show_grid=True, shared_axes=False,
                default_tools=[], tools=["xpan", "xwheel_zoom", "xbox_zoom", "reset", "save"],
                active_tools=["xbox_zoom"], toolbar="above", gridstyle={"grid_line_alpha": 0.35}, xlabel="", ylabel=""))
        plot = hv.renderer("bokeh").get_plot(overlay)
        self.figure = plot.state
        parts = [part.handles for part in plot.subplots.values()]
        self._parts = dict(zip(("faint", "bold", "dots"), parts, strict=True))
        for part in parts:
            glyph = part["glyph"]
            glyph.line_color = {"field": "colour"}
            if hasattr(glyph, "fill_color"):
                glyph.fill_color = {"field": "colour"}
        self._put("faint", [])
        self._put("bold", [])
        self._dots([])
        figure = self.figure
        figure.toolbar.logo = None
        figure.title.visible = False
        figure.outline_line_color = None
        figure.min_border_left = 56
        figure.x_range, figure.y_range = DataRange1d(range_padding=0.02), DataRange1d(range_padding=0.06)
        figure.xaxis[0].formatter = (NumeralTickFormatter(format=FORMATS[self._axis]) if self._axis in FORMATS
                                     else PrintfTickFormatter(format="%.2g"))
        figure.xaxis[0].ticker.desired_num_ticks = 8
        figure.on_event(RangesUpdate, self._zoomed)
        figure.on_event(Reset, lambda event: self._look(None))
        figure.add_tools(HoverTool(renderers=[self._parts["bold"]["glyph_renderer"]], line_policy="nearest",
                                   visible=False, tooltips=[("", "@name"), ("about", "$y{0.[0000]}"),
                                                            ("at", "$x{0,0.[0]}")]))

    def _put(self, part: str, rows: Sequence[tuple[str, str, np.ndarray, np.ndarray]]) -> None:
        self._parts[part]["cds"].data = {"xs": [row[2] for row in rows], "ys": [row[3] for row in rows],
                                         "name": [row[0] for row in rows], "colour": [row[1] for row in rows]}

    def _dots(self, rows: Sequence[tuple[str, str, np.ndarray, np.ndarray]]) -> None:
        self._parts["dots"]["cds"].data = {
            "x": np.concatenate([row[2] for row in rows]) if rows else np.empty(0),
            "y": np.concatenate([row[3] for row in rows]) if rows else np.empty(0),
            "colour": [row[1] for row in rows for _ in row[2]]}

    def _scale(self, log: bool, metric: str) -> None:
        if not isinstance(self.figure.y_scale, LogScale if log else LinearScale):
            self.figure.y_scale = LogScale() if log else LinearScale()
        self.figure.yaxis[0].axis_label = metric
        small = metric in ("train/lr", "energy/kwh", "energy/cost", "energy/co2e_kg")
        self.figure.yaxis[0].formatter = (PrintfTickFormatter(format="%.2g") if small
                                          else NumeralTickFormatter(format="0.[000]a"))

    def _zoomed(self, event: RangesUpdate) -> None:
        """Draw anew what is looked at when it leaves what was drawn, or when it is much closer or farther."""
        if event.x0 is None or event.x1 is None:
            return
        ends = [(column[0], column[-1]) for column in self._parts["bold"]["cds"].data["xs"] if len(column)]
        if not ends:
            return
        first, last = min(a for a, _ in ends), max(b for _, b in ends)
        width = self.window[1] - self.window[0] if self.window else last - first
        covered = self.window is None or (event.x0 >= first and event.x1 <= last)
        if not covered or not CLOSER <= (event.x1 - event.x0) / max(1e-12, width) <= FARTHER:
            self._look((event.x0, event.x1))

    def _look(self, window: tuple[float, float] | None) -> None:
        self.window = window  # the next tick draws it


def where(feed: Feed, metric: str, axis: str, flops: float) -> np.ndarray:
    """Where each value of a metric stands on an axis; not a number where that is not known.

    FLOPs are the model's for each token seen, forward and backward; kWh are read between two readings of the meter.
    """
    series = feed.series[metric]
    if axis == "flops":
        return series.axis("tokens") * flops if flops else np.full(series.length, np.nan)
    if axis != "kwh":
        return along(series, axis, feed)
    read = feed.series.get("energy/kwh")
    if read is None or not read.length:
        return np.full(series.length, np.nan)
    begun = min(each.axis("time")[0] for each in feed.series.values() if each.length)
    return np.interp(series.axis("time"), [begun, *read.axis("time")], [0.0, *read.values])
