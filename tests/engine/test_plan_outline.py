"""The plan: its sums, what makes a recipe fit, one dial, and machines elsewhere against published trainings."""

from __future__ import annotations

import math
import subprocess
import sys
from itertools import pairwise

import pytest

from engine.config import UserError
from engine.model import estimate
from engine.plan import machines, measured, memory, prices, speed
from engine.plan.dial import propose
from engine.plan.here import Here
from engine.plan.measured import Measured
from engine.plan.outline import outline
from engine.recipe import Recipe

MACHINE = Here("AMD EPYC 9654", "cpu", 4.0, 16 * 2.0**30, "float32")


def test_a_plan_adds_up(workspace):
    recipe = Recipe.load("demo")
    plan = outline(recipe, workspace, machine=MACHINE)
    tokens = recipe.train.max_steps * recipe.tokens_per_step
    assert (plan.tokens, plan.parameters) == (tokens, estimate.parameters(recipe.model))
    assert plan.flops == estimate.flops_per_token(recipe.model) * tokens
    assert plan.seconds["steps"] == pytest.approx(recipe.train.max_steps * speed.step(recipe, MACHINE)[0])
    assert plan.kwh == pytest.approx(plan.watts * plan.wall_seconds / 3.6e6)
    assert plan.cost == pytest.approx(plan.kwh * prices.load().electricity.value)
    assert plan.memory_bytes == sum(plan.memory.values())
    assert plan.fits
    assert not plan.measured
    assert all(source for _, _, source in plan.assumptions)


def test_a_measurement_replaces_the_guess_for_exactly_this_recipe(workspace):
    recipe = Recipe.load("demo").override("train.max_steps=1000")
    found = Measured(0.5, 0.1, 0.002, 1.0, 6.0, 1.5, 40.0, 2e10, 17, "demo-measured")
    measured.keep(workspace, recipe, found, MACHINE)
    plan = outline(recipe, workspace, machine=MACHINE)
    assert plan.measured
    assert (plan.memory_bytes, plan.watts) == (1.5 * 2**30 + memory.copy_bytes(recipe), 40.0)
    assert memory.copy_bytes(recipe) == 12 * plan.parameters, "weights and AdamW's two moments, in float32"
    # 1,000 steps; looks every 100 of 20 batches; 10 samples of 2 × 64 tokens; 5 checkpoints
    assert plan.seconds == {"start": 6.0, "steps": 500.0, "looks": pytest.approx(0.1 * 200),
                            "samples": pytest.approx(0.002 * 10 * 128), "checkpoints": 5.0}
    other = outline(recipe.override("train.micro_batch_size=4"), workspace, machine=MACHINE)
    assert not other.measured
    assert "demo-measured, of another shape" in other.based_on
    slower = 0.5 / speed.step(recipe, MACHINE)[0]
    assert other.seconds["steps"] == pytest.approx(
        1000 * slower * speed.step(recipe.override("train.micro_batch_size=4"), MACHINE)[0])
    elsewhere = outline(recipe, workspace, machine=MACHINE._replace(name="another"))
    assert "assumption" in elsewhere.based_on
    (workspace.path / "measured.json").write_text("{broken")
    assert not outline(recipe, workspace, machine=MACHINE).measured


@pytest.mark.parametrize(("changes", "words"), [
    (("model={family: llama, size: small}", "train.micro_batch_size=256"), "rows at once"),
    (("model={family: llama, size: base}", "train.micro_batch_size=24"), "rows at once"),
    (("model={family: llama, size: 1b}", "train.micro_batch_size=8"), "Size "),
])
def test_each_remedy_that_is_offered_makes_it_fit(workspace, changes, words):
    recipe = Recipe.load("demo").override(*changes)
    plan = outline(recipe, workspace, machine=MACHINE)
    assert not plan.fits
    assert any(remedy.words.startswith(words) or words in remedy.words for remedy in plan.remedies)
    for remedy in plan.remedies:
        made = recipe.override(*(f"{name}={value}" for name, value in remedy.changes.items()))
        assert remedy.fits
        assert outline(made, workspace, machine=MACHINE).fits
        if "rows at once" in remedy.words:
            assert made.tokens_per_step == recipe.tokens_per_step


def test_one_dial_keeps_to_the_time_and_takes_the_lowest_loss(workspace):
    figures = prices.load()
    made = propose(Recipe.load("demo"), workspace, hours=0.5, figures=figures, machine=MACHINE)
    assert made.plan.wall_seconds == pytest.approx(1800, rel=0.05)
    assert made.plan.prediction.loss == min(loss for _, _, loss in made.considered)
    assert made.recipe == Recipe.load("demo").override(*(f"{n}={v}" for n, v in made.changes.items()))
    spread = Recipe.load("demo").override("train.devices=4")
    longer = propose(spread, workspace, hours=5, figures=figures, machine=MACHINE)
    assert longer.plan.prediction.loss < made.plan.prediction.loss
    cheap = propose(Recipe.load("demo"), workspace, money=made.plan.cost / 2, figures=figures, machine=MACHINE)
    assert cheap.plan.cost == pytest.approx(made.plan.cost / 2, rel=0.05)
    for limits, words in (({}, "Say how many hours"), ({"hours": 1e-3}, "Not even the smallest size"),
                          ({"hours": math.inf}, "hours is inf"), ({"hours": math.nan}, "hours is nan"),
                          ({"hours": 1.0, "money": -1.0}, "money is -1")):
        with pytest.raises(UserError, match=words):
            propose(Recipe.load("demo"), workspace, **limits, figures=figures, machine=MACHINE)


def test_a_text_that_is_not_tokenized_yet_is_guessed_from_its_files(workspace):
    (workspace.place("corpora") / "a.txt").write_text("x" * 100_000)
    recipe = Recipe.load("demo").override("corpus.sources=[{path: corpora/a.txt}]")
    plan = outline(recipe, workspace, machine=MACHINE)
    assert plan.unique_tokens == pytest.approx(95_000 / 3.57, rel=0.01)
    assert ("Text", "about 26,629 tokens", "the size of the files, before anything is filtered") in plan.assumptions
    missing = outline(recipe.override("corpus.sources=[{path: corpora/b.txt}]"), workspace, machine=MACHINE)
    assert missing.unique_tokens == missing.tokens


# Machines that are not here -----------------------------------------------------------------------------


@pytest.mark.parametrize(("changes", "device", "count", "published_hours"), [
    # Touvron et al. 2023, table 2: Llama 2 7B, 2T tokens in steps of 4M, 184,320 hours on A100 80 GB
    (("tokens.vocab_size=32000", "model={family: llama, size: 7b}", "train.micro_batch_size=2",
      "train.accumulation=512", "train.max_steps=477000"), "A100 80 GB", 512, 184_320),
    # Zhang et al. 2024: TinyLlama, 3T tokens in steps of 2M, 90 days on 16 A100 40 GB
    (("tokens.vocab_size=32000", "model={family: llama, size: 1b}", "train.micro_batch_size=8",
      "train.accumulation=128", "train.max_steps=1430000"), "A100 40 GB", 16, 90 * 24 * 16),
    # nanoGPT's README: GPT-2 small, 600,000 steps of 480 rows, about 4 days on 8 A100 40 GB
    (("tokens.vocab_size=50304", "model={family: gpt2, size: base}", "train.micro_batch_size=12",
      "train.accumulation=40", "train.max_steps=600000"), "A100 40 GB", 8, 4 * 24 * 8),
])
def test_the_arithmetic_is_within_a_factor_of_two_of_published_trainings(changes, device, count, published_hours):
    figures = prices.load()
    row = machines.estimate_on(Recipe().override(*changes), figures.machine(device), count, figures)
    assert published_hours / 2 < row.seconds / 3600 * count < published_hours * 2
    assert row.cost == pytest.approx(row.seconds / 3600 * count * figures.machine(device).price)


def test_a_model_too_large_for_one_device_is_cut_over_several_and_more_devices_are_faster():
    figures = prices.load()
    big = Recipe().override("tokens.vocab_size=32000", "model={family: llama, size: 7b}", "train.micro_batch_size=1",
                            "train.accumulation=1024", "train.max_steps=100")
    rows = machines.estimates(big, figures.machine("A100 80 GB"), figures)
    assert [row.devices for row in rows] == [2**n for n in range(11)]
    assert not rows[0].fits
    assert {row.strategy for row in rows if row.fits} == {"FSDP"}
    fitting = [row for row in rows if row.fits]
    assert [row.seconds for row in fitting] == sorted((row.seconds for row in fitting), reverse=True)
    assert all(later.cost >= sooner.cost * 0.99 for sooner, later in pairwise(fitting))
    small = machines.estimates(Recipe.load("demo"), figures.machine("H100"), figures)
    assert (small[0].strategy, small[1].strategy) == ("one device", "DDP")
    assert small[-1].batch_grows == 128  # 8 rows a step, 1,024 devices
    assert small[-1].seconds > machines.START_SECONDS, "however many devices there are, they have to start"
    assert small[-1].cost > 1024 * machines.START_SECONDS / 3600 * figures.machine("H100").price


def test_memory_counts_each_optimizer_s_own_state():
    recipe = Recipe.load("demo")
    held = {kind: memory.peak(recipe.override(f"optim.kind={kind}"), "float32")["optimizer"]
            for kind in ("adamw", "sgd")}
    assert held["adamw"] == pytest.approx(2 * held["sgd"], rel=1e-3)


def test_planning_needs_no_torch():
    code = ("import sys; from engine.plan import outline, dial, machines; from engine.runs import history; "
            "from engine.recipe import Recipe; outline; assert 'torch' not in sys.modules")
    subprocess.run([sys.executable, "-c", code], check=True)
