"""The session, the fragments and the server."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from markupsafe import Markup
from planted import EVIL, plant

from engine import runs
from engine.config import UserError
from engine.recipe import Recipe
from studio import run_parts
from studio.pages.home import Home
from studio.run_view import RunView
from studio.serve import free_port, origins
from studio.session import Session
from studio.shell import Studio
from studio.views import Fragment, duration, number, size, txt
from studio.watch import Feed


def test_a_double_click_starts_one_run(session, monkeypatch):
    monkeypatch.setattr(runs, "launch", lambda run: None)
    assert session.start(Recipe.load("demo")) is not None
    assert session.start(Recipe.load("demo")) is None
    assert len(runs.listing(session.workspace)) == 1
    assert (session.page, session.run) == ("runs", "demo")


def test_the_second_click_counts_from_the_end_of_what_the_first_began(session, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("studio.session.time.monotonic", lambda: now[0])
    monkeypatch.setattr(runs, "launch", lambda run: now.__setitem__(0, now[0] + 10))    # a busy machine
    assert session.start(Recipe.load("demo")) is not None
    now[0] += 0.1
    assert session.start(Recipe.load("demo")) is None
    now[0] += 10
    assert session.start(Recipe.load("demo")) is not None


def test_a_refusal_is_told_and_not_raised(session):
    told = []
    session.notify = lambda sentence, kind: told.append(sentence)
    run = plant(session.workspace, "done", steps=5)
    assert session.attempt(runs.resume, run) is None
    assert "finished" in told[0]


def test_the_draft_and_the_theme_are_there_after_a_restart(session):
    session.draft.put(("train", "max_steps"), 33)
    session.dark = True
    session.keep()
    again = Session(session.workspace)
    assert again.recipe().train.max_steps == 33
    assert again.dark


def test_a_fragment_takes_markup_alone_and_escapes_what_goes_in():
    with pytest.raises(ValueError, match="Markup"):
        Fragment("<b>plain</b>")
    assert Fragment(txt("<p>{}</p>", EVIL)).text == str(Markup("<p>{}</p>").format(EVIL))
    assert "<script" not in Fragment(txt("<p>{}</p>", EVIL)).text


def test_nothing_that_a_run_says_is_markup(session):
    run = plant(session.workspace, "evil", steps=100, state="failed", error=EVIL, evil=True)
    run.event("warning", sentence=EVIL)
    run.event("resolved", setting=EVIL, value=EVIL, why=EVIL)
    run.event("checkpoint", step=1, path=EVIL, val_loss=1.0)
    feed = Feed(run)
    feed.poll()
    shown = "".join([run_parts.head(feed), run_parts.trouble(feed), run_parts.samples(feed, 100), run_parts.log(feed),
                     run_parts.resolved(feed), run_parts.checkpoints(feed), run_parts.timeline(feed)])
    assert "&lt;script&gt;" in shown
    assert "<script" not in shown
    assert "<img" not in shown


def test_the_run_s_page_says_how_long_training_stood_still_for_a_checkpoint(session):
    run = plant(session.workspace, "saved", steps=20)
    for step, stall, written in ((5, None, None), (10, 0.0123, 1.31), (20, 2.5, EVIL)):
        run.event("checkpoint", step=step, path=f"checkpoints/step-{step:06d}", val_loss=3.0, best=True,
                  stall_seconds=stall, write_seconds=written)
    feed = Feed(run)
    feed.poll()
    shown = run_parts.checkpoints(feed)
    for stood, took in (("12 ms", "1.3 s"), ("2.5 s", "–"), ("–", "–")):
        assert f'<td class="num">{stood}</td><td class="num">{took}</td>' in shown


@pytest.mark.parametrize(("state", "offered", "withheld"), [
    ("finished", ["Talk to it", "Move to trash"], ["Resume", "Stop and save"]),
    ("failed", ["Resume", "Move to trash"], ["Pause", "Talk to it"]),
    ("stopped", ["Resume"], ["Stop and save"]),
])
def test_a_run_offers_what_its_state_allows(state, offered, withheld, session):
    feed = Feed(plant(session.workspace, "some", steps=100, state=state))
    feed.poll()
    shown = run_parts.buttons(feed)
    assert all(word in shown for word in offered)
    assert not any(word in shown for word in withheld)


def test_a_run_whose_process_died_is_called_lost_and_can_be_resumed(session):
    feed = Feed(plant(session.workspace, "gone", steps=100, state="running"))
    feed.poll()
    assert feed.status.state == "lost"
    assert "Resume" in run_parts.buttons(feed)
    assert "process" in run_parts.trouble(feed)


def test_a_run_elsewhere_says_how_old_its_news_are(session):
    feed = Feed(plant(session.workspace, "afar", steps=100, state="running"))
    feed.run.write_status(host="node-<7>", heartbeat=time.time() - 90)
    feed.poll()
    assert feed.status.state == "running"
    assert "last news from node-&lt;7&gt; 1 min ago" in run_parts.head(feed)
    assert "Resume" not in run_parts.buttons(feed), "a second worker on a copy would do harm"
    feed.run.write_status(heartbeat=time.time())
    feed.poll()
    assert "last news" not in run_parts.head(feed)


def test_a_run_goes_to_the_trash_and_the_page_goes_on(session):
    run = plant(session.workspace, "old", steps=100)
    view = RunView(session)
    session.run = run.name
    view.look([run.name])
    view.head.press("trash")
    assert not run.path.exists()
    assert session.run == ""
    assert list((session.workspace.path / "trash").iterdir())


def test_the_path_leads_through_all_pages_without_torch(workspace):
    made = subprocess.run(
        [sys.executable, "-c", "import sys; from studio.shell import Studio; from studio.session import Session; "
         "s = Studio(Session())\nfor noun in s.pages: s.session.page = noun; s.tick()\n"
         "print(sorted(s._broken), [m for m in ('torch', 'lightning', 'daft', 'onnx') if m in sys.modules])"],
        capture_output=True, text=True, check=True, cwd=Path(__file__).resolve().parents[2])
    assert made.stdout.strip().splitlines()[-1] == "[] []"


def test_a_page_that_fails_says_so_and_the_others_go_on(session, monkeypatch):
    studio = Studio(session)
    monkeypatch.setattr(studio.pages["runs"], "view", lambda: 1 / 0)
    session.page = "runs"
    studio.tick()
    assert "division by zero" in studio._holders["runs"][-1].html
    session.page = "stages"
    assert studio._holders["stages"].visible


def test_an_unknown_page_leads_home(session):
    studio = Studio(session)
    session.page = "../etc"
    assert studio._holders["home"].visible
    assert "There is no page called ../etc; this is Home." in studio.stray.html
    session.page = "corpus"
    assert not studio.stray_holder.visible


def test_a_port_in_use_is_said_or_the_next_one_taken():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"port {port} is in use"):
            free_port(port, "127.0.0.1")
    found = free_port(0, "127.0.0.1")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", found))
        taken.listen()
        assert free_port(0, "127.0.0.1") > found


def test_an_address_that_is_not_this_machines_is_refused():
    with pytest.raises(UserError, match="listened on"):
        free_port(0, "203.0.113.7")


def test_only_the_studios_own_pages_may_connect():
    assert origins("127.0.0.1", 5006) == ["127.0.0.1:5006", "localhost:5006"]
    assert "203.0.113.7:80" in origins("203.0.113.7", 80)
    assert not any("*" in origin for origin in origins("0.0.0.0", 80))


def test_numbers_read_well():
    assert [number(v) for v in (1234567, 0.0003, 3.14159, None, float("nan"), float("inf"))] == [
        "1,234,567", "0.0003", "3.142", "–", "–", "∞"]
    assert [size(v) for v in (950, 1_234_000, 7e9)] == ["950", "1.23M", "7B"]
    assert [duration(v) for v in (8.4, 252, 11_100, None)] == ["8 s", "4 min 12 s", "3 h 05 min", "–"]


@pytest.mark.parametrize(("jobs", "trains"), [("[evaluate]", False), ("[train]", True)])
def test_home_waits_for_a_loss_only_where_something_is_trained(session, monkeypatch, jobs, trains):
    source = runs.create(Recipe.load("demo"), session.workspace)
    source.write_status(state="finished", created=1.0, ended=1.0)
    recipe = Recipe.load("demo").override(f"jobs={jobs}", "name=only", *([] if trains else [f"from_run={source.name}"]))
    run = runs.create(recipe, session.workspace)
    run.write_status(state="failed", error="The disk is full.", created=time.time(), ended=time.time())
    feed = Feed(run)
    feed.poll()
    monkeypatch.setattr("studio.pages.home.WATCH", SimpleNamespace(follow=lambda run: feed))
    page = Home(session)
    page.view().get_root()
    page.shown()
    assert page.live_card.visible
    assert "The disk is full." in page.trouble.html
    assert page.training.visible == trains
