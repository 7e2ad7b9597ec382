"""The probe: real steps of a recipe, timed in the worker, that replace the plan's guesses; no text is needed."""

from __future__ import annotations

import functools

import torch

from engine.plan import measured
from engine.plan.here import here
from engine.plan.outline import outline
from engine.runs import create
from engine.runs.worker import Worker


def test_a_few_real_steps_are_measured_without_any_text(world):
    recipe = world.recipe.override("jobs=[probe]", "corpus.sources=[{path: gone.txt}]", "train.accumulation=2",
                                   "train.max_steps=5000", "train.compile=off", "train.micro_batch_size=5",
                                   "name=probe")
    before = outline(recipe, world.workspace)
    run = create(recipe, world.workspace)
    assert not (run.path / "plan.json").exists()  # it trains nothing that could be held against one
    assert Worker(run).work() == "finished", run.status().error
    found = measured.measured(world.workspace, recipe, here(world.workspace))
    assert found.source == run.name
    assert 3 <= found.steps <= 17  # as many as there is time for
    assert min(found[:8]) > 0
    after = outline(recipe, world.workspace)
    assert (before.measured, after.measured) == (False, True)
    assert after.seconds["steps"] == 5000 * found.step_seconds
    assert f"{found.steps} steps, in run {run.name}" in after.based_on
    assert not list(run.path.glob("*.safetensors"))
    assert run.checkpoints == []


def test_the_probe_compiles_when_the_run_will_and_is_kept_for_such_runs_alone(world, monkeypatch):
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    asked = world.recipe.override("jobs=[probe]", "train.compile='on'", "train.micro_batch_size=6",
                                  "name=compiled")
    run = create(asked, world.workspace)
    assert Worker(run).work() == "finished", run.status().error
    settled = {event["setting"]: event["value"] for event in run.rows("events")[0] if event["kind"] == "resolved"}
    assert settled["train.compile"] == "on"
    assert outline(asked, world.workspace).measured
    assert not outline(asked.override("train.compile='off'"), world.workspace).measured
    assert not outline(asked.override("train.compile=auto"), world.workspace).measured  # too short a run to compile
