"""Several processes train one model: they compute what one process computes, and stop and go on together."""

from __future__ import annotations

import shutil

import pytest
from test_runs_training import events, rows

from engine import files
from engine.config import UserError
from engine.recipe import Recipe
from engine.runs import checkpoint, cluster, spread
from engine.runs.cluster import Place
from engine.runs.worker import Worker

STEPS = 50
# At a rate as low as this a toy does not blow up differences of the last bit.
BATCH = ("train.micro_batch_size=4", "train.accumulation=2", "train.max_grad_norm=0.3", f"train.max_steps={STEPS}",
         "train.validate_every=25", "train.checkpoint_every=25", "optim.lr=2e-3")


def trained(world, *changes):
    run = world.run(*BATCH, *changes)
    assert Worker(run).work() == "finished", run.status().error
    return run


@pytest.fixture(scope="session")
def alone(world):
    """One process: what all others are held against."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    run = trained(world)
    torch.set_num_threads(before)
    return run


def same_path(run, reference, near=1e-5):
    """Every loss as in the other run, validation's too, up to the order in which floats were added."""
    assert [row["step"] for row in rows(run)] == list(range(1, STEPS + 1))
    for metric, most in (("train/loss", {"abs": near}), ("val/loss", {"abs": near}),
                         ("train/grad_norm", {"rel": 100 * near})):
        its = {row["step"]: row[metric] for row in rows(reference, metric)}
        told = {row["step"]: row[metric] for row in rows(run, metric) if row["step"] in its}
        assert told == {step: pytest.approx(value, **most) for step, value in its.items()}, metric
    assert [(r["train/lr"], r["tokens"]) for r in rows(run)] == [(r["train/lr"], r["tokens"]) for r in rows(reference)]


@pytest.mark.usefixtures("one_thread")
def test_two_processes_train_what_one_trains_and_one_goes_on_from_them(world, alone):
    run = trained(world, "train.devices=2", "train.sample_every=50")
    same_path(run, alone)
    told = {event["setting"]: event["value"] for event in events(run, "resolved")}
    assert told["train.devices"] == "ddp, 2 processes"
    assert [event["step"] for event in events(run, "checkpoint")] == [25, 50]
    assert len(events(run, "sample")) == 1

    shutil.rmtree(run.checkpoints[-1])
    run.recipe_path.write_text(run.recipe_path.read_text().replace("devices: '2'", "devices: '1'"))
    assert Worker(run).work() == "finished", run.status().error
    same_path(run, alone)


@pytest.mark.usefixtures("one_thread")
def test_two_processes_save_and_stop_together(world):
    run = world.run(*BATCH, "train.devices=2")
    files.write_json(run.path / "made.json", {"tokens": f"tokens/{world.tokens.name}"})
    run.request("stop")
    assert Worker(run).work() == "stopped", run.status().error
    assert [row["step"] for row in rows(run)] == [1]
    assert [checkpoint.verify(path).name for path in run.checkpoints] == ["step-000001"]
    assert run.requests() == []


# How it is spread --------------------------------------------------------------------------------------


def recipe(*changes):
    return Recipe().override("train.micro_batch_size=16", "train.accumulation=3", *changes)


@pytest.mark.parametrize(("devices", "rows", "times"), [(1, 16, 3), (2, 12, 2), (3, 16, 1), (4, 12, 1), (48, 1, 1)])
def test_the_rows_of_a_step_stay_as_many(devices, rows, times):
    how = spread.spread(recipe(f"train.devices={devices}"), "cpu")
    assert (how.micro_batch_size, how.accumulation, how.processes) == (rows, times, devices)
    assert how.micro_batch_size * how.accumulation * how.processes == 48


def test_rows_that_cannot_be_shared_out_are_refused_with_what_to_change():
    with pytest.raises(UserError, match=r"train.devices: makes 5 processes, which cannot share the 48 rows of a step "
                                        r"evenly .*; take 4 of them, or a micro_batch_size that is a multiple of 5"):
        recipe("train.devices=5")
    with pytest.raises(UserError, match=r"train.devices makes 7 processes"):
        spread.spread(recipe(), "cpu", place=Place(0, 7, 0, 7, 0, "torchrun"))
    with pytest.raises(UserError, match=r"train.strategy: is single, which is one process, but there are 2"):
        recipe("train.devices=2", "train.strategy=single")
    with pytest.raises(UserError, match=r"train.devices: is two, must be auto or a number from 1 to 1024"):
        recipe("train.devices=two")
    with pytest.raises(UserError, match=r"train.strategy is fsdp, which cuts every matrix, and adafactor needs them"):
        spread.spread(recipe("train.devices=2", "train.strategy=fsdp", "optim.kind=adafactor"), "cpu")
    with pytest.raises(UserError, match=r"train.devices is 4, but 2 GPUs are here"):
        spread.spread(recipe("train.devices=4"), "cuda", (80 << 30,) * 2)


def test_auto_takes_all_gpus_and_cuts_the_model_where_a_copy_does_not_fit():
    assert spread.spread(recipe(), "cpu").words == "one process"
    assert spread.spread(recipe(), "cuda", (80 << 30,)).words == "one process"
    assert spread.spread(recipe(), "cuda", (80 << 30,) * 4).words == "ddp, 4 processes"
    assert spread.spread(recipe(), "cuda", (80 << 30,) * 5).words == "ddp, 4 processes", "five cannot share 48 rows"
    small = spread.spread(recipe(), "cuda", (1 << 29,) * 4)
    assert small.words == "fsdp, 4 processes"
    assert "a copy of the model needs about" in small.why
    assert spread.spread(recipe("train.strategy=ddp"), "cuda", (1 << 29,) * 4).strategy == "ddp"


def test_a_process_finds_its_place_however_it_was_started():
    torchrun = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "1",
                "MASTER_ADDR": "a", "MASTER_PORT": "1"}
    assert cluster.place(torchrun) == Place(3, 4, 1, 2, 1, "torchrun")
    assert cluster.place(torchrun).nodes == 2
    slurm = {"SLURM_STEP_NUM_TASKS": "6", "SLURM_PROCID": "4", "SLURM_LOCALID": "1", "SLURM_NODEID": "1",
             "SLURM_STEP_TASKS_PER_NODE": "3(x2)", "SLURM_NTASKS": "6"}
    with pytest.raises(UserError, match="MASTER_ADDR is not set"):
        cluster.place(slurm)
    assert cluster.place({**slurm, "MASTER_ADDR": "a"}) == Place(4, 6, 1, 3, 1, "slurm")
    assert cluster.place({"SLURM_NTASKS": "6", "SLURM_PROCID": "0"}) == Place(), "in a batch script, outside srun"
    assert cluster.place({**torchrun, "WORLD_SIZE": "1", "RANK": "0"}) == Place()
