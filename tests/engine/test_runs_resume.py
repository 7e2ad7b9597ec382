"""Real worker processes, really killed: what is resumed is bit for bit what an uninterrupted run would be."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
from test_runs_training import events, rows

from engine import runs
from engine.config import UserError
from engine.runs import checkpoint
from engine.runs.worker import Worker

STEPS = 40
HARD = ("train.accumulation=2", "model.dropout=0.2", "train.max_grad_norm=0.3", f"train.max_steps={STEPS}",
        "train.checkpoint_every=10", "train.keep_last=9")
# Samples and validations at every step keep the rows live for the test, and must not change the training.
WATCHED = (*HARD, "train.sample_every=1", "train.validate_every=1", "train.sample_tokens=24")

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def uninterrupted(world):
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    run = world.run(*HARD, "train.validate_every=1000")
    assert Worker(run).work() == "finished", run.status().error
    torch.set_num_threads(before)
    return run


@pytest.fixture
def launched(world):
    """Starts runs, and ends what is left of them after the test."""
    made = []

    def start(*changes):
        made.append(runs.start(world.recipe.override(*changes), world.workspace))
        return made[-1]

    yield start
    for run in made:
        if run.status().active:
            os.kill(run.status().pid, signal.SIGKILL)
    until(lambda: not any(run.locked() for run in made), "the workers are gone")


def until(true, what, seconds=60.0):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"waited {seconds} s until {what}"
        time.sleep(0.02)


def reaches(run, step):
    def reached():
        assert run.status().state not in ("failed", "lost"), run.status().error or run.log()
        told = rows(run)
        return bool(told) and told[-1]["step"] >= step

    until(reached, f"step {step}")


def same(run, reference):
    """Every loss, gradient norm and learning rate, the weights and the optimizer, to the last bit."""
    for metric in ("train/loss", "train/grad_norm", "train/lr", "tokens"):
        assert [row[metric] for row in rows(run)] == [row[metric] for row in rows(reference)], metric
    assert [row["step"] for row in rows(run)] == list(range(1, STEPS + 1))
    for name in ("model.safetensors", "state/optimizer.safetensors"):
        assert (checkpoint.last(run) / name).read_bytes() == (checkpoint.last(reference) / name).read_bytes()
    shared = {row["step"]: row["val/loss"] for row in rows(reference, "val/loss")}
    assert shared == {row["step"]: row["val/loss"] for row in rows(run, "val/loss") if row["step"] in shared}


def test_a_killed_worker_is_lost_at_once_and_resumes_bit_for_bit(launched, uninterrupted):
    run = launched(*WATCHED)
    reaches(run, 15)
    os.kill(run.status().pid, signal.SIGKILL)
    until(lambda: run.status().state == "lost", "the run counts as lost", seconds=2)
    assert [path.name for path in run.checkpoints] == ["step-000010"]
    told, cursor = run.rows("metrics")
    assert told[-1]["step"] > 10

    newest = run.checkpoints[-1] / "model.safetensors"
    whole = newest.read_bytes()
    newest.write_bytes(whole[:100])
    assert Worker(run).work() == "failed"
    assert f"has no whole checkpoint to go on from: {newest} is cut" in run.status().error
    assert run.rows("metrics", cursor) == ([], cursor), "nothing good was lost"

    newest.write_bytes(whole)
    (run.path / "checkpoints" / ".step-000020.01234567").mkdir()
    with open(run.path / "metrics.jsonl", "a") as file:
        file.write('{"step": 99, "tra')
    runs.resume(run)
    assert run.wait(60).state == "finished"
    same(run, uninterrupted)
    assert not list((run.path / "checkpoints").glob(".*"))
    assert [event["step"] for event in events(run, "sample")] == list(range(1, STEPS + 1)), "each step is told of once"
    assert [event["step"] for event in events(run, "checkpoint")] == [10, 20, 30, 40]


def test_sigterm_pause_and_a_damaged_checkpoint_resume_bit_for_bit(launched, uninterrupted):
    run = launched(*WATCHED)
    reaches(run, 13)
    os.kill(run.status().pid, signal.SIGTERM)
    assert run.wait(30).state == "stopped"
    stopped = rows(run)[-1]["step"]
    assert run.checkpoints[-1].name == f"step-{stopped:06d}", "saved at the very step at which it stopped"
    harmed = run.checkpoints[-1] / "state" / "optimizer.safetensors"
    harmed.write_bytes(harmed.read_bytes()[:-1] + b"\x55")

    runs.resume(run)
    reaches(run, 15)
    [warning] = events(run, "warning")
    assert warning["sentence"].startswith("Training goes on from step-000010, since ")
    assert str(harmed) in warning["sentence"]
    runs.pause(run)
    until(lambda: run.status().state == "paused", "the run is paused")
    paused = rows(run)[-1]["step"]
    assert checkpoint.verify(run.checkpoints[-1]).name == f"step-{max(paused, stopped):06d}"
    time.sleep(0.3)
    assert rows(run)[-1]["step"] == paused
    with pytest.raises(UserError, match="is paused; stop it first"):
        runs.trash(run, None)
    runs.resume(run)
    assert run.wait(60).state == "finished"
    same(run, uninterrupted)


def test_a_run_outlives_the_process_that_started_it(world, uninterrupted):
    recipe = world.workspace.path / "toy.yaml"
    recipe.write_text(world.recipe.override(*WATCHED, "name=orphan").to_yaml())
    start = ("import sys; from engine import runs; from engine.recipe import Recipe; from engine.workspace import "
             "Workspace; print(runs.start(Recipe.load(sys.argv[1]), Workspace(sys.argv[2])).name)")
    parent = subprocess.run([sys.executable, "-c", start, str(recipe), str(world.workspace.path)],
                            capture_output=True, text=True, check=True, timeout=60)
    run = runs.find(parent.stdout.strip(), world.workspace)
    reaches(run, 5)
    assert os.getsid(run.status().pid) == run.status().pid, "a session of its own"

    with pytest.raises(UserError, match=r"run orphan is already running \(process \d+\)"):
        runs.resume(run)
    runs.pause(run)  # a toy run would be over before the second process has begun
    until(lambda: run.status().state == "paused", "the run is paused")
    second = subprocess.run([sys.executable, "-m", "engine", "work", str(run.path)], capture_output=True, text=True,
                            timeout=60)
    assert second.returncode == 2
    assert "run orphan is already running" in second.stderr
    runs.stop(run)
    assert run.wait(60).state == "stopped"
    assert checkpoint.last(run).name == f"step-{rows(run)[-1]['step']:06d}"
    reference = {row["step"]: row["train/loss"] for row in rows(uninterrupted)}
    assert all(reference[row["step"]] == row["train/loss"] for row in rows(run))
