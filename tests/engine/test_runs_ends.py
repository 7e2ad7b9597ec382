"""A training that ends by itself, and one that leaves a spike out."""

from __future__ import annotations

import pytest
import torch

from engine.model.decoder import Decoder
from engine.runs.worker import Worker
from engine.stages.spikes import Spikes


def test_training_ends_when_validation_stops_getting_better(world, monkeypatch):
    from engine.stages.base import Stage

    losses = iter([9.0, 5.0, 4.0, 4.1, 4.2, 4.3, 4.4])  # the first is the look before the first step
    monkeypatch.setattr(Stage, "validate", lambda stage, batches: next(losses))
    run = world.run("train.patience=2", "train.validate_every=2", "train.max_steps=20", "train.checkpoint_every=2")
    assert Worker(run).work() == "finished", run.status().error
    told = [event for event in run.rows("events")[0] if event["kind"] == "advice"]
    assert [(event["what"], event["step"]) for event in told] == [("early stop", 8)]
    assert run.made()["checkpoint"].endswith("step-000004")
    assert run.checkpoints[-1].name == "step-000008"
    run.write_status(state="failed")  # in a job after it; a resume must not train on
    assert Worker(run).work() == "finished"
    assert run.checkpoints[-1].name == "step-000008"


def test_a_spike_is_left_out_and_told(world, monkeypatch):
    hidden, calls = Decoder.hidden, iter(range(10**6))

    def spoilt(self, ids, *given, **more):
        made = hidden(self, ids, *given, **more)
        return made * 40 if self.training and next(calls) == 50 else made

    monkeypatch.setattr(Decoder, "hidden", spoilt)
    monkeypatch.setattr("engine.stages.spikes.STEPS", 40)
    run = world.run("train.skip_spikes=true", "train.max_steps=54", "train.validate_every=54",
                    "train.checkpoint_every=54", "train.compile=off", "optim.lr=1e-5")
    assert Worker(run).work() == "finished", run.status().error
    rows = [row for row in run.rows("metrics")[0] if "train/loss" in row]
    assert [row["step"] for row in rows if row.get("train/skipped")] == [51]
    energy = [row for row in run.rows("metrics")[0] if "energy/kwh" in row]
    assert energy
    assert energy[-1]["energy/kwh"] > 0
    assert energy[-1]["step"] == 54
    assert all(0 <= row["speed/data_wait"] <= 1 for row in rows)
    assert any(event.get("setting") == "energy" for event in run.rows("events")[0])


def test_what_the_doctor_finds_in_a_run_is_on_its_timeline(world, monkeypatch):
    """A spike, planted: told with its remedy while the run goes on."""
    hidden, calls = Decoder.hidden, iter(range(10**6))

    def spoilt(self, ids, *given, **more):
        made = hidden(self, ids, *given, **more)
        return made * 40 if self.training and next(calls) == 40 else made

    monkeypatch.setattr(Decoder, "hidden", spoilt)
    monkeypatch.setattr("engine.runs.doctor.SPIKE_STEPS", 32)
    run = world.run("train.max_steps=44", "train.validate_every=44", "train.checkpoint_every=44", "train.compile=off",
                    "train.sample_every=0", "optim.lr=1e-5")
    assert Worker(run).work() == "finished", run.status().error
    told = [event for event in run.rows("events")[0] if event["kind"] == "advice"]
    assert [(event["what"], event["step"]) for event in told if event["what"] == "loss spike"] == [("loss spike", 41)]
    assert "train.skip_spikes=true" in told[0]["sentence"]


def test_a_step_without_gradients_changes_nothing():
    weight = torch.nn.Parameter(torch.ones(2, 2))
    optimizer = torch.optim.AdamW([weight], lr=0.1, fused=True)
    weight.grad = torch.ones(2, 2)
    optimizer.step()
    before = weight.detach().clone()
    weight.grad = None
    optimizer.step()
    assert torch.equal(weight, before)


def test_a_new_level_becomes_normal():
    spikes = Spikes()
    level = [3 + 0.01 * (step % 5) for step in range(128)]
    assert not any(spikes.found(value, 1.0) for value in level)
    assert spikes.found(5.0, 1.0)
    assert not any([spikes.found(3.02, 1.0), spikes.found(3.0, 1.0)])
    assert spikes.found(3.0, 9.0)
    assert sum(spikes.found(5.0, 1.0) for _ in range(100)) < 20


@pytest.mark.parametrize("few", [1, 127])
def test_the_first_128_steps_are_no_spikes(few):
    spikes = Spikes()
    assert not any(spikes.found(1.0, 1.0) for _ in range(few))
    assert not spikes.found(1e9, 1.0)
