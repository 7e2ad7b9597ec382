"""The queue: an order that survives everything, one run at a time on each device, and a process that may die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack

import pytest

from engine import files, runs
from engine.config import UserError
from engine.recipe import Recipe
from engine.runs import queue, sweep, turns
from engine.runs.folder import STALE_SECONDS, Run
from studio.cli import main


@pytest.fixture
def asleep(monkeypatch):
    """No process is started by what a test adds; the launches are counted."""
    launched: list[str] = []

    def launch(run):
        run.write_status(state="queued", created=time.time())
        launched.append(run.name)

    monkeypatch.setattr(queue, "wake", lambda workspace: None)
    for module in (queue, turns):
        monkeypatch.setattr(module, "launch", launch)
    monkeypatch.setattr(queue, "devices", lambda: ["cpu"])
    monkeypatch.setattr(turns, "devices", lambda: ["cpu"])
    return launched


def enqueued(workspace, *names, **asked):
    return [runs.enqueue(Recipe().override(f"name={name}"), workspace, **asked) for name in names]


def order(workspace):
    return [entry.run.name for entry in queue.entries(workspace)]


def ends(run, state="finished"):
    run.write_status(state=state, started=time.time())


def test_an_order_is_kept_in_the_runs_folders_and_changed_by_moves(workspace, asleep):
    one, two, three = enqueued(workspace, "one", "two", "three")
    queue.move(three, 0)
    assert order(workspace) == ["three", "one", "two"]
    queue.move(three, 1)
    assert order(workspace) == ["one", "three", "two"]
    queue.move(one, 99)
    assert order(workspace) == ["three", "two", "one"]
    queue.remove(two)
    assert order(workspace) == ["three", "one"]
    assert two.status().state == "stopped"
    with pytest.raises(UserError, match="two does not wait in the queue"):
        queue.move(two, 0)
    queue.add(two)
    assert order(workspace) == ["three", "one", "two"]
    (one.path / "queue.json").write_text("{")  # somebody's hand
    assert order(workspace) == ["three", "two"]


def test_what_another_starter_begins_is_refused_before_a_run_is_made(workspace, asleep):
    recipe = Recipe(name="elsewhere", train={"launcher": "slurm"})
    with pytest.raises(UserError, match="slurm, but the queue starts processes on this machine alone"):
        runs.enqueue(recipe, workspace)
    assert runs.listing(workspace) == []
    with pytest.raises(UserError, match="a sweep starts processes on this machine alone"):
        sweep.check(recipe.replace(jobs=["sweep"], sweep={"vary": ["optim.lr=log:1e-4:1e-2"]}))


def test_a_run_that_waits_is_never_lost_and_only_waits_once(workspace, asleep):
    run, = enqueued(workspace, "patient")
    run.write_status(created=time.time() - 100 * STALE_SECONDS)
    assert run.status().state == "queued"
    with pytest.raises(UserError, match="is in the queue already"):
        queue.add(run)
    with pytest.raises(UserError, match="is queued; stop it first"):
        runs.trash(run, workspace)
    runs.stop(run)
    assert (run.status().state, order(workspace)) == ("stopped", [])
    ends(run)
    with pytest.raises(UserError, match="is finished already"):
        queue.add(run)
    with pytest.raises(UserError, match="no device cuda:7; there are cpu"):
        queue.add(run, device="cuda:7")


def test_runs_have_their_turn_one_after_the_other_and_a_failure_holds_up_nobody(workspace, asleep):
    one, two, three = enqueued(workspace, "one", "two", "three")
    turns.turn(workspace)
    turns.turn(workspace)
    assert asleep == ["one"], "it was just launched, and has not taken its lock"
    with one.lock():
        one.write_status(state="running")
        turns.turn(workspace)
        assert asleep == ["one"]
    ends(one, "failed")
    turns.turn(workspace)
    assert asleep == ["one", "two"]
    assert order(workspace) == ["two", "three"]
    ends(two)
    by_hand = runs.create(Recipe().override("name=hand"), workspace)
    with by_hand.lock():
        turns.turn(workspace)
        assert asleep == ["one", "two"], "the device has a run that somebody started by hand"
    ends(by_hand)
    turns.turn(workspace)
    ends(three)
    turns.turn(workspace)
    assert (asleep, order(workspace)) == (["one", "two", "three"], [])
    assert not queue.todo(workspace)


def test_each_device_has_a_run_of_its_own(workspace, asleep, monkeypatch):
    for module in (queue, turns):
        monkeypatch.setattr(module, "devices", lambda: ["cuda:0", "cuda:1", "cpu"])
    seen = {}
    fake = turns.launch
    monkeypatch.setattr(turns, "launch", lambda run: (fake(run), seen.update(
        {run.name: os.environ.get("CUDA_VISIBLE_DEVICES")})))
    enqueued(workspace, "a", "b", "c")
    runs.enqueue(Recipe().override("name=p", "train.device=cpu"), workspace)
    enqueued(workspace, "second", device="cuda:1")
    with ExitStack() as held:
        turns.turn(workspace)
        for name in asleep:
            held.enter_context(Run(workspace.place("runs") / name).lock())
        turns.turn(workspace)
        assert (asleep, seen) == (["a", "b", "p"], {"a": "0", "b": "1", "p": None})
    assert os.environ.get("CUDA_VISIBLE_DEVICES") is None
    ends(Run(workspace.place("runs") / "b"))
    turns.turn(workspace)
    assert asleep[3:] == ["c"]


def test_what_is_held_or_for_tonight_lets_others_pass(workspace, asleep):
    held, tonight, now = enqueued(workspace, "held", "tonight", "now")
    queue.change(held, held=True)
    queue.change(tonight, start_at=time.time() + 3600)
    turns.turn(workspace)
    assert asleep == ["now"]
    ends(now)
    turns.turn(workspace)
    assert queue.todo(workspace)
    queue.change(tonight, start_at=time.time() - 1)
    turns.turn(workspace)
    ends(tonight)
    turns.turn(workspace)
    assert asleep == ["now", "tonight"]
    assert not queue.todo(workspace), "what is held keeps no process awake"
    queue.start_now(held)
    assert asleep[-1] == "held"


def test_a_run_that_was_lost_with_the_machine_is_resumed_but_not_for_ever(workspace, asleep):
    run, after = enqueued(workspace, "lost", "after")
    for time_lost in range(1, turns.TRIES + 1):
        turns.turn(workspace)
        assert asleep == ["lost"] * time_lost
        run.write_status(state="running")  # and nobody holds it
    turns.turn(workspace)
    turns.turn(workspace)
    assert asleep[turns.TRIES:] == ["after"]
    assert "died 3 times" in next(e["sentence"] for e in run.rows("events")[0] if e["kind"] == "warning")
    assert after.status().state == "queued"


def test_a_kill_between_two_writes_leaves_one_entry(workspace, asleep):
    run, = enqueued(workspace, "torn")
    waiting = (run.path / "queue.json").read_bytes()
    turns.turn(workspace)
    (run.path / "queue.json").write_bytes(waiting)  # its turn was written, the other file not yet taken away
    assert [bool(entry.begun) for entry in queue.entries(workspace)] == [True]
    ends(run)
    turns.turn(workspace)
    assert order(workspace) == []
    assert not queue.waiting(run)


@pytest.mark.parametrize(("typed", "hours"), [("22:30", 10.5), ("2.15", 14.25), ("12:00", 24), ("", None)])
def test_a_time_of_day_is_the_next_one(typed, hours):
    noon = time.mktime((2026, 6, 10, 12, 0, 0, 0, 0, -1))
    assert queue.moment(typed, noon) == (noon + hours * 3600 if hours else 0.0)


@pytest.mark.parametrize("typed", ["25:00", "noon", "7", "22:61"])
def test_what_is_no_time_of_day_is_refused(typed):
    with pytest.raises(UserError, match="write it as 22:30"):
        queue.moment(typed)


def test_the_command_line_adds_moves_holds_and_removes(workspace, asleep, capsys):
    for name in ("one", "two"):
        assert main(["queue", "add", "demo", f"name={name}", "--hold"]) == 0
    assert main(["queue", "move", "two", "1"]) == 0
    assert main(["queue", "release", "two"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[-2:] == ["  1  two  waits for its turn", "  2  one  held"]
    assert main(["queue", "move", "two", "9"]) == 0
    assert "there is no place 9; two has place 2 now" in capsys.readouterr().out
    assert main(["queue", "move", "two", "0"]) == 0
    assert "there is no place 0; two has place 1 now" in capsys.readouterr().out
    assert main(["queue", "at", "one", "nonsense"]) == 2
    assert main(["queue", "remove", "one", "--workspace", str(workspace.path)]) == 0
    assert main(["queue", "list"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "  1  two  waits for its turn"
    runs.stop(runs.find("two", workspace))
    assert main(["queue", "add", "two"]) == 0, "a run that was stopped goes on in its turn"
    assert order(workspace) == ["two"]


def test_the_process_does_its_work_alone_and_a_killed_one_is_followed_by_the_next(workspace, monkeypatch):
    """Two runs that fail at once, since their corpus is nowhere: what is tried is the queue."""
    monkeypatch.setattr(queue, "wake", lambda workspace: None)
    recipe = Recipe().override("jobs=[curate]", "corpus.sources=[{path: nowhere}]")
    first, second = (runs.enqueue(recipe.override(f"name={name}"), workspace) for name in ("first", "second"))
    command = [sys.executable, "-m", "engine", "queue", "work"]
    process = subprocess.Popen(command, start_new_session=True)
    until = time.monotonic() + 60
    while not queue.entries(workspace)[0].begun and time.monotonic() < until:
        time.sleep(0.02)
    assert subprocess.run(command, timeout=60).returncode == 0, "another one goes away"
    assert process.poll() is None
    os.kill(process.pid, signal.SIGKILL)
    process.wait(10)
    assert queue.todo(workspace)
    assert subprocess.run(command, timeout=120).returncode == 0
    assert [run.status().state for run in (first, second)] == ["failed", "failed"]
    assert [e["state"] for e in second.rows("events")[0] if e["kind"] == "state"][-2:] == ["running", "failed"]
    assert not queue.entries(workspace)
    assert not list(workspace.place("runs").glob("*/.queue*")), "writes are complete or absent"
    assert files.read_json(first.path / "status.json")["error"]
