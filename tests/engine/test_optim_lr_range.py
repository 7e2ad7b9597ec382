"""The learning-rate range test: what it reads from planted curves, and the job on a toy world."""

from __future__ import annotations

import math
import random

import pytest
from test_runs_training import events, rows

from engine.config import UserError, read
from engine.optim import LrRange
from engine.optim.lr_range import Curve
from engine.runs.worker import Worker

pytestmark = pytest.mark.usefixtures("one_thread")


def planted(loss, lowest=1e-6, highest=10.0, steps=200):
    """The curve of a test on a made-up loss of the learning rate, and the step at which it ended."""
    test, curve = LrRange(lowest=lowest, highest=highest, num_steps=steps), Curve()
    for step in range(steps):
        lr = highest * test.factor(step, steps)
        if curve.add(lr, loss(lr)):
            return curve, step
    return curve, steps


def test_rates_rise_by_one_ratio_from_the_lowest_to_the_highest():
    test = LrRange(lowest=1e-5, highest=1.0, num_steps=11)
    rates = [test.factor(step, 11) for step in range(11)]
    assert rates == pytest.approx([10 ** (-5 + step / 2) for step in range(11)])


def test_where_the_loss_falls_fastest_is_suggested_and_the_test_ends_soon_after_it_rose():
    def loss(lr):  # falls from 8 to 4, fastest over log(lr) at 1e-3, and rises from 1e-1 on
        return 8 - 4 / (1 + (1e-3 / lr) ** 1.5) + (lr / 0.3) ** 2

    curve, ended = planted(loss)
    assert curve.suggestion() == pytest.approx(1e-3, rel=0.1)
    assert 0.3 < curve.rates[-1] < 1.0
    assert len(curve.rates) == ended + 1 < 190
    assert f"Learning rate {curve.suggestion():g} is suggested: the loss fell fastest there" in curve.sentence()


def test_noise_and_a_plateau_do_not_move_it_far():
    dice = random.Random(0)
    curve, _ = planted(lambda lr: 8 - 4 / (1 + (1e-3 / lr) ** 1.5) + (lr / 0.3) ** 2 + dice.gauss(0, 0.1))
    assert 5e-4 < curve.suggestion() < 2e-3


def test_a_loss_that_is_no_number_ends_the_test_and_a_tenth_of_there_is_the_most():
    curve, ended = planted(lambda lr: math.nan if lr > 0.01 else 5 - 400 * lr)
    assert curve.rates[-1] <= 0.01
    assert len(curve.rates) == ended
    assert curve.suggestion() == pytest.approx(curve.rates[-1] / 10, rel=0.05)
    assert "a tenth of where the test ended. The loss was no longer a number above" in curve.sentence()


@pytest.mark.parametrize(("loss", "words"), [
    (lambda lr: 5 - math.log10(lr / 1e-7) / 10, "still fell at the highest rate, 10"),
    (lambda lr: 5 + lr, "did not fall at any rate"),
    (lambda lr: math.nan, "did not fall at any rate"),
])
def test_without_a_turn_nothing_is_suggested_and_it_says_why(loss, words):
    curve, _ = planted(loss)
    assert curve.suggestion() is None
    assert words in curve.sentence()


def test_a_range_that_falls_is_refused():
    with pytest.raises(UserError, match=r"lowest: is 1, must be less than highest, which is 0.1"):
        read(LrRange, {"lowest": 1, "highest": 0.1})


@pytest.mark.parametrize("changes", [(), ("optim={kind: sgd, lr: 0.1}", "train.accumulation=2"),
                                     ("optim.kind=muon", "train.ema_decay=0.9")], ids=["adamw", "sgd", "muon"])
def test_the_job_raises_the_rate_until_the_loss_rises_and_keeps_no_weights(world, changes):
    run = world.run("jobs=[lr_range]", "lr_range={lowest: 1e-4, num_steps: 60}", "train.max_grad_norm=0", *changes)
    assert Worker(run).work() == "finished", run.status().error
    told = rows(run)
    assert [row["train/lr"] for row in told] == pytest.approx([1e-4 * 1e5 ** (step / 59) for step in range(len(told))])
    [found] = events(run, "advice")
    curve = Curve()
    assert [curve.add(row["train/lr"], row["train/loss"]) for row in told] == [False] * (len(told) - 1) + [True]
    assert found["suggestion"] == curve.suggestion() > 1e-4
    assert told[0]["train/loss"] > min(curve.smooth) + 0.5 > 0.5
    assert f"{found['suggestion']:g} is suggested" in found["sentence"]
    assert not run.checkpoints
    assert (run.status().step, run.status().of) == (60, 60)
    assert "checkpoint" not in run.made()


def test_the_job_can_be_stopped(world, monkeypatch):
    run = world.run("jobs=[lr_range]", "lr_range.num_steps=60")
    add = Curve.add
    monkeypatch.setattr(Curve, "add", lambda self, lr, loss: run.request("stop") or add(self, lr, loss))
    assert Worker(run).work() == "stopped"
    assert len(rows(run)) == 1
