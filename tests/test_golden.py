"""A golden loss curve: the same recipe learns as it did before. A change here is a change of what people get."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine import runs
from engine.runs.worker import Worker

GOLDEN = Path(__file__).with_name("golden_loss.json")


def test_the_toy_recipe_learns_as_it_did(toy_recipe, workspace):
    run = runs.create(toy_recipe.override("jobs=[curate, tokenize, train]"), workspace)
    assert Worker(run).work() == "finished", run.status().error
    rows, _ = run.rows("metrics")
    curve = {name: [row[name] for row in rows if name in row] for name in ("train/loss", "val/loss", "train/lr")}
    golden = json.loads(GOLDEN.read_text())
    for name, values in golden.items():
        # Sums run in another order on another processor: hundredths of a nat are a change, ten-thousandths are not.
        assert curve[name] == pytest.approx(values, rel=2e-3), name
