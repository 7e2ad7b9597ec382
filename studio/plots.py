"""Plots of training: pure functions from columns to HoloViews, and what makes 100,000 points light."""

from __future__ import annotations

from typing import Any

import holoviews as hv
import numpy as np
from tsdownsample import MinMaxLTTBDownsampler

from studio.theme import RUN_COLOURS

# A few thousand points don't need WebGL, which a machine without a GPU emulates at a hundred times the cost.
hv.renderer("bokeh").webgl = False

BINS = 4096
POINTS = 1500  # a curve is drawn with no more; a screen has not many more columns

Columns = tuple[np.ndarray, np.ndarray]
NOTHING: Columns = (np.empty(0), np.empty(0))


def _inside(x: np.ndarray, y: np.ndarray, window: tuple[float, float] | None) -> Columns:
    """The finite points inside a window, and one beside each of its edges."""
    good = np.isfinite(x) & np.isfinite(y)
    if not good.all():
        x, y = x[good], y[good]
    if window is not None and len(x):
        first, last = np.searchsorted(x, window[0]), np.searchsorted(x, window[1], side="right")
        x, y = x[max(0, first - 1): last + 1], y[max(0, first - 1): last + 1]
    return x, y


def downsample(x: np.ndarray, y: np.ndarray, window: tuple[float, float] | None = None,
               points: int = POINTS) -> Columns:
    """At most `points` points that look like the whole curve inside a window (MinMaxLTTB, Van Der Donckt et al. 2023).

    One point beside each edge of the window is kept, so that the line runs out of sight.
    """
    x, y = _inside(x, y, window)
    if len(x) <= points:
        return x.copy(), y.copy()
    chosen = MinMaxLTTBDownsampler().downsample(np.ascontiguousarray(x), np.ascontiguousarray(y), n_out=points)
    return x[chosen], y[chosen]


class Smooth:
    """An exponential moving average that goes on where it stopped, without the bias of its start."""

    def __init__(self, weight: float) -> None:
        self.weight = weight
        self._mean, self._mass = 0.0, 0.0
        self._seen = np.empty(0)

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """The average at each of the values, of which those from before are remembered."""
        if len(values) < len(self._seen):
            self._mean, self._mass, self._seen = 0.0, 0.0, np.empty(0)
        if not len(self._seen) and np.isfinite(values).all() and len(values):  # a history: all at once
            self._seen = ema(values, self.weight)
            self._mass = 1 - self.weight ** len(values)
            self._mean = self._seen[-1] * self._mass
            return self._seen
        fresh, weight = [], self.weight
        mean, mass = self._mean, self._mass
        for value in values[len(self._seen):].tolist():
            if np.isfinite(value):
                mean, mass = weight * mean + (1 - weight) * value, weight * mass + (1 - weight)
            fresh.append(mean / mass if mass else value)
        self._mean, self._mass = mean, mass
        self._seen = np.concatenate([self._seen, fresh])
        return self._seen


def ema(values: np.ndarray, weight: float) -> np.ndarray:
    """What `Smooth` gives, of a whole history at once: in blocks, each by one cumulative sum, 30 times as fast."""
    good = np.isfinite(values)
    if weight <= 0 or not good.any():
        return values.copy()
    if not good.all():
        found = np.full(len(values), np.nan)
        found[good] = ema(values[good], weight)
        return found
    size = int(np.clip(-150 / np.log10(weight), 1, 512))  # its last power of the weight is far from nothing
    blocks = np.concatenate([values, np.zeros(-len(values) % size)]).reshape(-1, size)
    powers = weight ** np.arange(1, size + 1)
    own = (1 - weight) * powers * np.cumsum(blocks / powers, axis=1)
    mean = np.empty_like(own)
    carried = 0.0
    for place, row in enumerate(own):
        mean[place] = row + carried * powers
        carried = mean[place, -1]
    return mean.ravel()[: len(values)] / (1 - weight ** np.arange(1, len(values) + 1))


def averaged(x: np.ndarray, y: np.ndarray, weight: float, window: tuple[float, float] | None = None) -> Columns:
    """The moving average of a curve inside a window. Where there are many more values than a screen has columns, it is
    taken over the means of as many neighbours as fall into one."""
    x, y = _inside(x, y, window)
    size = -(-len(y) // BINS) if len(y) else 1
    if size > 1:
        starts = np.arange(0, len(y), size)
        counts = np.diff(starts, append=len(y))
        x, y = x[starts + counts - 1], np.add.reduceat(y, starts) / counts
    return x, ema(y, weight**size) if weight**size > 1e-3 else y  # nothing is left of the neighbour before


def curves(lines: dict[str, dict[str, Any]], *, xlabel: str, ylabel: str, height: int, log: bool = False) -> hv.Overlay:
    """Curves over one another, each with its own style: {"name": {"data": (x, y), "color": ..., ...}}.

    `mark` draws points on the line, as validations want it. A curve without data stands ready for it.
    """
    drawn = []
    for name, line in lines.items():
        style = {"color": line["color"], "alpha": line.get("alpha", 1.0), "line_width": line.get("width", 1.8)}
        drawn.append(hv.Curve(line.get("data", NOTHING), "x", "y", label=name).opts(
            hv.opts.Curve(line_dash=line.get("dash", "solid"), **style)))
        if line.get("mark"):
            drawn.append(hv.Scatter(line.get("data", NOTHING), "x", "y", label=name).opts(
                hv.opts.Scatter(color=line["color"], size=5, alpha=style["alpha"])))
    return hv.Overlay(drawn).opts(hv.opts.Overlay(
        responsive=True, height=height, xlabel=xlabel, ylabel=ylabel, logy=log, show_legend=False, show_grid=True,
        shared_axes=False, default_tools=[], tools=["xpan", "xwheel_zoom", "xbox_zoom", "reset", "save"],
        active_tools=["xbox_zoom"], toolbar="above", gridstyle={"grid_line_alpha": 0.35}))


def run_colour(place: int) -> str:
    return RUN_COLOURS[place % len(RUN_COLOURS)]
