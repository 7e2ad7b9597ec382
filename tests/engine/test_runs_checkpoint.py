"""Checkpoints: complete or absent, exact, checked when read, and never more of them than asked."""

from __future__ import annotations

import os
import time

import pytest
import torch
from test_runs_folder import disk_full_after
from tokenizers import Tokenizer, models

from engine import files
from engine.config import UserError
from engine.model import ModelConfig
from engine.model.decoder import Decoder
from engine.optim import OPTIMIZERS
from engine.runs import checkpoint, saving
from engine.runs.checkpoint import Position
from engine.runs.folder import Run

CONFIG = ModelConfig(vocab_size=30, num_layers=1, hidden_size=8, num_heads=2, num_kv_heads=1, context_length=8)


class Trained:
    """A run with a model that has made some steps."""

    def __init__(self, path, optimizer="adamw"):
        (path / "tokens").mkdir(parents=True)
        self.tokenizer = path / "tokens" / "tokenizer.json"
        Tokenizer(models.BPE({"<|endoftext|>": 0}, [])).save(str(self.tokenizer))
        self.run, self.model = Run(path), Decoder(CONFIG)
        self.optimizer = OPTIMIZERS[optimizer]().build(self.model)
        self.step = 0

    def train(self, steps=1):
        for _ in range(steps):
            self.optimizer.zero_grad()
            self.model(torch.arange(8)[None]).square().sum().backward()
            self.optimizer.step()
        self.step += 10 * steps
        return self

    def save(self, val_loss=None, keep_last=2):
        position = Position(self.step, 100 * self.step, "cpu", "float32", "highest")
        content = saving.take(self.model, self.optimizer, position, val_loss, copy=False)
        return saving.write(self.run, content, self.tokenizer, keep_last)

    @property
    def there(self):
        return [path.name for path in self.run.checkpoints]


@pytest.fixture
def trained(tmp_path):
    return Trained(tmp_path / "run")


@pytest.mark.parametrize("optimizer", list(OPTIMIZERS))
def test_what_is_restored_trains_on_as_if_nothing_had_happened(tmp_path, optimizer):
    torch.manual_seed(0)
    trained = Trained(tmp_path / "run", optimizer).train(3)
    path, _ = trained.save()
    other = Trained(tmp_path / "other", optimizer)
    checkpoint.restore_model(path, other.model)
    checkpoint.restore_optimizer(path, other.optimizer)
    assert checkpoint.position(path) == Position(30, 3000, "cpu", "float32", "highest")
    trained.train(2)
    other.train(2)
    for one, two in zip(trained.model.parameters(), other.model.parameters(), strict=True):
        assert torch.equal(one, two)


def test_the_best_and_the_last_are_kept(trained):
    for val_loss in (3.0, 1.0, 2.0, None, 2.5):
        path, best = trained.train().save(val_loss)
        assert best == (val_loss in (3.0, 1.0))
    assert trained.there == ["step-000020", "step-000040", "step-000050"]
    assert checkpoint.best(trained.run).name == "step-000020"
    assert checkpoint.last(trained.run) == path
    assert sorted(p.name for p in (trained.run.path / "checkpoints").iterdir()) == trained.there


@pytest.mark.parametrize(("harm", "words"), [
    (lambda p: p.unlink(), "is missing"),
    (lambda p: p.write_bytes(p.read_bytes()[:-7]), "is cut: it has"),
    (lambda p: p.write_bytes(p.read_bytes()[:-1] + b"\x55"), "is damaged: its content is not what was saved"),
])
@pytest.mark.parametrize("name", ["model.safetensors", "state/optimizer.safetensors", "tokenizer.json"])
def test_a_harmed_file_is_named_and_the_checkpoint_before_is_taken(trained, name, harm, words):
    first, _ = trained.train().save(2.0)
    second, _ = trained.train().save(1.0)
    harm(second / name)
    found, wrong = checkpoint.newest(trained.run)
    assert found == first == checkpoint.last(trained.run)
    assert len(wrong) == 1
    assert wrong[0].startswith(f"{second / name} {words}")
    with pytest.raises(UserError, match=words):
        checkpoint.best(trained.run)
    harm(first / name)
    with pytest.raises(UserError, match=rf"has no whole checkpoint to go on from: .*{words}"):
        checkpoint.newest(trained.run)
    assert trained.there == ["step-000010", "step-000020"], "nothing is deleted"


def test_a_checkpoint_without_its_meta_is_not_taken_for_no_checkpoint(trained):
    path, _ = trained.train().save()
    (path / "meta.json").unlink()
    with pytest.raises(UserError, match=r"meta\.json is missing"):
        checkpoint.newest(trained.run)


@pytest.mark.parametrize("room", [100, 3000, 9000])
def test_a_full_disk_harms_no_older_checkpoint(trained, room):
    first, _ = trained.train().save(2.0, keep_last=1)
    trained.train()
    with disk_full_after(room), pytest.raises(UserError, match="could not be written"):
        trained.save(1.0, keep_last=1)
    assert trained.there == ["step-000010"]
    assert [p.name for p in (trained.run.path / "checkpoints").iterdir()] == ["step-000010"]
    assert checkpoint.verify(first) == first
    trained.save(1.0, keep_last=1)
    assert trained.there == ["step-000020"]


def test_what_a_kill_left_half_written_is_swept_away(trained):
    trained.train().save()
    left = trained.run.path / "checkpoints" / ".step-000020.0123abcd"
    (left / "state").mkdir(parents=True)
    (left / "meta.json").touch()
    for name, age in ((".status.json.0123abcd", 90), (".status.json.4567abcd", 0)):
        (trained.run.path / name).touch()
        os.utime(trained.run.path / name, (time.time() - age,) * 2)
    checkpoint.sweep(trained.run)
    assert [path.name for path in trained.run.path.glob(".*")] == [".status.json.4567abcd"], "it may be in use"
    assert [p.name for p in (trained.run.path / "checkpoints").iterdir()] == ["step-000010"]


def test_no_checkpoint_yet(trained):
    assert checkpoint.newest(trained.run) == (None, [])
    with pytest.raises(UserError, match="has no checkpoint yet"):
        checkpoint.best(trained.run)


def test_meta_lists_every_file(trained):
    path, _ = trained.train().save(1.5)
    told = checkpoint.meta(path)
    assert (told["step"], told["tokens"], told["val_loss"]) == (10, 1000, 1.5)
    there = {str(p.relative_to(path)) for p in path.rglob("*") if p.is_file()}
    assert set(told["files"]) == there - {"meta.json"}
    assert all((path / name).stat().st_size == facts["bytes"] for name, facts in told["files"].items())
    files.write_json(path / "meta.json", {"step": 10})
    with pytest.raises(UserError, match="does not list the checkpoint's files"):
        checkpoint.verify(path)
