"""The run folder as viewers read it: whole lines, truthful states, names, requests."""

from __future__ import annotations

import fcntl
import json
import os
import resource
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from engine import files, runs
from engine.config import UserError
from engine.recipe import Recipe
from engine.runs.folder import _BEATS, SILENT_SECONDS, STALE_SECONDS, START, Run
from engine.runs.jobs import JOBS
from engine.runs.worker import Worker


@pytest.fixture
def run(workspace) -> Run:
    return runs.create(Recipe().override("name=My run!"), workspace)


@contextmanager
def disk_full_after(size_bytes: int):
    """Every file of this process may grow to so many bytes and no further."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_viewer_reads_what_is_new_and_skips_a_line_that_a_kill_cut(run):
    run.append("metrics", {"step": 1}, {"step": 2})
    rows, cursor = run.rows("metrics")
    assert [row["step"] for row in rows] == [1, 2]
    with open(run.path / "metrics.jsonl", "a") as file:
        file.write('{"step": 3, "tra')
    assert run.rows("metrics", cursor) == ([], cursor)
    run.append("metrics", {"step": 4})
    rows, cursor = run.rows("metrics", cursor)
    assert [row["step"] for row in rows] == [4]
    files.write(run.path / "metrics.jsonl", '{"step": 1}\n')
    rows, replaced = run.rows("metrics", cursor)
    assert [row["step"] for row in rows] == [1]
    assert replaced[0] != cursor[0]
    assert run.rows("nothing") == ([], START)


def test_a_full_disk_leaves_no_part_of_a_row(run):
    run.append("metrics", {"step": 1})
    before = (run.path / "metrics.jsonl").read_bytes()
    with disk_full_after(len(before) + 5), pytest.raises(OSError, match=r"."):
        run.append("metrics", {"step": 2}, {"step": 3})
    assert (run.path / "metrics.jsonl").read_bytes() == before


def test_a_run_counts_as_lost_when_nobody_holds_it(run):
    assert run.status().state == "queued"
    run.write_status(created=time.time() - 2 * STALE_SECONDS)
    assert run.status().state == "lost"
    run.write_status(state="running")
    with open(run.path / "lock", "a") as worker:
        fcntl.flock(worker, fcntl.LOCK_EX)
        assert run.status().state == "running"
    assert run.status().state == "lost"
    run.write_status(host="elsewhere", heartbeat=time.time())
    assert run.status().state == "running", "another machine's lock cannot be seen, its heartbeat can"
    run.write_status(heartbeat=time.time() - 2 * SILENT_SECONDS)
    _BEATS.clear()  # as whoever looks for the first time
    assert run.status().state == "lost"
    (run.path / "status.json").write_text("{")
    assert "damaged" in run.status().error
    with pytest.raises(UserError, match="damaged"):
        run.wait()


@pytest.mark.parametrize("jump", [-86_400.0, 86_400.0])
def test_a_worker_elsewhere_whose_clock_is_wrong_is_not_lost_while_its_heart_beats(run, jump):
    def beats(seconds):
        run.write_status(state="running", host="elsewhere", heartbeat=time.time() + jump + seconds)

    beats(0)
    assert run.status().state == "lost", "at first sight only the clock tells"
    beats(2)
    assert run.status().state == "running"
    assert run.status().state == "running"
    seen, _, gap = _BEATS[run.path]
    _BEATS[run.path] = (seen, time.monotonic() - STALE_SECONDS, gap)
    assert run.status().state == "lost", "it has been still for too long"


def test_a_run_elsewhere_that_is_copied_now_and_then_is_not_lost_between_two_copies(run, monkeypatch):
    """As by rsync every two minutes, from a worker whose heart beats on; and lost when no copy brings a beat."""
    passed, begun = [1000.0], time.time()
    monkeypatch.setattr(time, "monotonic", lambda: passed[0])
    monkeypatch.setattr(time, "time", lambda: begun + passed[0] - 1000)
    _BEATS.clear()
    for copy in range(3):
        run.write_status(state="running", host="elsewhere", heartbeat=begun + 120 * copy - 3)
        for _ in range(4):
            assert run.status().state == "running"
            passed[0] += 30
    passed[0] += 200
    assert run.status().state == "running"
    passed[0] += 100
    assert run.status().state == "lost"


def test_a_damaged_status_is_written_anew_by_whoever_holds_the_run(run):
    (run.path / "status.json").write_text('{"state": "runn')
    assert run.status().state == "lost"
    run.write_status(state="queued", created=time.time())
    assert run.status().state == "queued"


def test_a_worker_heals_what_a_second_launcher_wrote_over_its_status(world):
    run = world.run("jobs=[curate]")
    worker = Worker(run)
    with run.lock():
        worker.tell(3, 9)
        worker._tell(state="running", pid=77, flush=True)
        run.write_status(state="queued", pid=0)
        worker._tell(flush=True)
        assert (run.status().state, run.status().pid, run.status().step) == ("running", 77, 3)


def test_a_signal_stops_a_run_whose_disk_takes_no_request(world, monkeypatch):
    run = world.run("jobs=[curate]", "corpus.validation_fraction=0.21")
    worker = Worker(run)
    monkeypatch.setattr(Run, "request", lambda *_: 1 / 0)
    begin = worker._begin
    monkeypatch.setattr(worker, "_begin", lambda job: (os.kill(os.getpid(), signal.SIGTERM), begin(job)))
    assert worker.work() == "stopped"
    assert not run.status().job, "at once, and not when the job would look for requests"
    assert not run.requested("stop"), "nothing is left that would stop the run when it is started again"


def test_a_run_is_made_in_full_or_not_at_all(workspace, monkeypatch):
    def dies(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Run, "event", dies)  # the last that is written
        with pytest.raises(KeyboardInterrupt):
            runs.create(Recipe().override("name=one"), workspace)
    assert list(workspace.place("runs").iterdir()) == []
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: runs.create(Recipe().override("name=one"), workspace), range(8)))
    assert {run.name for run in made} == {"one", *(f"one-{number}" for number in range(2, 9))}
    assert {run.status().state for run in made} == {"queued"}


def test_names_are_safe_and_never_taken_twice(run, workspace):
    other = runs.create(Recipe().override("name=My run!"), workspace)
    assert (run.name, other.name) == ("my-run", "my-run-2")
    assert runs.listing(workspace)[0] == other
    assert runs.find("my-run", workspace) == run
    assert runs.recipe_of(run) == Recipe().override("name=My run!")
    runs.trash(_ended(other), workspace)
    assert runs.listing(workspace) == [run]


def _ended(run):
    run.write_status(state="finished")
    return run


def test_checkpoints_are_sorted_by_step_and_a_folder_without_meta_is_none(run):
    for name in ("step-1000000", "step-000020", "step-999999", ".step-000030.aa"):
        (run.path / "checkpoints" / name).mkdir(parents=True)
        (run.path / "checkpoints" / name / "meta.json").touch()
    (run.path / "checkpoints" / "step-000040").mkdir()
    assert [path.name for path in run.checkpoints] == ["step-000020", "step-999999", "step-1000000"]


def test_what_cannot_be_resumed_says_why(run, workspace):
    with pytest.raises(UserError, match="already running"):
        runs.resume(run)  # it is queued
    with pytest.raises(UserError, match="is finished; start a new run"):
        runs.resume(_ended(run))
    with run.lock():
        run.write_status(state="stopped")
        with pytest.raises(UserError, match="already running"):
            runs.resume(run)
        run.write_status(state="running")
        with pytest.raises(UserError, match="run my-run is running; stop it first"):
            runs.trash(run, workspace)


def test_resuming_before_the_pause_took_hold_withdraws_it(run):
    with run.lock():
        run.write_status(state="running")
        runs.pause(run)
        assert runs.resume(run) == run
        assert not run.requested("pause")


def test_the_time_left_goes_by_the_steps_made_here(run, monkeypatch):
    worker, now = Worker(run), [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def left(step: int) -> float | None:
        worker.tell(step, 100)
        return worker._facts["eta_seconds"]

    assert left(60) is None, "a resumed run has made no step yet"
    now[0] += 10
    assert left(65) == 70.0
    worker.state("paused")
    now[0] += 1000
    worker.state("running")
    assert left(65) is None
    now[0] += 4
    assert left(67) == 66.0


def test_a_worker_tells_how_it_ended_and_runs_on_what_it_made_before(world, monkeypatch):
    run = world.run("jobs=[curate, tokenize]")
    path = next((world.workspace.place("corpora") / "toy").iterdir())
    monkeypatch.setitem(JOBS, "tokenize", lambda worker, recipe: 1 / 0)
    assert Worker(run).work() == "failed"
    assert "ZeroDivisionError" in run.status().error
    monkeypatch.undo()

    text, made = path.read_text(), run.made()["dataset"]
    try:
        path.write_text("Another text altogether. " * 30)
        assert Worker(run).work() == "finished"
    finally:
        path.write_text(text)
    assert run.made()["dataset"] == made, "the corpus changed, but this run goes on with what it had"
    assert [e["state"] for e in run.rows("events")[0] if e["kind"] == "state"] == [
        "queued", "running", "failed", "running", "finished"]
    assert json.loads((run.path / "manifest.json").read_text())["tokens"] == run.made()["tokens"]


def test_a_stop_between_batches_of_text_ends_the_worker(world):
    run = world.run("jobs=[curate]", "corpus.validation_fraction=0.2")
    run.request("stop")
    assert Worker(run).work() == "stopped"
    assert "dataset" not in run.made()


def test_a_recipe_that_was_damaged_is_named(world):
    run = world.run()
    run.recipe_path.write_text("name: x\noptim: {kind: sgd, lr: -1}\n")
    assert Worker(run).work() == "failed"
    assert "optim.lr: is -1, must be more than 0" in run.status().error
    assert str(run.recipe_path) in run.status().error
