"""Measurements: for what they hold, what they say of other shapes, and what a finished training teaches."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from engine.model import estimate
from engine.plan import here, measured, memory, speed
from engine.plan.here import Here
from engine.plan.measured import Measured
from engine.plan.outline import outline
from engine.recipe import Recipe
from engine.runs import create
from engine.runs.worker import Worker

MACHINE = Here("AMD EPYC 9654", "cpu", 4.0, 16 * 2.0**30, "float32")


def took(step: float, source: str = "before") -> Measured:
    return Measured(step, step / 3, 0.002, 0.1, 3.0, 0.6, 20.0, 1e9, 17, source)


@pytest.fixture
def demo() -> Recipe:
    return Recipe.load("demo").override("train.compile='off'")


def test_a_toy_says_nothing_of_a_model_a_hundred_times_its_size(workspace, demo):
    toy = demo.override("model.num_layers=2", "model.hidden_size=32", "model.num_heads=2", "model.num_kv_heads=1",
                        "model.context_length=32")
    before = outline(demo, workspace, machine=MACHINE).seconds["steps"]
    measured.keep(workspace, toy, took(100 * speed.step(toy, MACHINE)[0], "toy"), MACHINE)
    after = outline(demo, workspace, machine=MACHINE)
    assert after.seconds["steps"] == before
    assert "toy" not in after.based_on


def test_trainings_that_end_at_once_are_all_remembered(workspace, demo):
    shapes = [demo.override(f"train.micro_batch_size={rows}") for rows in range(1, 17)]
    with ThreadPoolExecutor(8) as hands:
        list(hands.map(lambda shape: measured.keep(workspace, shape, took(1.0), MACHINE), shapes))
    assert all(measured.measured(workspace, shape, MACHINE) for shape in shapes)


def test_of_several_measurements_the_nearest_shape_counts(workspace, demo):
    near, far = demo.override("train.micro_batch_size=10"), demo.override("train.micro_batch_size=24")
    measured.keep(workspace, near, took(2 * speed.step(near, MACHINE)[0], "near"), MACHINE)
    measured.keep(workspace, far, took(3 * speed.step(far, MACHINE)[0], "far"), MACHINE)  # the newest
    plan = outline(demo, workspace, machine=MACHINE)
    assert "near" in plan.based_on
    assert plan.seconds["steps"] == pytest.approx(2 * speed.step(demo, MACHINE)[0] * demo.train.max_steps)
    assert plan.seconds["start"] == 3.0  # as it took here, whatever the shape


@pytest.mark.parametrize("change", ["train.compile='on'", "train.devices=2",
                                    "optim.layers=[{names: 'blocks.0.*', lr_factor: 0}]"])
def test_a_measurement_is_not_shown_for_what_computes_otherwise(workspace, demo, change):
    measured.keep(workspace, demo, took(0.5), MACHINE)
    assert outline(demo, workspace, machine=MACHINE).measured
    assert not outline(demo.override(change), workspace, machine=MACHINE).measured


def test_auto_compiles_long_runs_alone_and_its_measurements_are_kept_apart(workspace, demo):
    short = demo.override("train.compile=auto", "train.max_steps=100")
    long = short.override("train.max_steps=10000")
    measured.keep(workspace, short, took(0.1, "short"), MACHINE)
    assert measured.measured(workspace, short, MACHINE).source == "short"
    assert measured.measured(workspace, demo, MACHINE).source == "short"
    assert measured.measured(workspace, long, MACHINE) is None  # 1,000 s, of which compiling may save 200
    measured.keep(workspace, long, took(0.09, "long"), MACHINE, compiled=True)
    assert measured.measured(workspace, long, MACHINE).source == "long"
    assert measured.measured(workspace, short, MACHINE).source == "short"


def test_what_is_frozen_has_no_gradients_and_no_optimizer_state(demo):
    frozen = demo.override("optim.layers=[{names: 'blocks.*', lr_factor: 0}]")
    all_of_it, part = memory.peak(demo, "float32"), memory.peak(frozen, "float32")
    rest = 2048 * 128 + 128  # embedding and last norm
    assert part["gradients"] == 4 * rest
    assert part["optimizer"] == pytest.approx(8 * rest, rel=1e-3)
    assert part["weights"] == all_of_it["weights"]
    assert all_of_it["gradients"] == 4 * estimate.parameters(demo.model)


def test_processes_of_one_processor_share_its_memory_and_its_cores(workspace, demo):
    alone = outline(demo, workspace, machine=MACHINE)
    four = outline(demo.override("train.devices=4"), workspace, machine=MACHINE)
    assert four.memory["weights"] == 4 * alone.memory["weights"]
    assert four.memory["process"] == 4 * alone.memory["process"]
    assert four.memory["activations"] == pytest.approx(alone.memory["activations"], rel=0.01)  # of as many rows
    assert alone.seconds["steps"] * 0.5 < four.seconds["steps"] < alone.seconds["steps"] * 2
    tight = outline(demo.override("train.devices=4"), workspace, machine=MACHINE._replace(memory_bytes=1.2 * 2**30))
    assert not tight.fits
    assert tight.remedies[0].changes == {"train.devices": "auto"}


def test_the_machine_s_speed_is_tried_once_and_remembered(workspace, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    tries = []
    monkeypatch.setattr(here, "multiply", lambda: tries.append(1) or 4e10)
    assert here.here(workspace).core_flops == here.here(workspace).core_flops == 4e10
    assert tries == [1]
    (workspace.path / "processors.json").write_text("{broken")
    assert here.here(workspace).core_flops == 4e10
    demo = Recipe.load("demo")
    slow, fast = (speed.step(demo, MACHINE._replace(core_flops=each))[0] for each in (4e10, 8e10))
    assert slow == pytest.approx(2 * fast)


def test_a_small_product_is_timed_on_one_core():
    assert 1e8 < here.multiply(0.01) < 1e13


def test_a_finished_training_keeps_its_own_speed_and_the_next_plan_says_so(world):
    recipe = world.recipe.override("jobs=[train]", "train.max_steps=40", "train.sample_every=20",
                                   "train.micro_batch_size=7", "name=first")
    before = outline(recipe, world.workspace)
    run = create(recipe, world.workspace)
    assert Worker(run).work() == "finished", run.status().error
    after = outline(recipe, world.workspace)
    assert (before.measured, after.measured) == (False, True)
    assert f"in run {run.name}" in after.based_on
    rows = run.rows("metrics")[0]
    steps = [row["time"] for row in rows if "train/loss" in row]
    found = measured.measured(world.workspace, recipe, here.here(world.workspace))
    assert found.steps >= 10
    assert 0 < found.step_seconds <= (steps[-1] - steps[0]) / len(steps) * 1.5
    assert found.look_seconds > 0
    assert found.save_seconds > 0
    assert found.token_seconds > 0
    assert not outline(recipe.override("model.num_layers=1"), world.workspace).measured
