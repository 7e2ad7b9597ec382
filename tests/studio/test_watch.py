"""Watch and plots: columns that follow a run folder, light curves that hide nothing, a zoom that stays."""

from __future__ import annotations

import time

import numpy as np
import pytest
from bokeh.events import RangesUpdate
from planted import append, plant

from engine.runs import Run
from studio.elapsed import trained_seconds
from studio.live import LOSS, Live, along
from studio.plots import POINTS, Smooth, downsample
from studio.run_plots import RunPlots
from studio.watch import Feed, Watch, lines


@pytest.fixture
def feed(workspace) -> Feed:
    feed = Feed(plant(workspace, "one", steps=300))
    feed.poll()
    return feed


def test_a_feed_follows_what_is_written(feed):
    assert feed.series["train/loss"].length == 300
    assert feed.series["val/loss"].axis("step").tolist() == [100, 200, 300]
    assert feed.best("val/loss")[1] == 300
    version = feed.version
    feed.poll()
    assert feed.version == version, "nothing new, nothing to draw"
    append(feed.run, 301, 400)
    feed.poll()
    assert feed.version > version
    assert feed.series["train/loss"].axis("tokens")[-1] == 400 * 4096
    assert len(feed.told("sample")) == 4


def test_a_line_cut_by_a_kill_and_a_nan_do_no_harm(feed):
    with open(feed.run.path / "metrics.jsonl", "a") as file:
        file.write('{"step": 301, "train/loss": NaN}\n{"step": 302, "train/lo')
    feed.poll()
    assert feed.series["train/loss"].length == 301
    live = Live(LOSS, "loss")
    live.update([feed])
    assert max(len(source.data["x"]) for source in live.sources) == 300


def test_a_resume_that_rewrites_the_history_starts_the_columns_anew(feed):
    path = feed.run.path / "metrics.jsonl"
    kept = path.read_text().splitlines(keepends=True)[:50]
    beside = path.with_name("new")
    beside.write_text("".join(kept))
    beside.replace(path)
    anew = feed.anew
    feed.poll()
    assert feed.anew == anew + 1
    assert feed.series["train/loss"].length == sum('"train/loss"' in line for line in kept) > 0


def test_the_thread_fills_a_feed_and_ends_with_the_last_one(workspace):
    watch = Watch()
    feed = watch.follow(plant(workspace, "threaded", steps=20))
    until = time.monotonic() + 10
    while not feed.ready and time.monotonic() < until:
        time.sleep(0.02)
    assert feed.last("train/loss") is not None
    assert watch.follow(Run(feed.run.path)) is feed
    thread, watch._feeds = watch._thread, {}
    thread.join(5)
    assert not thread.is_alive()


def test_the_list_knows_the_lowest_validation_loss(workspace):
    run = plant(workspace, "listed", steps=200)
    first = lines(workspace)[0]
    assert first.val_loss == pytest.approx(3.1 + 4 * np.exp(-200 / 150))
    run.append("metrics", {"step": 201, "train/loss": 3.0})
    assert lines(workspace)[0].val_loss == first.val_loss
    run.append("metrics", {"step": 202, "val/loss": 1.5})
    assert lines(workspace)[0].val_loss == 1.5
    run.append("metrics", {"step": 203, "val/loss": float("nan")}, {"step": 204, "val/loss": 2.5})
    assert lines(workspace)[0].val_loss == 1.5
    path = run.path / "metrics.jsonl"
    again = path.read_text().splitlines(keepends=True)[:-3]
    path.unlink()
    path.write_text("".join(again))
    assert lines(workspace)[0].val_loss == first.val_loss, "a resume made the history anew"


def test_downsampling_keeps_the_spikes_and_the_window():
    x = np.arange(100_000.0)
    y = np.sin(x / 5000)
    y[[1234, 77_777]] = 9, -9
    shown_x, shown_y = downsample(x, y)
    assert len(shown_x) <= POINTS
    assert {9, -9} <= set(shown_y)
    assert (shown_x[0], shown_x[-1]) == (0, 99_999)
    inside_x, _ = downsample(x, y, window=(500.5, 900.5))
    assert inside_x.tolist() == list(range(500, 902)), "every point, and one beside each edge"


def test_smoothing_in_pieces_is_smoothing_at_once_and_has_no_bias():
    values = np.random.default_rng(1).normal(5, 1, 500)
    once = Smooth(0.9)(values).copy()
    pieces = Smooth(0.9)
    for end in (1, 7, 300, 500):
        last = pieces(values[:end])
    np.testing.assert_allclose(once, last, rtol=1e-12)
    weights = 0.9 ** np.arange(500)[::-1]
    assert once[-1] == pytest.approx((weights * values).sum() / weights.sum())
    assert once[0] == values[0]


def test_new_points_go_into_the_figure_that_is_there_and_leave_the_zoom(feed):
    live = Live(LOSS, "loss")
    live.update([feed], smoothing=0.6)
    figure, sources = live.figure, list(live.sources)
    assert sources[0].data["x"][-1] == 300
    live._zoomed(RangesUpdate(figure, x0=100, x1=150, y0=0, y1=9))
    append(feed.run, 301, 400)
    feed.poll()
    live.update([feed], smoothing=0.6)
    assert live.figure is figure
    assert live.sources == sources
    assert (sources[0].data["x"].min(), sources[0].data["x"].max()) == (99, 151)
    live._zoomed(RangesUpdate(figure, x0=-10, x1=500, y0=0, y1=9))
    live.update([feed], smoothing=0.6)
    assert sources[0].data["x"][-1] == 400


def test_several_runs_stand_in_one_figure_and_the_log_axis_keeps_it(feed, workspace):
    other = Feed(plant(workspace, "other", steps=200))
    other.poll()
    plots = RunPlots()
    plots.update([feed, other])
    figure = plots.loss.figure
    assert sorted({source.data["x"][-1] for source in plots.loss.sources if len(source.data["x"])}) == [200, 300]
    plots.log.value = True
    assert plots.loss.figure is figure
    assert type(figure.y_scale).__name__ == "LogScale"
    plots.axis.value = "Tokens"
    assert plots.loss.sources[0].data["x"][-1] == 300 * 4096


def test_an_empty_plot_says_why(workspace):
    run = plant(workspace, "young", steps=0, state="stopped")
    feed = Feed(run)
    feed.poll()
    plots = RunPlots()
    plots.update([feed])
    assert plots._nothing.visible
    assert "No training step" in plots._nothing.html


def test_hours_in_which_a_run_was_stopped_are_no_training(workspace):
    """200 steps of 0.3 s, ten hours of nothing, 200 more: two minutes of training, on every axis and in every table."""
    run = plant(workspace, "resumed", steps=200, state="stopped")
    begun = Feed(run)
    begun.poll()
    first = float(begun.series["train/loss"].axis("time")[0]) - 0.3
    run.append("events", {"kind": "state", "state": "running", "time": first + 36_000})
    append(run, 201, 400, begun=first + 36_000)
    feed = Feed(run)
    feed.poll()
    assert trained_seconds(feed) == pytest.approx(398 * 0.3, abs=0.5)
    minutes = along(feed.series["train/loss"], "time", feed)
    assert minutes[-1] == pytest.approx(398 * 0.3 / 60, abs=0.01)
    assert (np.diff(minutes) >= 0).all()
    assert trained_seconds(Feed(run)) is None, "nothing was read yet"
