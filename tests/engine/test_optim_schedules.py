"""Schedules: hand-computed values, ends, order, and no factor that leaves [0, 1]."""

from __future__ import annotations

import math
import subprocess
import sys
from itertools import pairwise

import pytest

from engine.config import read
from engine.optim import SCHEDULES, Schedule
from engine.optim.schedules import WSD, Constant, Cosine, Linear


def curve(schedule: Schedule, max_steps: int) -> list[float]:
    return [schedule.factor(step, max_steps) for step in range(max_steps + 1)]


@pytest.mark.parametrize("kind", SCHEDULES)
@pytest.mark.parametrize(("warmup", "max_steps"), [(0, 1), (0, 50), (10, 100), (10, 10), (100, 20), (1, 2)])
def test_factors_rise_in_warmup_then_never_rise_again_and_stay_in_bounds(kind, warmup, max_steps):
    schedule = read(Schedule, {"kind": kind, "warmup_steps": warmup})
    factors = curve(schedule, max_steps)
    assert all(0 <= factor <= 1 for factor in factors)
    assert all(a < b for a, b in pairwise(factors[:warmup + 1]))
    assert all(a >= b for a, b in pairwise(factors[warmup:]))
    assert factors[0] > 0, "the first step must not be wasted"
    # A run that goes on past its plan keeps the last rate.
    assert schedule.factor(max_steps + 500, max_steps) == pytest.approx(schedule.factor(max(max_steps, warmup + 1),
                                                                                        max_steps))


@pytest.mark.parametrize("kind", SCHEDULES)
def test_the_peak_comes_right_after_warmup(kind):
    schedule = read(Schedule, {"kind": kind, "warmup_steps": 4})
    assert curve(schedule, 100)[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])


def test_cosine_by_hand():
    schedule = Cosine(warmup_steps=10, final_fraction=0.1)
    assert schedule.factor(60, 110) == pytest.approx(0.55)                                        # halfway
    assert schedule.factor(35, 110) == pytest.approx(0.1 + 0.9 * (1 + math.sqrt(0.5)) / 2)        # a quarter
    assert schedule.factor(110, 110) == pytest.approx(0.1)


def test_linear_by_hand():
    schedule = Linear(warmup_steps=10, final_fraction=0.2)
    assert [schedule.factor(step, 110) for step in (10, 35, 60, 110)] == pytest.approx([1, 0.8, 0.6, 0.2])
    assert Linear(warmup_steps=0).factor(100, 100) == 0


def test_constant_by_hand():
    assert {Constant(warmup_steps=0).factor(step, 50) for step in range(51)} == {1.0}


def test_wsd_by_hand():
    schedule = WSD(warmup_steps=10, decay_fraction=0.2, final_fraction=0.1)
    factors = curve(schedule, 110)
    assert set(factors[10:91]) == {1.0}
    assert factors[91:] == pytest.approx([1 - 0.9 * step / 20 for step in range(1, 21)])
    assert factors[110] == pytest.approx(0.1)


@pytest.mark.parametrize("kind", ["cosine", "linear", "constant", "wsd"])
def test_after_warmup_they_are_transformers(kind):
    """transformers counts warmup from 0, which wastes the first step; from the peak on the two are the same."""
    import torch
    import transformers

    warmup, of = 8, 60
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    ours, theirs = {
        "cosine": (Cosine(warmup_steps=warmup, final_fraction=0.1),
                   transformers.get_cosine_with_min_lr_schedule_with_warmup(optimizer, warmup, of, min_lr_rate=0.1)),
        "linear": (Linear(warmup_steps=warmup), transformers.get_linear_schedule_with_warmup(optimizer, warmup, of)),
        "constant": (Constant(warmup_steps=warmup),
                     transformers.get_constant_schedule_with_warmup(optimizer, warmup)),
        "wsd": (WSD(warmup_steps=warmup, decay_fraction=0.25, final_fraction=0.1), transformers.get_wsd_schedule(
            optimizer, warmup, 13, of, decay_type="linear", min_lr_ratio=0.1)),
    }[kind]
    [rate] = theirs.lr_lambdas
    assert [ours.factor(step, of) for step in range(warmup, of)] == pytest.approx(
        [rate(step) for step in range(warmup, of)])


def test_schedules_and_optimizers_need_no_torch():
    code = ("import sys; from engine.optim import SCHEDULES, OPTIMIZERS; SCHEDULES['wsd']().factor(3, 9); "
            "OPTIMIZERS['adamw']().dump(); assert 'torch' not in sys.modules")
    subprocess.run([sys.executable, "-c", code], check=True)
