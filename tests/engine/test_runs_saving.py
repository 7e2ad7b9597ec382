"""Checkpoints written behind training's back: what was copied is there, one at a time, and failures are told."""

from __future__ import annotations

import random
import shutil
import threading

import pytest
import torch
from safetensors.torch import load_file
from test_runs_checkpoint import Trained
from test_runs_folder import disk_full_after

from engine import files, hardware
from engine.__main__ import main
from engine.config import UserError
from engine.model import pretrained
from engine.optim.averages import average
from engine.runs import checkpoint, saving
from engine.runs.checkpoint import Position
from engine.runs.folder import Run
from engine.runs.metrics import Metrics
from engine.runs.saving import Saving
from engine.runs.worker import Worker
from engine.stages import TrainConfig


class Behind(Trained):
    """A trained model, its `Saving`, and a disk that is as slow as `open` says."""

    def __init__(self, path, monkeypatch, optimizer="adamw", **settings):
        super().__init__(path, optimizer)
        self.told, self.open = [], threading.Event()
        self.open.set()
        self.saving = Saving(self.run, self.tokenizer, TrainConfig(**settings), 0,
                             lambda kind, **facts: self.told.append({"kind": kind, **facts}))
        write = saving.write

        def slowly(*given):
            assert self.open.wait(30)
            return write(*given)

        monkeypatch.setattr(saving, "write", slowly)

    def begin(self, val_loss=None, **how):
        self.saving.save(self.model, self.optimizer, Position(self.step, 100 * self.step), val_loss, **how)


@pytest.mark.parametrize("optimizer", ["adamw", "schedule_free", "averaged"])
def test_training_on_does_not_reach_into_the_checkpoint_being_written(tmp_path, monkeypatch, optimizer):
    torch.manual_seed(0)
    behind = Behind(tmp_path / "run", monkeypatch, "adamw" if optimizer == "averaged" else optimizer)
    if optimizer == "averaged":
        average(behind.optimizer, 0.9)
    behind.train(3)
    expected, _ = saving.write(behind.run, saving.take(behind.model, behind.optimizer, Position(1), None, copy=False),
                               behind.tokenizer, 9)
    behind.open.clear()
    behind.begin()
    behind.train(3)
    behind.saving.look()
    assert not behind.told
    behind.open.set()
    behind.saving.finish()
    made = behind.run.checkpoints[-1]
    assert made.name == "step-000030"
    averages = ["state/weights.safetensors"] if optimizer != "adamw" else []
    for name in ("model.safetensors", "state/optimizer.safetensors", *averages):
        assert (made / name).read_bytes() == (expected / name).read_bytes()
    [event] = behind.told
    assert (event["kind"], event["step"], event["path"]) == ("checkpoint", 30, "checkpoints/step-000030")
    assert event["stall_seconds"] > 0
    assert event["write_seconds"] > 0


def test_one_at_a_time_and_a_step_once(tmp_path, monkeypatch):
    behind = Behind(tmp_path / "run", monkeypatch)
    behind.train().open.clear()
    behind.begin()
    monkeypatch.setattr(saving, "SLOW_SECONDS", 0.01)
    threading.Timer(0.1, behind.open.set).start()
    behind.train().begin(wait=True)
    behind.begin(must=True)
    assert [(event["kind"], event.get("step")) for event in behind.told] == [
        ("checkpoint", 10), ("checkpoint", 20), ("warning", None)]
    assert behind.told[1]["stall_seconds"] >= behind.told[1]["waited_seconds"] >= 0.05
    assert "the disk is slower than train.checkpoint_every=200 asks for" in behind.told[2]["sentence"]
    assert behind.there == ["step-000010", "step-000020"]


def test_what_could_not_be_written_is_told_and_tried_again_where_it_must(tmp_path, monkeypatch):
    behind = Behind(tmp_path / "run", monkeypatch, keep_last=1)
    behind.train().begin(wait=True)
    with disk_full_after(3000):
        behind.train().begin(2.0, wait=True)
        assert "No checkpoint at step 20: " in behind.told[-1]["sentence"]
        with pytest.raises(UserError, match="could not be written"):
            behind.begin(2.0, must=True)
    assert behind.there == ["step-000010"]
    behind.begin(2.0, must=True)
    assert behind.there == ["step-000020"]
    shutil.move(behind.run.path, tmp_path / "moved")
    behind.train().begin(wait=True)
    assert "was moved or deleted while it ran. Move it back." in behind.told[-1]["sentence"]
    assert not behind.run.path.exists()


def test_without_room_for_a_copy_training_waits_and_says_so_once(tmp_path, monkeypatch):
    behind = Behind(tmp_path / "run", monkeypatch)
    monkeypatch.setattr(hardware, "memory", lambda: (1 << 30, 80 << 20))
    for _ in range(2):
        behind.train().begin()
    assert [event["kind"] for event in behind.told] == ["warning", "checkpoint", "checkpoint"]
    assert "has no room in the memory (0.1 GiB are free)" in behind.told[0]["sentence"]


def test_those_of_every_so_many_steps_are_kept_for_good(tmp_path, monkeypatch):
    behind = Behind(tmp_path / "run", monkeypatch, keep_last=1, keep_every=20)
    for val_loss in (1.0, None, None, None, None):
        behind.train().begin(val_loss, wait=True)
    assert behind.there == ["step-000010", "step-000020", "step-000040", "step-000050"]


def test_a_damaged_checkpoint_does_not_count_as_one_of_the_last(tmp_path):
    trained = Trained(tmp_path / "run")
    trained.train().save()
    newest, _ = trained.train(4).save()
    (newest / "tokenizer.json").unlink()
    found, _ = checkpoint.newest(trained.run)
    assert checkpoint.set_aside(trained.run, found) == ["damaged-step-000050"]
    trained.step = 20
    trained.save(keep_last=1)
    assert trained.there == ["step-000020"]
    assert sorted(path.name for path in newest.parent.iterdir()) == ["damaged-step-000050", "step-000020"]


def test_a_flipped_bit_is_found_wherever_it_is(tmp_path):
    trained, dice = Trained(tmp_path / "run"), random.Random(0)
    first, _ = trained.train().save(2.0)
    second, _ = trained.train().save(1.0)
    told = checkpoint.meta(second)
    for path in sorted(path for path in second.rglob("*") if path.is_file()):
        whole = path.read_bytes()
        for _ in range(60 if path.name == "meta.json" else 4):
            place = dice.randrange(len(whole))
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << dice.randrange(8)]) + whole[place + 1:])
            found, wrong = checkpoint.newest(trained.run)
            if path.name == "meta.json" and found == second:  # white space, or the name of its own checksum
                assert checkpoint.meta(second) | told == checkpoint.meta(second)
            else:
                assert found == first
                assert len(wrong) == 1
                assert second.name in wrong[0]
        path.write_bytes(whole)
    shutil.rmtree(second / "state")
    assert checkpoint.newest(trained.run)[0] == first
    shutil.rmtree(second)
    second.mkdir()
    assert checkpoint.newest(trained.run)[0] == first


def test_a_checkpoint_that_a_kill_left_untold_is_told_by_the_resume(world):
    run = world.run("train.max_steps=10")
    run.request("checkpoint")
    assert Worker(run).work() == "finished", run.status().error
    first = run.path / "checkpoints" / "step-000001"
    shutil.rmtree(run.checkpoints[-1])
    assert run.checkpoints == [first]
    lines = (run.path / "events.jsonl").read_text().splitlines(keepends=True)
    files.write(run.path / "events.jsonl", "".join(line for line in lines if '"kind": "checkpoint"' not in line))
    assert Worker(run).work() == "finished", run.status().error
    expected = [(1, "checkpoints/step-000001"), (10, "checkpoints/step-000010")]
    for last in (True, False):
        told = [event for event in run.rows("events")[0] if event["kind"] == "checkpoint"]
        assert [(event["step"], event["path"]) for event in told] == expected
        if last:  # the kill came after the last checkpoint, and before older ones were deleted
            files.write(run.path / "events.jsonl", "".join(
                line for line in (run.path / "events.jsonl").read_text().splitlines(keepends=True)
                if '"step": 10' not in line))
            old = shutil.copytree(first, first.with_name("step-000000"))
            assert Worker(run).work() == "finished", run.status().error
            assert not old.exists()
    saved = pretrained.load(run.checkpoints[-1]).state_dict()
    assert load_file(run.checkpoints[-1] / "model.safetensors")["model.norm.weight"].equal(saved["norm.weight"])


def test_rows_and_events_that_find_no_room_wait_for_it(world, monkeypatch):
    run = world.run()
    worker, metrics = Worker(run), Metrics(run, 0)
    metrics.row(step=1)
    with monkeypatch.context() as full:
        full.setattr(Run, "append", lambda *_: (_ for _ in ()).throw(OSError(28, "no space")))
        metrics.row(step=2)
        worker.event("warning", sentence="no room")
    metrics.row(step=3)
    worker.event("warning", sentence="room again")
    assert [row["step"] for row in run.rows("metrics")[0]] == [1, 2, 3]
    assert [event.get("sentence") for event in run.rows("events")[0]][-2:] == ["no room", "room again"]


def test_on_a_full_disk_the_status_still_says_why(world, monkeypatch):
    run = world.run()
    run.write_status(state="running", message="x" * 400)

    def full(path, value):
        raise files.unwritable(path, OSError(28, "no space")) from OSError(28, "no space")

    monkeypatch.setattr(files, "write_json", full)
    run.write_status(state="failed", message="", error="The disk is full.")
    assert (run.status().state, run.status().error) == ("failed", "The disk is full.")


def test_the_command_line_checks_every_checkpoint(world, capsys):
    run = world.run("train.checkpoint_every=10")
    assert Worker(run).work() == "finished", run.status().error
    asked = ["verify", run.name, "--workspace", str(world.workspace.path)]
    assert main(asked) == 0
    assert capsys.readouterr().out.endswith("step-000010 is whole\nstep-000020 is whole\n")
    (run.checkpoints[0] / "config.json").write_text("{}")
    assert main(asked) == 1
    assert "config.json is cut" in capsys.readouterr().out
