"""A training run: what it computes against a loop in plain torch, and what it tells in its folder."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from test_runs_folder import disk_full_after

from engine.model import pretrained
from engine.model.decoder import Decoder
from engine.runs import checkpoint, saving
from engine.runs.worker import Worker
from engine.tokens.batches import Batches, Validation
from engine.tokens.shards import Shards


def rows(run, metric="train/loss"):
    return [row for row in run.rows("metrics")[0] if metric in row]


def events(run, kind):
    return [event for event in run.rows("events")[0] if event["kind"] == kind]


def trained(world, *changes):
    run = world.run(*changes)
    assert Worker(run).work() == "finished", run.status().error
    return run


def test_a_run_computes_what_a_plain_loop_computes(world):
    run = trained(world, "train.accumulation=2", "train.max_grad_norm=0.5")
    recipe = world.recipe
    torch.manual_seed(recipe.seed)
    model = Decoder(recipe.model)
    optimizer = recipe.optim.build(model)
    batches = Batches(Shards(world.tokens, "train"), recipe.model.context_length, recipe.train.micro_batch_size,
                      recipe.seed)
    told = rows(run)
    assert [row["step"] for row in told] == list(range(1, 21))
    for step, row in enumerate(told):
        lr = optimizer.param_groups[0]["lr"] = optimizer.param_groups[1]["lr"] = (
            recipe.optim.lr * recipe.schedule.factor(step, recipe.train.max_steps))
        batch = torch.cat([batches.batch(2 * step), batches.batch(2 * step + 1)])
        optimizer.zero_grad()
        loss = F.cross_entropy(model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        assert row["train/loss"] == pytest.approx(float(loss.detach()), rel=1e-4)
        assert row["train/grad_norm"] == pytest.approx(float(norm), rel=1e-3)
        assert (row["train/lr"], row["tokens"]) == (lr, (step + 1) * 2 * 4 * 16)
        assert row["speed/tokens_per_second"] > 0
    assert told[-1]["train/loss"] < told[0]["train/loss"] - 0.5

    looked_at = Validation(Shards(world.tokens, "val"), 16, 4, recipe.train.validation_batches)
    batch = torch.cat([looked_at.batch(i) for i in range(len(looked_at))])
    with torch.no_grad():
        nats = float(F.cross_entropy(model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten(), reduction="sum"))
    last = rows(run, "val/loss")[-1]
    assert [row["step"] for row in rows(run, "val/loss")] == [10, 20]
    assert last["val/loss"] == pytest.approx(nats / batch[:, 1:].numel(), rel=1e-4)
    assert last["val/perplexity"] == pytest.approx(math.exp(last["val/loss"]))
    assert last["val/bits_per_byte"] == pytest.approx(nats / math.log(2) / looked_at.num_bytes, rel=1e-4)
    saved = pretrained.load(checkpoint.last(run))
    for mine, plain in zip(saved.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(mine, plain, atol=1e-4, rtol=1e-3)


def test_the_folder_tells_what_happened_and_holds_nothing_else(world, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run = world.run("train.sample_every=10", "train.precision=auto", "model.dropout=0.1")
    run.request("checkpoint")
    run.request("sample")
    assert Worker(run).work() == "finished"
    assert {p.name for p in run.path.iterdir()} == {
        "recipe.yaml", "machine.json", "status.json", "metrics.jsonl", "events.jsonl", "requests", "lock",
        "checkpoints", "made.json", "manifest.json", "plan.json"}
    assert list(tmp_path.iterdir()) == []
    resolved = {event["setting"]: event for event in events(run, "resolved")}
    assert resolved["train.precision"]["value"] in ("bf16", "float32")
    assert "GFLOP/s" in resolved["train.precision"]["why"]
    assert resolved["train.device"]["value"] == "cpu"
    assert [event["step"] for event in events(run, "sample")] == [1, 10, 20]
    assert all(event["prompt"] == "The" and event["text"] for event in events(run, "sample"))
    saved = events(run, "checkpoint")
    assert [event["step"] for event in saved] == [1, 10, 20]
    assert [(run.path / event["path"]).is_dir() for event in saved] == [False, True, True]
    assert [event["val_loss"] is None for event in saved] == [True, False, False]
    assert run.made()["checkpoint"] == str(checkpoint.best(run).relative_to(world.workspace.path))
    status = run.status()
    assert (status.state, status.job, status.step, status.of) == ("finished", "train", 20, 20)
    assert "loss" in status.message
    log = capsys.readouterr().out
    assert "step 20: validation loss" in log
    assert "lightning" not in log.lower()


def test_samples_are_those_of_the_saved_weights(world):
    from tokenizers import Tokenizer

    from engine.model.generate import generate

    run = trained(world, "train.sample_every=20", "model.dropout=0.2")
    event = events(run, "sample")[-1]
    tokenizer = Tokenizer.from_file(str(world.tokens / "tokenizer.json"))
    ids = torch.tensor([tokenizer.encode("The").ids])
    model = pretrained.load(checkpoint.last(run)).eval()
    made = generate(model, ids, 8, generator=torch.Generator().manual_seed(world.recipe.seed), end=0)
    assert event["text"] == tokenizer.decode(made)


@pytest.mark.parametrize("changes", [
    ("optim={kind: sgd, lr: 10, momentum: 0.99}", "schedule=constant", "train.max_grad_norm=0"),
    ("optim.lr=10", "train.max_grad_norm=0"),
])
def test_a_loss_that_explodes_stops_the_run_and_keeps_the_last_good_checkpoint(world, changes, monkeypatch):
    if "optim.lr=10" in changes:  # AdamW's updates are bounded, so its gradient is spoilt by hand
        update = Decoder.hidden
        calls = iter(range(10**6))
        monkeypatch.setattr(Decoder, "hidden", lambda self, ids, **more: update(self, ids, **more) * (
            math.nan if self.training and next(calls) == 15 else 1))
    run = world.run(*changes, "train.checkpoint_every=1", "train.max_steps=200", "train.keep_last=1",
                    "train.compile=off")  # a busy machine is slow enough to try it, and what it tries is counted
    assert Worker(run).work() == "failed"
    sentence = run.status().error
    kept = run.checkpoints[-1]
    step = int(kept.name.removeprefix("step-"))
    assert f"became NaN or infinite at step {step + 1}, so training stopped before that update" in sentence
    assert f"checkpoint {kept.name} is kept" in sentence
    assert "optim.lr is 10" in sentence
    assert "train.max_grad_norm=1" in sentence
    assert [event["sentence"] for event in events(run, "advice")] == [sentence]
    weights = pretrained.load(checkpoint.last(run))
    assert all(parameter.isfinite().all() for parameter in weights.parameters())
    assert [row["step"] for row in rows(run)] == list(range(1, step + 1))
    assert all(math.isfinite(row["train/loss"]) for row in rows(run))


def test_a_full_disk_lets_training_go_on_and_the_end_says_it(world, monkeypatch):
    run = world.run("train.keep_last=1")
    write = saving.write

    def short_of_room(run, content, *how):
        if content.position.step == 10:
            return write(run, content, *how)
        with disk_full_after(3000):
            return write(run, content, *how)

    monkeypatch.setattr(saving, "write", short_of_room)
    run.request("checkpoint")
    assert Worker(run).work() == "failed"
    assert "could not be written" in run.status().error
    assert "No checkpoint at step 1: " in events(run, "warning")[0]["sentence"]
    assert "Training goes on" in events(run, "warning")[0]["sentence"]
    assert [path.name for path in run.checkpoints] == ["step-000010"]
    assert checkpoint.last(run).name == "step-000010"
    monkeypatch.undo()
    assert Worker(run).work() == "finished"
    assert [row["step"] for row in rows(run)] == list(range(1, 21))


def test_a_corpus_shorter_than_a_context_is_refused(world):
    run = world.run("model.context_length=100000")
    assert Worker(run).work() == "failed"
    assert "model.context_length is 100000, but the training text has only" in run.status().error
    assert not run.checkpoints
