"""The laws against the papers that they are from, and against the small runs that were measured."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from engine.plan import scaling
from engine.plan.scaling import BESIROGLU, HOFFMANN, SMALL, Seen, predict

POINTS = Path(__file__).resolve().parents[2] / "benchmarks" / "scaling.json"


def test_the_optimum_is_the_lowest_loss_of_its_compute():
    for flops in (1e18, 5.76e23):
        parameters, tokens = scaling.optimal(flops)
        assert 6 * parameters * tokens == pytest.approx(flops)
        sizes = parameters * np.linspace(0.5, 2, 301)
        lowest = np.argmin([BESIROGLU.loss(n, flops / 6 / n) for n in sizes])
        assert sizes[lowest] == pytest.approx(parameters, rel=0.01)


def test_chinchilla_is_near_the_optimum_of_its_own_compute():
    """70B parameters on 1.4T tokens (Hoffmann et al. 2022); the replication agrees with it (Besiroglu et al. 2024)."""
    parameters, tokens = scaling.optimal(6 * 70e9 * 1.4e12)
    assert parameters == pytest.approx(70e9, rel=0.1)
    assert tokens / parameters == pytest.approx(20, rel=0.15)
    assert scaling.optimal_tokens(70e9)[1] == pytest.approx(1.4e12, rel=0.1)
    # Table 3 of Hoffmann et al.: Chinchilla's and Gopher's loss by their third approach.
    assert HOFFMANN.loss(70e9, 1.4e12) * scaling.PUBLISHED_BYTES == pytest.approx(1.94, abs=0.01)


def test_repeated_text_is_worth_less_and_ever_less():
    assert scaling.worth(100, 200) == 100
    assert scaling.worth(4e6, 1e6) == pytest.approx(1e6 * (1 + 15.39 * (1 - math.exp(-3 / 15.39))))
    assert scaling.worth(1e12, 1e6) == pytest.approx(16.39e6)


def test_the_step_law_gives_what_its_paper_says():
    assert scaling.learning_rate(1e9, 1e11) == pytest.approx(1.79 * 1e9 ** -0.713 * 1e11 ** 0.307)
    assert scaling.batch_tokens(1e11) == pytest.approx(0.58 * 1e11 ** 0.571)
    assert scaling.learning_rate(1e3, 1e9) == 0.01


def test_the_small_law_lies_within_its_spread_of_the_measured_runs():
    for run in json.loads(POINTS.read_text()):
        expected = SMALL.loss(run["non_embedding"], scaling.worth(run["tokens"], run["unique"]))
        assert math.log(run["bits_per_byte"] * math.log(2) / expected) == pytest.approx(0, abs=SMALL.spread)


def test_a_prediction_falls_with_size_and_text_and_never_jumps():
    def loss(parameters, tokens):
        return predict(parameters, 0.9 * parameters, tokens, tokens, 4.0)

    assert loss(1e6, 1e6).loss > loss(1e6, 1e7).loss > loss(1e7, 1e8).loss > loss(1e9, 1e10).loss
    tokens = np.geomspace(1e5, 1e10, 400)
    losses = [loss(1e7, d).loss for d in tokens]
    assert max(abs(np.diff(np.log(losses)))) < 0.02
    assert max(np.diff(losses)) < 0
    again = [predict(n, 0.9 * n, 1e8, 1e6, 4.0).loss for n in np.geomspace(1e5, 1e10, 400)]
    assert max(np.diff(again)) < 0
    for made in (loss(1e6, 1e6), loss(1e8, 1e9), loss(1e9, 2e10)):
        assert made.low < made.loss < made.high
        assert "90 %" in made.origin
    assert "between" in loss(1e7, 1e8).origin
    assert loss(1e9, 2e10).loss == pytest.approx(4 * BESIROGLU.loss(1e9, 2e10), rel=0.03)
    assert "Besiroglu" in loss(1e9, 2e10).origin


def test_runs_on_the_same_text_shift_the_prediction_and_narrow_it():
    fresh = predict(1e6, 8e5, 2e6, 2e6, 3.5)
    runs = [Seen(1e6, d, 2e6, 1.2 * scaling.per_byte(1e6, 8e5, d, 2e6)[0], 8e5) for d in (5e5, 1e6)]
    known = predict(1e6, 8e5, 2e6, 2e6, 3.5, runs)
    assert known.loss == pytest.approx(1.2 * fresh.loss)
    assert known.high / known.low < fresh.high / fresh.low
    assert "2 finished runs" in known.origin
    one = predict(1e6, 8e5, 2e6, 2e6, 3.5, runs[:1])
    assert known.high / known.low < one.high / one.low < fresh.high / fresh.low
