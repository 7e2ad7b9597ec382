"""Runs, and Train's queue and sweep, without a browser: what is listed, compared, noted and thrown away."""

from __future__ import annotations

import numpy as np
import pytest
from bokeh.events import RangesUpdate
from planted import EVIL, append, opened, plant

from engine import runs
from engine.recipe import Recipe
from engine.runs import notes, queue, trashed
from studio import compared
from studio.crowd import Crowd, where
from studio.notes_view import rendered
from studio.pages.runs import Runs
from studio.pages.stages import Train
from studio.plots import Smooth, averaged, ema
from studio.sweep_form import SweepForm
from studio.sweep_view import SweepView, checkpoints
from studio.watch import WATCH, Feed


def fed(run) -> Feed:
    feed = WATCH.follow(run)
    feed.poll()
    return feed


def bold(crowd: Crowd) -> dict:
    return crowd._parts["bold"]["cds"].data


@pytest.fixture
def three(session):
    """Three runs: of 300, 200 and 100 steps."""
    return [plant(session.workspace, name, steps=steps, floor=floor)
            for name, steps, floor in (("one", 300, 3.0), ("two", 200, 2.5), ("three", 100, 2.0))]


# Comparing ----------------------------------------------------------------------------------------------


def test_all_runs_that_a_filter_leaves_are_compared_at_once(session, three):
    notes.write(three[0], tags=["base"])
    notes.write(three[1], text="a base of its own", tags=["mine"])
    page = opened(Runs, session)
    assert page.list.html.count('role="listitem"') == 3
    page.filter.value_input = "base"
    assert page.shown_names == ["two", "one"]
    assert "Compare all 2" in page.many.html
    page.list.press("all:")
    assert set(session.compared) == {"one", "two"}
    for run in three:
        fed(run)
    page.tick()
    assert sorted(bold(page.compared.crowd)["name"]) == ["one", "two"]
    page._tagged("mine")
    assert page.shown_names == ["two"]
    page.filter.value_input = "nobody"
    assert "No run answers to that." in page.many.html
    page.list.press("alone:")
    assert session.compared == [session.run]
    assert not page.compared._view.visible


def test_another_run_comes_first_and_none_is_lost(session, three):
    session.param.update(run="one", others="two,three")
    page = opened(Runs, session)
    page.compared.standings.press("first:three")
    assert session.compared == ["three", "one", "two"]


def test_curves_stand_on_five_axes(session, three):
    feeds = [fed(run) for run in three[:2]]
    crowd = Crowd()
    flops = {name: each[1] for name, each in compared.asked(three).items()}
    ends = {}
    for axis in ("step", "tokens", "time", "flops", "kwh"):
        crowd.update(feeds, "train/loss", axis=axis, flops=flops)
        ends[axis] = [float(column[-1]) for column in bold(crowd)["xs"]]
    assert ends["step"] == [300, 200]
    assert ends["tokens"] == [300 * 4096, 200 * 4096]
    assert ends["time"] == pytest.approx([299 * 0.3 / 60, 199 * 0.3 / 60])
    assert ends["flops"] == pytest.approx([300 * 4096 * flops["one"], 200 * 4096 * flops["two"]])
    assert ends["kwh"] == pytest.approx([300e-5, 200e-5])
    assert where(feeds[0], "val/loss", "kwh", 0.0) == pytest.approx([100e-5, 200e-5, 300e-5])
    del feeds[0].series["energy/kwh"]
    feeds[0].version += 1
    crowd.update(feeds, "train/loss", axis="kwh", flops=flops)
    assert bold(crowd)["name"] == ["two"], "a run without readings has no place there"


def test_a_live_run_grows_in_the_figure_and_a_pan_inside_what_is_drawn_draws_nothing(session, three):
    feeds = [fed(run) for run in three[:2]]
    crowd = Crowd()
    crowd.update(feeds, "train/loss")
    figure = crowd.figure
    append(three[1], 201, 250)
    feeds[1].poll()
    crowd.update(feeds, "train/loss")
    assert crowd.figure is figure
    assert [column[-1] for column in bold(crowd)["xs"]] == [300, 250]
    crowd._zoomed(RangesUpdate(figure, x0=-50, x1=280, y0=0, y1=9))
    assert crowd.window is None, "as wide as before, and everything in sight is drawn"
    crowd._zoomed(RangesUpdate(figure, x0=100, x1=140, y0=0, y1=9))
    crowd.update(feeds, "train/loss")
    assert (bold(crowd)["xs"][0][0], bold(crowd)["xs"][0][-1]) == (79, 161), "half as far again, and a point beside"
    crowd._zoomed(RangesUpdate(figure, x0=110, x1=150, y0=0, y1=9))
    assert crowd.window == (100, 140)
    crowd._zoomed(RangesUpdate(figure, x0=150, x1=190, y0=0, y1=9))
    assert crowd.window == (150, 190)


def test_only_what_differs_between_recipes_is_told(session):
    made = [runs.create(Recipe.load("demo").override(f"name={name}", *changes), session.workspace)
            for name, changes in (("a", ()), ("b", ("optim.lr=0.5",)), ("c", ("optim.lr=0.5", "model.num_layers=3")))]
    known = compared.asked(made)
    rows = compared.differing({name: known[name][0] for name in "abc"})
    assert rows["optim.lr"][1:] == [0.5, 0.5]
    assert set(rows) == {"optim.lr", "model.num_layers"}
    told = compared.differences(known, ["a", "b", "c"])
    assert "optim.lr" in told
    assert "max_steps" not in told
    assert "asked the same" in compared.differences(dict.fromkeys(("b", "x"), known["b"]), ["b", "x"])
    many = {f"r{number}": (known["c" if number else "a"][0], 1.0) for number in range(9)}
    assert "0.5 (8 runs)" in compared.differences(many, list(many))


def test_the_average_of_a_history_is_that_of_its_values_one_by_one():
    values = np.random.default_rng(1).normal(5, 1, 3000)
    for weight in (0.05, 0.6, 0.99):
        one_by_one = Smooth(weight)
        one_by_one(values[:1])
        np.testing.assert_allclose(ema(values, weight), one_by_one(values), rtol=1e-12)
    values[[3, 2999]] = np.nan
    assert np.isnan(ema(values, 0.9)[[3, 2999]]).all()
    assert np.isfinite(ema(values, 0.9)).sum() == 2998
    x = np.arange(100_000.0)
    thin_x, thin_y = averaged(x, np.sin(x / 5000), 0.6)
    assert len(thin_x) <= 4096
    np.testing.assert_allclose(thin_y, np.sin(thin_x / 5000), atol=0.01)


# Notes, trash, queue ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "never"), [
    (EVIL, "<script"), ("![x](http://elsewhere/x.png)", "<img"), ("[x](javascript:alert(1))", 'href="javascript'),
    ("[x](data:text/html,hi)", 'href="data')])
def test_notes_are_markdown_and_nothing_more(text, never):
    assert never not in rendered(text)
    assert "<strong>yes</strong>" in rendered(f"**yes** {text}")


def test_notes_are_kept_by_the_page_and_seen_by_other_viewers(session, three):
    page = opened(Runs, session)
    view = page.watched.notes
    view.shown.press("edit")
    view.text.value_input, view.tags.value_input = "**good**", "base, best"
    view.save()
    assert notes.read(view.run) == notes.Notes("**good**", ("base", "best"))
    assert not view.editor.visible
    notes.write(view.run, text="from the command line")
    page.tick()
    assert "from the command line" in view.shown.html
    view.shown.press("tag:base")
    assert page.shown_names == [view.run.name]


def test_the_trash_gives_back_and_deletes_only_when_asked_twice(session, three):
    page = opened(Runs, session)
    page.watched._press("trash")
    page._list()
    trash = page.trash
    assert "Trash: 1 run" in trash.list.html
    trash.list.press("toggle")
    name = trashed.trashed(session.workspace)[0].name
    trash.list.press("delete")
    assert len(trashed.trashed(session.workspace)) == 1, "nobody was asked yet"
    trash.list.press("ask")
    assert "cannot be undone" in trash.list.html
    trash.list.press("keep")
    trash.list.press(f"restore:{name}")
    assert len(runs.listing(session.workspace)) == 3
    runs.trash(three[0], session.workspace)
    page._list()
    for press in ("toggle", "ask", "delete"):
        trash.list.press(press)
    assert trashed.trashed(session.workspace) == []
    assert not trash.list.visible


def test_the_queue_is_seen_and_steered(session, monkeypatch):
    monkeypatch.setattr(queue, "wake", lambda workspace: None)
    launched = []
    monkeypatch.setattr(queue, "launch", lambda run: launched.append(run.name))
    for name in ("a", "b"):
        runs.enqueue(Recipe().override(f"name={name}"), session.workspace)
    page = opened(Runs, session)
    view = page.queue
    assert view._view.visible
    order = lambda: [entry.run.name for entry in queue.entries(session.workspace)]  # noqa: E731
    view.list.press("up:b")
    assert order() == ["b", "a"]
    view.list.press("hold:b")
    assert "Release" in view.list.html
    view.list.press("release:b")
    view.list.press("remove:b")
    view.list.press("now:a")
    assert (order(), launched) == ([], ["a"])
    assert not view._view.visible


def test_a_run_is_added_to_the_queue_from_the_train_page(session, monkeypatch):
    monkeypatch.setattr(queue, "wake", lambda workspace: None)
    page = opened(Train, session)
    session.draft.put(("name",), "tonight")
    page.at.value_input = "25 o'clock"
    page._enqueue()
    assert queue.entries(session.workspace) == []
    page.at.value_input = "23:59"
    page._enqueue()
    entry, = queue.entries(session.workspace)
    assert entry.run.name == "tonight"
    assert entry.start_at > 0
    assert (session.page, session.run) == ("runs", "tonight")


# Sweeps -------------------------------------------------------------------------------------------------


def test_the_size_of_a_grid_is_said_before_it_starts(session, monkeypatch):
    monkeypatch.setattr(runs, "launch", lambda run: None)
    form = SweepForm(session)
    assert form.buttons[0].disabled
    session.draft.put(("sweep", "vary"), ["optim.lr=log:1e-4:1e-2:3", "optim.kind=adamw,muon"])
    session.draft.put(("sweep", "sampler"), "grid")
    assert "3 of optim.lr (0.0001, 0.001, 0.01)" in form.size.html
    assert "<dd>6</dd>" in form.size.html
    form.start()
    made = runs.recipe_of(runs.listing(session.workspace)[0])
    assert (made.jobs, made.name) == (("sweep",), "novels-sweep")
    session.draft.put(("sweep", "vary"), ["optim.nonsense=1,2"])
    assert "is refused" in form.size.html
    assert form.buttons[0].disabled


def test_a_sweep_shows_its_trials_and_its_best_becomes_the_draft(session):
    base = Recipe.load("demo").override("name=s-sweep", "jobs=[sweep]",
                                        "sweep.vary=['optim.lr=log:1e-4:1e-2', 'optim.kind=adamw,muon']")
    run = runs.create(base, session.workspace)
    for number, (lr, kind, state, value) in enumerate((
            (1e-3, "adamw", "finished", 3.0), (2e-3, "muon", "finished", 2.5), (1e-4, "adamw", "pruned", 5.0))):
        made = runs.create(base.override(f"name=s-sweep-0{number + 1}", "jobs=[train]", f"optim.kind={kind}",
                                         f"optim.lr={lr}"), session.workspace)
        run.append("trials", {"trial": number, "run": made.name, "changes": {"optim.kind": kind, "optim.lr": lr}},
                   {"trial": number, "state": state, "value": value})
    run.event("swept", best="s-sweep-02", value=2.5, changes={}, importance={"optim.lr": 0.9, "optim.kind": 0.1})
    run.write_status(state="finished")
    view = SweepView(session)
    view.look(run, base)
    view.update(fed(run))
    assert view._view.visible
    assert view.table.html.count("<tr>") == 4
    assert "stopped early" in view.table.html
    assert "90%" in view.mattered.html
    step = view.progress.object.get(0)
    assert list(step.dimension_values(1)) == [3.0, 2.5, 2.5], "a trial that was stopped early is never the best"
    assert len(view.lines.object.get(1)) == 6, "three trials across two settings and the metric"
    (session.workspace.place("runs") / "s-sweep-02" / "checkpoints" / "step-000010").mkdir(parents=True)
    (session.workspace.place("runs") / "s-sweep-02" / "checkpoints" / "step-000010" / "meta.json").write_text("{}")
    saved = checkpoints(view.found, run.path.parent)
    assert saved.count("none kept") == 2
    assert "runs/s-sweep-02/checkpoints/step-000010" in saved
    view.head.press("compare")
    assert set(session.compared) == {"s-sweep-01", "s-sweep-02", "s-sweep-03"}
    view.head.press("draft")
    assert session.page == "stages"
    assert (session.recipe().optim.kind, session.recipe().optim.lr, session.recipe().name) == ("muon", 2e-3, "s-best")
