"""Several processes train one model: what they compute is what one process computes, and they stop and go on together."""

from __future__ import annotations

import pytest
from test_runs_training import events, rows

from engine.runs import checkpoint
from engine.runs.worker import Worker

pytestmark = pytest.mark.usefixtures("one_thread")

BATCH = ("train.micro_batch_size=4", "train.accumulation=2", "train.max_grad_norm=0.3", "train.max_steps=50",
         "train.validate_every=25", "train.checkpoint_every=25")


def trained(world, *changes):
    run = world.run(*BATCH, *changes)
    assert Worker(run).work() == "finished", run.status().error + run.log()
    return run


@pytest.fixture(scope="module")
def alone(world):
    return trained(world)


def test_two_processes_train_what_one_trains(world, alone):
    run = trained(world, "train.devices=2")
    for mine, its in zip(rows(run), rows(alone), strict=True):
        assert mine["train/loss"] == pytest.approx(its["train/loss"], abs=1e-5)
        assert mine["train/grad_norm"] == pytest.approx(its["train/grad_norm"], rel=1e-4)
        assert (mine["train/lr"], mine["tokens"]) == (its["train/lr"], its["tokens"])
