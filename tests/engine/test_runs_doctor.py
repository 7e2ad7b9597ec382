"""The doctor: each fault, planted into the rows of a healthy run, is named; the healthy run hears nothing."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from engine.recipe import Recipe
from engine.runs.doctor import Doctor, spikes

RECIPE = Recipe().override("train.max_steps=2000", "schedule.warmup_steps=50", "optim.lr=1e-3",
                           "tokens.vocab_size=2048")


def healthy(steps: int = 1200, recipe: Recipe = RECIPE) -> list[dict]:
    """The rows of a run as they come: noisy losses that fall, gradients that settle, a look every 100 steps, a
    gauge every 4."""
    dice, rows = random.Random(1), []
    for step in range(1, steps + 1):
        when = {"step": step, "time": 1e9 + step / 2, "tokens": step * 1000}
        loss = 3 + 4.5 * math.exp(-step / 300)
        speed = 14_000 * dice.uniform(0.85, 1.1)
        rows.append({**when, "train/loss": loss + dice.gauss(0, 0.08), "train/grad_norm": 0.4 + 2 / step ** 0.5
                     + abs(dice.gauss(0, 0.1)), "train/lr": recipe.optim.lr * recipe.schedule.factor(step - 1, 2000),
                     "speed/tokens_per_second": speed, "speed/data_wait": 0.01})
        if step % 4 == 0:
            rows.append({**when, "memory/resident_gib": 1.2 + 0.1 * (step > 100) + dice.uniform(0, 0.02),
                         "load/cpu": dice.uniform(0.9, 1), "speed/tokens_per_second": speed})
        if step % 100 == 0:
            rows.append({**when, "val/loss": loss + 0.1 + dice.gauss(0, 0.01)})
    return rows


def change(rows: list[dict], name: str, after: int, new) -> list[dict]:
    """The rows with a metric replaced by `new(step, value)` after a step."""
    return [{**row, name: new(row["step"], row[name])} if name in row and row["step"] > after else row for row in rows]


def heard(rows: list[dict], recipe: Recipe = RECIPE, at_once: int = 150) -> dict[str, str]:
    """What a doctor says who gets the rows a few at a time, by name."""
    doctor, found = Doctor(recipe), {}
    for first in range(0, len(rows), at_once):
        for advice in doctor.look(rows[first:first + at_once]):
            assert advice.what not in found or advice.what == "loss spike", "said twice"
            found[advice.what] = advice.sentence
    return found


def test_a_healthy_run_hears_nothing():
    assert heard(healthy(2000)) == {}
    assert heard(healthy(2000), at_once=1000) == {}


@pytest.mark.parametrize("schedule", ["cosine", "linear", "wsd", "constant"])
def test_no_schedule_is_taken_for_a_dead_one(schedule):
    recipe = RECIPE.override(f"schedule.kind={schedule}", "schedule.warmup_steps=50")
    assert heard(healthy(2000, recipe), recipe) == {}


def test_a_spike_is_told_with_its_step_and_size():
    said = heard(change(healthy(), "train/loss", 0, lambda step, loss: loss + 2.5 * (step == 900)))
    assert set(said) == {"loss spike"}
    assert "at step 900" in said["loss spike"]
    assert "standard deviations above its mean" in said["loss spike"]
    assert "train.skip_spikes=true" in said["loss spike"]


def test_spike_scores_are_those_of_a_plain_loop():
    losses = np.random.default_rng(0).normal(3, 0.1, 300)
    scores = spikes(losses)
    for place in (127, 128, 299):
        before = losses[place - 128:place]
        assert scores[place] == pytest.approx((losses[place] - before.mean()) / before.std() if place > 127 else 0)


def test_spikes_are_told_again_only_after_128_steps():
    rows = change(healthy(), "train/loss", 0, lambda step, loss: loss + 4 * (step in (600, 620, 900)))
    doctor = Doctor(RECIPE)
    few = [rows[first:first + 12] for first in range(0, len(rows), 12)]
    assert [advice.step for each in few for advice in doctor.look(each)] == [600, 900]


@pytest.mark.parametrize(("what", "metric", "after", "new", "words"), [
    ("gradient explosion", "train/grad_norm", 800, lambda s, g: g * min(100, 1.2 ** (s - 800)), "to diverge"),
    ("vanishing gradient", "train/grad_norm", 800, lambda s, g: g * 1e-5, "shrank to"),
    ("dead learning rate", "train/lr", 700, lambda s, r: 0.0, "steps are still to come"),
    ("data-starved", "speed/data_wait", 500, lambda s, w: 0.45, "45% of the time"),
    ("clipped every step", "train/grad_norm", 0, lambda s, g: 3 + g, "raise train.max_grad_norm to about"),
    ("memory creeping", "memory/resident_gib", 0, lambda s, m: m + s / 1000, "GiB an hour"),
    ("throughput dropped", "speed/tokens_per_second", 900, lambda s, v: v * 0.4, "tokens a second"),
])
def test_a_planted_fault_is_named_with_evidence_and_remedy(what, metric, after, new, words):
    said = heard(change(healthy(), metric, after, new))
    assert set(said) - ({"clipped every step"} if what == "gradient explosion" else set()) == {what}
    assert words in said[what]
    assert "\n" not in said[what]
    assert said[what].endswith(".")


def test_a_rate_too_small_to_leave_guessing_is_called_dead():
    flat = change(healthy(), "train/loss", 0, lambda step, loss: math.log(2048) + random.Random(step).gauss(0, 0.02))
    assert "that of guessing among 2048 tokens" in heard(flat)["dead learning rate"]


def test_overfitting_wants_both_curves():
    rising = change(healthy(), "val/loss", 800, lambda step, loss: loss + (step - 800) / 500)
    said = heard(rising)
    assert set(said) == {"overfitting"}
    assert "from 3." in said["overfitting"]
    assert "train.patience=3" in said["overfitting"]
    both = change(rising, "train/loss", 800, lambda step, loss: loss + (step - 800) / 500)
    assert "overfitting" not in heard(both)


def test_a_slower_run_on_a_busy_machine_is_told_why():
    rows = change(healthy(), "speed/tokens_per_second", 900, lambda s, v: v * 0.4)
    said = heard(change(rows, "load/cpu", 900, lambda s, share: 0.4))["throughput dropped"]
    assert "this one got 40% of it" in said


def test_a_resumed_run_is_not_told_again():
    rows = change(healthy(), "speed/data_wait", 500, lambda s, w: 0.45)
    doctor = Doctor(RECIPE, rows[:1000], {"data-starved": 570})
    assert doctor.look(rows[1000:]) == []
